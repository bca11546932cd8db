"""The small prior, taught: from the code of each made-up person to their pictures.

    python benchmarks/small_prior/train.py --people runs/people.pt --held-out runs/held_out.pt --minutes 60
    ... --minutes 30 --resume runs/small_prior/last.pt --sharp    (goes on with weights and optimiser; a new schedule of the rate)

A GAN needs hundreds of GPU hours; made-up people come with the numbers that made them, so the generator can be taught directly:
code (shape and colours, unit variance) and camera in, picture out. Sampling codes from N(0, 1) then gives new people. Their surfaces
are known too, so that most samples of a ray lie where there is something to see, and few are needed.
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
from typing import NamedTuple

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
from avatarzoo.priors.volume import Field, evaluate, interval_weights

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
    coarse_samples=16,
    fine_samples=16,
    depth_range=(2.3, 3.1),
    white_background=True,
    plane_axes="fixed",
    pose_conditioning=False,
    camera_pivot=(0.0, 0.0, 0.0),
)
VIEWS = 2
"""Of each person in a step; they share the person's planes."""
RAYS, PATCH = 512, 24
"""Raw pixels of each view in a step at first, and the side of the square that is looked at later on."""
FREE, OFFSETS, OFFSET_JITTER = 4, (-0.03, -0.012, 0.0, 0.012, 0.03, 0.07), 0.016
"""Samples over the whole way of a ray, and round the known surface, in world units."""
CLEARANCE, SOLID = 0.04, 40.0
"""Nothing may be this far in front of a surface; raw density that everything behind it must reach."""
RATE = 0.01
WARM_UP = 100
RAW_SHARE = 0.5
"""Of the time, at the beginning, in which only raw pictures are compared; these steps are cheaper."""
LONGEST_STEP = 5.0
"""Seconds; whatever a step takes longer, the machine was busy with something else."""


class Scene(NamedTuple):
    """What a batch looks at: raw density and colours of points of each view, and each view's code of the super-resolution."""

    field: Field
    codes: Tensor
    generator: TriPlaneGenerator


class Batch(NamedTuple):
    """Some views: codes, cameras, pictures in [0, 1], and camera depths of raw pixels (0: nothing there)."""

    latent: Tensor
    labels: Tensor
    images: Tensor
    depths: Tensor


def guided_depths(
    true: Float[Tensor, "b n"], draws: torch.Generator
) -> tuple[Float[Tensor, "b n s"], Float[Tensor, "b n s"]]:
    """Sorted distances along rays: a few over the whole way, more round the known surface; and how far each lies behind it.

    Rays that meet nothing (infinite distance) spread all their samples over the whole way.
    """
    near, far = CONFIG.depth_range
    count = FREE + len(OFFSETS)
    jolt = torch.rand(*true.shape, count, generator=draws)
    even = near + (far - near) * (torch.arange(FREE) + jolt[..., :FREE]) / FREE
    offsets = torch.tensor(OFFSETS) + OFFSET_JITTER * (jolt[..., FREE:] - 0.5)
    close = torch.cat([even, true[..., None].clamp(max=far) + offsets], -1).sort(-1)[0]
    empty = near + (far - near) * (torch.arange(count) + jolt) / count
    depths = torch.where(true.isinf()[..., None], empty, close)
    return depths, depths - true[..., None]


def guided_render(
    scene: Scene, batch: Batch, chosen: Tensor, draws: torch.Generator
) -> tuple[Float[Tensor, "b n c"], Float[Tensor, "b n"], Tensor]:
    """Features and opacity of the chosen raw pixels ``(B, N)``, and what density must be told at the samples:
    nothing in front of the surface, something solid behind it."""
    rays = camera_rays(batch.labels, CONFIG.neural_resolution)
    directions = rays.directions.gather(1, chosen[..., None].expand(-1, -1, 3))
    ahead = (directions * batch.labels[:, None, [2, 6, 10]]).sum(-1)
    depth = batch.depths.flatten(1).gather(1, chosen)
    distances = torch.where(depth > 0, depth / ahead, torch.inf)
    depths, behind = guided_depths(distances, draws)
    density, colours = evaluate(scene.field, Rays(rays.origins, directions), depths)
    weights, _ = interval_weights(depths, density)
    halves = F.pad(weights, (1, 1)) / 2
    shares = halves[..., :-1] + halves[..., 1:]
    opacity = weights.sum(-1)
    features = (shares[..., None, :] @ colours)[..., 0, :] + 1 - opacity[..., None]
    free = F.softplus(density - 1)[behind < -CLEARANCE].clamp(max=10).mean()
    solid = F.relu(SOLID - density)[(behind > 0.01) & (behind < 0.1)].mean() / SOLID
    return features * 2 - 1, opacity, 0.05 * free + 0.1 * solid


def edges(x: Float[Tensor, "b c h w"]) -> tuple[Tensor, Tensor]:
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


def picture_loss(picture: Tensor, target: Tensor) -> Tensor:
    """L1 of the picture and of its edges, at full and half size."""
    loss = F.l1_loss(picture, target)
    for scale in (1, 2):
        a, b = (F.avg_pool2d(x, scale) for x in (picture, target))
        loss = loss + sum(F.l1_loss(p, t) for p, t in zip(edges(a), edges(b)))
    return loss


