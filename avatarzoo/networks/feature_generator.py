"""StyleAvatar's generator of neural textures and background features (Wang et al. 2023, section 3.3)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avatarzoo.networks.styleunet import falling_sides
from avatarzoo.networks.styleunet_layers import Channels, Decoder, StyleMapping, arranged


class Features(NamedTuple):
    """A feature map and, beside it, the Haar bands of a picture of twice its side."""

    feature: Float[Tensor, "b c g g"]
    skip: Float[Tensor, "b 12 g g"]


class FeatureGenerator(nn.Module):
    """A learned constant, style-modulated levels up to ``size`` without noise, and batch normalisation of the features.

    The released code keeps the normalisation in training mode for good: with one identity in a batch it normalises each feature over
    its map.

    Args:
        size: side of the features, a power of two from 8 on.
        channel_multiplier, channel_max: see :class:`~avatarzoo.networks.styleunet_layers.Channels`.
        style_dim: width of the style (the identity code).
    """

    def __init__(
        self, size: int = 128, channel_multiplier: float = 2, channel_max: int = 512, style_dim: int = 64
    ) -> None:
        super().__init__()
        if size < 8 or size & (size - 1):
            raise ValueError(f"features have a side of 8, 16, 32, ... cells, not {size}")
        channels = Channels(channel_multiplier, channel_max)
        widths = [channels(side) for side in falling_sides(size, 8)[::-1]]
        self.size, self.channels = size, widths[-1]
        self.mapping = StyleMapping(style_dim)
        self.constant = nn.Parameter(torch.randn(channels(4), 4, 4))
        self.decoder = Decoder(channels(4), widths, (), style_dim)
        self.norm = nn.BatchNorm2d(self.channels)

    def forward(self, style: Float[Tensor, "b n"]) -> Features:
        # smooth features add up rounding errors: 1.4e-5 of the skip's deviation with channels last, 0.75e-5 so, at equal speed
        start = arranged(self.constant.expand(len(style), -1, -1, -1), exact=True)
        feature, skip = self.decoder([start], self.mapping(style))
        return Features(self.norm(feature), skip)
