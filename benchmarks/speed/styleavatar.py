"""Milliseconds of one StyleAvatar picture: the trained network against the folded one and its fast paths, in one run.

    python benchmarks/speed/styleavatar.py [--sizes 128-256 256-512] [--channels 512] [--variant full] [--threads 2] [--repeats 10]
        [--batch 1] [--compile] [--graph] [--half fp16 bf16] [--require 1.3] [--within 2.5]

Timed is the network: condition renders in, picture out; weights are random, which does not change the work. Paths take turns, so
that a busy machine slows all of them; figures are medians, and so are the ratios to the trained network in float32 (without TF32).
Small pictures at the published width (64-128, 512 channels) gain less, about 1.2: there the time goes into reading the weights.
Differences are to its pictures: the largest, and the root mean square relative to the picture's deviation.
On CUDA --graph replays a CUDA graph (what the live loop's fixed shapes allow). Exits with 1 where the folded network in float32 is
less than --require times as fast or differs by more than 1e-4, or a half-precision path differs by more than 1 %, or, with
--within, no path of the last size takes at most so many milliseconds.

The official network, 256-1024 on one H200 (fact sheet): 15.6 ms in float32, 5.9 ms as CUDA graph, 4.7 ms in float16 as CUDA graph.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import get_args

import torch
from torch import Tensor

from avatarzoo.models.styleavatar.codes import identity_code, inference_code
from avatarzoo.models.styleavatar.conditions import Conditions
from avatarzoo.models.styleavatar.folded import FoldedPortrait
from avatarzoo.models.styleavatar.generator import PortraitGenerator, Variant
from avatarzoo.models.styleavatar.windows import centre, centred

HALVES = {"fp16": torch.float16, "bf16": torch.bfloat16}
Draw = Callable[[], Tensor]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sizes", nargs="+", default=["128-256", "256-512"], help="sides of render and picture"
    )
    parser.add_argument("--channels", type=int, default=512, help="most channels (published: 512)")
    parser.add_argument("--variant", choices=get_args(Variant), default="full")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--batch", type=int, default=1, help="pictures at a time; figures are per picture")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compile", action="store_true", help="also torch.compile")
    parser.add_argument("--graph", action="store_true", help="also CUDA graphs")
    parser.add_argument("--half", nargs="*", choices=sorted(HALVES), default=[], help="also half precision")
    parser.add_argument("--require", type=float, default=1.3, help="times as fast, folded in float32")
    parser.add_argument("--within", type=float, help="milliseconds of the fastest path")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    name = torch.cuda.get_device_name() if args.device == "cuda" else f"CPU, {args.threads} threads"
    print(f"{name}, torch {torch.__version__}, {args.variant}, batch {args.batch}")
    good, fastest = True, float("inf")
    for size in args.sizes:
        render, picture = map(int, size.split("-"))
        met, fastest = compare(render, picture, args)
        good = good and met
    return 0 if good and (args.within is None or fastest <= args.within) else 1


@torch.inference_mode()
def compare(render: int, picture: int, args: argparse.Namespace) -> tuple[bool, float]:
    """Print a table; returns whether the folded network is as fast and as exact as it has to be, and the fastest path."""
    trained, paths = everything(render, picture, args)
    reference = trained()
    deviation = reference.std()
    times: dict[str, list[float]] = {name: [] for name in paths}
    for draw in paths.values():  # compiles, captures, warms up
        draw()
    for _ in range(args.repeats):
        for name, draw in paths.items():
            times[name].append(milliseconds(draw, args.device) / args.batch)
    before = statistics.median(times["trained fp32"])
    print(f"{render} -> {picture}")
    good = True
    for name, draw in paths.items():
        error = (draw().float() - reference).abs()
        largest, relative = float(error.max()), float(error.square().mean().sqrt() / deviation)
        now = statistics.median(times[name])
        print(
            f"  {name:<24}{now:9.2f} ms {before / now:7.2f} x   differs by {largest:.1e}, {relative:.2%} rms"
        )
        if name == "folded fp32":
            good = good and before / now >= args.require and largest <= 1e-4
        good = good and relative <= 0.01
    return good, min(statistics.median(t) for t in times.values())


def everything(render: int, picture: int, args: argparse.Namespace) -> tuple[Draw, dict[str, Draw]]:
    """The trained network, and all paths by name, it included."""
    torch.manual_seed(0)
    generator = PortraitGenerator(args.variant, render, picture, channel_max=args.channels)
    lively(generator)
    generator = generator.to(args.device).eval()
    person = generator.features(identity_code(torch.zeros(1, device=args.device)))
    style, grid = inference_code(args.batch, args.device), generator.grid
    window = centred(args.batch, grid, args.device)
    given = conditions(args.batch, render, args.device)

    def trained() -> Tensor:
        return generator(given, person, style, window, None, generator.fixed_noise).image

    paths: dict[str, Draw] = {"trained fp32": trained}
    corner = (centre(grid), centre(grid))
    for kind in ("fp32", *args.half):
        folded = FoldedPortrait(generator, person).to(HALVES.get(kind, torch.float32))
        if args.device == "cpu" or kind != "fp32":
            folded = folded.to(memory_format=torch.channels_last)
        backdrop = folded.backdrop(corner)
        ways: dict[str, Draw] = {"": lambda f=folded, b=backdrop: f.draw(given, corner, b).image}
        if args.graph:
            ways[", graph"] = captured(ways[""])
        if args.compile:
            ways[", compiled"] = compiled(ways[""], args.device)
        paths |= {f"folded {kind}{way}": draw for way, draw in ways.items()}
    return trained, paths


def compiled(draw: Draw, device: str) -> Draw:
    run = torch.compile(draw, mode="max-autotune" if device == "cuda" else "default", fullgraph=True)
    return lambda: run().clone()  # CUDA graphs write every picture to the same place


def captured(draw: Draw) -> Draw:
    """The same, as a replayed CUDA graph."""
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            draw()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        picture = draw()

    def replay() -> Tensor:
        graph.replay()
        return picture

    return replay


def lively(network: torch.nn.Module) -> None:
    """Biases and noise strengths as after training, so that their errors show."""
    draws = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith(("bias", "noise_strength")):
                parameter += 0.1 * torch.randn(parameter.shape, generator=draws)


def conditions(batch: int, side: int, device: str) -> Conditions:
    """Noise, with a face in the middle."""
    draws = torch.Generator().manual_seed(1)
    render, uv = torch.rand(2, batch, 3, side, side, generator=draws) * 2 - 1
    uv[:, 2] = -1
    uv[:, 2, side // 8 : -side // 8, side // 8 : -side // 8] = 1
    return Conditions(render.to(device), uv.to(device))


def milliseconds(draw: Draw, device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    draw()
    if device == "cuda":
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - start)


if __name__ == "__main__":
    sys.exit(main())
