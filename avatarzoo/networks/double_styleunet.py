"""StyleAvatar's compositional network: foreground, face texture and background features, fused, then a picture (section 3.3).

Sides, for renders of R pixels and pictures of S: features, neural textures and the window on the foreground have G = R / 2 cells, so a
cell is S / G pixels; the foreground sees the render with a black margin and covers R cells, of which a window of G is taken.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from avatarzoo.networks.discriminator import EqualConv
from avatarzoo.networks.feature_generator import Features
from avatarzoo.networks.haar import haar_merge, haar_split
from avatarzoo.networks.styleunet import LOWEST, BandUNet, falling_sides
from avatarzoo.networks.styleunet_layers import (
    BANDS,
    Channels,
    Decoder,
    DownBlock,
    Encoder,
    StyledConv,
    StyleMapping,
    ToBands,
    arranged,
    pad_outside,
)

GATE_GAIN = 1.1
"""The mask is stretched by this before it mixes foreground and background, so that it can reach 0 and 1."""


class Noises(NamedTuple):
    """Noise on the foreground, on the face texture and on the background, ``noise_channels`` each."""

    base: Float[Tensor, "#b n r r"]
    face: Float[Tensor, "#b n g g"]
    back: Float[Tensor, "#b n g g"]


class DoubleOutput(NamedTuple):
    """Picture in [-1, 1], not clamped, and mask in [-1, 1], 1 where the background is; no mask without background."""

    image: Float[Tensor, "b 3 s s"]
    mask: Float[Tensor, "b 1 g g"] | None


class Foreground(nn.Module):
    """StyleUNet of half the width whose features at the last level are brought to the side of the render.

    Args:
        input_size: side R of the render without its margin.
        channels: width by side.
        style_dim: width of the modulation code.
    """

    def __init__(self, input_size: int, channels: Channels, style_dim: int) -> None:
        super().__init__()
        grid = input_size // 2
        sides = falling_sides(input_size // 4, 2 * min(LOWEST, input_size // 8))
        encoded = [channels.half(side) for side in sides]
        self.kept = max(len(sides) - 1, 1)  # the first level's output is joined nowhere
        self.encoder = Encoder(BANDS, [channels.half(2 * input_size), *encoded])
        widths = [channels.half(side) for side in falling_sides(grid, 2 * sides[-1])[::-1]]
        self.decoder = Decoder(encoded[-1], widths, encoded[-self.kept :], style_dim)
        self.up = StyledConv(widths[-1], widths[-1], style_dim, up=2)
        self.widen = StyledConv(widths[-1], channels(grid), style_dim, activate=False)
        self.to_bands = ToBands(channels(grid), style_dim)

    def forward(self, render: Float[Tensor, "b 3 2*r 2*r"], code: Float[Tensor, "b m"]) -> Features:
        """Features (b, c, r, r) of the render with its margin."""
        levels = self.encoder(haar_split(render))[-self.kept :]
        x, bands = self.decoder(levels, code)
        x = self.widen(self.up(x, code), code)
        return Features(x, self.to_bands(x, code, bands))


class DoubleStyleUNet(nn.Module):
    """The released full model.

    Args:
        input_size, output_size: sides R and S in pixels, powers of two; R is 32 or more, S at least R / 2.
        channel_multiplier, channel_max: see :class:`~avatarzoo.networks.styleunet_layers.Channels`.
        style_dim: width of the style (the time code).

    Attributes:
        grid: G, cells along a side of features, textures and the window.
        feature_channels: of the features that it takes.
        noise_channels: of the noise that it takes: a cell's block of noise at each level from G to S / 2, in the Haar domain.
    """

    def __init__(
        self,
        input_size: int = 256,
        output_size: int = 1024,
        channel_multiplier: float = 2,
        channel_max: int = 512,
        style_dim: int = 64,
    ) -> None:
        super().__init__()
        channels = Channels(channel_multiplier, channel_max)
        self.input_size, self.output_size, self.grid = input_size, output_size, input_size // 2
        self.feature_channels = channels(self.grid)
        self.mapping = StyleMapping(style_dim)
        self.image = BandUNet(input_size, output_size, channels, style_dim)
        self.foreground = Foreground(input_size, channels, style_dim)
        self.mask = EqualConv(2 * self.feature_channels, 1, 3, activate=False)
        self.mask_bias = nn.Parameter(torch.zeros(1))
        self.addition = DownBlock(self.feature_channels, channels(input_size))
        self.noise_levels = sum(side >= self.grid for side in self.image.decoder_sides)
        self.noise_channels = sum(4**n for n in range(self.noise_levels))

    def draw_noise(self, batch: int, generator: torch.Generator | None = None) -> Noises:
        """Fresh noise on the network's device."""
        device, n = self.mask_bias.device, self.noise_channels
        sides = (self.input_size, self.grid, self.grid)
        return Noises(*(torch.randn(batch, n, r, r, generator=generator, device=device) for r in sides))

    def forward(
        self,
        render: Float[Tensor, "b 3 r r"],
        style: Float[Tensor, "b n"],
        uv: Float[Tensor, "b 2 g g"],
        mask_face: Float[Tensor, "b 1 g g"],
        face: Features | None,
        back: Features | None,
        noise: Noises | None = None,
        offset: Int[Tensor, "b 2"] | None = None,
    ) -> DoubleOutput:
        """A picture of the window and its background mask.

        Args:
            render: texture render in [-1, 1], not moved by the window.
            style: time code.
            uv: texture coordinates in [-1, 1] of the window's cells, looked up by nearest neighbour.
            mask_face: 1 where a cell shows the face.
            face: neural texture, or ``None`` to leave it out; one batch row serves all.
            back: background features of the window already, or ``None`` to leave background and mask out.
            noise: see :class:`Noises`; channels beyond ``noise_channels`` are not used. ``None``: no noise.
            offset: corner (x, y) of the window in cells, 0 to G / 2; ``None`` is the centre, G / 4.
        """
        code = self.mapping(style)
        wide = self.foreground(pad_outside(arranged(render), self.grid), code)
        cells = None if offset is None else window_cells(offset, self.grid)
        base = Features(*(crop_cells(x, cells, self.grid) for x in wide))
        mask = gate = None
        if back is not None:
            seen = torch.cat([base.feature, repeated(back.feature.detach(), base.feature)], 1)
            mask = torch.tanh(self.mask(seen) + self.mask_bias[:, None, None])
            gate = (GATE_GAIN * mask.detach()).clamp(-1, 1) * 0.5 + 0.5

        def fused(base: Tensor, face: Tensor | None, back: Tensor | None) -> Tensor:
            if gate is not None and back is not None:
                base = torch.lerp(base, repeated(back, base).to(base.dtype), gate.to(base.dtype))
            if face is None:
                return base
            return base + (look_up(repeated(face, base), uv) * mask_face).to(base.dtype)

        feature = fused(base.feature, face and face.feature, back and back.feature)
        skip = fused(base.skip, face and face.skip, back and back.skip)
        maps = None
        if noise is not None and self.noise_levels:
            n = self.noise_channels
            wide_noise = noise.base[:, :n].expand(len(render), -1, -1, -1)
            drawn = fused(
                crop_cells(wide_noise, cells, self.grid),
                None if face is None else noise.face[:, :n],
                None if back is None else noise.back[:, :n],
            )
            maps = self.noise_maps(drawn)
        bands = self.image(skip, code, maps, self.addition(feature))
        return DoubleOutput(haar_merge(bands), mask)

    def noise_maps(self, noise: Float[Tensor, "b n g g"]) -> list[Tensor | None]:
        """One map for each convolution of the image decoder: Haar bands of white noise, merged to the side of their level."""
        maps: list[Tensor | None] = [None] * (len(self.image.decoder.convs) - 2 * self.noise_levels)
        for n, block in enumerate(noise.split([4**n for n in range(self.noise_levels)], 1)):
            for _ in range(n):
                block = haar_merge(block)
            maps += [block, block]
        return maps


