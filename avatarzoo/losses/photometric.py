"""Pixel losses. Pictures are RGB in [0, 1], ``(B, 3, H, W)``."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""The five scales of Wang et al. 2003; smaller pictures use the first ones, renormalised."""


def l1(rendered: Float[Tensor, "b 3 h w"], target: Float[Tensor, "b 3 h w"]) -> Float[Tensor, ""]:
    """Mean absolute error (Deja-vu Eq. 4, L_RGB)."""
    return (rendered - target).abs().mean()


def huber(
    rendered: Float[Tensor, "b 3 h w"],
    target: Float[Tensor, "b 3 h w"],
    weight: Tensor | None = None,
    delta: float = 0.1,
) -> Float[Tensor, ""]:
    """Huber loss ``0.5 e^2`` below ``delta`` and ``delta (|e| - delta / 2)`` above; mean over all pixels.

    Args:
        weight: ``(B, 1, H, W)`` multiplies the error before the loss, as the released code masks both pictures
            (the mean still runs over all pixels).
    """
    error = rendered - target if weight is None else (rendered - target) * weight
    return torch.nn.functional.huber_loss(error, torch.zeros_like(error), delta=delta)


def ms_ssim_loss(rendered: Float[Tensor, "b 3 h w"], target: Float[Tensor, "b 3 h w"]) -> Float[Tensor, ""]:
    """``1 - MS-SSIM`` (Deja-vu Eq. 4, L_SSIM; data range 1).

    The usual five scales with window 11 need more than 160 pixels; smaller pictures use as many scales as fit.
    """
    smallest = min(rendered.shape[-2:])
    scales = max(1, min(5, int(torch.tensor(smallest / 11.0).log2().floor().item()) + 1))
    betas = torch.tensor(MS_SSIM_WEIGHTS[:scales])
    value = multiscale_structural_similarity_index_measure(
        rendered, target, data_range=1.0, betas=tuple((betas / betas.sum()).tolist()), normalize="relu"
    )
    assert isinstance(value, Tensor)
    return 1 - value
