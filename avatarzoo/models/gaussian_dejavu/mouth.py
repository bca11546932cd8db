"""The mouth interior of heads that have none (FLAME): a funnel of Gaussians behind the lips (supplement section 3, Figure 7)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatarzoo.errors import UsageError
from avatarzoo.heads.base import HeadModel

WIDTH = 50
"""Columns of the mouth rectangle in the UV map, the same for every S (released code)."""
SMALLEST = 51
"""Smallest S whose lower rows hold the rectangle."""
DEPTH = 0.02
"""How far the end line lies behind the mouth corners, metres."""


def neck_row(size: int) -> int:
    """First row of the paper's FLAME layout that holds no Gaussians but the mouth rectangle (row 250 at S = 320)."""
    return int(200 / 256 * size)


@dataclass
class MouthPatch:
    """A rectangle of the UV map whose points are a constant affine function of the mouth boundary loop.

    Attributes:
        pixels: ``(P,)`` flat indices in the UV map, row-major.
        loop: ``(K,)`` vertex ids of the boundary loop.
        weights: ``(P, K)`` rows sum to one.
        offset: ``(P, 3)`` metres.
    """

    pixels: Int[Tensor, "p"]
    loop: Int[Tensor, "k"]
    weights: Float[Tensor, "p k"]
    offset: Float[Tensor, "p 3"]

    def points(self, vertices: Float[Tensor, "b v 3"]) -> Float[Tensor, "b p 3"]:
        """Patch points that follow the lips of these vertices."""
        return self.weights.to(vertices) @ vertices[:, self.loop.to(vertices.device)] + self.offset.to(
            vertices
        )


def mouth_patch(head: HeadModel, size: int) -> MouthPatch | None:
    """The patch of a head whose mouth is an open hole, or ``None`` for heads that bring a mouth cavity of their own.

    Raises:
        UsageError: the map is too small to hold the rectangle.
    """
    if not hasattr(head, "mouth_loop"):
        return None
    if size < SMALLEST:
        raise UsageError(
            f"uv_size {size} leaves no room for the mouth of head model {head.name}; take at least {SMALLEST}."
        )
    upper, lower = (torch.as_tensor(line) for line in head.mouth_loop())
    loop = torch.cat([upper, lower[1:-1]])
    cut = neck_row(size)
    half = ((size - cut) - 10) // 2
    upper_line, lower_line = _resample(upper, loop), _resample(lower, loop)
    corners = torch.stack([upper[0], upper[-1]])
    end_line = _resample(corners, loop)
    ramp = torch.linspace(0, 1, half)[:, None, None]
    weights = torch.cat(
        [upper_line + (end_line - upper_line) * ramp, end_line + (lower_line - end_line) * ramp]
    )
    backward = torch.cat([ramp, 1 - ramp]).expand(2 * half, WIDTH, 1) * torch.tensor([0.0, 0.0, -DEPTH])
    rows = torch.arange(cut + 5, cut + 5 + 2 * half)
    columns = torch.arange(size // 2 - WIDTH // 2, size // 2 + WIDTH // 2)
    pixels = (rows[:, None] * size + columns).flatten()
    return MouthPatch(pixels, loop, weights.flatten(0, 1), backward.flatten(0, 1))


def _resample(line: Int[Tensor, "m"], loop: Int[Tensor, "k"]) -> Float[Tensor, "50 k"]:
    """Weights over the loop of ``WIDTH`` points spread evenly, in index space, along a polyline of its vertices."""
    position = torch.linspace(0, len(line) - 1, WIDTH)
    low = position.floor().long().clamp_max(len(line) - 2)
    fraction = position - low
    column = torch.tensor([(loop == vertex).nonzero()[0, 0] for vertex in line.tolist()])
    weights = torch.zeros(WIDTH, len(loop))
    weights.scatter_add_(1, column[low][:, None], (1 - fraction)[:, None])
    weights.scatter_add_(1, column[low + 1][:, None], fraction[:, None])
    return weights
