"""The plain U-Net of the ablation study (paper Table 3: DVP and DNR)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from avatarzoo.networks.styleunet_layers import Channels

DEEPEST = 8
"""Side of the innermost features, as in the StyleUNet."""
GROUPS = 8


class UNet(nn.Module):
    """Ronneberger et al. 2015 with a decoder that goes on to a larger picture: ``(B, c, R, R)`` to ``(B, 3, S, S)``.

    No styles, no noise, no wavelets, no modulation: what is left of the StyleUNet when its StyleGAN half is taken away.
    paper: "a simple UNet", nothing more is stated; the channel table is the StyleUNet's so that sizes compare.
    Group instead of batch normalisation, because the averaged weights have no running statistics of their own.

    Args:
        input_channels: of the condition. input_size, output_size: R and S, powers of two.
        channel_multiplier, channel_max: see :class:`~avatarzoo.networks.styleunet_layers.Channels`.
    """

    def __init__(
        self,
        input_channels: int = 3,
        input_size: int = 256,
        output_size: int = 1024,
        channel_multiplier: float = 2,
        channel_max: int = 512,
    ) -> None:
        super().__init__()
        channels = Channels(channel_multiplier, channel_max)
        sides = [input_size]
        while sides[-1] > DEEPEST:
            sides.append(sides[-1] // 2)
        self.entry = _block(input_channels, channels(input_size))
        self.down = nn.ModuleList(_block(channels(2 * side), channels(side), stride=2) for side in sides[1:])
        up, side, width = [], sides[-1], channels(sides[-1])
        while side < output_size:
            side *= 2
            skip = channels(side) if side <= input_size else 0
            up.append(_block(width + skip, channels(side)))
            width = channels(side)
        self.up = nn.ModuleList(up)
        self.exit = nn.Conv2d(width, 3, 1)

    def forward(self, condition: Float[Tensor, "b c r r"]) -> Float[Tensor, "b 3 s s"]:
        skips = [self.entry(condition)]
        for block in self.down:
            skips.append(block(skips[-1]))
        x = skips.pop()
        for block in self.up:
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = block(torch.cat([x, skips.pop()], 1) if skips else x)
        return self.exit(x)


def _block(inside: int, outside: int, stride: int = 1) -> nn.Sequential:
    """Two convolutions, each normalised and rectified."""
    groups = GROUPS if outside % GROUPS == 0 else 1
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, stride, 1),
        nn.GroupNorm(groups, outside),
        nn.LeakyReLU(0.2),
        nn.Conv2d(outside, outside, 3, 1, 1),
        nn.GroupNorm(groups, outside),
        nn.LeakyReLU(0.2),
    )
