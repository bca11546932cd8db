"""``avatarzoo test -c PROTOCOL``: run one published table (or all of a folder) for any method, and print it."""

from __future__ import annotations

import argparse
from pathlib import Path

EPILOG = """examples
  all tables on made-up people, to see that everything runs (minutes on a CPU):
    avatarzoo test -c benchmarks/protocols --procedural
  your own clips under the protocol of Gaussian Deja-vu's Table 4, trained per clip:
    avatarzoo test -c benchmarks/protocols/dejavu_table4.yaml --data clips/ --layout clips
  a checkpoint beside the protocol's rows, and pictures that other code made:
    avatarzoo test -c P.yaml --data DIR --ckpt "Ours=mine.ckpt" --predictions "Official code=renders/"

Pictures are kept in OUTPUT/predictions/ROW/PART/CASE/000000.png; a stopped run goes on where it was. Pictures made elsewhere
are read from FOLDER/PART/CASE/000000.png, in the order of OUTPUT/cases.json. avatarzoo table turns result files into tables."""


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="avatarzoo test",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "-c",
        "--config",
        action="append",
        required=True,
        type=Path,
        metavar="PROTOCOL",
        help="a file of benchmarks/protocols, or the folder (all); may be repeated",
    )
    p.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="[ROLE=]FOLDER",
        help="where the protocol's data lie; ROLE= where it has several sets (sources, drivers...)",
    )
    p.add_argument(
        "--layout",
        help="read the data by another layout than the protocol's, e.g. clips or portraits for your own",
    )
    p.add_argument(
        "--procedural",
        action="store_true",
        help="run the procedural twin: made-up people, tiny pictures; says nothing about real people",
    )
    p.add_argument("--rows", nargs="+", default=[], metavar="ROW", help="only these rows of the protocol")
    p.add_argument(
        "--ckpt",
        action="append",
        default=[],
        metavar="ROW=FILE",
        help="a checkpoint for a row (or a new row)",
    )
    p.add_argument("--ckpt_path", type=Path, help="a checkpoint for the row 'Ours'")
    p.add_argument(
        "--predictions",
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="score pictures made elsewhere as a row",
    )
    p.add_argument("--head", help="head model to track with (default: the protocol's)")
    p.add_argument("--head_file", help="the user's file of that head model")
    p.add_argument(
        "--embedder",
        default="auto",
        choices=["auto", "mobilefacenet", "facenet", "arcface"],
        help="network of CSIM",
    )
    p.add_argument("--limit", type=int, default=0, metavar="N", help="at most N cases of each part")
    p.add_argument(
        "--seeds", type=int, nargs="+", default=[], help="seeds of trained rows (default: the protocol's)"
    )
    p.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1... (default: a CUDA card if there is one)"
    )
    p.add_argument(
        "--output", type=Path, help="folder for pictures and results (default: runs/benchmarks/PROTOCOL)"
    )
    p.add_argument(
        "--videos", type=int, default=1, metavar="N", help="show N cases of each part side by side (0: none)"
    )
    p.add_argument("--discard-pictures", action="store_true", help="delete pictures once they are scored")
    p.add_argument("--cache", type=Path, help="where tracked footage is kept (default: the cache folder)")
    return p  # fmt: skip


def main(argv: list[str]) -> int:
    args = parser().parse_args(argv)
    from avatarzoo.errors import AvatarZooError, UsageError
    from avatarzoo.evaluation.protocol import load_protocol

    files = [f for path in args.config for f in (sorted(path.glob("*.yaml")) if path.is_dir() else [path])]
    if not files:
        raise UsageError(f"{args.config[0]} holds no protocol (*.yaml).")
    if len(files) > 1 and (args.ckpt or args.ckpt_path or args.predictions):
        raise UsageError("Checkpoints and predictions belong to one protocol; give one file with -c.")
    failed = []
    for file in files:
        try:
            run_one(load_protocol(file), args, several=len(files) > 1)
        except AvatarZooError as error:
            if len(files) == 1:
                raise
            failed.append(file.stem)
            print(f"error: {file.stem}: {error}", flush=True)
    if len(files) > 1:
        print(
            f"\n{len(files) - len(failed)} of {len(files)} protocols ran"
            + (f"; failed: {', '.join(failed)}" if failed else ".")
        )
    return 2 if failed else 0


def run_one(protocol, args: argparse.Namespace, several: bool) -> None:
    """Run, write ``result.json`` and ``cases.json``, draw the curves, print the table, and fail where too much could not be scored."""
    import json

    from avatarzoo.evaluation.plots import plots_of
    from avatarzoo.evaluation.results import write_result
    from avatarzoo.evaluation.runner import check_failures, run_protocol
    from avatarzoo.evaluation.table import render_table
    from avatarzoo.files import atomic_path

    options = make_options(protocol, args, several)
    result = run_protocol(protocol, options)
    with atomic_path(options.output / "cases.json") as temporary:
        temporary.write_text(json.dumps(result["cases"], indent=1, default=str))
    target = write_result(options.output / "result.json", result)
    print(f"\n{render_table([target], 'markdown')}\n\nResult file: {target}", flush=True)
    for picture in plots_of(target):
        print(f"Plot: {picture}")
    check_failures(result, protocol.max_failures)


def make_options(protocol, args: argparse.Namespace, several: bool):
    """:class:`avatarzoo.evaluation.runner.Options` from the command line.

    Raises:
        UsageError: a NAME=VALUE without name or value.
    """
    import torch

    from avatarzoo.evaluation.runner import Options

    base = Path("runs/benchmarks") if args.output is None else args.output
    name = f"{protocol.protocol}-procedural" if args.procedural else protocol.protocol
    output = base / name if several or args.output is None else base
    device = ("cuda" if torch.cuda.is_available() else "cpu") if args.device == "auto" else args.device
    checkpoints = named(args.ckpt, "--ckpt")
    if args.ckpt_path:
        checkpoints["Ours"] = args.ckpt_path
    data = {}
    for entry in args.data:
        role, found, folder = entry.partition("=")
        data[role if found else ""] = Path(folder if found else role)
    return Options(
        output=output, data=data, layout=args.layout, procedural=args.procedural, rows=tuple(args.rows), checkpoints=checkpoints,
        predictions=named(args.predictions, "--predictions"), head=args.head, head_file=args.head_file, limit=args.limit,
        seeds=tuple(args.seeds), device=device, keep=not args.discard_pictures, embedder=args.embedder, cache=args.cache,
        videos=args.videos,
    )  # fmt: skip


def named(entries: list[str], flag: str) -> dict[str, Path]:
    from avatarzoo.errors import UsageError

    result = {}
    for entry in entries:
        name, _, value = entry.rpartition("=")
        if not name or not value:
            raise UsageError(f"{flag} takes NAME=PATH, not {entry!r}.")
        result[name] = Path(value)
    return result
