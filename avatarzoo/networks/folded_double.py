"""DoubleStyleUNet for one style and one person, made of folded layers.

Of the foreground only the window is brought to the side of the render, with the cells that its borders need. The neural texture
is a table with one row for each texel and a row of zeros for what shows no face.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from avatarzoo.networks.double_styleunet import GATE_GAIN, DoubleOutput, DoubleStyleUNet, Foreground, Noises
from avatarzoo.networks.feature_generator import Features
from avatarzoo.networks.folding import (
    FoldedConv,
    FoldedDecoder,
    FoldedEncoder,
    blocks_of,
    fold_down,
    fold_styled,
    fold_to_bands,
)
from avatarzoo.networks.ops import resampling_filter, upsample
from avatarzoo.networks.styleunet_layers import arranged, pad_outside

Corner = tuple[int, int] | Int[Tensor, "b 2"]
"""Left and top of a window: the same for all samples and known beforehand, or a tensor."""


def cut(x: Float[Tensor, "b c h w"], corner: Corner, side: int) -> Float[Tensor, "b c s s"]:
    """The window of ``side`` at ``corner``."""
    if isinstance(corner, tuple):
        left, top = corner
        return x[..., top : top + side, left : left + side]
    columns, rows = (corner[:, :, None] + torch.arange(side, device=corner.device)).unbind(1)
    if len(corner) == 1:
        return x.index_select(2, rows[0]).index_select(3, columns[0])
    x = x.expand(len(corner), -1, -1, -1)
    return x.take_along_dim(rows[:, None, :, None], 2).take_along_dim(columns[:, None, None], 3)


def both(corner: Corner, change: Callable[[Any], Any]) -> Corner:
    """``change`` of left and top."""
    return (change(corner[0]), change(corner[1])) if isinstance(corner, tuple) else change(corner)


class FoldedForeground(nn.Module):
    """A :class:`Foreground` of which only a window is brought to the side of the render.

    Args:
        foreground: weights.
        code: modulation code.
        grid: G, side of the window; the foreground covers 2 G cells.
    """

    kernel: Tensor

    def __init__(self, foreground: Foreground, code: Float[Tensor, "1 m"], grid: int) -> None:
        super().__init__()
        self.grid, self.kept = grid, foreground.kept
        self.encoder = FoldedEncoder(foreground.encoder)
        self.decoder = FoldedDecoder(foreground.decoder, code)
        self.up = fold_styled(foreground.up, code)
        self.widen = fold_styled(foreground.widen, code, pad=0)
        self.to_blocks = fold_to_bands(foreground.to_bands, code)
        self.register_buffer("kernel", resampling_filter().to(code.device))

    def forward(self, render: Float[Tensor, "b 3 2*r 2*r"], corner: Corner) -> Features:
        """Features (b, c, g, g) and the picture's blocks (b, 12, g, g) of the window at ``corner`` (in cells of the foreground).

        A cell at the finer side is made of 2 cells around it at the coarser; 2 more on either side are for the 3 x 3 convolution.
        Windows keep G / 4 cells from the border, so none of these lies beyond it.
        """
        x, picture = self.decoder(self.encoder(render)[-self.kept :])
        x = self.up(cut(x, both(corner, lambda at: at // 2 - 2), self.grid // 2 + 4))
        x = self.widen(cut(x, both(corner, lambda at: at % 2 + 3), self.grid + 2))
        seen = cut(picture, both(corner, lambda at: at - 1), self.grid + 2)
        picture = upsample(seen, self.kernel)[..., 2:-2, 2:-2]
        return Features(x, self.to_blocks(x) + F.pixel_unshuffle(picture, 2))


class Backdrop(NamedTuple):
    """The background of one window.

    Attributes:
        feature: (b, c, g, g).
        rest: blocks of picture and noise (b, 12 + n, g, g).
        mask: its share of the mask before the tanh (b, 1, g, g).
    """

    feature: Float[Tensor, "b c g g"]
    rest: Float[Tensor, "b m g g"]
    mask: Float[Tensor, "b 1 g g"]


class FoldedDoubleStyleUNet(nn.Module):
    """A :class:`DoubleStyleUNet` for one style, one person and fixed noise.

    Args:
        network: weights.
        style: (1, n), the time code.
        face: neural texture (1 row), or ``None`` where it is left out.
        back: background features (1 row) of twice the grid's side, of which windows are cut.
        noise: 1 row, or ``None``: no noise.
    """

    noise: Tensor | None
    texture: Tensor | None
    back: Tensor
    back_picture: Tensor
    back_noise: Tensor | None
    mask_back: Tensor

    def __init__(
        self,
        network: DoubleStyleUNet,
        style: Float[Tensor, "1 n"],
        face: Features | None,
        back: Features,
        noise: Noises | None = None,
    ) -> None:
        super().__init__()
        code = network.mapping(style).detach()
        noise = noise if network.noise_levels else None
        self.grid, self.levels = network.grid, 0 if noise is None else network.noise_levels
        self.foreground = FoldedForeground(network.foreground, code, self.grid)
        self.encoder = FoldedEncoder(network.image.encoder)
        self.decoder = FoldedDecoder(network.image.decoder, code, 2 * self.levels)
        self.addition = fold_down(network.addition)
        weight = network.mask.weight.detach() * network.mask.gain
        of_base, of_back = weight.chunk(2, 1)
        self.mask = FoldedConv(of_base, network.mask_bias, activate=False)
        self.register_buffer("mask_back", of_back.contiguous())
        own, on_face, on_back = (None,) * 3 if noise is None else (self.blocks(x.detach()) for x in noise)
        self.register_buffer("noise", own)
        texture = None if face is None else (face.feature, blocks_of(face.skip.detach()), on_face)
        rows = None if texture is None else rows_of(*(x for x in texture if x is not None))
        self.register_buffer("texture", rows)
        self.register_buffer("back", back.feature.detach())
        self.register_buffer("back_picture", blocks_of(back.skip.detach()))
        self.register_buffer("back_noise", on_back)

    def blocks(self, noise: Float[Tensor, "1 n r r"]) -> Float[Tensor, "1 n r r"]:
        """Noise of all levels as blocks of pixels; channels that are not used are left out."""
        sizes = [4**n for n in range(self.levels)]
        parts = noise[:, : sum(sizes)].split(sizes, 1)
        return torch.cat([blocks_of(part, n) for n, part in enumerate(parts)], 1)

    def backdrop(self, corner: Corner) -> Backdrop:
        """The window of the background at ``corner`` (in cells of the enlarged background); its noise does not move."""
        feature, picture = (cut(x, corner, self.grid) for x in (self.back, self.back_picture))
        rest = [picture]
        if self.back_noise is not None:
            rest.append(self.back_noise.expand(picture.shape[0], -1, -1, -1))
        return Backdrop(feature, torch.cat(rest, 1), F.conv2d(feature, self.mask_back, padding=1))

    def forget_background(self) -> None:
        """Keep no background: only a :meth:`backdrop` that was made before can be shown."""
        del self.back, self.back_picture, self.back_noise, self.mask_back

    def forward(
        self,
        render: Float[Tensor, "b 3 r r"],
        places: Int[Tensor, "b g g"] | None,
        corner: Corner,
        backdrop: Backdrop,
    ) -> DoubleOutput:
        """As :meth:`DoubleStyleUNet.forward`.

        Args:
            render: texture render, not moved by the window.
            places: of :func:`rows_at`; not needed without a neural texture.
            corner: of the window in cells of the foreground.
            backdrop: of :meth:`backdrop`.
        """
        render = arranged(render.to(self.decoder.kernel.dtype))
        feature, rest = self.foreground(pad_outside(render, self.grid), corner)
        if self.noise is not None:
            rest = torch.cat([rest, cut(self.noise, corner, self.grid).expand(rest.shape[0], -1, -1, -1)], 1)
        mask = torch.tanh(self.mask(feature) + backdrop.mask)
        gate = (GATE_GAIN * mask).clamp(-1, 1) * 0.5 + 0.5
        feature, rest = torch.lerp(feature, backdrop.feature, gate), torch.lerp(rest, backdrop.rest, gate)
        if self.texture is not None and places is not None:
            face = look_up_rows(self.texture, places)
            feature, rest = feature.add_(face[:, : feature.shape[1]]), rest.add_(face[:, feature.shape[1] :])
        picture, *noise = rest.split([12, *(4**n for n in range(self.levels))], 1)
        maps = [F.pixel_shuffle(block, 2**n) for n, block in enumerate(noise) for _ in range(2)]
        levels = self.encoder(F.pixel_shuffle(picture, 2), self.addition(feature))
        return DoubleOutput(self.decoder(levels, maps)[1], mask)


def rows_of(*maps: Float[Tensor, "1 n g g"]) -> Float[Tensor, "rows channels"]:
    """A row with the channels of all maps for each texel, then a row of zeros."""
    rows = torch.cat([x.detach() for x in maps], 1)[0].flatten(1).t()
    return F.pad(rows, (0, 0, 0, 1)).contiguous()


def rows_at(uv: Float[Tensor, "b 2 g g"], inside: Bool[Tensor, "b 1 g g"], grid: int) -> Int[Tensor, "b g g"]:
    """Rows of the texels that ``grid_sample`` finds nearest; the row of zeros outside. Halves are rounded to even, as there."""
    x, y = ((uv.float() + 1) * (grid / 2) - 0.5).round().long().unbind(1)
    inside = inside[:, 0] & (x >= 0) & (x < grid) & (y >= 0) & (y < grid)
    return torch.where(inside, y * grid + x, grid * grid)


def look_up_rows(texture: Float[Tensor, "rows c"], places: Int[Tensor, "b g g"]) -> Float[Tensor, "b c g g"]:
    """The neural texture as it is seen."""
    return F.embedding(places, texture).permute(0, 3, 1, 2)
