"""What leaves the networks: pictures on the ground that is asked for, and people as named tensors."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from avatarzoo.models.base import AvatarImage
from avatarzoo.models.styleavatar.generator import Person, PortraitImage
from avatarzoo.networks.double_styleunet import GATE_GAIN
from avatarzoo.networks.feature_generator import Features


def composed(
    drawn: PortraitImage, trained_on: Float[Tensor, ""], background: float, size: tuple[int, int]
) -> AvatarImage:
    """Pictures of any size in [0, 1]; variants without a mask have alpha 1 everywhere.

    The network draws the person on the ground it was trained on, edges mixed already; so the grounds are exchanged, not mixed twice.

    Args:
        trained_on: grey level of training; nan where the filmed background was kept, which then stays.
        background: grey level that is asked for. size: height and width.
    """
    rgb = (drawn.image.float() + 1) / 2
    if drawn.mask is None:
        alpha = torch.ones_like(rgb[:, :1])
    else:
        alpha = 0.5 - 0.5 * (GATE_GAIN * drawn.mask.float()).clamp(-1, 1)
        alpha = F.interpolate(alpha, rgb.shape[-2:], mode="bilinear", align_corners=False)
    rgb = rgb + torch.nan_to_num(background - trained_on) * (1 - alpha)
    if rgb.shape[-2:] != size:
        rgb, alpha = (
            F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=True) for x in (rgb, alpha)
        )
    return AvatarImage(rgb.clamp(0, 1), alpha.clamp(0, 1))


def person_tensors(person: Person, row: int) -> dict[str, Tensor]:
    """One person's features by name: ``face.feature``, ``face.skip``, ``back.feature``, ``back.skip``, as far as there are any."""
    named = {}
    for part, features in person._asdict().items():
        for name, value in () if features is None else features._asdict().items():
            named[f"{part}.{name}"] = value[row : row + 1]
    return named


def person_of(tensors: dict[str, Tensor]) -> Person:
    """Inverse of :func:`person_tensors`; other tensors do not disturb."""
    parts = {}
    for part in Person._fields:
        there = f"{part}.feature" in tensors
        parts[part] = Features(*(tensors[f"{part}.{n}"] for n in Features._fields)) if there else None
    return Person(**parts)
