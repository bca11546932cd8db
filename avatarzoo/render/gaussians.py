"""A set of 3D Gaussians in render-ready (activated) form, and what rendering returns."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Gaussians(NamedTuple):
    """Activated Gaussians; all have a leading batch dimension, of size 1 (shared by all cameras) or B (one set per camera).

    Attributes:
        means: ``(B, N, 3)`` metres, world frame.
        quaternions: ``(B, N, 4)`` (w, x, y, z), normalised.
        scales: ``(B, N, 3)`` standard deviations in metres.
        opacities: ``(B, N)`` in [0, 1].
        colors: ``(B, N, 3)`` RGB; not clamped from above (spherical harmonics of degree 0, already evaluated).
    """

    means: Float[Tensor, "b n 3"]
    quaternions: Float[Tensor, "b n 4"]
    scales: Float[Tensor, "b n 3"]
    opacities: Float[Tensor, "b n"]
    colors: Float[Tensor, "b n 3"]

    def to(self, device: torch.device | str) -> Gaussians:
        return Gaussians(*(x.to(device) for x in self))


class GaussianImage(NamedTuple):
    """What :func:`avatarzoo.render.rasterize_gaussians` returns.

    Attributes:
        rgb: ``(B, 3, H, W)``, background composited.
        alpha: ``(B, 1, H, W)`` accumulated opacity.
    """

    rgb: Float[Tensor, "b 3 h w"]
    alpha: Float[Tensor, "b 1 h w"]
