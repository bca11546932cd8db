"""Fixed windows of frames fused to one feature map: what InvertAvatar's recurrent memory is compared with (section 4.3.1, B.1)."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avatarzoo.networks.convgru import ConvGRU

Fusion = Literal["gru", "conv", "attention"]
CONV_WINDOW, ATTENTION_WINDOW = 4, 3
"""Frames. paper: ConvFusion's is not stated, the release reads frames by four; AttFusion was trained with three."""


class ConvFusion(nn.Module):
    """Convolutions over all frames of a window, whose channels lie side by side; fewer frames are repeated in turn."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(CONV_WINDOW * channels, channels, 3, padding=1),
            nn.PReLU(channels),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(
        self, frames: Float[Tensor, "b t c h w"], memory: Tensor | None = None
    ) -> Float[Tensor, "b c h w"]:
        """``memory`` is not used: nothing is kept from window to window."""
        turn = torch.arange(CONV_WINDOW, device=frames.device) % frames.shape[1]
        return self.convolutions(frames[:, turn].flatten(1, 2))


class AttentionFusion(nn.Module):
    """A transformer block over the frames of a window at every pixel, then their mean; it does not know the frames' order."""

    def __init__(self, channels: int, heads: int = 4) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attention = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.mix = nn.Sequential(
            nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels)
        )

    def forward(
        self, frames: Float[Tensor, "b t c h w"], memory: Tensor | None = None
    ) -> Float[Tensor, "b c h w"]:
        """``memory`` is not used: nothing is kept from window to window."""
        batch, _, _, height, width = frames.shape
        x = frames.permute(0, 3, 4, 1, 2).flatten(0, 2)
        y = self.before(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        x = (x + self.mix(self.between(x))).mean(1)
        return x.unflatten(0, (batch, height, width)).permute(0, 3, 1, 2)


def fusion_of(kind: Fusion, channels: int) -> nn.Module:
    """The module that a decoder block fuses frames with."""
    return {"gru": ConvGRU, "conv": ConvFusion, "attention": AttentionFusion}[kind](channels)
