"""The small animatable prior, taught: from a made-up person's code and a driving map of the face to the picture.

    python benchmarks/small_animatable_prior/train.py --frames runs/expressive.pt --minutes 120
    ... --minutes 240     (the same command goes on where the run stopped; the rate follows the share of the minutes used)

It starts from the small prior and uses its losses and guided rays; every picture has an expression of its own, of which the generator
knows the driving map alone, so that texture and face generators must show it.
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
from jaxtyping import Float
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
import frames as stills  # puts benchmarks/small_prior on the path

sys.path.insert(0, str(Path(__file__).parent.parent / "small_prior"))
import train as small

from avatarzoo.data.video import write_video
from avatarzoo.heads.procedural import ProceduralHead
from avatarzoo.models.invertavatar.maps import HeadMaps
from avatarzoo.priors import (
    AnimatableConfig,
    AnimatableTriPlaneGenerator,
    PersonFeatures,
    save_generator,
    small_prior,
)
from avatarzoo.priors.feature_levels import Levels

CONFIG = AnimatableConfig(
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
    white_background=True,
    plane_axes="fixed",
    pose_conditioning=False,
    camera_pivot=(0.0, 0.0, 0.0),
    range_before=0.4,
    range_behind=0.4,
    ray_place=0.5,
    face_top=(48 / 256, 0.25, 0.25),
    upper_mouth=0.3,
)
PEOPLE, PICTURES = 4, 2
"""People in a step and pictures of each."""
RATE, WARM_UP, RAW_SHARE = 0.005, 50, 0.3
"""Adam's rate, its first steps, and the share of the time in which only raw pictures are compared."""


class Batch(NamedTuple):
    """As :class:`small.Batch`, people one after the other, with a driving map for each picture."""

    latent: Tensor
    labels: Tensor
    images: Tensor
    depths: Tensor
    maps: Tensor


def driving_maps(frames: stills.Frames, chunk: int = 50) -> Float[Tensor, "n 1 s s 3"]:
    """Of all pictures, in half precision; about ten milliseconds each."""
    maker = HeadMaps(ProceduralHead(), CONFIG)
    rows = torch.arange(len(frames.people.depths)).split(chunk)
    return torch.cat([maker.driving(frames.params.rows(some)).half() for some in rows])


def look(generator: AnimatableTriPlaneGenerator, batch: Batch) -> small.Scene:
    """Textures and static planes once a person, the driven face once a picture."""
    codes = generator.codes(batch.latent[::PICTURES], batch.labels[::PICTURES])
    person = repeated(generator.person(codes, noise="none"))
    codes = codes.repeat_interleave(PICTURES, 0)
    planes = generator.animate(codes, person, batch.maps, noise="none")
    return small.Scene(lambda points: generator.query(planes, points), codes[:, -1:], generator)


def repeated(person: PersonFeatures) -> PersonFeatures:
    return PersonFeatures(*(Levels(*(x.repeat_interleave(PICTURES, 0) for x in part)) for part in person))


def draw_batch(frames: stills.Frames, maps: Tensor, latents: Tensor, draws: torch.Generator) -> Batch:
    """``PICTURES`` pictures of each of ``PEOPLE`` people."""
    portraits = frames.people.portraits
    each = len(portraits.images) // len(latents)
    who = torch.randint(len(latents), (PEOPLE,), generator=draws)
    which = torch.rand(PEOPLE, each, generator=draws).argsort(1)[:, :PICTURES]
    rows = (who[:, None] * each + which).flatten()
    images, depths = portraits.images[rows].float() / 255, frames.people.depths[rows].float()
    return Batch(latents[portraits.people[rows]], portraits.labels[rows], images, depths, maps[rows].float())


