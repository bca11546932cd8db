"""Driving maps of the animatable priors: which texel every pixel of an orthographic view of the head shows, and its masks."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from avatarzoo.networks.ops import resize


def enclosed(mask: Bool[Tensor, "b h w"]) -> Bool[Tensor, "b h w"]:
    """Pixels outside the mask that no path of side-by-side pixels outside it joins to the upper left corner: the open mouth.

    Every sweep spreads what is reached along whole rows and columns, so that a few sweeps do, on any device and for the whole
    batch at once. (The released code calls a flood fill for every sample on the CPU.)
    """
    reached = torch.zeros_like(mask)
    reached[:, 0, 0] = ~mask[:, 0, 0]
    while True:
        spread = along(along(reached, mask, 2), mask, 1)
        if torch.equal(spread, reached):
            return ~mask & ~reached
        reached = spread


def along(reached: Bool[Tensor, "b h w"], mask: Bool[Tensor, "b h w"], axis: int) -> Bool[Tensor, "b h w"]:
    """Spread along an axis, both ways, up to the mask: reached is what has a reached pixel nearer than the next of the mask."""
    places = torch.arange(mask.shape[axis], device=mask.device)
    places = places[None, :, None] if axis == 1 else places[None, None]

    def forwards(reached: Tensor, mask: Tensor) -> Tensor:
        last_reached = torch.where(reached, places, -1).cummax(axis).values
        last_mask = torch.where(mask, places, -1).cummax(axis).values
        return last_reached > last_mask

    backwards = forwards(reached.flip(axis), mask.flip(axis)).flip(axis)
    return forwards(reached, mask) | backwards


class Driving(NamedTuple):
    """A read driving map.

    Attributes:
        places: where in the texture a pixel looks, in [-1, 1].
        alpha: 1 where the pixel shows the textured surface, else 0.
        hole: 1 in the open mouth, else 0.
        trusted: 1 where the condition holds: on the surface, and in the upper half of the open mouth.
    """

    places: Float[Tensor, "b h w 2"]
    alpha: Float[Tensor, "b 1 h w"]
    hole: Float[Tensor, "b 1 h w"]
    trusted: Float[Tensor, "b 1 h w"]

    @property
    def filled(self) -> Float[Tensor, "b 1 h w"]:
        """Coverage without the hole of the mouth."""
        return (self.alpha + self.hole).clamp(0, 1)


def read_driving(maps: Float[Tensor, "b h w 3"], upper_mouth: float = 87 / 256) -> Driving:
    """Masks of ``(u, v, mask)`` maps; the mask counts from 0.5 on.

    Args:
        maps: driving maps.
        upper_mouth: rows grow with world y, so the upper half of the mouth is what lies behind this share of the rows. The
            paper does not say it; the released code takes this part (the upper teeth) from the static plane.
    """
    mask = maps[..., 2] >= 0.5
    hole = enclosed(mask)
    upper = hole.clone()
    upper[:, : round(upper_mouth * maps.shape[1])] = False
    alpha, hole, trusted = (x[:, None].to(maps.dtype) for x in (mask, hole, mask | upper))
    return Driving(maps[..., :2], alpha, hole, trusted)


def look_up(texture: Float[Tensor, "b c s s"], driving: Driving, side: int) -> Float[Tensor, "b c r r"]:
    """What the view shows of a texture, resized to ``side``."""
    return resize(F.grid_sample(texture, driving.places, align_corners=False), side)
