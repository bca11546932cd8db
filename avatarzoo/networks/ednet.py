"""EDNet: from a picture to offsets in texture space (Gaussian Deja-vu, supplement section 4 and Figure 10; the released name)."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from avatarzoo.networks.ops import resize

InputRange = Literal["uint8", "unit"]
CODE_LEVEL = 16
"""Pixels of the picture per pixel of the code."""


class DoubleConvolution(nn.Sequential):
    """Two 3 x 3 convolutions (reflected borders, no bias), each with instance normalisation and a rectifier.

    No batch normalisation: its statistics would tell from which data set a picture comes (fact sheet section 2).
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        layers: list[nn.Module] = []
        for width in (inputs, outputs):
            layers += [
                nn.Conv2d(width, outputs, 3, padding=1, padding_mode="reflect", bias=False),
                nn.InstanceNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)


class Blur(nn.Module):
    """Binomial filter (1, 2, 1) x (1, 2, 1) / 16 with reflected borders; the taps are a buffer, as published."""

    taps: Float[Tensor, "3"]

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("taps", torch.tensor([1.0, 2.0, 1.0]))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        kernel = torch.outer(self.taps, self.taps)
        kernel = (kernel / kernel.abs().sum()).to(x.dtype).expand(x.shape[1], 1, 3, 3)
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernel, groups=x.shape[1])


class DecoderBlock(nn.Module):
    """Features and guides (the position map) side by side, twice the size, blurred, convolved."""

    def __init__(self, inputs: int, outputs: int, guides: int = 3) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(inputs + guides, inputs + guides, 2, stride=2)
        self.blur = Blur()
        self.conv = DoubleConvolution(inputs + guides, outputs)

    def forward(
        self, x: Float[Tensor, "b c h w"], guides: Float[Tensor, "b g s s"]
    ) -> Float[Tensor, "b d 2*h 2*w"]:
        small = resize(guides, x.shape[-1], antialias=False)
        return self.conv(self.blur(self.up(torch.cat([x, small], 1))))


class EDNet(nn.Module):
    """Encoder-decoder without skip connections: picture and position map in, 13 channels of offsets out.

    The position map enters the decoder at 1/16, 1/8, 1/4 and 1/2 of the working size. Offsets are raw: no activation, no scale.

    Every resize is bilinear, and without antialiasing: the released network was trained where tensors are resized that way, and
    antialiasing changes its offsets by their own standard deviation. Only the picture's may be antialiased, on request.

    Args:
        size: working size, a multiple of 16 (published: 320).
        width: channels of the first level (published: 64, which makes 8,584,809 parameters).
        channels: of the output.
        input_range: what the first layer sees of a picture in [0, 1]: ``uint8`` is [-1, 1]; ``unit`` is what the released caller
            passes by mistake, [-1, -0.992] (the picture divided by 127.5 once more).
        antialias: the picture, where it is larger than the working size (published: not).
        textures: channels of a map in texture space that the decoder gets beside the position map, and that also reaches the
            offsets directly, at their own size (published: 0). Ours: normalisation of every layer takes the colours' absolute
            values away, so that a small network gives everybody the same face; the direct path carries them.

    Raises:
        ValueError: a size that is no multiple of 16.
    """

    def __init__(
        self,
        size: int = 320,
        width: int = 64,
        channels: int = 13,
        input_range: InputRange = "uint8",
        antialias: bool = False,
        textures: int = 0,
    ) -> None:
        super().__init__()
        if size % CODE_LEVEL or size < 2 * CODE_LEVEL:
            raise ValueError(
                f"the working size must be a multiple of {CODE_LEVEL} from {2 * CODE_LEVEL} on, not {size}."
            )
        self.size, self.input_range, self.antialias = size, input_range, antialias
        down = [width, width, 2 * width, 4 * width, 8 * width]
        up = [8 * width, 4 * width, 2 * width, width, width]
        self.encoder = nn.ModuleList(DoubleConvolution(a, b) for a, b in zip([3, *down], down))
        self.decoder = nn.ModuleList(DecoderBlock(a, b, 3 + textures) for a, b in pairwise(up))
        self.head = nn.Conv2d(width, channels, 1)
        self.skip = nn.Conv2d(textures, channels, 1, bias=False) if textures else None

    def encode(self, picture: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c s/16 s/16"]:
        """The code of pictures: RGB in [0, 1], square, of any size."""
        scaled = picture / 127.5 - 1 if self.input_range == "unit" else picture * 2 - 1
        x = resize(scaled, self.size, antialias=self.antialias)
        for level, convolution in enumerate(self.encoder):
            x = convolution(F.max_pool2d(x, 2) if level else x)
        return x

    def decode(
        self,
        code: Float[Tensor, "b c s/16 s/16"],
        position_map: Float[Tensor, "b 3 t t"],
        texture: Float[Tensor, "b k t t"] | None = None,
    ) -> Float[Tensor, "b d t t"]:
        """Offsets at the size of the position map, which holds metres and may be of any size.

        Raises:
            ValueError: a texture without a network for it, or the other way round.
        """
        if (texture is None) != (self.skip is None):
            raise ValueError("a texture goes with a network that was built with textures, and only with one.")
        x, guides = code, position_map if texture is None else torch.cat([position_map, texture], 1)
        for block in self.decoder:
            x = block(x, guides)
        offsets = resize(self.head(x), position_map.shape[-1], antialias=False)
        return offsets if self.skip is None else offsets + self.skip(texture)

    def forward(
        self,
        picture: Float[Tensor, "b 3 h w"],
        position_map: Float[Tensor, "b 3 t t"],
        texture: Float[Tensor, "b k t t"] | None = None,
    ) -> Float[Tensor, "b d t t"]:
        """:meth:`decode` of :meth:`encode`."""
        return self.decode(self.encode(picture), position_map, texture)
