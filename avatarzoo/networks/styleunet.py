"""StyleUNet (StyleAvatar, Wang et al. 2023, section 3.2): picture and style to a picture, in the Haar domain."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avatarzoo.networks.haar import haar_merge, haar_split
from avatarzoo.networks.styleunet_layers import BANDS, Channels, Decoder, Encoder, StyleMapping, arranged

LOWEST = 8
"""Side in pixels of the deepest features, where the input is large enough."""


def require_sides(input_size: int, output_size: int) -> None:
    """Refuse sides that the levels cannot have.

    Raises:
        ValueError: a side is no power of two, the input is below 32 or the output below half the input.
    """
    for side in (input_size, output_size):
        if side < 1 or side & (side - 1):
            raise ValueError(f"sides are powers of two, not {side}")
    if input_size < 32 or 2 * output_size < input_size:
        raise ValueError(
            f"an input of {input_size} and an output of {output_size} pixels do not fit: inputs have 32 pixels or more, outputs "
            "at least half as many"
        )


def falling_sides(first: int, last: int) -> list[int]:
    """Powers of two from ``first`` down to ``last``, both included."""
    return [2**n for n in range(first.bit_length() - 1, last.bit_length() - 2, -1)]


class BandUNet(nn.Module):
    """Encoder and decoder between Haar bands.

    Args:
        input_size, output_size: sides of the pictures behind the bands.
        channels: width by side.
        style_dim: width of the modulation code.
        bands: channels of the input.
    """

    def __init__(
        self, input_size: int, output_size: int, channels: Channels, style_dim: int, bands: int = BANDS
    ) -> None:
        super().__init__()
        require_sides(input_size, output_size)
        deepest = min(LOWEST, input_size // 8)
        encoded = [channels(side) for side in falling_sides(input_size // 8, deepest)]
        self.decoder_sides = falling_sides(output_size // 2, 2 * deepest)[::-1]
        self.encoder = Encoder(bands, [channels(input_size), *encoded])
        self.decoder = Decoder(
            encoded[-1], [channels(side) for side in self.decoder_sides], encoded, style_dim
        )

    def forward(
        self,
        bands: Float[Tensor, "b n r/2 r/2"],
        code: Float[Tensor, "b m"],
        noise: Sequence[Tensor | None] | None = None,
        addition: Float[Tensor, "b c r/4 r/4"] | None = None,
    ) -> Float[Tensor, "b 12 s/2 s/2"]:
        return self.decoder(self.encoder(bands, addition), code, noise)[1]


class StyleUNet(nn.Module):
    """The released simplified model, and the paper's "Single-StyleUNet".

    Args:
        input_size, output_size: sides in pixels, powers of two.
        channel_multiplier, channel_max: see :class:`~avatarzoo.networks.styleunet_layers.Channels`.
        style_dim: width of the style.
        input_channels: of the input picture.

    Raises:
        ValueError: see :func:`require_sides`.
    """

    def __init__(
        self,
        input_size: int = 256,
        output_size: int = 1024,
        channel_multiplier: float = 2,
        channel_max: int = 512,
        style_dim: int = 64,
        input_channels: int = 3,
    ) -> None:
        super().__init__()
        self.input_size, self.output_size = input_size, output_size
        self.mapping = StyleMapping(style_dim)
        channels = Channels(channel_multiplier, channel_max)
        self.unet = BandUNet(input_size, output_size, channels, style_dim, 4 * input_channels)

    @property
    def noise_sides(self) -> list[int]:
        """Sides of the noise maps in execution order, two for each level."""
        return [side for side in self.unet.decoder_sides for _ in range(2)]

    def draw_noise(self, batch: int, generator: torch.Generator | None = None) -> list[Tensor]:
        """Fresh noise maps (batch, 1, r, r) on the network's device."""
        device = next(self.parameters()).device
        return [torch.randn(batch, 1, r, r, generator=generator, device=device) for r in self.noise_sides]

    def forward(
        self,
        image: Float[Tensor, "b c r r"],
        style: Float[Tensor, "b n"],
        noise: Sequence[Float[Tensor, "#b 1 q q"] | None] | None = None,
    ) -> Float[Tensor, "b 3 s s"]:
        """A picture, both in [-1, 1]; the output is not clamped. ``noise`` is one map for each side of ``noise_sides``."""
        return haar_merge(self.unet(haar_split(arranged(image)), self.mapping(style), noise))
