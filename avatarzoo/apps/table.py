"""``avatarzoo table``: result files as tables beside the published numbers, in Markdown, LaTeX or CSV."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

RESULTS, README = Path("benchmarks/results"), Path("benchmarks/README.md")
BEGIN, END = "<!-- tables: begin (avatarzoo table writes what follows) -->", "<!-- tables: end -->"
NONE_YET = "No results are committed yet."
EPILOG = """examples
  avatarzoo table runs/benchmarks/dejavu_table4/result.json
  avatarzoo table --output benchmarks/README.md          (all of benchmarks/results, between the file's two marker comments)
  avatarzoo table --check                                 (fails when benchmarks/README.md does not show benchmarks/results)
  avatarzoo table --format latex --output tables.tex"""


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="avatarzoo table", description=__doc__, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    p.add_argument(
        "files", nargs="*", type=Path, metavar="RESULT.json", help="result files of avatarzoo test"
    )
    p.add_argument("--results", type=Path, metavar="DIR", help=f"all *.json below it (default: {RESULTS})")
    p.add_argument("--format", choices=["markdown", "latex", "csv"], default="markdown")
    p.add_argument("--published", type=Path, metavar="FILE", help="another table of published numbers")
    p.add_argument(
        "--output", type=Path, metavar="FILE",
        help="write there instead of printing; of a Markdown file with markers only what lies between them",
    )  # fmt: skip
    p.add_argument(
        "--check", action="store_true",
        help=f"write nothing; exit with 1 when --output (default: {README}) would change",
    )  # fmt: skip
    return p


def main(argv: list[str]) -> int:
    """Print, write or check; the exit code of a check is 1 when the file is stale."""
    args = parser().parse_args(argv)
    from avatarzoo.evaluation.table import render_table

    files = args.files + (find_results(args.results) if args.results or not args.files else [])
    text = render_table(files, args.format, args.published) if files else NONE_YET
    if args.check:
        return check(args.output or README, text, args.format)
    if args.output is None:
        print(text.rstrip("\n"))
        return 0
    from avatarzoo.files import atomic_path

    content = updated(args.output, text, args.format)
    with atomic_path(args.output) as temporary:
        temporary.write_text(content, encoding="utf-8")
    return 0


def find_results(folder: Path | None) -> list[Path]:
    """All result files below a folder, in the order of their names; an absent default folder holds none.

    Raises:
        UsageError: the named folder does not exist.
    """
    from avatarzoo.errors import UsageError

    if folder is not None and not folder.is_dir():
        raise UsageError(f"There is no folder {folder}; name one that holds result files.")
    return sorted((folder or RESULTS).rglob("*.json"))


def check(path: Path, text: str, form: str) -> int:
    """0 when ``path`` shows ``text``, else 1 and one sentence on stderr."""
    if path.is_file() and path.read_text(encoding="utf-8") == updated(path, text, form):
        return 0
    print(
        f"{path} is stale; run avatarzoo table with --output {path} instead of --check and commit the file.",
        file=sys.stderr,
    )
    return 1


def updated(path: Path, text: str, form: str) -> str:
    """What ``path`` should hold: of a Markdown file that exists only the part between the markers is replaced.

    Raises:
        UsageError: it is a Markdown file without the markers, which would be lost.
    """
    text = text.rstrip("\n")
    if form != "markdown":
        return text + "\n"
    if not path.is_file():
        return f"{BEGIN}\n\n{text}\n\n{END}\n"
    old = path.read_text(encoding="utf-8")
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        from avatarzoo.errors import UsageError

        raise UsageError(f"{path} lacks the lines {BEGIN!r} and {END!r}; add them or name a new file.")
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"
