"""``avatarzoo export``: a checkpoint to files that other programs read."""

from __future__ import annotations

import argparse
import importlib.util
import math
from pathlib import Path

SUFFIXES = {
    "ply": ".ply", "glb": ".glb", "html": ".html", "sequence": ".zip", "safetensors": ".safetensors", "onnx": ".onnx",
    "torch-export": ".pt2",
}  # fmt: skip
NETWORKS, STILLS, MOVING = ("onnx", "torch-export"), ("ply", "glb"), ("html", "sequence")


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="avatarzoo export",
        description="Write a trained avatar as Gaussians of one expression (PLY with 62 properties, or binary glTF with "
        "KHR_gaussian_splatting), as one PLY a frame (a zip file or, with --format sequence, a folder), as one HTML page that plays "
        "it offline with sliders, as one self-contained safetensors file that AvatarState.load reads, or its network for other "
        "runtimes (ONNX, or an exported program of torch) with a JSON beside it that says what goes in and comes out.",
    )
    p.add_argument(
        "checkpoint", type=Path, help="file written by avatarzoo fit, e.g. runs/avatar/avatar.ckpt"
    )
    p.add_argument(
        "output",
        type=Path,
        help="where to write: NAME.ply, .glb, .zip (PLY a frame), .html, .safetensors, .onnx or .pt2",
    )
    p.add_argument("--format", choices=sorted(SUFFIXES), help="default: what the name ends in")
    p.add_argument(
        "--expression",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="expression of the PLY or glTF, e.g. jawOpen=0.4; may be repeated (default: neutral)",
    )
    motion = p.add_argument_group("motion (.zip, .html)")
    motion.add_argument(
        "--with", dest="driver", type=Path, metavar="DRIVER",
        help="video.mp4, folder, params.npz or speech.wav that moves the avatar, as for avatarzoo drive; needed for a .zip, and what "
        "the Play button of an .html plays (default: a demonstration)",
    )  # fmt: skip
    motion.add_argument("--seconds", type=float, default=10.0, help="of the driver's beginning (default 10)")
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
            f"{args.output} has no known format; name it .ply, .glb, .html, .zip, .safetensors, .onnx or .pt2, or say --format."
        )
    output: Path = args.output
    if output.suffix != SUFFIXES[kind] and kind != "sequence":
        output = output.with_name(output.name + SUFFIXES[kind])
    args.output = output
    if args.expression and kind not in STILLS:
        raise UsageError(
            "--expression is for .ply and .glb; other files keep every expression, so leave it out."
        )
    if args.driver is not None and kind not in MOVING:
        raise UsageError("--with is for .zip and .html; leave it out.")
    if kind == "sequence" and args.driver is None:
        raise UsageError(
            "A sequence needs motion; add --with video.mp4 (or a folder of avatarzoo track, or params.npz)."
        )
    if not 0 < args.seconds < math.inf:
        raise UsageError("--seconds must be above 0.")
    if kind not in NETWORKS and (args.foreground or args.background or args.batch != "1"):
        raise UsageError("--batch and windows are for networks (.onnx, .pt2); leave them out.")
    if args.batch != "dynamic" and not (args.batch.isdecimal() and 1 <= int(args.batch) <= 64):
        raise UsageError(f"--batch takes a number from 1 to 64 or dynamic, not {args.batch}.")
    from avatarzoo.models import load_avatar

    print(WRITERS[kind](load_avatar(args.checkpoint), args))
    return 0


def _write_state(module, args: argparse.Namespace) -> Path:
    return module.reconstruct().save(args.output)


def _write_still(module, args: argparse.Namespace) -> Path:
    from avatarzoo.credentials import SOURCE_TYPE
    from avatarzoo.errors import OutputError
    from avatarzoo.render.gltf import write_glb
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
    if args.output.suffix == ".ply":
        return write_ply(args.output, gaussians)
    return write_glb(args.output, gaussians, {**module.made_of, "digitalSourceType": SOURCE_TYPE})


def _write_moving(module, args: argparse.Namespace) -> Path:
    from avatarzoo.apps.export_motion import played, write_sequence

    motion = None if args.driver is None else played(module, args.driver, args.seconds)
    if args.output.suffix == ".html":
        from avatarzoo.apps.export_page import write_page

        return write_page(args.output, module, motion)
    return write_sequence(args.output, module, motion)


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
    "ply": _write_still,
    "glb": _write_still,
    "html": _write_moving,
    "sequence": _write_moving,
    "safetensors": _write_state,
    "onnx": _write_network,
    "torch-export": _write_network,
}
