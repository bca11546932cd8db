"""Pages of the site that are made from the code: commands from their parsers, configurations, results, files, cards of methods."""

from __future__ import annotations

import argparse
import importlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

from avatarzoo import cli
from avatarzoo.assets import ASSETS

ROOT = Path(__file__).resolve().parent.parent
CARD = re.compile(r"^<!-- card: (\w+) -->$", re.MULTILINE)
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)]+)\)")
COLUMNS = 96
ASSETS_HEAD = """# Files and licences

The code is Apache-2.0, and so are the small networks inside the package, trained on made-up people only. Nothing below is part of the
repository. `avatarzoo doctor` says what is here, and what each file is for.

| file | what | licence | how to get it |
|---|---|---|---|
"""
OPTIONAL_PAGES = {"scale.md": ("Reference", "conventions.md")}
"""Pages that enter the menu when they exist: their section, and the page they follow."""


def on_config(config: Any) -> Any:
    """Put optional pages into the menu."""
    for page, (title, after) in OPTIONAL_PAGES.items():
        section = next(part[title] for part in config.nav if isinstance(part, dict) and title in part)
        if (Path(config.docs_dir) / page).is_file() and page not in section:
            section.insert(section.index(after) + 1, page)
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that nobody writes by hand."""
    made = {
        "reference/cli.md": commands(),
        "reference/configs.md": configurations(),
        "reference/results.md": results(),
        "reference/assets.md": assets(),
        "changelog.md": (ROOT / "CHANGELOG.md").read_text(),
    }
    for path, text in made.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Where a page says so, the card that lies beside the method's code."""
    return CARD.sub(lambda found: card(found[1], page.file.src_uri), markdown)


def card(method: str, page: str) -> str:
    """A method's README without its title, its headings one level down."""
    path = ROOT / "avatarzoo" / "models" / method / "README.md"
    body = moved(path, page).split("\n", 1)[1].strip()
    return re.sub(r"^(#+) ", r"#\1 ", body, flags=re.MULTILINE)


def moved(path: Path, page: str) -> str:
    """The text of a file of the repository as part of a page: links into docs lead there, others to files become names."""

    def link(found: re.Match[str]) -> str:
        target = (path.parent / found[3]).resolve()
        if target.is_relative_to(ROOT / "docs") and target.is_file():
            return f"{found[1]}[{found[2]}]({os.path.relpath(target, (ROOT / 'docs' / page).parent)})"
        name = f"`{target.relative_to(ROOT)}`" if target.is_relative_to(ROOT) else f"`{found[3]}`"
        return f"{found[2]} ({name})"

    return LINK.sub(link, path.read_text())


def commands() -> str:
    """What every command says with --help, from the parsers themselves."""
    parts = ["# Command line", "What every command says of itself with `--help`.", fenced(cli._overview())]
    for name, summary in cli.TRAINING.items():
        text = cli.TRAINING_HELP.format(
            command=name, summary=summary.capitalize(), more=cli.MORE.get(name, "")
        )
        parts += [f"## avatarzoo {name}", fenced(text)]
        if name == "test":
            protocol = importlib.import_module("avatarzoo.apps.benchmark").parser()
            parts += ["### with a benchmark protocol", *explained(protocol, 4)]
    for name, (module, _) in cli.APPS.items():
        parts += [f"## avatarzoo {name}", *explained(importlib.import_module(module).parser(), 3)]
    return "\n\n".join(parts) + "\n"


def explained(parser: argparse.ArgumentParser, level: int) -> Iterator[str]:
    """A parser's help, and that of its subcommands under headings of this level."""
    with narrow():
        yield fenced(parser.format_help())
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for name, below in action.choices.items():
                    yield f"{'#' * level} {parser.prog} {name}"
                    yield from explained(below, level + 1)


@contextmanager
def narrow() -> Iterator[None]:
    """Help is as wide everywhere, whatever terminal builds the site."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(COLUMNS)
    try:
        yield
    finally:
        os.environ.pop("COLUMNS")
        if before is not None:
            os.environ["COLUMNS"] = before


def fenced(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```"


def configurations() -> str:
    """The comment at the head of every configuration, and the configuration."""
    parts = [
        "# Configurations",
        "An experiment is one file. What was measured with it, and on what, stands in its first lines. "
        "Any value is changed on the command line, e.g. `--trainer.max_steps 500 --model.uv_size 180`.",
    ]
    folder = ROOT / "configs"
    section = None
    for path in sorted(folder.rglob("*.yaml"), key=lambda p: (len(p.parts), p)):
        name = path.relative_to(ROOT)
        if len(path.relative_to(folder).parts) > 1 and section != path.parent.name:
            section = path.parent.name
            parts.append(f"## {section}")
        parts += [f"### `{name}`", f"```yaml\n{path.read_text().rstrip()}\n```"]
    return "\n\n".join(parts) + "\n"


def results() -> str:
    """The page of results, as it lies in benchmarks."""
    return moved(ROOT / "benchmarks" / "README.md", "reference/results.md")


def assets() -> str:
    """Every file that is not part of the repository, with its licence."""
    rows = [
        f"| `{a.name}` | {a.what} | {a.licence} | {'`avatarzoo assets fetch ' + a.name + '`' if a.url else a.obtain} |"
        for a in ASSETS.values()
    ]
    return f"{ASSETS_HEAD}{chr(10).join(rows)}\n"
