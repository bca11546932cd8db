"""``avatarzoo pull``: an avatar from a model hub."""

from __future__ import annotations

import argparse
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="avatarzoo pull",
        description="Download an avatar that avatarzoo push uploaded and write avatar.ckpt; nothing in the files is executed.",
    )
    p.add_argument("name", help="repository, e.g. user/my-avatar")
    p.add_argument("output", type=Path, help="folder to write avatar.ckpt to")
    p.add_argument("--revision", help="branch, tag or commit (default: the newest)")
    return p


def main(argv: list[str]) -> int:
    args = parser().parse_args(argv)
    from avatarzoo.apps.hub import pull

    print(f"Checkpoint: {pull(args.name, args.output, args.revision)}")
    return 0
