"""``avatarzoo export``: a checkpoint to files that other programs read."""

from __future__ import annotations

import argparse
import importlib.util
import math
from pathlib import Path

SUFFIXES = {"ply": ".ply", "safetensors": ".safetensors", "onnx": ".onnx", "torch-export": ".pt2"}
NETWORKS = ("onnx", "torch-export")


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="avatarzoo export",
        description="Write a trained avatar as PLY (Gaussians of one expression, 62 properties, metres), as one self-contained "
        "safetensors file that AvatarState.load reads, or its network for other runtimes (ONNX, or an exported program of torch) "
        "with a JSON beside it that says what goes in and comes out.",
    )
    p.add_argument(
        "checkpoint", type=Path, help="file written by avatarzoo fit, e.g. runs/avatar/avatar.ckpt"
    )
    p.add_argument(
        "output", type=Path, help="where to write: NAME.ply, NAME.safetensors, NAME.onnx or NAME.pt2"
    )
    p.add_argument("--format", choices=sorted(SUFFIXES), help="default: what the name ends in")
    p.add_argument(
        "--expression",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="expression of the PLY, e.g. jawOpen=0.4; may be repeated (default: neutral)",
    )
    network = p.add_argument_group("networks (.onnx, .pt2)")
    network.add_argument(
        "--batch", default="1", metavar="N", help="pictures in every call, or dynamic (default 1)"
    )
    for name in ("foreground", "background"):
        network.add_argument(
            f"--{name}-window", type=int, nargs=2, metavar=("X", "Y"), dest=name,
            help=f"corner of the {name}'s window in the method's cells (default: the centre, the background's: the foreground's)",
        )  # fmt: skip
    return p


def main(argv: list[str]) -> int:
    args = parser().parse_args(argv)
    from avatarzoo.errors import OutputError, UsageError

    kind = args.format or {suffix: name for name, suffix in SUFFIXES.items()}.get(args.output.suffix)
    if kind is None:
        raise OutputError(
            f"{args.output} has no known format; name it .ply, .safetensors, .onnx or .pt2, or say --format."
        )
    output: Path = args.output
    if output.suffix != SUFFIXES[kind]:
        output = output.with_name(output.name + SUFFIXES[kind])
    args.output = output
    if args.expression and kind != "ply":
        raise UsageError("--expression is for a .ply; other files keep every expression, so leave it out.")
    if kind not in NETWORKS and (args.foreground or args.background or args.batch != "1"):
        raise UsageError("--batch and windows are for networks (.onnx, .pt2); leave them out.")
    if args.batch != "dynamic" and not (args.batch.isdecimal() and 1 <= int(args.batch) <= 64):
        raise UsageError(f"--batch takes a number from 1 to 64 or dynamic, not {args.batch}.")
    from avatarzoo.models import load_avatar

    print(WRITERS[kind](load_avatar(args.checkpoint), args))
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


def _write_network(module, args: argparse.Namespace) -> Path:
    from avatarzoo.errors import OutputError
    from avatarzoo.models.program import write_program

    folder = type(module).__module__.rpartition(".")[0]
    if importlib.util.find_spec(f"{folder}.export") is None:
        raise OutputError(
            f"{type(module).__name__} has no network to export; write it as .ply or .safetensors."
        )
    program_of = importlib.import_module(f"{folder}.export").program_of
    windows = [None if corner is None else tuple(corner) for corner in (args.foreground, args.background)]
    program = program_of(module, module.reconstruct(), *windows)
    return write_program(program, args.output, "dynamic" if args.batch == "dynamic" else int(args.batch))


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


WRITERS = {
    "ply": _write_ply,
    "safetensors": _write_state,
    "onnx": _write_network,
    "torch-export": _write_network,
}
