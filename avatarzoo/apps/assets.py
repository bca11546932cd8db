"""``avatarzoo assets``: list, fetch and verify weights and licensed files, import published checkpoints."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from avatarzoo import assets
from avatarzoo.errors import MissingAssetError, UsageError


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="avatarzoo assets", description="Weights and licensed files that avatarzoo can use."
    )
    commands = p.add_subparsers(dest="command", required=True, metavar="{list,fetch,verify,import}")
    commands.add_parser("list", help="what there is, what is here, and how to get the rest")
    fetch = commands.add_parser(
        "fetch", help="download files that need no registration, verified by their sha256"
    )
    fetch.add_argument("names", nargs="+", metavar="NAME", help="names as avatarzoo assets list shows them")
    verify = commands.add_parser("verify", help="compare the files that are here with their published sha256")
    verify.add_argument("names", nargs="*", metavar="NAME", help="only these (default: all that are here)")
    importing = commands.add_parser(
        "import",
        help="turn a published checkpoint into safetensors and JSON; nothing in it is executed",
        description="Read the weights and plain values of a published checkpoint (.pkl of the EG3D family, .pth, .pt, .ckpt) without "
        "running anything of it, and write one safetensors file for each network and checkpoint.json.",
    )
    importing.add_argument("file", type=Path, help="the published checkpoint, e.g. ffhqrebalanced512-128.pkl")
    importing.add_argument("folder", type=Path, help="where to write; an import that lies there is replaced")
    importing.add_argument(
        "--expect",
        metavar="NAME",
        help="refuse it unless it has exactly the tensors of this EG3D release, e.g. ffhqrebalanced512-128",
    )
    return p


def main(argv: list[str]) -> int:
    """Run a subcommand; the exit code of verify is 1 when a file is damaged."""
    args = parser().parse_args(argv)
    if args.command == "list":
        print("\n".join(listing()))
        return 0
    if args.command == "fetch":
        for name in args.names:
            print(fetch(name))
        return 0
    if args.command == "import":
        print("\n".join(import_file(args.file, args.folder, args.expect)))
        return 0
    return verify(args.names)


def listing() -> list[str]:
    """Lines: state, name, what it is, licence, and how to get it where it is not here."""
    lines = [f"Folders searched: {', '.join(map(str, assets.search_folders()))}", ""]
    for asset in assets.ASSETS.values():
        here = assets.locate(asset.name)
        lines.append(f"{'here   ' if here else 'missing'}  {asset.name:<18} {asset.what}  [{asset.licence}]")
        way = (
            f"avatarzoo assets fetch {asset.name}" if asset.url else f"{asset.obtain}; file name {asset.file}"
        )
        lines.append(f"         {'':<18} {here or way}")
    return lines


def fetch(name: str) -> Path:
    """Download, or build, one asset with a progress line on stderr.

    Raises:
        MissingAssetError: see :func:`avatarzoo.assets.fetch`.
    """
    if assets.describe(name).members:
        from avatarzoo.heads.ict_build import fetch_ict  # imports torch

        return fetch_ict(_progress)
    return assets.fetch(name, _progress)


def verify(names: list[str]) -> int:
    """Print ok, DAMAGED or not pinned for each file that is here; 1 when one is damaged.

    Raises:
        MissingAssetError: a named file is not here.
    """
    for name in names:
        if assets.locate(name) is None:
            raise MissingAssetError(assets.way_out(assets.describe(name)))
    words = {True: "ok", False: "DAMAGED", None: "here, its publisher states no sha256"}
    damaged = 0
    for name in names or [name for name in assets.ASSETS if assets.locate(name)]:
        state = assets.verify(name)
        damaged |= state is False
        print(f"{name:<18} {words[state]}  {assets.locate(name)}")
    return int(damaged)


def import_file(file: Path, folder: Path, expect: str | None = None) -> list[str]:
    """Import a checkpoint; lines that say what was in it.

    Raises:
        UnsafeCheckpointError, BadCheckpointError, MissingAssetError: see :func:`avatarzoo.priors.checkpoints.import_checkpoint`.
        UsageError: there is no release named ``expect``.
        OutputError: the folder cannot be written.
    """
    from avatarzoo.priors.checkpoints import import_checkpoint  # imports torch
    from avatarzoo.priors.eg3d_config import RELEASED
    from avatarzoo.priors.released import expected_shapes

    if expect is not None and expect not in RELEASED:
        raise UsageError(f"--expect knows no {expect}; it takes {', '.join(RELEASED)}.")
    checkpoint = import_checkpoint(file, expected_shapes(RELEASED[expect]) if expect else None)
    lines = []
    for name, module in checkpoint.modules.items():
        numbers = sum(tensor.numel() for tensor in module.state.values())
        what = module.class_name or "state dictionary"
        lines.append(f"{name:<18} {what}, {len(module.state)} tensors, {numbers / 1e6:.2f} M numbers")
    facts = {"plane axes": checkpoint.plane_axes, "neural resolution": checkpoint.neural_resolution}
    lines += [f"{key:<18} {value}" for key, value in facts.items() if value is not None]
    lines += [f"{name:<18} left out: neither weights nor plain values" for name in checkpoint.skipped]
    return [*lines, str(checkpoint.save(folder))]


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        whole = f" of {total / 1e6:.1f}" if total else ""
        print(f"\r{done / 1e6:.1f}{whole} MB", end="\n" if done == total else "", file=sys.stderr, flush=True)
