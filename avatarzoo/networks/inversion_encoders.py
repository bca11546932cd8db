"""InvertAvatar's feature encoders (section 3.2): a person's observations to corrections of what the latent code gives.

E_tex reads pictures unwrapped into texture space and corrects texture features; E_tri reads pictures and modulates the
static tri-plane. Both start as "no correction" unless they are built as released.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from avatarzoo.networks.convgru import ConvGRU
from avatarzoo.networks.fusion import Fusion
from avatarzoo.networks.latent_encoder import LatentEncoder
from avatarzoo.networks.unet import PUBLISHED, Memory, RecurrentUNet, UNetSize


class TextureOffsets(NamedTuple):
    """Additions to texture features (picture at 1/8, features at 1/8, 1/4 and 1/2 of the side), and the memory."""

    offsets: list[Tensor]
    memory: Memory | None


class Modulation(NamedTuple):
    """Acts on the second half of a block's channels: ``x * scale + shift``."""

    scale: Float[Tensor, "b c h w"]
    shift: Float[Tensor, "b c h w"]

    def apply(self, x: Float[Tensor, "b c2 h w"]) -> Float[Tensor, "b c2 h w"]:
        """Channel-split spatial feature transform (Wang et al. 2021): the first half passes unchanged."""
        kept, changed = x.chunk(2, 1)
        return torch.cat([kept, changed * self.scale + self.shift], 1)


class TriPlaneModulations(NamedTuple):
    """One modulation per block of side 1/16, 1/8, 1/4, 1/2 and 1 of the plane's, and the memory."""

    modulations: list[Modulation]
    memory: Memory | None


class TextureEncoder(nn.Module):
    """E_tex: ``(unwrapped image, unwrapped residual, visibility)`` to texture offsets.

    Args:
        outputs: channels of the offsets; for side 256 the texture's picture and its blocks 32, 64 and 128.
        recurrent: see :class:`~avatarzoo.networks.unet.RecurrentUNet`.
        zero_start: heads start at zero, so that training starts at the latent code's avatar; the released code starts at random.
        size, fusion: of the U-Net.
    """

    def __init__(
        self,
        outputs: Sequence[int] = (32, 512, 512, 256),
        recurrent: bool = True,
        zero_start: bool = True,
        size: UNetSize = PUBLISHED,
        fusion: Fusion = "gru",
    ) -> None:
        super().__init__()
        self.unet = RecurrentUNet(7, recurrent, size, fusion)
        widths = (size.widths[1], *size.widths[1:])
        self.heads = nn.ModuleList(nn.Conv2d(i, o, 1) for i, o in zip(widths, outputs))
        if zero_start:
            silence(*self.heads)

    def forward(self, frames: Float[Tensor, "b t 7 s s"], memory: Memory | None = None) -> TextureOffsets:
        """``frames`` in texture space, see :func:`texture_input`."""
        (_, *maps), memory = self.unet(frames, memory)
        return TextureOffsets([head(x) for head, x in zip(self.heads, (maps[0], *maps))], memory)


