"""What changes while EG3D trains, as functions of the number of real pictures seen (Chan et al. 2022, section 5 and supplement)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def ramp(seen: float, over: float, start: float, end: float) -> float:
    """Linear from ``start`` to ``end`` while ``seen`` goes from 0 to ``over``; ``end`` from there on, and where ``over`` is 0."""
    share = min(seen / over, 1.0) if over > 0 else 1.0
    return start + (end - start) * share


def average_decay(seen: int, batch: int, half_life: float, ramp_up: float) -> float:
    """Share of the old average that a step of ``batch`` pictures keeps.

    Args:
        seen: pictures so far.
        half_life: in pictures.
        ramp_up: the half-life is at most this share of ``seen``, so that the average forgets the start; 0 for none.
    """
    if ramp_up > 0:
        half_life = min(half_life, seen * ramp_up)
    return 0.5 ** (batch / max(half_life, 1e-8))


def gaussian_blur(pictures: Float[Tensor, "b c h w"], sigma: float) -> Float[Tensor, "b c h w"]:
    """Blur of what a young discriminator sees: taps ``2^-(t / sigma)^2`` up to ``floor(3 sigma)`` pixels, zeros outside.

    A radius of 0 changes nothing.
    """
    radius = math.floor(3 * sigma)
    if radius <= 0:
        return pictures
    t = torch.arange(-radius, radius + 1, device=pictures.device, dtype=pictures.dtype)
    taps = torch.exp2(-((t / sigma) ** 2))
    taps = taps / taps.sum()
    channels = pictures.shape[1]
    for axis in (2, 3):
        shape = [1, 1, 1, 1]
        shape[axis] = len(taps)
        padding = [0, 0]
        padding[axis - 2] = radius
        weight = taps.view(shape).expand(channels, 1, *shape[2:])
        pictures = F.conv2d(pictures, weight, padding=padding, groups=channels)
    return pictures


def swap_labels(
    own: Float[Tensor, "b 25"], others: Float[Tensor, "b 25"], chance: float, draws: Float[Tensor, " b"]
) -> Float[Tensor, "b 25"]:
    """Labels that the mapping is conditioned on: another's where ``draws`` (uniform) is below ``chance``.

    A generator that always sees its own camera would bake the pose into the person (Chan et al. 2022, section 4.4).
    """
    return torch.where((draws < chance)[:, None], others, own)


def lazy(rate: float, betas: tuple[float, float], interval: int) -> tuple[float, tuple[float, float]]:
    """Learning rate and Adam's betas for a network that takes one more step every ``interval`` iterations.

    StyleGAN2's lazy regularisation (Karras et al. 2020, appendix B); interval 0 means no such step.
    """
    if interval < 1:
        return rate, betas
    share = interval / (interval + 1)
    return rate * share, (betas[0] ** share, betas[1] ** share)
