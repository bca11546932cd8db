"""StyleUNets for one fixed style as plain convolutions: everything that does not depend on the picture is computed once.

* Modulation and demodulation go into the weights, the equalised learning rate too.
* Haar transforms go into the 1 x 1 convolutions beside them: the running picture stays a picture, of which the bands are the
  2 x 2 blocks in another basis, so that halving and doubling need no transform. Blocks are channels in ``pixel_shuffle``'s order.
* Of the foreground only the window is brought to the side of the render, with the cells that its borders need.
* The neural texture is a table with one row for each texel and a row of zeros for what shows no face.

Sums are taken in another order, which is the only difference (about 1e-6 of the output).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from avatarzoo.networks.discriminator import EqualConv
from avatarzoo.networks.double_styleunet import GATE_GAIN, DoubleOutput, DoubleStyleUNet, Foreground, Noises
from avatarzoo.networks.feature_generator import Features
from avatarzoo.networks.haar import haar_merge
from avatarzoo.networks.ops import activate, blur, resampling_filter, upsample
from avatarzoo.networks.styleunet import StyleUNet
from avatarzoo.networks.styleunet_layers import (
    Decoder,
    DownBlock,
    Encoder,
    StyledConv,
    ToBands,
    arranged,
    pad_outside,
)

Corner = tuple[int, int] | Int[Tensor, "b 2"]
"""Left and top of a window: the same for all samples and known beforehand, or a tensor."""


def block_basis(pictures: int = 3) -> Float[Tensor, "n n"]:
    """Bands (columns) to blocks of 2 x 2 pixels (rows); orthonormal, so its transpose is the way back."""
    bands = torch.eye(4 * pictures)[:, :, None, None]
    return haar_merge(bands).flatten(1).t()


def blocks_of(bands: Float[Tensor, "b n h w"], times: int = 1) -> Float[Tensor, "b n h w"]:
    """Bands of bands (``times`` deep) as blocks of 2^times x 2^times pixels."""
    merged = bands
    for _ in range(times):
        merged = haar_merge(merged)
    return F.pixel_unshuffle(merged, 2**times)


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


class FoldedConv(nn.Module):
    """Convolution, noise, bias, leaky rectifier with constant weights.

    Args:
        weight: (outputs, inputs, k, k).
        bias: (outputs).
        up, down: 2 doubles or halves the side with the resampling filter.
        activate: rectifier at the end.
        strength: factor on the noise.
        pad: rows and columns of zeros around the input; needed where neither ``up`` nor ``down`` is 2.
    """

    weight: Tensor
    bias: Tensor
    strength: Tensor
    kernel: Tensor

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        up: int = 1,
        down: int = 1,
        activate: bool = True,
        strength: Tensor | None = None,
        pad: int = 1,
    ) -> None:
        super().__init__()
        self.register_buffer("weight", (weight.transpose(0, 1) if up == 2 else weight).float().contiguous())
        self.register_buffer("bias", bias.detach().float().clone())
        self.register_buffer("strength", None if strength is None else strength.detach().clone())
        self.register_buffer("kernel", resampling_filter().to(weight.device))
        self.up, self.down, self.activate, self.pad = up, down, activate, pad

    def forward(
        self, x: Float[Tensor, "b i h w"], noise: Float[Tensor, "#b 1 h2 w2"] | None = None
    ) -> Float[Tensor, "b o h2 w2"]:
        if self.up == 2:
            wide = F.conv_transpose2d(x, self.weight, stride=2)
            y = blur(wide, self.kernel, padding=1, gain=4.0, bias=self.bias)
        elif self.down == 2:
            y = F.conv2d(blur(x, self.kernel, padding=2), self.weight, self.bias, stride=2)
        else:
            y = F.conv2d(x, self.weight, self.bias, padding=self.pad)
        if noise is not None and self.strength is not None:
            y += noise * self.strength
        return activate(y) if self.activate else y


def fold_conv(conv: EqualConv) -> FoldedConv:
    """An equalised convolution whose rectifier has no gain, as StyleUNets use it."""
    assert conv.bias is not None
    return FoldedConv(conv.weight.detach() * conv.gain, conv.bias, down=conv.down)


def fold_styled(
    conv: StyledConv, code: Float[Tensor, "1 m"], noisy: bool = False, pad: int = 1
) -> FoldedConv:
    """Modulated and demodulated in double precision."""
    style = (conv.style(code) * conv.gain).detach().double()
    weight = conv.weight.detach().double() * style[0, :, None, None]
    weight = weight * (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).rsqrt()
    strength = conv.noise_strength if noisy and bool(conv.noise_strength != 0) else None
    return FoldedConv(weight, conv.bias, conv.up, activate=conv.activate, strength=strength, pad=pad)


def fold_to_bands(layer: ToBands, code: Float[Tensor, "1 m"]) -> FoldedConv:
    """Features to blocks of the picture."""
    style = (layer.style(code) * layer.gain).detach().double()
    basis = block_basis().to(style)
    weight = basis @ (layer.weight.detach()[:, :, 0, 0].double() * style)
    bias = basis @ layer.bias.detach().double()
    return FoldedConv(weight[:, :, None, None], bias, activate=False, pad=0)


class FoldedEncoder(nn.Module):
    """An :class:`Encoder` that takes the picture itself."""

    kernel: Tensor

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.lifts = nn.ModuleList()
        for layer in encoder.from_bands:
            lift = fold_conv(layer.conv)  # type: ignore[arg-type]
            pictures = lift.weight.shape[1] // 4
            blocks = lift.weight[:, :, 0, 0] @ block_basis(pictures).to(lift.weight).t()
            lift.weight = blocks.unflatten(1, (pictures, 2, 2)).contiguous()
            self.lifts.append(lift)
        self.blocks = nn.ModuleList(fold_down(block) for block in encoder.blocks)  # type: ignore[arg-type]
        self.register_buffer("kernel", resampling_filter().to(lift.weight.device))

    def forward(
        self, picture: Float[Tensor, "b c r r"], addition: Float[Tensor, "b i r/4 r/4"] | None = None
    ) -> list[Tensor]:
        x, levels = addition, []
        for lift, block in zip(self.lifts, self.blocks):
            picture = blur(picture, self.kernel, padding=1, stride=2)
            seen = activate(F.conv2d(picture, lift.weight, lift.bias, stride=2))
            x = block(seen if x is None else seen.add_(x))
            levels.append(x)
        return levels


def fold_down(block: DownBlock) -> nn.Sequential:
    return nn.Sequential(fold_conv(block.conv1), fold_conv(block.conv2))


class FoldedDecoder(nn.Module):
    """A :class:`Decoder` whose running picture is a picture.

    Args:
        noisy: convolutions, counted from the last, that are given noise.
    """

    kernel: Tensor

    def __init__(self, decoder: Decoder, code: Float[Tensor, "1 m"], noisy: int = 0) -> None:
        super().__init__()
        quiet = len(decoder.convs) - noisy
        self.joins = nn.ModuleList(fold_conv(join) for join in decoder.joins)  # type: ignore[arg-type]
        self.convs = nn.ModuleList(
            fold_styled(conv, code, n >= quiet)  # type: ignore[arg-type]
            for n, conv in enumerate(decoder.convs)
        )
        self.to_blocks = nn.ModuleList(fold_to_bands(layer, code) for layer in decoder.to_bands)  # type: ignore[arg-type]
        self.register_buffer("kernel", resampling_filter().to(code.device))

    def forward(
        self, levels: Sequence[Tensor], noise: Sequence[Tensor] = ()
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b 3 2*h 2*w"]]:
        """Features of the last level and the picture. ``noise``: one map for each of the last convolutions."""
        x, picture = levels[-1], None
        maps = [*[None] * (len(self.convs) - len(noise)), *noise]
        for n, to_blocks in enumerate(self.to_blocks):
            if n < len(self.joins):
                x = self.joins[-1 - n](x if n == 0 else torch.cat([x, levels[-1 - n]], 1))
            for k in (2 * n, 2 * n + 1):
                x = self.convs[k](x, maps[k])
            drawn = F.pixel_shuffle(to_blocks(x), 2)
            picture = drawn if picture is None else upsample(picture, self.kernel).add_(drawn)
        return x, picture


class FoldedStyleUNet(nn.Module):
    """A :class:`StyleUNet` for one style and fixed noise (paper section 3.4: both stay as they are at inference).

    Args:
        network: weights.
        style: (1, n).
        noise: as the network takes it, or ``None``.
    """

    def __init__(
        self, network: StyleUNet, style: Float[Tensor, "1 n"], noise: Sequence[Tensor] | None = None
    ) -> None:
        super().__init__()
        code = network.mapping(style).detach()
        maps = [*noise] if noise is not None else []
        self.encoder = FoldedEncoder(network.unet.encoder)
        self.decoder = FoldedDecoder(network.unet.decoder, code, len(maps))
        for n, noise_map in enumerate(maps):
            self.register_buffer(f"noise_{n}", noise_map.detach().clone())
        self.noises = len(maps)

    def forward(self, image: Float[Tensor, "b c r r"]) -> Float[Tensor, "b 3 s s"]:
        noise = [getattr(self, f"noise_{n}") for n in range(self.noises)]
        return self.decoder(self.encoder(arranged(image.to(self.decoder.kernel.dtype))), noise)[1]


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

    back: Tensor
    back_rest: Tensor
    noise: Tensor
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
        self.register_buffer("texture", None if face is None else table(face, on_face))
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
        rest = picture if self.back_noise is None else torch.cat([picture, self.back_noise], 1)
        return Backdrop(feature, rest, F.conv2d(feature, self.mask_back, padding=1))

    def forward(
        self,
        render: Float[Tensor, "b 3 r r"],
        uv: Float[Tensor, "b 2 g g"],
        mask_face: Float[Tensor, "b 1 g g"],
        corner: Corner,
        backdrop: Backdrop,
    ) -> DoubleOutput:
        """As :meth:`DoubleStyleUNet.forward`; ``corner`` is the window's in cells of the foreground."""
        render = arranged(render.to(self.decoder.kernel.dtype))
        feature, rest = self.foreground(pad_outside(render, self.grid), corner)
        if self.noise is not None:
            rest = torch.cat([rest, cut(self.noise, corner, self.grid).expand(len(rest), -1, -1, -1)], 1)
        mask = torch.tanh(self.mask(feature) + backdrop.mask)
        gate = (GATE_GAIN * mask).clamp(-1, 1) * 0.5 + 0.5
        feature, rest = torch.lerp(feature, backdrop.feature, gate), torch.lerp(rest, backdrop.rest, gate)
        if self.texture is not None:
            face = look_up_rows(self.texture, uv, mask_face > 0, self.grid)
            feature, rest = feature.add_(face[:, : feature.shape[1]]), rest.add_(face[:, feature.shape[1] :])
        picture, *noise = rest.split([12, *(4**n for n in range(self.levels))], 1)
        maps = [F.pixel_shuffle(block, 2**n) for n, block in enumerate(noise) for _ in range(2)]
        levels = self.encoder(F.pixel_shuffle(picture, 2), self.addition(feature))
        return DoubleOutput(self.decoder(levels, maps)[1], mask)


def table(face: Features, noise: Float[Tensor, "1 n g g"] | None) -> Float[Tensor, "rows channels"]:
    """Feature, blocks of the picture and noise of each texel, then a row of zeros."""
    parts = (
        [face.feature, blocks_of(face.skip)] if noise is None else [face.feature, blocks_of(face.skip), noise]
    )
    rows = torch.cat([part.detach() for part in parts], 1)[0].flatten(1).t()
    return F.pad(rows, (0, 0, 0, 1)).contiguous()


def look_up_rows(
    texture: Float[Tensor, "rows c"], uv: Float[Tensor, "b 2 g g"], inside: Bool[Tensor, "b 1 g g"], grid: int
) -> Float[Tensor, "b c g g"]:
    """``grid_sample`` with nearest neighbours and zeros outside; halves are rounded to the even texel, as it does."""
    x, y = ((uv.float() + 1) * (grid / 2) - 0.5).round().long().unbind(1)
    inside = inside[:, 0] & (x >= 0) & (x < grid) & (y >= 0) & (y < grid)
    return F.embedding(torch.where(inside, y * grid + x, grid * grid), texture).permute(0, 3, 1, 2)
