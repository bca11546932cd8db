"""``avatarzoo embed``: find the 478-point landmark embedding of a head model and store it."""

from __future__ import annotations

import argparse
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="avatarzoo embed",
        description="Find where MediaPipe's 478 face points lie on a head model, by detecting them on renders of it, "
        "and store the result for the tracker. Needed once for each head file; takes seconds.",
    )
    p.add_argument("--head", default="ict", help="head model: ict (default), procedural, flame or faceverse")
    p.add_argument("--head-file", metavar="FILE", help="your own model file, where the head needs one")
    p.add_argument(
        "--output", type=Path, metavar="DIR", help="folder to write to (default: avatarzoo's cache)"
    )
    p.add_argument("--quiet", action="store_true", help="no progress bar")
    return p


def main(argv: list[str]) -> int:
    args = parser().parse_args(argv)
    from avatarzoo.heads import load_head
    from avatarzoo.heads.embedding_files import save_embedding
    from avatarzoo.trackers.embedding import find_embedding

    head = load_head(args.head, args.head_file)
    path = save_embedding(head, find_embedding(head, progress=not args.quiet), args.output)
    print(f"{path}: 478 landmarks on the {head.name} head")
    return 0
