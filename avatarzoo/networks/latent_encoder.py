"""Picture to latent codes: the encoder of e4e (Tov et al. 2021) as InvertAvatar has it, E_latent."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from avatarzoo.networks.irse import IRSE50, STAGES, Stages, last_units
from avatarzoo.networks.ops import EqualLinear

COARSE, MIDDLE = 3, 7
"""Codes before COARSE come from side 1/16, codes before MIDDLE from 1/8, the rest from 1/4."""


class MapToCode(nn.Module):
    """A feature map to one code: 3x3 convolutions of stride 2 down to one pixel, then a linear layer."""

    def __init__(self, width: int, side: int, code_dim: int) -> None:
        super().__init__()
        halvings = side.bit_length() - 1
        layers: list[nn.Module] = []
        for _ in range(halvings):
            layers += [nn.Conv2d(width, width, 3, stride=2, padding=1), nn.LeakyReLU()]
        self.convolutions = nn.Sequential(*layers)
        self.linear = EqualLinear(width, code_dim)

    def forward(self, x: Float[Tensor, "b c s s"]) -> Float[Tensor, "b c"]:
        return self.linear(self.convolutions(x)[:, :, 0, 0])


class LatentEncoder(nn.Module):
    """Picture to W+ codes, as offsets from the mean code.

    The first code is an offset of its own, all others are the first plus an offset (e4e's "delta" codes; its progressive
    training is left out, as in the released code).

    Args:
        codes: number of codes; 14 for backbones of side 256.
        side: to which pictures are pooled, a power of two from 32.
        code_dim: width of a code.
        stages: of the body; codes are read from the last three, of side 1/4, 1/8 and 1/16.
        zero_start: last layers start at zero, so that training starts at the mean code; the released code starts at random.
    """

    def __init__(
        self,
        codes: int = 14,
        side: int = 256,
        code_dim: int = 512,
        stages: Stages = STAGES,
        zero_start: bool = False,
    ) -> None:
        super().__init__()
        self.side, self.taps = side, last_units(stages)[1:]
        fine, middle, width = (channels for channels, _ in stages[1:])
        self.body = IRSE50(3, stages)
        sides = [side // 16 if i < COARSE else side // 8 if i < MIDDLE else side // 4 for i in range(codes)]
        self.heads = nn.ModuleList(MapToCode(width, s, code_dim) for s in sides)
        self.lateral_middle = nn.Conv2d(middle, width, 1)
        self.lateral_fine = nn.Conv2d(fine, width, 1)
        if zero_start:
            for head in self.heads:
                nn.init.zeros_(head.linear.weight)  # type: ignore[union-attr, arg-type]

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n w"]:
        """Offsets of every code from the mean code; ``image`` in [-1, 1]."""
        image = F.adaptive_avg_pool2d(image, self.side)
        fine, middle, coarse = self.body(image, self.taps)
        middle = enlarge(coarse, middle) + self.lateral_middle(middle)
        fine = enlarge(middle, fine) + self.lateral_fine(fine)
        maps = [coarse if i < COARSE else middle if i < MIDDLE else fine for i in range(len(self.heads))]
        base, *deltas = (head(x) for head, x in zip(self.heads, maps))
        return torch.stack([base, *(base + delta for delta in deltas)], 1)


def enlarge(x: Tensor, like: Tensor) -> Tensor:
    """Bilinear to the size of ``like``, corners on corners."""
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=True)
