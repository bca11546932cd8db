"""Landmark contour maps, which the GAN's discriminator sees beside pictures (appendix A.1.1): lips, lids and pupils as lines."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avatarzoo.geometry.camera import Camera, project
from avatarzoo.heads.base import HeadModel, HeadParams

LIPS = (
    (0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146, 76, 185, 40, 39, 37),
    (13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95, 78, 191, 80, 81, 82),
)
LIDS = (
    (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7),
    (362, 398, 384, 385, 386, 387, 388, 466, 263, 249, 390, 373, 374, 380, 381, 382),
)
"""Closed lines through MediaPipe points, as the authors list them."""
PUPILS = (468, 473)
LIP_WIDTH, LID_WIDTH, PUPIL_RADIUS = 4 / 512, 2 / 512, 4 / 512
"""In shares of the picture's side."""


@torch.no_grad()
def contour_maps(head: HeadModel, params: HeadParams, camera: Camera, side: int) -> Float[Tensor, "b 3 s s"]:
    """Maps in [-1, 1]: lips blue, lids green, pupils red (the order in which the release reads its files), on black.

    Drawn on the device for the whole batch.

    Raises:
        MissingAssetError: the head model has no landmarks yet; the message names the command that makes them.
    """
    seen = camera.resized(side, side)
    points = project(head.landmark_points(head(params)), seen)[..., :2]
    red = torch.stack([near(points[:, (i,)], points[:, (i,)], PUPIL_RADIUS, side) for i in PUPILS]).any(0)
    green, blue = (
        torch.stack([near(*closed(points, line), width / 2, side) for line in lines]).any(0)
        for lines, width in ((LIDS, LID_WIDTH), (LIPS, LIP_WIDTH))
    )
    # what is drawn later covers what is there
    return torch.stack([red, green & ~red, blue & ~green & ~red], 1).float() * 2 - 1


def closed(points: Float[Tensor, "b l 2"], line: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Starts and ends of a closed line's pieces."""
    corners = points[:, list(line)]
    return corners, corners.roll(-1, 1)


def near(
    starts: Float[Tensor, "b n 2"], ends: Float[Tensor, "b n 2"], radius: float, side: int
) -> Bool[Tensor, "b s s"]:
    """Pixels whose centre lies within ``radius`` (a share of the side, at least half a pixel) of a piece."""
    axis = torch.arange(side, device=starts.device) + 0.5
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    pixels = torch.stack([x, y], -1).view(1, 1, -1, 2)
    along = (ends - starts)[:, :, None]
    length = along.square().sum(-1).clamp_min(1e-9)
    share = (((pixels - starts[:, :, None]) * along).sum(-1) / length).clamp(0, 1)
    distance = (pixels - starts[:, :, None] - share[..., None] * along).square().sum(-1).amin(1)
    return (distance <= max(radius * side, 0.5) ** 2).view(-1, side, side)
