"""Orthonormal Haar transform of pictures, and resampling between its levels (SWAGAN, Gal et al. 2021).

Networks that work on the four bands see pictures at half their side with four times the channels. The order is band-major: all
channels of the mean, then of the vertical, the horizontal and the diagonal difference.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from avatarzoo.networks.ops import blur, upsample


def haar_split(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 4*c h/2 w/2"]:
    """The four bands of every 2 x 2 block, each a signed sum of its pixels divided by two."""
    half = x * 0.5
    top, bottom = half[..., ::2, :], half[..., 1::2, :]
    mean, difference = top + bottom, top - bottom
    left, right = slice(None, None, 2), slice(1, None, 2)
    return torch.cat(
        [
            mean[..., left] + mean[..., right],
            difference[..., left] + difference[..., right],
            mean[..., left] - mean[..., right],
            difference[..., left] - difference[..., right],
        ],
        1,
    )


def haar_merge(bands: Float[Tensor, "b 4*c h w"]) -> Float[Tensor, "b c 2*h 2*w"]:
    """The picture that :func:`haar_split` takes apart."""
    mean, vertical, horizontal, diagonal = (bands * 0.5).chunk(4, 1)
    top, bottom = mean + vertical, mean - vertical
    upper, lower = horizontal + diagonal, horizontal - diagonal
    pixels = torch.stack([top + upper, top - upper, bottom + lower, bottom - lower], 2)
    return F.pixel_shuffle(pixels.flatten(1, 2), 2)


def halve_bands(
    bands: Float[Tensor, "b 4*c h w"], kernel: Float[Tensor, "4 4"]
) -> Float[Tensor, "b 4*c h/2 w/2"]:
    """The bands of the picture at half its side."""
    return haar_split(blur(haar_merge(bands), kernel, padding=1, stride=2))


def double_bands(
    bands: Float[Tensor, "b 4*c h w"], kernel: Float[Tensor, "4 4"]
) -> Float[Tensor, "b 4*c 2*h 2*w"]:
    """The bands of the picture at twice its side."""
    return haar_split(upsample(haar_merge(bands), kernel))
