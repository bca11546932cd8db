"""A stand-in for a perceptual loss where no network weights are at hand: edges and colours at several sizes."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

SCALES = 4
SMALLEST = 8
"""No scale has a side below this."""


def multiscale_loss(
    rendered: Float[Tensor, "b 3 h w"], target: Float[Tensor, "b 3 h w"], scales: int = SCALES
) -> Float[Tensor, ""]:
    """L1 of pictures and of their horizontal and vertical differences over an averaging pyramid, mean over the scales (ours).

    It is not a perceptual loss: it only weighs edges more, and is more patient with small shifts, than L1 on pixels.
    The largest scale contributes its differences alone, because L1 itself stands in every objective that uses this.
    """
    total, used = rendered.new_zeros(()), 0
    for scale in range(scales):
        if scale:
            if min(rendered.shape[-2:]) < 2 * SMALLEST:
                break
            rendered, target = F.avg_pool2d(rendered, 2), F.avg_pool2d(target, 2)
            total = total + (rendered - target).abs().mean()
        total = total + _slope_error(rendered, target)
        used += 1
    return total / used


def _slope_error(rendered: Tensor, target: Tensor) -> Tensor:
    error = rendered - target
    return error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
