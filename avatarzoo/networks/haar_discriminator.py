"""SWAGAN's discriminator (Gal et al. 2021), as StyleAvatar uses it: every level sees the picture in the Haar domain."""

from __future__ import annotations

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from avatarzoo.networks.discriminator import EqualConv, append_deviation
from avatarzoo.networks.haar import haar_split, halve_bands
from avatarzoo.networks.ops import EqualLinear, resampling_filter
from avatarzoo.networks.styleunet import falling_sides
from avatarzoo.networks.styleunet_layers import Channels, arranged

LARGEST_GROUP = 4


class HaarBlock(nn.Module):
    """Two 3 x 3 convolutions; the second halves the side."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = EqualConv(inputs, inputs, 3)
        self.conv2 = EqualConv(inputs, outputs, 3, down=2)

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h/2 w/2"]:
        return self.conv2(self.conv1(x))


class HaarDiscriminator(nn.Module):
    """One logit for each picture.

    Args:
        size: side of the pictures, a power of two from 16 on.
        channels_in: of the pictures; 6 with the condition render behind them.
        channel_multiplier, channel_max: see :class:`~avatarzoo.networks.styleunet_layers.Channels`.
    """

    resample_filter: Tensor

    def __init__(
        self, size: int = 1024, channels_in: int = 6, channel_multiplier: float = 2, channel_max: int = 512
    ) -> None:
        super().__init__()
        if size < 16 or size & (size - 1):
            raise ValueError(f"pictures have a side of 16, 32, 64, ... pixels, not {size}")
        channels = Channels(channel_multiplier, channel_max)
        widths = [channels(size), *map(channels, falling_sides(size // 4, 4))]
        self.from_bands = nn.ModuleList(EqualConv(4 * channels_in, width, 1) for width in widths)
        self.blocks = nn.ModuleList(HaarBlock(*pair) for pair in pairwise(widths))
        self.conv = EqualConv(widths[-1] + 1, widths[-1], 3)
        self.hidden = EqualLinear(16 * widths[-1], widths[-1], activate=True)
        self.output = EqualLinear(widths[-1], 1)
        self.register_buffer("resample_filter", resampling_filter())

    def forward(self, picture: Float[Tensor, "b c s s"]) -> Float[Tensor, "b 1"]:
        """Logits of pictures in [-1, 1]; the minibatch deviation takes the largest divisor of the batch up to four as group."""
        bands = haar_split(arranged(picture))
        x = self.from_bands[0](bands)
        for block, from_bands in zip(self.blocks, self.from_bands[1:]):
            bands = halve_bands(bands, self.resample_filter)
            x = block(x) + from_bands(bands)
        group = next(n for n in range(LARGEST_GROUP, 0, -1) if len(x) % n == 0)
        x = self.conv(append_deviation(x, group))
        return self.output(self.hidden(x.flatten(1)))
