"""``avatarzoo export``: a checkpoint to files that other programs read."""

from __future__ import annotations

import argparse
import math
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="avatarzoo export",
        description="Write a trained avatar as PLY (Gaussians of one expression, 62 properties, metres) or as one self-contained "
        "safetensors file that AvatarState.load reads.",
    )
    p.add_argument(
        "checkpoint", type=Path, help="file written by avatarzoo fit, e.g. runs/avatar/avatar.ckpt"
    )
    p.add_argument("output", type=Path, help="where to write: NAME.ply or NAME.safetensors")
    p.add_argument(
        "--expression",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="expression of the PLY, e.g. jawOpen=0.4; may be repeated (default: neutral)",
    )
    return p


def main(argv: list[str]) -> int:
    args = parser().parse_args(argv)
    from avatarzoo.errors import OutputError, UsageError

    writers = {".ply": _write_ply, ".safetensors": _write_state}
    if args.output.suffix not in writers:
        raise OutputError(f"{args.output} has no known format; name it .ply or .safetensors.")
    if args.expression and args.output.suffix != ".ply":
        raise UsageError(
            "--expression is for a .ply; an avatar file keeps every expression, so leave it out."
        )
    from avatarzoo.models import load_avatar

    print(writers[args.output.suffix](load_avatar(args.checkpoint), args))
    return 0


def _write_state(module, args: argparse.Namespace) -> Path:
    return module.reconstruct().save(args.output)


def _write_ply(module, args: argparse.Namespace) -> Path:
    from avatarzoo.errors import OutputError
    from avatarzoo.render.ply import write_ply

    params = module.head.zeros(1)
    for item in args.expression:
        name, _, value = item.partition("=")
        if name not in module.head.expression_names or not _is_number(value):
            names = ", ".join(module.head.expression_names[:60])
            raise OutputError(f"--expression takes NAME=VALUE with one of: {names}.")
        params.expression[0, module.head.expression_names.index(name)] = float(value)
    gaussians = module.gaussians_at(params)
    if gaussians is None:
        raise OutputError(f"{type(module).__name__} is not made of Gaussians; export it as .safetensors.")
    return write_ply(args.output, gaussians)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
