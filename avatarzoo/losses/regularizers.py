"""Regularisers of UV Gaussian offsets."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor


def weighted_norm(
    offsets: Float[Tensor, "n c"], weights: Float[Tensor, "n"], pixels: int
) -> Float[Tensor, ""]:
    """Deja-vu Eq. 5-6: per-pixel channel norm times a weight map, averaged over the whole ``pixels = S * S`` map.

    paper: ``||dU o M||_2``; released code: norm over channels at each pixel, mean over all S^2 pixels with the invalid
    ones counted as zero; we follow the code because the published weights are tuned to it.

    Args:
        offsets: offsets of the N valid pixels.
        weights: their entries of the weight map.
    """
    return ((offsets.square().sum(-1) + 1e-12).sqrt() * weights).sum() / pixels


def view_spread(offsets: Float[Tensor, "b n c"]) -> Float[Tensor, ""]:
    """Deja-vu Eq. 7: mean distance of each view's offsets to the mean over views of the same person."""
    return (offsets - offsets.mean(0, keepdim=True)).norm(dim=-1).mean()


def roughness(offsets: Float[Tensor, "n c"], neighbours: Int[Tensor, "p 2"]) -> Float[Tensor, ""]:
    """Mean squared difference of adjacent offsets (ours): a surface may move, but not come apart."""
    return (offsets[neighbours[:, 0]] - offsets[neighbours[:, 1]]).square().sum(-1).mean()
