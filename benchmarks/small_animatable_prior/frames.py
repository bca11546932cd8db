"""The people behind the small animatable prior: their pictures with all sorts of expressions, and what each face does in them.

python benchmarks/small_animatable_prior/frames.py 0 400 runs/expressive.pt
python benchmarks/small_animatable_prior/frames.py 10000 10040 runs/expressive_held_out.pt
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent / "small_prior"))
import people as crowd

from avatarzoo.data.procedural import ProceduralActor
from avatarzoo.data.procedural_people import (
    UNITS_PER_METRE,
    Portraits,
    joined,
    neutral,
    portrait_camera,
    portrait_cameras,
    portrait_labels,
    random_angles,
)
from avatarzoo.heads.base import HeadParams

MOMENTS = 400
"""Frames of a person's motion among which the pictures' expressions are chosen."""


class Frames(NamedTuple):
    """People as the small prior's, each picture with another expression; ``params`` has a row per picture."""

    people: crowd.People
    params: HeadParams

    @property
    def latents(self) -> Tensor:
        """A code for each person."""
        return crowd.codes(self.people)


def expressive(actor: ProceduralActor, count: int, rng: np.random.Generator) -> HeadParams:
    """``count`` moments of a person's motion without the head's own; half of them with a wider open mouth or a raised brow."""
    params = actor.motion(MOMENTS).rows(torch.from_numpy(rng.choice(MOMENTS, count, replace=False)))
    extra = torch.zeros_like(params.expression)
    for name in ("jawOpen", "mouthSmile_L", "mouthSmile_R", "browInnerUp", "mouthPucker"):
        chosen = torch.from_numpy(rng.uniform(size=count) < 0.2).float()
        strength = torch.from_numpy(rng.uniform(0.2, 0.9, size=count)).float()
        extra[:, actor.head.expression_names.index(name)] = chosen * strength
    params = params._replace(expression=(params.expression + extra).clamp(0, 1))
    rest = neutral(actor, count)
    return params._replace(rotation=rest.rotation, translation=rest.translation)


@torch.no_grad()
def gather(seeds: range, views: int) -> Frames:
    """Render everybody; about one second a person."""
    portraits, identity, look, depths, params = [], [], [], [], []
    for number, seed in enumerate(seeds):
        actor = ProceduralActor(seed, crowd.SIZE, background=crowd.BACKGROUND)
        rng = np.random.default_rng([seed, 3])
        camera = portrait_cameras(*random_angles(rng, views), crowd.SIZE)
        doing = expressive(actor, views, rng)
        images = (actor.render(doing, camera)[0] * 255 + 0.5).clamp(0, 255).byte()
        labels = portrait_labels(camera)
        portraits.append(Portraits(images, labels, torch.full((views,), number)))
        depth = actor.depth(doing, portrait_camera(labels, crowd.SIZE // 2))
        depths.append((depth * UNITS_PER_METRE).half())
        identity.append(actor.identity[0])
        look.append(torch.from_numpy(crowd.look_numbers(actor)).float())
        params.append(doing)
    rows = HeadParams(*(torch.cat(fields) for fields in zip(*params)))
    axes = crowd.shape_axes(actor, 24)
    people = crowd.People(
        joined(iter(portraits)), torch.stack(identity), torch.stack(look), axes, torch.cat(depths)
    )
    return Frames(people, rows)


def save(frames: Frames, path: Path) -> None:
    people = {**frames.people._asdict(), "portraits": frames.people.portraits._asdict()}
    torch.save({"people": people, "params": frames.params._asdict()}, path)


def load(path: Path) -> Frames:
    content = torch.load(path, weights_only=True)
    people = crowd.People(**{**content["people"], "portraits": Portraits(**content["people"]["portraits"])})
    return Frames(people, HeadParams(**content["params"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("first", type=int, help="seed of the first person")
    parser.add_argument("end", type=int, help="seed behind the last person")
    parser.add_argument("output", type=Path)
    parser.add_argument("--views", type=int, default=10)
    args = parser.parse_args()
    save(gather(range(args.first, args.end), args.views), args.output)


if __name__ == "__main__":
    main()
