"""StyleUNets for one fixed style as plain convolutions: everything that does not depend on the picture is computed once.

* Modulation and demodulation go into the weights, the equalised learning rate too.
* Haar transforms go into the 1 x 1 convolutions beside them: the running picture stays a picture, of which the bands are the
  2 x 2 blocks in another basis, so that halving and doubling need no transform. Blocks are channels in ``pixel_shuffle``'s order.

Sums are taken in another order, which is the only difference (about 1e-6 of the output).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from avatarzoo.networks.discriminator import EqualConv
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
)


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


class FoldedConv(nn.Module):
    """Convolution, noise, bias, leaky rectifier with constant weights.

    Args:
        weight: (outputs, inputs, k, k).
        bias: (outputs).
        up, down: 2 doubles or halves the side with the resampling filter.
        activate: rectifier at the end.
        strength: factor on the noise.
        pad, stride: of the convolution where neither ``up`` nor ``down`` is 2.
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
        stride: int = 1,
    ) -> None:
        super().__init__()
        self.register_buffer("weight", (weight.transpose(0, 1) if up == 2 else weight).float().contiguous())
        self.register_buffer("bias", bias.detach().float().clone())
        self.register_buffer("strength", None if strength is None else strength.detach().clone())
        self.register_buffer("kernel", resampling_filter().to(weight.device))
        self.up, self.down, self.activate, self.pad, self.stride = up, down, activate, pad, stride

    def forward(
        self, x: Float[Tensor, "b i h w"], noise: Float[Tensor, "#b 1 h2 w2"] | None = None
    ) -> Float[Tensor, "b o h2 w2"]:
        if self.up == 2:
            wide = F.conv_transpose2d(x, self.weight, stride=2)
            y = blur(wide, self.kernel, padding=1, gain=4.0, bias=self.bias)
        elif self.down == 2:
            y = F.conv2d(blur(x, self.kernel, padding=2), self.weight, self.bias, stride=2)
        else:
            y = F.conv2d(x, self.weight, self.bias, self.stride, self.pad)
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
            self.lifts.append(FoldedConv(blocks.unflatten(1, (pictures, 2, 2)), lift.bias, pad=0, stride=2))
        self.blocks = nn.ModuleList(fold_down(block) for block in encoder.blocks)  # type: ignore[arg-type]
        self.register_buffer("kernel", resampling_filter().to(lift.weight))

    def forward(
        self, picture: Float[Tensor, "b c r r"], addition: Float[Tensor, "b i r/4 r/4"] | None = None
    ) -> list[Tensor]:
        x, levels = addition, []
        for lift, block in zip(self.lifts, self.blocks):
            picture = blur(picture, self.kernel, padding=1, stride=2)
            seen = lift(picture)
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
        x, picture = levels[-1], torch.empty(0)
        maps = [*[None] * (len(self.convs) - len(noise)), *noise]
        for n, to_blocks in enumerate(self.to_blocks):
            if n < len(self.joins):
                x = self.joins[-1 - n](x if n == 0 else torch.cat([x, levels[-1 - n]], 1))
            for k in (2 * n, 2 * n + 1):
                x = self.convs[k](x, maps[k])
            drawn = F.pixel_shuffle(to_blocks(x), 2)
            picture = drawn if n == 0 else upsample(picture, self.kernel).add_(drawn)
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
