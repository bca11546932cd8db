"""NOFA++ at full size: milliseconds and peak memory of a training step of every stage, and of reconstructing and animating.

    python benchmarks/speed/nofaplusplus.py [--parts 1a 1b 2 3 4 use] [--prior ffhq512-64] [--batch 1] [--raw 64] [--steps 2]
        [--threads 2] [--device cpu] [--perceptual multiscale] [--within 24]

Weights are random, which does not change the work. Every part runs in a process of its own, so that its peak memory is its own:
resident memory on a CPU, allocated memory on CUDA. Step times are medians after one warm-up step; stage 3 has one for each
kind of step. LPIPS and face recognition need weights; without them (``--perceptual multiscale``) a step is cheaper by
two or four passes of VGG16. Exits with 1 where a part needs more than ``--within`` GiB.

The paper's budget: 2.6 million iterations of 4 pictures in about 5 days on 4 V100, so 166 ms an iteration.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from avatarzoo.data.batch import AvatarBatch
from avatarzoo.data.procedural_people import HEAD_CENTRE, portrait_cameras
from avatarzoo.heads.base import HeadModel
from avatarzoo.models import NOFAPlusPlus
from avatarzoo.models.nofaplusplus.stages import STAGES
from avatarzoo.networks.training import finite_gradients
from avatarzoo.priors.cameras import sphere_label

PARTS = [*STAGES, "use"]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--prior", default="ffhq512-64", help="name of a published configuration, or small")
    parser.add_argument("--head", default="procedural")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--raw", type=int, help="side of volume-rendered training pictures")
    parser.add_argument("--steps", type=int, default=2, help="timed steps or pictures")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--perceptual", default="multiscale", choices=["vgg", "alex", "multiscale", "none"])
    parser.add_argument("--identity", default="none", choices=["facenet", "none"])
    parser.add_argument("--within", type=float, default=24.0, help="GiB")
    parser.add_argument("--alone", action="store_true", help="measure the one part in this process")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    if args.alone:
        return measure(args)
    bad = 0
    for part in args.parts:
        rest = sys.argv[1:]
        if "--parts" in rest:  # the last one given counts
            at = rest.index("--parts")
            rest = rest[:at] + rest[at + 1 + len(args.parts) :]
        bad |= subprocess.run([sys.executable, __file__, *rest, "--parts", part, "--alone"]).returncode
    return bad


def measure(args: argparse.Namespace) -> int:
    """One part; prints a line for each of its figures."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    part = args.parts[0]
    module = NOFAPlusPlus(
        stage="2" if part == "use" else part, head=args.head, prior=args.prior, raw_resolution=args.raw,
        perceptual=args.perceptual, identity=args.identity,
    ).to(args.device)  # fmt: skip
    if part == "use":
        using(module.eval(), args)
    else:
        training(module, args)
    if args.device == "cpu":
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    else:
        peak = torch.cuda.max_memory_allocated() / 2**30
    print(f"{part:>4}  peak {peak:6.2f} GiB", flush=True)
    return int(peak > args.within)


def training(module: NOFAPlusPlus, args: argparse.Namespace) -> None:
    """Steps as Lightning would make them."""
    module.setup("fit")
    optimiser = module.configure_optimizers()
    stage = module.stage
    for kind in ("video", "synthetic"):
        iteration = getattr(stage, kind)
        if iteration is None:
            continue
        module.loss.prepare(module.device, module.lessons.of(iteration))
        batch = BATCHES[kind](module, args.batch)

        def step(batch: Any = batch, iteration: Any = iteration, kind: Any = kind) -> None:
            optimiser.zero_grad()
            module.generator.train_only(module.trained(iteration))
            terms = module.outcome(batch, iteration, kind).terms
            torch.stack(list(terms.values())).sum().backward()
            finite_gradients(module.generator)
            optimiser.step()

        say(f"{args.parts[0]:>4}  {kind} step of {args.batch}", timed(step, args))


def using(module: NOFAPlusPlus, args: argparse.Namespace) -> None:
    """Reconstruct a picture, then animate it, one frame at a time."""
    source = video(module, 1)["source"]
    params, camera = source["params"], source["camera"]

    def reconstruct() -> Any:
        return module.reconstruct(source["image"], params, camera)

    say(" use  reconstruct", timed(reconstruct, args))
    draw = module.animation(reconstruct())
    say(
        f" use  animate at {module.networks.size}, raw {module.networks.prior.neural_resolution}",
        timed(lambda: draw(params, camera), args),
    )


def video(module: NOFAPlusPlus, count: int) -> dict[str, AvatarBatch]:
    """Random pictures of heads in EG3D's crop."""
    return {
        name: portrait(module.head, count, module.generator.size, module.device)
        for name in ("source", "target")
    }


def portrait(head: HeadModel, count: int, side: int, device: torch.device) -> AvatarBatch:
    centre = -torch.tensor([HEAD_CENTRE], device=device).expand(count, 3)
    params = head.zeros(count, device)._replace(translation=centre)
    camera = portrait_cameras(torch.zeros(count), torch.zeros(count), side).to(device)
    image = torch.rand(count, 3, side, side, device=device)
    return AvatarBatch(image=image, mask=torch.ones_like(image[:, :1]), params=params, camera=camera)


def synthetic(module: NOFAPlusPlus, count: int) -> dict[str, Tensor]:
    config = module.generator.prior.config
    labels = sphere_label(torch.tensor([0.0, 0.3]), torch.zeros(2), config).expand(count, 2, 25)
    return {
        "latent": torch.randn(count, config.latent_dim, device=module.device),
        "labels": labels.to(module.device),
    }


BATCHES: dict[str, Callable[[NOFAPlusPlus, int], dict[str, Any]]] = {"video": video, "synthetic": synthetic}


def timed(work: Callable[[], Any], args: argparse.Namespace) -> float:
    """Median seconds after one warm-up."""
    taken = []
    for _ in range(args.steps + 1):
        started = time.perf_counter()
        work()
        if args.device != "cpu":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[1:] or taken)


def say(what: str, seconds: float) -> None:
    print(f"{what}: {1000 * seconds:.1f} ms", flush=True)


if __name__ == "__main__":
    sys.exit(main())
