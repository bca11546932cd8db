"""U-Net on an IR-SE-50 body with a memory at every scale of the decoder (TriPlaneNet, Bhattarai et al. 2024; InvertAvatar, 3.3)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from avatarzoo.networks.fusion import Fusion, fusion_of
from avatarzoo.networks.irse import IRSE50, STAGES, Stages, last_units

WIDTHS = (512, 384, 256, 96)
"""Channels of the decoder's blocks, from side 1/16 to side 1/2."""


class UNetSize(NamedTuple):
    """What a U-Net is built from; the defaults are the published network's.

    Attributes:
        stages: of the body.
        widths: channels of the decoder's four blocks, multiples of 4.
    """

    stages: Stages = STAGES
    widths: tuple[int, ...] = WIDTHS

    @property
    def taps(self) -> list[int]:
        """Units of the body that the decoder looks at: sides 1/2, 1/4, 1/8, 1/16, 1/16 of the picture's."""
        *finer, coarser, last = last_units(self.stages)
        return [*finer, coarser, coarser + 1, last]


PUBLISHED = UNetSize()

Memory = list[Tensor]
"""What a recurrent decoder knows of a person: one feature map per block, ``(B, C, h, w)`` with C of :attr:`UNetSize.widths`."""


class UpBlock(nn.Module):
    """BatchNorm and two 3x3 convolutions on a skip connection and the features from below."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        # two rectifiers in a row are what the published weights hold
        self.convolutions = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.PReLU(outputs),
            nn.Conv2d(outputs, outputs, 3, padding=1),
            nn.PReLU(outputs),
            nn.PReLU(outputs),
        )

    def forward(
        self, skip: Float[Tensor, "b s h w"], x: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b o h w"]:
        return self.convolutions(torch.cat([skip, x], 1))


class DecoderFeatures(NamedTuple):
    """Feature maps of the four decoder blocks, ``(B', C, h, w)`` with C of :attr:`UNetSize.widths`, and the memory (None without one).

    B' is B with a memory, which sums the frames up, else B times T.
    """

    maps: list[Tensor]
    memory: Memory | None


class RecurrentUNet(nn.Module):
    """Several observations of a person to feature maps.

    Every block consumes all frames before the next one starts: the next gets the memory as features from below, for each
    frame together with that frame's own skip connection. T frames at once are therefore not exactly the same as one by one.

    Args:
        inputs: channels of a frame.
        recurrent: False leaves the memories out (the first training stages, one frame).
        size: of body and decoder.
        fusion: ``gru`` is the paper's memory; ``conv`` and ``attention`` keep nothing from call to call.
    """

    def __init__(
        self,
        inputs: int,
        recurrent: bool = True,
        size: UNetSize = PUBLISHED,
        fusion: Fusion = "gru",
    ) -> None:
        super().__init__()
        self.size = size
        self.body = IRSE50(inputs, size.stages)
        skips = [channels for channels, _ in reversed(size.stages)]
        below = (skips[0], *(width // 4 for width in size.widths[:-1]))
        self.blocks = nn.ModuleList(UpBlock(s + b, w) for s, b, w in zip(skips, below, size.widths))
        self.memories = (
            nn.ModuleList(fusion_of(fusion, width) for width in size.widths) if recurrent else None
        )

    def forward(self, frames: Float[Tensor, "b t c s s"], memory: Memory | None = None) -> DecoderFeatures:
        """``memory`` is what an earlier call returned for the same people; None starts anew."""
        batch, count = frames.shape[:2]
        *skips, x = self.body(frames.flatten(0, 1), self.size.taps)
        maps: list[Tensor] = []
        for i, (block, skip) in enumerate(zip(self.blocks, reversed(skips))):
            x = block(skip, x)
            if self.memories is not None:
                old = None if memory is None else memory[i]
                x = self.memories[i](x.unflatten(0, (batch, count)), old)
            maps.append(x)
            if len(maps) < len(self.blocks):
                x = F.pixel_shuffle(x, 2)
                x = x if self.memories is None else x.repeat_interleave(count, 0)
        return DecoderFeatures(maps, None if self.memories is None else list(maps))
