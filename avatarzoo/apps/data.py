"""``avatarzoo data``: what is there of a public data set, what is missing, and which layouts can be read."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from pathlib import Path

from avatarzoo.data.layouts import LAYOUTS, Item, Layout, Report, layout

NAMES = ", ".join(LAYOUTS)


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="avatarzoo data",
        description="Public data sets as their authors lay them out on disk. avatarzoo downloads none of them; "
        "it reads your copy in place, without converting it.",
        epilog="avatarzoo data layouts shows where each set comes from and the tree that is expected.",
    )
    commands = p.add_subparsers(dest="command", required=True, metavar="{layouts,check,list,splits}")
    layouts = commands.add_parser("layouts", help="what can be read: set, licence, origin, expected tree")
    layouts.add_argument("names", nargs="*", metavar="NAME", help="only these, with their trees")
    check = commands.add_parser(
        "check", help="what is there and what is missing",
        description="Counts what is there, names what is missing, and looks into a sample of the files. The exit code is 0 when "
        "the set is complete, 1 when something is missing or damaged, 2 when it is not there.",
    )  # fmt: skip
    _add_folder(check)
    check.add_argument(
        "--sample", type=int, default=20, metavar="N",
        help="open so many videos, and ten times as many pictures (default 20; 0: none)",
    )  # fmt: skip
    check.add_argument("--quiet", action="store_true", help="no progress bar")
    listing = commands.add_parser("list", help="the items, one a line: name, kind, split, person, path")
    _add_folder(listing)
    listing.add_argument("--split", default="", metavar="NAME", help="only this split of the set, e.g. test")
    listing.add_argument("--json", action="store_true", help="as JSON, with everything known of an item")
    commands.add_parser(
        "splits", help="the papers' test lists that are frozen here, and those never published"
    )
    return p


def _add_folder(p: argparse.ArgumentParser) -> None:
    p.add_argument("path", type=Path, metavar="PATH", help="folder of the set")
    p.add_argument("--layout", required=True, metavar="NAME", help=f"one of {NAMES}")


def main(argv: list[str]) -> int:
    """Run a subcommand; the exit code of check is 1 when the set is incomplete."""
    p = parser()
    args = p.parse_args(argv)
    if args.command == "layouts":
        print("\n".join(layouts(args.names)))
        return 0
    if args.command == "splits":
        print("\n".join(splits()))
        return 0
    reader = layout(args.layout)
    if args.command == "list":
        return list_items(reader, args.path, args.split, args.json)
    if args.sample < 0:
        p.error("--sample must not be negative.")
    report = reader.check(args.path, args.sample, progress=not args.quiet)
    print("\n".join(describe(reader, args.path, report)))
    return 0 if report.complete else 1


def layouts(names: list[str]) -> list[str]:
    """Name, title and licence of all layouts; of those named also the tree.

    Raises:
        UsageError: there is no layout of that name.
    """
    lines = []
    for reader in map(layout, names or LAYOUTS):
        lines += [f"{reader.name:<14} {reader.title}", f"{'':<14} {reader.licence}"]
        if names:
            lines += ["", *(f"  {line}" for line in reader.tree.splitlines()), ""]
    return lines if names else [*lines, "", "avatarzoo data layouts NAME shows the expected tree."]


def splits() -> list[str]:
    """Name, state, source and rule of every frozen list."""
    from avatarzoo.data.splits import describe_split, known_splits  # imports yaml

    lines = []
    for split in map(describe_split, known_splits()):
        lines += [
            f"{split.name} ({split.layout}): {split.status}",
            f"  {split.source}",
            f"  Used: {split.rule}",
            "",
        ]
    return lines[:-1]


def describe(reader: Layout, path: Path, report: Report) -> list[str]:
    """The report of ``check`` as lines."""
    lines = [f"{path}: {reader.title}, {reader.licence}"]
    for (kind, split), count in report.items.items():
        what = {
            "image": "pictures",
            "video": "videos",
            "frames": "clips as frames",
            "views": "multi-view identities",
        }
        lines.append(f"  {count} {what[kind]}{f' in split {split}' if split else ''}")
    lines.append(f"  {report.identities} different people, as far as the set says who is who")
    lines += [f"  note: {note}" for note in report.notes]
    if report.complete:
        return [*lines, "complete"]
    tree = [f"  {line}" for line in reader.tree.splitlines()]
    return [*lines, *(f"  PROBLEM: {problem}" for problem in report.problems), "incomplete; expected:", *tree]


def list_items(reader: Layout, path: Path, split: str, as_json: bool) -> int:
    """Print the items; what is missing is one line on stderr."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        items = reader.items(path, split)
    for warning in caught:
        print(f"warning: {warning.message}", file=sys.stderr)
    if as_json:
        print(json.dumps([plain(item) for item in items], indent=1))
        return 0
    for item in items:
        print(f"{item.name}\t{item.kind}\t{item.split or '-'}\t{item.identity}\t{item.path}")
    return 0


def plain(item: Item) -> dict[str, object]:
    """An item as JSON holds it: paths as text."""
    values = {key: str(value) if isinstance(value, Path) else value for key, value in item._asdict().items()}
    return {**values, "views": [[str(path), label] for path, label in item.views]}
