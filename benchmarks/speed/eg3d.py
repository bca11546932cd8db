"""Milliseconds of one EG3D picture (FFHQ, 512 pixels): our plain float32 path against the fast ones, in one run.

    python benchmarks/speed/eg3d.py [--resolution 64 128] [--threads 2] [--repeats 10] [--batch 1] [--compile] [--require 4000]

Timed are whole pictures from a code and views of kept planes; weights are random, which does not change the work. The fast paths
are half precision in the super-resolution, half precision everywhere and, with --compile, the whole generator compiled (on CUDA
with CUDA graphs). The reference is float32 without TF32. Differences are to that reference, of a picture that spans [0, 1].
Exits with 1 if the reference's whole picture at the first resolution takes longer than --require milliseconds on a CPU, or if on
CUDA the best path takes more than half of the official generator's 17.6 ms (7.8 ms with kept planes; fact sheet, one H200).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from avatarzoo.priors import RELEASED, TriPlaneGenerator
from avatarzoo.priors.cameras import sphere_label

OFFICIAL_MS = {"picture": 17.6, "kept planes": 7.8}
"""The official generator on an H200, 512 pixels."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--resolution", type=int, nargs="+", default=[64, 128], help="sides of the raw picture"
    )
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--batch", type=int, default=1, help="pictures at a time; figures are per picture")
    parser.add_argument("--compile", action="store_true", help="also time torch.compile")
    parser.add_argument(
        "--require", type=float, default=None, help="milliseconds of a whole picture on the CPU"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(f"{describe(device, args.threads)}, torch {torch.__version__}, batch {args.batch}")
    best: dict[tuple[int, str, str], float] = {}
    for resolution in args.resolution:
        best |= compare(device, resolution, args)
    return verdict(best, device, args)


def compare(device: str, resolution: int, args: argparse.Namespace) -> dict[tuple[int, str, str], float]:
    """Milliseconds per picture by (raw resolution, path, task), printed as they come."""
    torch.manual_seed(0)
    generator = TriPlaneGenerator(replace(RELEASED["ffhq512-64"], neural_resolution=resolution))
    generator = generator.eval().to(device)
    label = sphere_label(torch.linspace(-0.4, 0.4, args.batch), torch.zeros(args.batch)).to(device)
    half = torch.float16 if device == "cuda" else torch.bfloat16
    paths: dict[str, tuple[torch.dtype | None, bool, bool]] = {
        "float32 eager": (None, False, False),
        f"{str(half).removeprefix('torch.')} super-resolution": (half, False, False),
        "bfloat16 everywhere": (torch.bfloat16, True, False),
    }
    if args.compile:
        paths["bfloat16 everywhere, compiled"] = (torch.bfloat16, True, True)
    found, reference = {}, None
    with torch.inference_mode():
        codes = generator.codes(torch.randn(args.batch, 512, device=device), label)
        for path, (dtype, everywhere, compiled) in paths.items():
            generator.use_half(None, backbone=True).use_half(dtype, backbone=everywhere)
            run = generator
            if compiled:
                run = torch.compile(
                    generator, mode="max-autotune" if device == "cuda" else "default", fullgraph=True
                )
            planes = generator.planes(codes)
            tasks: dict[str, Callable[[], torch.Tensor]] = {
                "picture": lambda run=run: run(codes, label).rgb,
                "kept planes": lambda run=run, planes=planes: run(codes, label, planes).rgb,
            }
            for task, call in tasks.items():
                picture = call().float().clone()
                reference = picture if reference is None else reference
                ms, busy = (t / args.batch for t in milliseconds(call, device, args.repeats))
                found[resolution, path, task] = ms
                ratio = found[resolution, "float32 eager", task] / ms
                off = (picture - reference).abs().mean().item()
                idle = "" if device == "cuda" else f"  busy {busy:7.1f} ms per thread"
                print(
                    f"raw {resolution:3d}  {path:32s} {task:12s} {ms:9.1f} ms{idle}  x{ratio:.2f}  mean change {off:.5f}",
                    flush=True,
                )
    return found


def milliseconds(call: Callable[[], torch.Tensor], device: str, repeats: int) -> tuple[float, float]:
    """Median wall-clock time of ``call``, and its mean processor time per thread (what it takes on an idle CPU at best)."""
    for _ in range(3 if device == "cuda" else 1):
        call()
    times, busy = [], time.process_time()
    for _ in range(repeats):
        synchronise(device)
        start = time.perf_counter()
        call()
        synchronise(device)
        times.append(1000 * (time.perf_counter() - start))
    busy = 1000 * (time.process_time() - busy) / repeats / torch.get_num_threads()
    return statistics.median(times), busy


def synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def describe(device: str, threads: int) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else f"CPU, {threads} threads"


def verdict(best: dict[tuple[int, str, str], float], device: str, args: argparse.Namespace) -> int:
    """0 if the bars hold, else 1."""
    first = args.resolution[0]
    if device == "cpu":
        took = best[first, "float32 eager", "picture"]
        return int(args.require is not None and took > args.require)
    late = 0
    for task, official in OFFICIAL_MS.items():
        took = min(ms for (r, _, t), ms in best.items() if (r, t) == (first, task))
        print(f"{task}: {took:.2f} ms, official {official} ms on an H200, bar {official / 2:.2f} ms")
        late += took > official / 2
    return int(late > 0)


if __name__ == "__main__":
    sys.exit(main())
