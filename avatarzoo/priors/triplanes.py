"""Tri-planes (Chan et al. 2022, section 4.1): features of points in space, and the small network that reads them."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from avatarzoo.networks.ops import EqualLinear

PlaneAxes = Literal["eg3d", "fixed"]

PLANE_AXES: dict[PlaneAxes, tuple[tuple[int, int], ...]] = {
    "eg3d": ((0, 1), (0, 2), (2, 0)),
    "fixed": ((0, 1), (0, 2), (2, 1)),
}
"""World axes along width and height of each plane.

paper: planes xy, xz, yz; released code: the third is zx, so yz is never seen, and every NVIDIA checkpoint was trained that way
("eg3d"); the authors' later correction is zy ("fixed").
"""


def sample_planes(
    planes: Float[Tensor, "b 3 c h w"],
    points: Float[Tensor, "b n 3"],
    box: float,
    axes: PlaneAxes = "eg3d",
) -> Float[Tensor, "b n c"]:
    """Mean of the three bilinear samples; zero outside the cube of side ``box`` round the origin."""
    order = torch.tensor(PLANE_AXES[axes], device=points.device)
    places = (points * (2 / box))[:, :, order].transpose(1, 2).to(planes.dtype)
    sampled = F.grid_sample(
        planes.flatten(0, 1), places.flatten(0, 1)[:, None], padding_mode="zeros", align_corners=False
    )
    return sampled.unflatten(0, (-1, 3)).mean(1)[:, :, 0].transpose(1, 2)


class Decoder(nn.Module):
    """Plane features to raw density and colour features in (-0.001, 1.001); two layers, no viewing direction."""

    def __init__(self, inputs: int = 32, colours: int = 32, width: int = 64, rate: float = 1.0) -> None:
        super().__init__()
        self.hidden = EqualLinear(inputs, width, rate=rate)
        self.output = EqualLinear(width, 1 + colours, rate=rate)

    def forward(
        self, features: Float[Tensor, "b n c"]
    ) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b n k"]]:
        """``(raw density, colours)``; the density becomes non-negative in the renderer."""
        y = self.output(F.softplus(self.hidden(features)))
        return y[..., 0].float(), torch.sigmoid(y[..., 1:]) * (1 + 2 * 0.001) - 0.001
