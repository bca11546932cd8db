"""A reconstructed person as named tensors, and what leaves the networks."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from avatarzoo.models.nofaplusplus.generator import HeadGenerator, Volume
from avatarzoo.priors.eg3d import TriPlaneImage

FAINT = 0.05
"""Opacity below which a picture fades into empty space."""
DRAWING = ("prior.decoder.", "prior.superresolution.", "field.")
"""Networks that draw a person once its planes are known."""


def drawing_tensors(networks: HeadGenerator) -> dict[str, Tensor]:
    """What animation needs of the networks, by their names."""
    return {k: v.detach() for k, v in networks.state_dict().items() if k.startswith(DRAWING)}


def person_tensors(volume: Volume, alpha: Float[Tensor, "1 i"]) -> dict[str, Tensor]:
    """One person: planes, the super-resolution's code, standardised identity numbers."""
    return {"planes": volume.planes.detach(), "code": volume.codes[:, -1:].detach(), "identity": alpha}


def volume_of(tensors: dict[str, Tensor], count: int) -> Volume:
    """Inverse of :func:`person_tensors`, ``count`` times without copies."""
    return Volume(tensors["planes"].expand(count, -1, -1, -1, -1), tensors["code"].expand(count, -1, -1))


def cleared(view: TriPlaneImage, empty: float) -> Float[Tensor, "b 3 s s"]:
    """The picture with nothing where nothing is: super-resolutions draw a faint haze and a rim on empty space.

    Args:
        empty: grey level of empty space in the prior.
    """
    there = F.interpolate(view.opacity, view.rgb.shape[-2:], mode="bilinear", align_corners=False)
    return empty + (view.rgb - empty) * (there / FAINT).clamp(0, 1)
