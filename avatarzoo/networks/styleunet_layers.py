"""Layers of StyleUNet (StyleAvatar, Wang et al. 2023, section 3.2): a Haar-domain encoder and a style-modulated decoder.

They differ from StyleGAN2's in the rectifier, which has no gain of sqrt(2), and in the mapping, which is made of plain linear layers.
Layer definitions follow the released networks; the paper does not give them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from avatarzoo.networks.discriminator import EqualConv
from avatarzoo.networks.haar import double_bands, halve_bands
from avatarzoo.networks.modulation import Form, ToRGB, modulated_convolution
from avatarzoo.networks.ops import LEAKY_GAIN, EqualLinear, activate, normalise_moment, resampling_filter

UNGAINED = 1 / LEAKY_GAIN
"""Takes the rectifier's gain out of an :class:`~avatarzoo.networks.discriminator.EqualConv`."""
BANDS = 12
"""Haar bands of an RGB picture."""


@dataclass(frozen=True)
class Channels:
    """Channels of features by their side in pixels.

    Attributes:
        multiplier: factor on the published table of 256 (side 64) to 16 (side 1024); sides up to 32 have 512.
        most: no side has more.
    """

    multiplier: float = 2
    most: int = 512

    def __call__(self, side: int) -> int:
        return min(512 if side <= 32 else max(round(16384 * self.multiplier / side), 1), self.most)

    def half(self, side: int) -> int:
        """Half of them, at least one."""
        return max(self(side) // 2, 1)


class StyleMapping(nn.Sequential):
    """Style to modulation code: unit second moment, then four linear layers of the same width with leaky rectifiers between."""

    def __init__(self, width: int, layers: int = 4) -> None:
        parts: list[nn.Module] = []
        for _ in range(layers):
            parts += [nn.Linear(width, width), nn.LeakyReLU(0.1)]
        super().__init__(*parts[:-1])

    def forward(self, style: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
        return super().forward(normalise_moment(style))


class StyledConv(nn.Module):
    """Modulated 3 x 3 convolution, bias, noise, leaky rectifier without gain.

    Args:
        inputs, outputs: channels.
        code_dim: width of the modulation code.
        up: 2 doubles the side.
        activate: rectifier at the end.
    """

    resample_filter: Tensor

    def __init__(self, inputs: int, outputs: int, code_dim: int, up: int = 1, activate: bool = True) -> None:
        super().__init__()
        self.style = EqualLinear(code_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("resample_filter", resampling_filter())
        self.up, self.activate, self.gain = up, activate, 1 / math.sqrt(9 * inputs)
        self.form: Form = "auto"

    def forward(
        self,
        x: Float[Tensor, "b i h w"],
        code: Float[Tensor, "b n"],
        noise: Float[Tensor, "#b 1 h2 w2"] | None = None,
    ) -> Float[Tensor, "b o h2 w2"]:
        style = self.style(code) * self.gain
        y = modulated_convolution(
            x, self.weight, style, up=self.up, kernel=self.resample_filter, form=self.form, bias=self.bias
        )
        if noise is not None:
            y = y + (noise * self.noise_strength).to(y.dtype)
        return activate(y) if self.activate else y


class ToBands(ToRGB):
    """Features to the Haar bands of a picture, on top of the bands of the level below."""

    resample_filter: Tensor

    def __init__(self, inputs: int, code_dim: int) -> None:
        super().__init__(inputs, BANDS, code_dim)
        self.register_buffer("resample_filter", resampling_filter())

    def forward(  # type: ignore[override]
        self,
        x: Float[Tensor, "b i h w"],
        code: Float[Tensor, "b n"],
        below: Float[Tensor, "b 12 h/2 w/2"] | None = None,
    ) -> Float[Tensor, "b 12 h w"]:
        bands = super().forward(x, code)
        return bands if below is None else bands + double_bands(below, self.resample_filter)


class FromBands(nn.Module):
    """Haar bands of a picture to features: halve the picture, 1 x 1 convolution, rectifier."""

    resample_filter: Tensor

    def __init__(self, bands: int, outputs: int) -> None:
        super().__init__()
        self.conv = EqualConv(bands, outputs, 1)
        self.register_buffer("resample_filter", resampling_filter())

    def forward(
        self, bands: Float[Tensor, "b n h w"]
    ) -> tuple[Float[Tensor, "b n h/2 w/2"], Float[Tensor, "b o h/2 w/2"]]:
        """The halved picture's bands, and the features."""
        bands = halve_bands(bands, self.resample_filter)
        return bands, self.conv(bands, UNGAINED)


class DownBlock(nn.Module):
    """Two 3 x 3 convolutions; the second halves the side behind the resampling filter."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = EqualConv(inputs, inputs, 3)
        self.conv2 = EqualConv(inputs, outputs, 3, down=2)

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h/2 w/2"]:
        return self.conv2(self.conv1(x, UNGAINED), UNGAINED)


class Encoder(nn.Module):
    """Features of a picture at falling sides; every level sees the picture again.

    The first features lie at half the side of the bands, so the side of level n is that of the bands over 2^(n + 2).

    Args:
        bands: channels of the input.
        widths: channels in front of the first level, then behind each level.
    """

    def __init__(self, bands: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.from_bands = nn.ModuleList(FromBands(bands, width) for width in widths[:-1])
        self.blocks = nn.ModuleList(DownBlock(*pair) for pair in pairwise(widths))

    def forward(
        self, bands: Float[Tensor, "b n h w"], addition: Float[Tensor, "b i h/2 w/2"] | None = None
    ) -> list[Tensor]:
        """Outputs of the levels, the deepest last; ``addition`` goes to the features in front of the first."""
        x, levels = addition, []
        for from_bands, block in zip(self.from_bands, self.blocks):
            bands, seen = from_bands(bands)
            x = block(seen if x is None else seen + x)
            levels.append(x)
        return levels


class Decoder(nn.Module):
    """Style-modulated levels of two convolutions, each doubling the side, with a running picture in Haar bands.

    Args:
        start: channels of the deepest input.
        widths: channels of each level.
        joined: channels of the inputs that are joined by a 3 x 3 convolution, the deepest last: the deepest alone in front of
            the first level, the others with the features in front of the following ones. Empty: the input is taken as it is.
        code_dim: width of the modulation code.
    """

    def __init__(self, start: int, widths: Sequence[int], joined: Sequence[int], code_dim: int) -> None:
        super().__init__()
        into = [start, *widths[:-1]]
        self.joins = nn.ModuleList(
            EqualConv(width if n == 0 else 2 * width, width, 3)
            for n, width in [*enumerate(joined[::-1])][::-1]
        )
        self.convs = nn.ModuleList()
        for inputs, width in zip(into, widths):
            self.convs += [StyledConv(inputs, width, code_dim, up=2), StyledConv(width, width, code_dim)]
        self.to_bands = nn.ModuleList(ToBands(width, code_dim) for width in widths)

    def forward(
        self,
        levels: Sequence[Tensor],
        code: Float[Tensor, "b n"],
        noise: Sequence[Tensor | None] | None = None,
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b 12 h w"]]:
        """Features of the last level and the bands of the picture.

        Args:
            levels: inputs, the deepest last.
            code: modulation code.
            noise: one map for each convolution, or ``None`` where there is none.
        """
        x = levels[-1]
        bands: Any = None
        for n, to_bands in enumerate(self.to_bands):
            if n < len(self.joins):
                x = self.joins[-1 - n](x if n == 0 else torch.cat([x, levels[-1 - n]], 1), UNGAINED)
            for k in (2 * n, 2 * n + 1):
                x = self.convs[k](x, code, None if noise is None else noise[k])
            bands = to_bands(x, code, bands)
        return x, bands


def arranged(x: Float[Tensor, "b c h w"], exact: bool = False) -> Float[Tensor, "b c h w"]:
    """``x`` in the memory layout that convolutions want: channels last, except in float32 on CUDA.

    ``exact`` keeps channels first in float32 on CPUs too, whose kernels for channels last sum less exactly.
    """
    full = x.dtype == torch.float32 and not torch.is_autocast_enabled(x.device.type)
    first = full and (x.is_cuda or exact)
    return x.contiguous(memory_format=torch.contiguous_format if first else torch.channels_last)


def pad_outside(picture: Float[Tensor, "b c h w"], width: int) -> Float[Tensor, "b c h2 w2"]:
    """A margin of -1 (black) around a picture."""
    return F.pad(picture, (width, width, width, width), value=-1.0)