class Run:
    """Everything that goes on after an interruption: networks, optimiser, random numbers, time used."""

    def __init__(self, folder: Path) -> None:
        torch.manual_seed(0)
        self.path = folder / "last.pt"
        # codes then mean the same as in the small prior, if the frames show its 400 people (seeds 0 to 399)
        self.generator = AnimatableTriPlaneGenerator(CONFIG).begin_with(small_prior())
        self.average = copy.deepcopy(self.generator).requires_grad_(False)
        self.optimiser = torch.optim.Adam(self.generator.parameters(), RATE, betas=(0.9, 0.99))
        self.draws = torch.Generator().manual_seed(0)
        self.step, self.elapsed, self.mean = 0, 0.0, math.nan
        if self.path.is_file():
            kept = torch.load(self.path, weights_only=True)
            for name in ("generator", "average", "optimiser"):
                getattr(self, name).load_state_dict(kept[name])
            self.draws.set_state(kept["draws"])
            self.step, self.elapsed, self.mean = kept["step"], kept["elapsed"], kept["mean"]

    def keep(self) -> None:
        parts = {name: getattr(self, name).state_dict() for name in ("generator", "average", "optimiser")}
        partial = self.path.with_suffix(".partial")
        torch.save(
            {**parts, "draws": self.draws.get_state(), "step": self.step, "elapsed": self.elapsed, "mean": self.mean},
            partial,
        )  # fmt: skip
        partial.replace(self.path)

    def advance(self, batch: Batch, share: float) -> None:
        """One step at this share of the whole time."""
        rate = RATE * min(1.0, (self.step + 1) / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * share))
        self.optimiser.param_groups[0]["lr"] = max(rate, 1e-2 * RATE)
        compare = small.squares_loss if share > RAW_SHARE else small.pixels_loss
        scene = look(self.generator, batch)
        loss = compare(scene, small.Batch(*batch[:4]), self.draws)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        small.follow(self.average, self.generator, min(0.999, (1 + self.step) / (10 + self.step)))
        now = loss.item()
        self.mean = now if math.isnan(self.mean) else 0.98 * self.mean + 0.02 * now
        self.step += 1


def train(args: argparse.Namespace) -> None:
    args.output.mkdir(parents=True, exist_ok=True)
    frames = stills.load(args.frames)
    latents, maps, run = frames.latents, driving_maps(frames), Run(args.output)
    torch.set_flush_denormal(
        True
    )  # after the head is built: SciPy's trees do not end without denormal numbers
    log = csv.writer((args.output / "supervised.csv").open("a", buffering=1))
    next_look = run.elapsed
    while run.elapsed < 60 * args.minutes:
        began = time.time()
        batch = draw_batch(frames, maps, latents, run.draws)
        run.advance(batch, run.elapsed / 60 / args.minutes)
        run.elapsed += min(time.time() - began, small.LONGEST_STEP)
        if run.elapsed >= next_look:
            next_look += 60 * args.every
            log.writerow([round(run.elapsed, 1), run.step, round(run.mean, 5)])
            run.keep()
    run.keep()
    finish(run, latents, frames, maps, args.output)


@torch.no_grad()
def finish(run: Run, latents: Tensor, frames: stills.Frames, maps: Tensor, output: Path) -> None:
    """Set the mean code, which truncation and the latent encoder need; write weights, facts and pictures."""
    average = run.average.eval()
    drawn = torch.randn(10000, latents.shape[1], generator=torch.Generator().manual_seed(2))
    average.mapping.mean_code.copy_(average.mapping(drawn, torch.zeros(len(drawn), CONFIG.label_dim)).mean(0))
    facts = {"steps": run.step, "loss": run.mean, "seconds": round(run.elapsed), "pictures": len(maps)}
    save_generator(average, output / "small_animatable_prior.safetensors", facts, half=True)
    (output / "supervised.json").write_text(json.dumps(facts, indent=1))
    write_video(output / "taught.mp4", [sheet(average, frames, maps, latents, k) for k in range(10)], 2)
    print(json.dumps(facts))


@torch.no_grad()
def sheet(
    generator: AnimatableTriPlaneGenerator, frames: stills.Frames, maps: Tensor, latents: Tensor, frame: int
):
    """Picture ``frame`` of the first people above, what the generator makes of it below; ``(H, W, 3)`` bytes."""
    portraits = frames.people.portraits
    each = len(portraits.images) // len(latents)
    rows = torch.arange(min(6, len(latents))) * each + frame % each
    labels = portraits.labels[rows]
    codes = generator.codes(latents[portraits.people[rows]], labels)
    planes = generator.animate(codes, generator.person(codes), maps[rows].float())
    made = generator(codes, labels, planes).rgb.clamp(0, 1)
    both = torch.cat([portraits.images[rows] / 255, made], 2)
    return (255 * torch.cat(list(both), 2)).round().byte().permute(1, 2, 0).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=Path, required=True, help="file of frames.py")
    parser.add_argument("--output", type=Path, default=Path("runs/small_animatable_prior"))
    parser.add_argument(
        "--minutes", type=float, default=120, help="of the whole training, earlier runs included"
    )
    parser.add_argument("--every", type=float, default=2, help="minutes between what is kept")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
