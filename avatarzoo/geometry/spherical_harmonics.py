"""Real spherical harmonics up to order 2, for lighting and for the colours of Gaussians.

Convention: orthonormal, without the Condon-Shortley sign, in the order
1, y, z, x, xy, yz, 3z^2 - 1, xz, x^2 - y^2. (3DGS files carry signs -y, z, -x in order 1.)
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

SH0 = 0.28209479177387814
"""Y_00 = 1 / (2 sqrt(pi))."""

LAMBERT = (math.pi, *(2 * math.pi / 3,) * 3, *(math.pi / 4,) * 5)
"""Factors of the clamped cosine per coefficient (Ramamoorthi and Hanrahan 2001, eq. 8)."""

_C1 = math.sqrt(3 / (4 * math.pi))
_C2 = math.sqrt(15 / (4 * math.pi))
_SCALES = (SH0, _C1, _C1, _C1, _C2, _C2, _C2 / math.sqrt(12), _C2, _C2 / 2)


def sh_basis(directions: Float[Tensor, "*b 3"], order: int = 2) -> Float[Tensor, "*b n"]:
    """The first ``(order + 1)^2`` real harmonics at unit directions; order 0, 1 or 2."""
    if order not in (0, 1, 2):
        raise ValueError(f"spherical harmonics are implemented for orders 0 to 2, not {order}.")
    x, y, z = directions.unbind(-1)
    terms = [torch.ones_like(x), y, z, x, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y]
    count = (order + 1) ** 2
    return torch.stack(terms[:count], -1) * directions.new_tensor(_SCALES[:count])


def irradiance(normals: Float[Tensor, "*b n 3"], light: Float[Tensor, "*b k c"]) -> Float[Tensor, "*b n c"]:
    """Light that arrives at a surface, divided by pi: what a white Lambertian surface shows.

    Args:
        normals: unit normals.
        light: radiance coefficients, k = 1, 4 or 9 terms per colour channel.
    """
    order = math.isqrt(light.shape[-2]) - 1
    factors = normals.new_tensor(LAMBERT[: light.shape[-2]]) / math.pi
    return (sh_basis(normals, order) * factors) @ light


def ambient_light(color: Float[Tensor, "*b c"]) -> Float[Tensor, "*b 9 c"]:
    """Coefficients of a uniform surrounding under which a white Lambertian surface shows ``color``."""
    light = color.new_zeros(*color.shape[:-1], 9, color.shape[-1])
    light[..., 0, :] = color / SH0
    return light


def rgb_to_sh0(rgb: Tensor) -> Tensor:
    """Colour in [0, 1] to the coefficient of order 0, as 3DGS stores it: ``(rgb - 0.5) / Y_00``."""
    return (rgb - 0.5) / SH0


def sh0_to_rgb(coefficient: Tensor) -> Tensor:
    """Inverse of :func:`rgb_to_sh0`."""
    return coefficient * SH0 + 0.5
