"""Every block of commands and code in README and on the site runs, or says why it does not and is read by the real parsers."""

from __future__ import annotations

import ast
import importlib
import re
import tomllib

import pytest
import yaml
from doc_blocks import MARK, PAGES, ROOT, blocks, commands, params, small

from avatarzoo import cli
from avatarzoo.apps.training import AvatarCLI

SHELL, PYTHON = blocks("sh"), blocks("python")
INSTALLERS = ("pip", "ssh", "jupyter")


def test_there_are_blocks_and_their_languages_are_known():
    assert len([b for b in SHELL if b.run]) >= 25
    assert len([b for b in PYTHON if b.run]) >= 8
    strange = [str(b) for b in blocks() if b.language not in ("sh", "python", "text", "yaml", "toml")]
    assert not strange, f'a fence names its language; what cannot run is marked as: ```sh title="{MARK}: why"'
    assert sum(page.read_text().count("\n```") for page in PAGES) == 2 * len(blocks())  # none is overlooked


@pytest.mark.parametrize("block", params([b for b in SHELL if b.run]))
def test_commands_run(block, at_the_desk, avatar_here, fifth_method):
    avatar_here(block.text)
    for words in commands(block.text):
        assert words[0] == "avatarzoo", f"{words[0]} is not run here; the block's title has to say: {MARK}"
        args = [*words[1:], *small(words[1:])]
        try:
            code = cli.main(args)
        except SystemExit as end:  # --print_config
            code = end.code or 0
        assert code == 0, args


@pytest.mark.parametrize("block", params([b for b in PYTHON if b.run]))
def test_code_runs(block, at_the_desk, avatar_here):
    avatar_here(block.text)
    exec(compile(block.text, str(block), "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("block", [pytest.param(b, id=str(b)) for b in SHELL if not b.run])
def test_commands_that_are_not_run_are_known(block, at_the_desk, monkeypatch):
    reason = re.split(MARK, block.title, flags=re.IGNORECASE)[1]
    assert len(reason) > 8, "the title says why it is not run"
    for words in commands(block.text):
        if words[0] == "avatarzoo":
            parse(words[1:], monkeypatch)
        elif words[0] == "pytest":  # what .ci/run runs
            assert " ".join(words) in (ROOT / ".ci" / "run").read_text()
        else:
            assert words[0] in INSTALLERS or words[:2] == ["python", "-m"]
            asked_for_extras_exist(words)


@pytest.mark.parametrize("block", [pytest.param(b, id=str(b)) for b in PYTHON if not b.run])
def test_code_that_is_not_run_imports_what_exists(block):
    tree = ast.parse(block.text)
    tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert tree.body
    exec(compile(tree, str(block), "exec"), {})


def parse(args: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Read by the command's own parser, without doing anything."""
    command = args[0]
    if command in cli.TRAINING and not cli.asks_for_protocol(args[1:]):
        for name in ("instantiate_classes", "_parse_ckpt_path"):
            monkeypatch.setattr(AvatarCLI, name, lambda self: None)
        monkeypatch.setattr(AvatarCLI, "_run_subcommand", lambda self, subcommand: None)
        AvatarCLI.launch(command, args[1:])
        return
    module = "avatarzoo.apps.benchmark" if command == "test" else cli.APPS[command][0]
    importlib.import_module(module).parser().parse_args(args[1:])


def asked_for_extras_exist(words: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for word in words:
        if found := re.search(r"\[([\w,]+)\]$", word):
            assert set(found[1].split(",")) <= set(project["optional-dependencies"]), word


def test_data_blocks_are_well_formed():
    for block in blocks("yaml"):
        assert isinstance(yaml.safe_load(block.text), dict), block
    for block in blocks("toml"):
        assert tomllib.loads(block.text), block


def test_code_of_the_cards_compiles():
    for card in (ROOT / "avatarzoo" / "models").glob("*/README.md"):
        for text in re.findall(r"^```python\n(.*?)^```$", card.read_text(), re.MULTILINE | re.DOTALL):
            ast.parse(text)


def test_commands_named_in_sentences_exist():
    """Also the extras that sentences name."""
    for page in PAGES:
        text = page.read_text()
        for name in re.findall(r"`avatarzoo ([a-z]\w*)", text):
            assert name in {*cli.APPS, *cli.TRAINING}, (page, name)
        for extras in re.findall(r"pip install '\.\[([\w,]+)\]'", text):
            asked_for_extras_exist([f".[{extras}]"])


def test_links_of_the_readme_lead_somewhere():
    text = (ROOT / "README.md").read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_a_broken_command_would_be_noticed(at_the_desk, monkeypatch):
    from avatarzoo.errors import AvatarZooError

    with pytest.raises((SystemExit, AvatarZooError)):
        parse(["fit", "-c", "configs/quickstart.yaml", "--model.uv_sise", "3"], monkeypatch)
    with pytest.raises(SystemExit):
        parse(["drive", "x.ckpt", "--with", "a.mp4", "--outt", "b.mp4"], monkeypatch)
    assert cli.main(["flie"]) == 2
