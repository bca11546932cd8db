"""``avatarzoo push``: an avatar to a model hub."""

from __future__ import annotations

import argparse
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="avatarzoo push",
        description="Upload a checkpoint to a model hub (Hugging Face, or where HF_ENDPOINT points) as safetensors, JSON and a card; "
        "log in first with: hf auth login. Whoever can read it can drive the person's face.",
    )
    p.add_argument("checkpoint", type=Path, help="file written by avatarzoo fit")
    p.add_argument("name", help="repository to make or update, e.g. user/my-avatar")
    p.add_argument("--public", action="store_true", help="anyone may read it (default: private)")
    return p


def main(argv: list[str]) -> int:
    args = parser().parse_args(argv)
    from avatarzoo.apps.hub import push

    print(f"Avatar: {push(args.checkpoint, args.name, args.public)}")
    return 0