def window_cells(offset: Int[Tensor, "b 2"], grid: int) -> Int[Tensor, "b 2 g"]:
    """Columns and rows of the foreground that the window at ``offset`` shows."""
    return offset[:, :, None] + grid // 4 + torch.arange(grid, device=offset.device)


def crop_cells(
    x: Float[Tensor, "b c r r"], cells: Int[Tensor, "b 2 g"] | None, grid: int
) -> Float[Tensor, "b c g g"]:
    """The columns and rows ``cells`` of each sample, or the central window."""
    if cells is None:
        return x[..., grid // 2 : grid // 2 + grid, grid // 2 : grid // 2 + grid]
    rows = cells[:, 1, None, :, None].expand(-1, x.shape[1], -1, x.shape[3])
    columns = cells[:, 0, None, None, :].expand(-1, x.shape[1], grid, -1)
    return x.gather(2, rows).gather(3, columns)


def look_up(texture: Float[Tensor, "b c g g"], uv: Float[Tensor, "b 2 g g"]) -> Float[Tensor, "b c g g"]:
    """Nearest neighbours in the texture; in float32, since half precision does not tell cells apart."""
    places = uv.float().permute(0, 2, 3, 1)
    return F.grid_sample(texture.float(), places, mode="nearest", align_corners=False)


def repeated(x: Float[Tensor, "#b c g g"], like: Tensor) -> Float[Tensor, "b c g g"]:
    """One batch row for all."""
    return x.expand(len(like), -1, -1, -1)
