"""Sliding windows: where a picture lies in the wide portrait (paper sections 3.1 and 3.2, figure 2; fact sheet 2.4).

Offsets count cells from the top-left corner of the wide picture, ``(x, y)``. A cell is one sample of the feature grid of
side G: S / G pixels of a picture of side S, two pixels of a condition render of side R = 2 G. The wide picture is 1.5 S,
the feature maps of foreground and background are 2 G wide and reach G / 4 cells further to every side.

Paper: one window per step for the whole batch. Here every sample has its own, which costs nothing and varies more.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

PUBLISHED_GRID, PUBLISHED_REACH, DEVIATIONS_PER_GRID = 128, 22, 24
"""At G = 128 offsets lie within 22 cells of the centre, with a standard deviation of 128 / 24 cells; scaled with G."""


def centre(grid: int) -> int:
    """Offset of the centred window along x and y (32 at the published grid of 128)."""
    return grid // 4


def reach(grid: int) -> int:
    """Most cells a window is moved from the centre while training (22 at the published grid)."""
    return (PUBLISHED_REACH * grid + PUBLISHED_GRID // 2) // PUBLISHED_GRID


def centred(batch: int, grid: int, device: torch.device | str | None = None) -> Int[Tensor, "b 2"]:
    """Offsets of centred windows."""
    return torch.full((batch, 2), centre(grid), dtype=torch.int64, device=device)


def draw_offsets(
    batch: int, grid: int, step: int, generator: torch.Generator | None = None
) -> Int[Tensor, "b 2"]:
    """Offsets of a training step: centred in odd steps, normally distributed round the centre in even ones."""
    if step % 2:
        return centred(batch, grid)
    moved = torch.randn(batch, 2, generator=generator) * (grid / DEVIATIONS_PER_GRID)
    return centre(grid) + moved.floor().long().clamp(-reach(grid), reach(grid))


def crop_wide(
    wide: Float[Tensor, "b c w w"], offset: Int[Tensor, "b 2"], grid: int
) -> Float[Tensor, "b c s s"]:
    """The windows, of side S, in wide pictures (or masks) of side 1.5 S."""
    side = wide.shape[-1] * 2 // 3
    return crop(wide, offset * (side // grid), side)


def crop_condition(
    condition: Float[Tensor, "b c r r"], offset: Int[Tensor, "b 2"]
) -> Float[Tensor, "b c r r"]:
    """What the windows see of a centred render; -1 where they reach beyond it (fact sheet 2.4: 256 + 2 x 64, then 256)."""
    side = condition.shape[-1]
    return crop(F.pad(condition, (side // 4,) * 4, value=-1.0), offset * 2, side)


def crop_background(
    features: Float[Tensor, "b c g g"], offset: Int[Tensor, "b 2"]
) -> Float[Tensor, "b c g g"]:
    """The windows in feature maps (or skip pictures) of the background: enlarged twice, then cut."""
    grid = features.shape[-1]
    large = F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)
    return crop(large, offset + grid // 4, grid)


def crop(
    picture: Float[Tensor, "b c h w"], corner: Int[Tensor, "b 2"], side: int
) -> Float[Tensor, "b c s s"]:
    """Squares with their top-left corners at pixels ``(x, y)``, one per picture; differentiable in the pictures."""
    steps = torch.arange(side, device=picture.device)
    columns, rows = (corner.to(picture.device)[:, :, None] + steps).unbind(1)
    tall = picture.take_along_dim(columns[:, None, None], 3)
    return tall.take_along_dim(rows[:, None, :, None], 2)
