"""The small prior, taught: from the code of each made-up person to their pictures.

    python benchmarks/small_prior/train.py --people runs/people.pt --held-out runs/held_out.pt --minutes 25
    ... --minutes 60 --resume runs/small_prior/last.pt      (goes on with weights and optimiser; a new schedule of the rate)

A GAN needs hundreds of GPU hours; made-up people come with the numbers that made them, so the generator can be taught directly:
code (shape and colours, unit variance) and camera in, picture out. Sampling codes from N(0, 1) then gives new people.
"""

from __future__ import annotations

import argparse
import copy
import csv
import json
import math
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
import people as crowd

from avatarzoo.metrics.random_features import random_feature_distance
from avatarzoo.networks.ops import resize
from avatarzoo.priors.eg3d import TriPlaneGenerator
from avatarzoo.priors.eg3d_config import EG3DConfig
from avatarzoo.priors.generator_file import save_generator
from avatarzoo.priors.rays import Rays, camera_rays
from avatarzoo.priors.volume import Sampling, render_rays

CONFIG = EG3DConfig(
    latent_dim=48,
    code_dim=128,
    plane_resolution=128,
    plane_channels=16,
    channel_base=2048,
    channel_max=128,
    superresolution="2X",
    half=False,
    neural_resolution=64,
    coarse_samples=12,
    fine_samples=12,
    depth_range=(2.25, 3.15),
    white_background=True,
    plane_axes="fixed",
    pose_conditioning=False,
    camera_pivot=(0.0, 0.0, 0.0),
)
PATCH = 32
RATE = 2.5e-3
WARM_UP = 50
RAW_SHARE = 0.3
"""Of the time, at the beginning, in which only raw pictures are compared; these steps are cheaper."""
LONGEST_STEP = 5.0
"""Seconds; whatever a step takes longer, the machine was busy with something else."""


def patch(
    generator: TriPlaneGenerator,
    codes: Tensor,
    labels: Tensor,
    corner: tuple[int, int],
    draws: torch.Generator,
) -> tuple[Float[Tensor, "b c p p"], Float[Tensor, "b 1 p p"]]:
    """Features and opacity of one square of the raw view."""
    config, planes = generator.config, generator.planes(codes, noise="none")
    side = config.neural_resolution
    rays = camera_rays(labels, side)
    grid = torch.arange(side * side).view(side, side)
    chosen = grid[corner[0] : corner[0] + PATCH, corner[1] : corner[1] + PATCH].flatten()
    sampling = Sampling(
        config.coarse_samples, config.fine_samples, config.depth_range, config.box, config.white_background
    )
    rays = Rays(rays.origins, rays.directions[:, chosen])
    view = render_rays(lambda points: generator.query(planes, points), rays, sampling, draws)
    features, opacity = (
        m.transpose(1, 2).unflatten(2, (PATCH, PATCH)) for m in (view.features, view.opacity)
    )
    return features, opacity


def edges(x: Float[Tensor, "b c h w"]) -> tuple[Tensor, Tensor]:
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


def picture_loss(picture: Tensor, target: Tensor) -> Tensor:
    """L1 of the picture and of its edges, at full and half size."""
    loss = F.l1_loss(picture, target)
    for scale in (1, 2):
        a, b = (F.avg_pool2d(x, scale) for x in (picture, target))
        loss = loss + sum(F.l1_loss(p, t) for p, t in zip(edges(a), edges(b)))
    return loss


def step_loss(
    generator: TriPlaneGenerator, batch: tuple[Tensor, Tensor, Tensor], draws: torch.Generator, sharp: bool
) -> Tensor:
    """One square of every picture; the rim that super-resolution cannot see beyond is left out.

    ``sharp``: the final picture counts too; without, super-resolution is neither computed nor trained.
    """
    latent, labels, images = batch
    room = generator.config.neural_resolution - PATCH + 1
    top, left = (int(torch.randint(room, (), generator=draws)) for _ in range(2))
    codes = generator.codes(latent, labels)
    features, opacity = patch(generator, codes, labels, (top, left), draws)
    raw = features[:, :3]
    inside = (slice(None), slice(None), slice(top, top + PATCH), slice(left, left + PATCH))
    small = resize(images, generator.config.neural_resolution)
    person = resize((images.amin(1, keepdim=True) < 0.97).float(), generator.config.neural_resolution)
    loss = picture_loss(raw, small[inside] * 2 - 1) + 0.2 * F.l1_loss(opacity, person[inside])
    if not sharp:
        return loss
    picture, x = raw, features
    for block in generator.superresolution.blocks:
        x, picture = block(x, picture, codes[:, -1:].expand(-1, 3, -1), noise="none")
    fine = images[:, :, 2 * top : 2 * (top + PATCH), 2 * left : 2 * (left + PATCH)] * 2 - 1
    rim = (slice(None), slice(None), slice(4, -4), slice(4, -4))
    return loss + picture_loss(picture[rim], fine[rim])