class TriPlaneEncoder(nn.Module):
    """E_tri: ``(image, residual)`` to modulations of the static backbone.

    Args:
        outputs: channels of the modulations, half of the static backbone's blocks 16, 32, 64, 128 and 256.
        side: to which the input is pooled; the plane's side.
        recurrent: see :class:`~avatarzoo.networks.unet.RecurrentUNet`.
        identity: scales are 1 + the output, with last layers that start at zero. paper: the scale is the output, and random at
            the start, which wipes half of the features; released code: the same; we follow it only for its weights (False).
        size, fusion: of the U-Net.
    """

    def __init__(
        self,
        outputs: Sequence[int] = (256, 256, 256, 128, 64),
        side: int = 256,
        recurrent: bool = True,
        identity: bool = True,
        size: UNetSize = PUBLISHED,
        fusion: Fusion = "gru",
    ) -> None:
        super().__init__()
        self.side, self.identity = side, identity
        self.unet = RecurrentUNet(6, recurrent, size, fusion)
        last = size.widths[-1]
        self.finest = nn.Sequential(
            nn.Conv2d(last // 4, last, 3, padding=1), nn.PReLU(last), nn.Conv2d(last, last, 3, padding=1), nn.PReLU(last)
        )  # fmt: skip
        widths = (*size.widths, last)
        self.scales = nn.ModuleList(modulation_head(i, o) for i, o in zip(widths, outputs))
        self.shifts = nn.ModuleList(modulation_head(i, o) for i, o in zip(widths, outputs))
        if identity:
            silence(*(head[-1] for head in (*self.scales, *self.shifts)))  # type: ignore[index]

    def forward(
        self, frames: Float[Tensor, "b t 6 h w"], memory: Memory | None = None
    ) -> TriPlaneModulations:
        """``frames``: pictures in [-1, 1] and their residuals (coarse reconstruction minus picture)."""
        batch, count = frames.shape[:2]
        pooled = F.adaptive_avg_pool2d(frames.flatten(0, 1), self.side).unflatten(0, (batch, count))
        maps, memory = self.unet(pooled, memory)
        maps = [*maps, self.finest(F.pixel_shuffle(maps[-1], 2))]
        base = 1.0 if self.identity else 0.0
        modulations = [
            Modulation(base + scale(x), shift(x)) for x, scale, shift in zip(maps, self.scales, self.shifts)
        ]
        return TriPlaneModulations(modulations, memory)


class PriorShape(NamedTuple):
    """What encoders must know of the prior that they are for; the defaults are those of the published one.

    Attributes:
        side: of planes and textures.
        codes, code_dim: number and width of its codes.
        picture: channels of the texture's picture.
        channels: of its blocks of side 1/16, 1/8, 1/4, 1/2 and 1.
    """

    side: int = 256
    codes: int = 14
    code_dim: int = 512
    picture: int = 32
    channels: tuple[int, ...] = (512, 512, 512, 256, 128)


PUBLISHED_PRIOR = PriorShape()


class InversionEncoders(nn.Module):
    """E_latent, E_tex and E_tri of one prior, with the mean code that latent offsets are added to: what is published together.

    Args:
        released: as the published weights need it (raw scales, random start); False starts as "no correction".
        prior: which the encoders are for.
        size: of all three networks.
        fusion: how frames are fused where the networks are recurrent.
    """

    mean_code: Tensor
    background: Tensor

    def __init__(
        self,
        recurrent: bool = True,
        released: bool = False,
        prior: PriorShape = PUBLISHED_PRIOR,
        size: UNetSize = PUBLISHED,
        fusion: Fusion = "gru",
    ) -> None:
        super().__init__()
        eighth, quarter, half = prior.channels[1:4]
        self.latent = LatentEncoder(prior.codes, prior.side, prior.code_dim, size.stages, not released)
        self.texture = TextureEncoder(
            (prior.picture, eighth, quarter, half), recurrent, not released, size, fusion
        )
        self.triplane = TriPlaneEncoder(
            [c // 2 for c in prior.channels], prior.side, recurrent, not released, size, fusion
        )
        if not released:
            for module in self.modules():
                if isinstance(module, ConvGRU):
                    module.start_open()
        self.register_buffer("mean_code", torch.zeros(1, prior.code_dim))
        self.register_buffer("background", -torch.ones(1, 3, prior.side, prior.side))

    def codes(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n w"]:
        """W+ codes of pictures in [-1, 1]."""
        return self.mean_code + self.latent(image)


def texture_input(
    unwrapped: Float[Tensor, "b 3 s s"],
    residual: Float[Tensor, "b 3 h w"],
    places: Float[Tensor, "b s s 2"],
    visibility: Float[Tensor, "b 1 s s"],
) -> Float[Tensor, "b 7 s s"]:
    """A frame as E_tex reads it.

    Args:
        unwrapped: the picture in texture space, in [-1, 1], 1 where it does not see the surface.
        residual: coarse reconstruction minus picture (paper: the other sign; released code: this one, which its weights need).
        places: where each texel is in the picture, (x, y) in [-1, 1].
        visibility: 1 where the picture sees the texel, else 0; there the unwrapped residual is -1.
    """
    seen = F.grid_sample(residual, places, align_corners=False)
    return torch.cat([unwrapped, seen * visibility + (visibility - 1), visibility], 1)


def modulation_head(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(inputs, outputs, 3, padding=1)
    )


def silence(*layers: nn.Module) -> None:
    """Let layers start as zero."""
    for layer in layers:
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)
