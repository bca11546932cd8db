"""The people behind the small prior: their pictures, and a code of unit variance for each that says what they look like.

python benchmarks/small_prior/people.py 0 400 runs/people.pt
python benchmarks/small_prior/people.py 10000 10040 runs/held_out.pt
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatarzoo.data.procedural import ProceduralActor
from avatarzoo.data.procedural_people import (
    IDENTITY_SPREAD,
    UNITS_PER_METRE,
    Portraits,
    joined,
    neutral,
    portrait_camera,
    render_person,
)

SIZE = 128
BACKGROUND = 1.0


class People(NamedTuple):
    """Portraits (``people`` counts from 0), their depths, and one row per person: identity coefficients, colours and light.

    ``depths``: camera depth in world units at half the pictures' resolution, 0 where nobody is.
    """

    portraits: Portraits
    identity: Float[Tensor, "p 100"]
    look: Float[Tensor, "p 45"]
    axes: Float[Tensor, "100 s"]
    depths: Float[Tensor, "n h w"]


def look_numbers(actor: ProceduralActor) -> Float[np.ndarray, " 45"]:
    """Everything about a person but the shape of the head: colours, marks, hair and light."""
    look = actor.look
    colours = np.concatenate([look.skin, look.hair, look.iris, look.cloth])
    return np.concatenate([colours, np.array(look[4:]), actor.light.numpy().ravel()])


def shape_axes(actor: ProceduralActor, count: int) -> Float[Tensor, "i c"]:
    """Orthonormal directions of identity coefficients, from the one that moves the skin most downwards."""
    _, basis, _ = actor.head.linear_basis()
    moves = basis[actor.head.vertex_regions["skin"]].flatten(0, 1).double()
    return torch.linalg.svd(moves, full_matrices=False)[2][:count].T.float()


def gather(seeds: range, views: int, axes: int = 24) -> People:
    """Render everybody; about one second a person."""
    portraits, identity, look, depths = [], [], [], []
    for number, seed in enumerate(seeds):
        pictures, actor = render_person(seed, views, SIZE, BACKGROUND)
        portraits.append(pictures._replace(people=torch.full((views,), number)))
        depths.append(depth_maps(actor, pictures))
        identity.append(actor.identity[0])
        look.append(torch.from_numpy(look_numbers(actor)).float())
    shape = shape_axes(actor, axes)
    return People(joined(iter(portraits)), torch.stack(identity), torch.stack(look), shape, torch.cat(depths))


@torch.no_grad()
def depth_maps(actor: ProceduralActor, portraits: Portraits) -> Float[Tensor, "n h w"]:
    """Camera depths in world units at half the pictures' resolution, half precision."""
    camera = portrait_camera(portraits.labels, SIZE // 2)
    depth = actor.depth(neutral(actor, len(portraits.labels)), camera)
    return (depth * UNITS_PER_METRE).half()


def codes(people: People, looks: int = 24) -> Float[Tensor, "p z"]:
    """Shape along the axes, and the principal components of colours and light; each number has unit variance over people."""
    shape = people.identity @ people.axes / IDENTITY_SPREAD
    numbers = (people.look - people.look.mean(0)) / people.look.std(0).clamp_min(1e-6)
    u, _, _ = torch.linalg.svd(numbers, full_matrices=False)
    return torch.cat([shape, u[:, :looks] * (len(u) - 1) ** 0.5], 1)


def save(people: People, path: Path) -> None:
    torch.save({**people._asdict(), "portraits": people.portraits._asdict()}, path)


def load(path: Path) -> People:
    content = torch.load(path, weights_only=True)
    return People(**{**content, "portraits": Portraits(**content["portraits"])})


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