@torch.no_grad()
def score(generator: TriPlaneGenerator, held_out: crowd.People, count: int = 400) -> float:
    """Distance between made-up pictures and pictures of people that were not trained on, at the same cameras."""
    metric = random_feature_distance()
    draws = torch.Generator().manual_seed(1)
    images, labels = held_out.portraits.images[:count], held_out.portraits.labels[:count]
    for some, label in zip(images.split(20), labels.split(20)):
        latent = torch.randn(len(label), generator.config.latent_dim, generator=draws)
        view = generator(generator.codes(latent, label), label)
        metric.update(view.rgb.clamp(0, 1), some.float() / 255)
    return float(metric.compute())


def train(args: argparse.Namespace) -> None:
    torch.manual_seed(0)
    torch.set_flush_denormal(True)
    draws = torch.Generator().manual_seed(0)
    folk, held_out = crowd.load(args.people), crowd.load(args.held_out)
    latents = crowd.codes(folk)
    generator = TriPlaneGenerator(CONFIG)
    average = copy.deepcopy(generator).requires_grad_(False)
    optimiser = torch.optim.Adam(generator.parameters(), RATE, betas=(0.9, 0.99))
    if args.resume:
        kept = torch.load(args.resume, weights_only=True)
        for name, part in (("generator", generator), ("average", average), ("optimiser", optimiser)):
            part.load_state_dict(kept[name])
    args.output.mkdir(parents=True, exist_ok=True)
    log = csv.writer((args.output / "supervised.csv").open("w", buffering=1))
    log.writerow(["seconds", "processor_seconds", "step", "loss", "distance"])
    start, elapsed, step, mean, next_look = time.time(), 0.0, 0, None, 60.0 * args.every
    while elapsed < 60 * args.minutes:
        began = time.time()
        rate = (
            RATE
            * min(1.0, (step + 1) / WARM_UP)
            * (0.5 + 0.5 * math.cos(math.pi * elapsed / 60 / args.minutes))
        )
        optimiser.param_groups[0]["lr"] = max(rate, 1e-2 * RATE)
        rows = torch.randint(len(folk.portraits.images), (args.batch,), generator=draws)
        portraits = folk.portraits
        batch = latents[portraits.people[rows]], portraits.labels[rows], portraits.images[rows].float() / 255
        loss = step_loss(
            generator, batch, draws, bool(args.resume) or elapsed > 60 * RAW_SHARE * args.minutes
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        follow(average, generator, min(0.998, (1 + step) / (10 + step)))
        mean = 0.98 * (loss.item() if mean is None else mean) + 0.02 * loss.item()
        step += 1
        elapsed += min(time.time() - began, LONGEST_STEP)
        if elapsed >= next_look:
            looked = score(average, held_out, 200) if args.scores else math.nan
            next_look += 60 * args.every
            log.writerow(
                [round(elapsed, 1), round(time.process_time(), 1), step, round(mean, 5), round(looked, 4)]
            )
            keep(args.output / "last.pt", generator, average, optimiser)
    keep(args.output / "last.pt", generator, average, optimiser)
    finish(average, latents, args.output, {"steps": step, "loss": mean, "seconds": time.time() - start})
    print(json.dumps({"distance": score(average, held_out), "steps": step, "loss": mean}))


def keep(
    path: Path, generator: TriPlaneGenerator, average: TriPlaneGenerator, optimiser: torch.optim.Optimizer
) -> None:
    """Everything that a run needs to go on."""
    parts = {"generator": generator, "average": average, "optimiser": optimiser}
    torch.save({name: part.state_dict() for name, part in parts.items()}, path)


def follow(average: torch.nn.Module, network: torch.nn.Module, decay: float) -> None:
    with torch.no_grad():
        for a, b in zip(average.parameters(), network.parameters()):
            a.lerp_(b, 1 - decay)


@torch.no_grad()
def finish(average: TriPlaneGenerator, latents: Tensor, output: Path, facts: dict) -> None:
    """Set the mean code, which truncation needs, and write weights and facts."""
    drawn = torch.randn(10000, latents.shape[1], generator=torch.Generator().manual_seed(2))
    average.mapping.mean_code.copy_(average.mapping(drawn, torch.zeros(len(drawn), CONFIG.label_dim)).mean(0))
    save_generator(average, output / "small_prior.safetensors", facts)
    (output / "supervised.json").write_text(json.dumps(facts, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=Path, required=True, help="file of people.py")
    parser.add_argument("--held-out", type=Path, required=True, help="file of people.py with other people")
    parser.add_argument("--output", type=Path, default=Path("runs/small_prior"))
    parser.add_argument("--resume", type=Path, help="last.pt of an earlier run")
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--every", type=float, default=7, help="minutes between scores")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--scores", action=argparse.BooleanOptionalAction, default=True)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
