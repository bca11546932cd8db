"""LPIPS as a loss, with real weights or not at all."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avatarzoo.perception.lpips import load_lpips


class PerceptualLoss(nn.Module):
    """LPIPS between pictures in [0, 1], averaged over the batch (Deja-vu Eq. 4, L_LPIPS).

    Raises:
        MissingAssetError: the backbone's weights are not on this machine; a perceptual loss with random weights is never used.
    """

    def __init__(self, backbone: Literal["vgg", "alex"] = "vgg") -> None:
        super().__init__()
        self.network = load_lpips(backbone)

    def forward(
        self, rendered: Float[Tensor, "b 3 h w"], target: Float[Tensor, "b 3 h w"]
    ) -> Float[Tensor, ""]:
        distance: Tensor = self.network(rendered, target, normalize=True)
        return distance.mean()

    def train(self, mode: bool = True) -> PerceptualLoss:
        return super().train(False)

    def state_dict(self, *args, **kwargs):  # type: ignore[override]
        """Empty: frozen published weights do not enter checkpoints."""
        return kwargs.get("destination", {})

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        """Nothing to load; see :meth:`state_dict`."""


def check_unit_range(*pictures: Tensor) -> None:
    """LPIPS accepts any range silently; refuse pictures that are not in [0, 1].

    Raises:
        ValueError: naming the range found.
    """
    for picture in pictures:
        low, high = torch.aminmax(picture.detach())
        if low < -1e-3 or high > 1 + 1e-3:
            raise ValueError(
                f"Pictures must be in [0, 1], these span [{low:.3f}, {high:.3f}]; divide by 255 or clamp first."
            )
