"""Picture to latent codes: the encoder of e4e (Tov et al. 2021) as InvertAvatar has it, E_latent."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from avatarzoo.networks.irse import IRSE50
from avatarzoo.networks.ops import EqualLinear

TAPS = (6, 20, 23)
"""Units of the body that codes are read from: 128 channels of side 1/4, 256 of 1/8, 512 of 1/16."""
COARSE, MIDDLE = 3, 7
"""Codes before COARSE come from side 1/16, codes before MIDDLE from 1/8, the rest from 1/4."""


class MapToCode(nn.Module):
    """A feature map to one code: 3x3 convolutions of stride 2 down to one pixel, then a linear layer."""

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        halvings = side.bit_length() - 1
        layers: list[nn.Module] = []
        for _ in range(halvings):
            layers += [nn.Conv2d(width, width, 3, stride=2, padding=1), nn.LeakyReLU()]
        self.convolutions = nn.Sequential(*layers)
        self.linear = EqualLinear(width, width)

    def forward(self, x: Float[Tensor, "b c s s"]) -> Float[Tensor, "b c"]:
        return self.linear(self.convolutions(x)[:, :, 0, 0])


class LatentEncoder(nn.Module):
    """Picture to W+ codes, as offsets from the mean code.

    The first code is an offset of its own, all others are the first plus an offset (e4e's "delta" codes; its progressive
    training is left out, as in the released code).

    Args:
        codes: number of codes; 14 for backbones of side 256.
        side: to which pictures are pooled, a power of two from 32.
    """

    def __init__(self, codes: int = 14, side: int = 256) -> None:
        super().__init__()
        self.side, width = side, 512
        self.body = IRSE50(3)
        sides = [side // 16 if i < COARSE else side // 8 if i < MIDDLE else side // 4 for i in range(codes)]
        self.heads = nn.ModuleList(MapToCode(width, s) for s in sides)
        self.lateral_middle = nn.Conv2d(256, width, 1)
        self.lateral_fine = nn.Conv2d(128, width, 1)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n 512"]:
        """Offsets of every code from the mean code; ``image`` in [-1, 1]."""
        image = F.adaptive_avg_pool2d(image, self.side)
        fine, middle, coarse = self.body(image, TAPS)
        middle = enlarge(coarse, middle) + self.lateral_middle(middle)
        fine = enlarge(middle, fine) + self.lateral_fine(fine)
        maps = [coarse if i < COARSE else middle if i < MIDDLE else fine for i in range(len(self.heads))]
        base, *deltas = (head(x) for head, x in zip(self.heads, maps))
        return torch.stack([base, *(base + delta for delta in deltas)], 1)


def enlarge(x: Tensor, like: Tensor) -> Tensor:
    """Bilinear to the size of ``like``, corners on corners."""
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=True)