def interest(images: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b n"]:
    """How often each raw pixel is looked at: more where the picture changes, which is eyes, mouth and outline."""
    small = resize(images, CONFIG.neural_resolution)
    grey = small.mean(1, keepdim=True)
    change = sum(
        F.avg_pool2d(F.pad(e.abs(), pad), 3, 1, 1) for e, pad in zip(edges(grey), ((0, 1), (0, 0, 0, 1)))
    )
    return (0.06 + 0.1 * (grey < 0.97) + change).flatten(1)


def look(generator: TriPlaneGenerator, batch: Batch) -> Scene:
    """The people of a batch; views of a person share the planes."""
    codes = generator.codes(*first_views(batch))
    planes = generator.planes(codes, noise="none")
    return Scene(
        lambda points: by_view(*generator.query(planes, by_person(points))),
        views_of(codes[:, -1:]),
        generator,
    )


def pixels_loss(scene: Scene, batch: Batch, draws: torch.Generator) -> Tensor:
    """Colours and opacity of some raw pixels of every view."""
    chosen = torch.multinomial(interest(batch.images), RAYS, generator=draws)
    features, opacity, solidity = guided_render(scene, batch, chosen, draws)
    small = resize(batch.images, CONFIG.neural_resolution).flatten(2)
    target = small.gather(2, chosen[:, None].expand(-1, 3, -1)).transpose(1, 2) * 2 - 1
    seen = (batch.depths.flatten(1).gather(1, chosen) > 0).float()
    return F.l1_loss(features[..., :3], target) + 0.2 * F.l1_loss(opacity, seen) + solidity


def squares_loss(scene: Scene, batch: Batch, draws: torch.Generator) -> Tensor:
    """One square of every raw view and of the final picture; the rim that super-resolution cannot see beyond is left out."""
    side = CONFIG.neural_resolution
    top, left = (int(torch.randint(side - PATCH + 1, (), generator=draws)) for _ in range(2))
    grid = torch.arange(side * side).view(side, side)[top : top + PATCH, left : left + PATCH].flatten()
    chosen = grid.expand(len(batch.labels), -1)
    features, opacity, solidity = guided_render(scene, batch, chosen, draws)
    features = features.transpose(1, 2).unflatten(2, (PATCH, PATCH))
    inside = (slice(None), slice(None), slice(top, top + PATCH), slice(left, left + PATCH))
    small = resize(batch.images, side)[inside] * 2 - 1
    seen = (batch.depths.flatten(1).gather(1, chosen) > 0).float()
    loss = picture_loss(features[:, :3], small) + 0.2 * F.l1_loss(opacity, seen) + solidity
    picture, x = features[:, :3], features
    last = scene.codes.expand(-1, 3, -1)
    for block in scene.generator.superresolution.blocks:
        x, picture = block(x, picture, last, noise="none")
    fine = batch.images[:, :, 2 * top : 2 * (top + PATCH), 2 * left : 2 * (left + PATCH)] * 2 - 1
    rim = (slice(None), slice(None), slice(4, -4), slice(4, -4))
    return loss + picture_loss(picture[rim], fine[rim])


def first_views(batch: Batch) -> tuple[Tensor, Tensor]:
    """Code and camera of each person, once."""
    return batch.latent[::VIEWS], batch.labels[::VIEWS]


def by_person(points: Float[Tensor, "b n 3"]) -> Float[Tensor, "p m 3"]:
    """Points of all views of a person side by side, so that planes need not be repeated."""
    return points.unflatten(0, (-1, VIEWS)).flatten(1, 2)


def by_view(*answers: Tensor) -> tuple[Tensor, ...]:
    """Inverse of :func:`by_person` for what the points were asked for."""
    return tuple(a.unflatten(1, (VIEWS, -1)).flatten(0, 1) for a in answers)


def views_of(x: Tensor) -> Tensor:
    """What belongs to a person, for each of the person's views."""
    return x.repeat_interleave(VIEWS, 0)


def draw_batch(folk: crowd.People, latents: Tensor, people: int, draws: torch.Generator) -> Batch:
    """``VIEWS`` views of each of ``people`` people; views of a person lie side by side in the files."""
    portraits = folk.portraits
    each = len(portraits.images) // len(latents)
    who = torch.randint(len(latents), (people,), generator=draws)
    view = torch.rand(people, each, generator=draws).argsort(1)[:, :VIEWS]
    rows = (who[:, None] * each + view).flatten()
    images, depths = portraits.images[rows].float() / 255, folk.depths[rows].float()
    return Batch(latents[portraits.people[rows]], portraits.labels[rows], images, depths)


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
        batch = draw_batch(folk, latents, args.people_a_step, draws)
        sharp = args.sharp or elapsed > 60 * RAW_SHARE * args.minutes
        loss = (squares_loss if sharp else pixels_loss)(look(generator, batch), batch, draws)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        follow(average, generator, min(0.999, (1 + step) / (10 + step)))
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
    parser.add_argument("--people-a-step", type=int, default=4)
    parser.add_argument(
        "--sharp", action="store_true", help="compare final pictures from the beginning (with --resume)"
    )
    parser.add_argument("--scores", action=argparse.BooleanOptionalAction, default=True)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
