"""NOFA++'s deformation field (section 3.3): where a point of the deformed head lies in the canonical volume."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class Prepared(NamedTuple):
    """What the condition adds to the first layer of the D-Net and of the W-Net (None without one), once per picture."""

    displacement: Float[Tensor, "b 1 d"]
    weight: Float[Tensor, "b 1 w"] | None

    def rows(self, rows: slice) -> Prepared:
        """Of some pictures."""
        return Prepared(*(None if x is None else x[rows] for x in self))

    def repeated(self, count: int) -> Prepared:
        """``count`` rows in place of each."""
        return Prepared(*(None if x is None else x.repeat_interleave(count, 0) for x in self))


class Deformation(NamedTuple):
    """Per point: the D-Net's offset in world units and the W-Net's weight in (0, 1), exactly 1 without a W-Net."""

    offset: Float[Tensor, "b n 3"]
    weight: Float[Tensor, "b n 1"]


def positional_encoding(x: Float[Tensor, "*n c"], bands: int) -> Float[Tensor, "*n e"]:
    """``x``, then sin and cos of ``2^k pi x`` for ``k < bands`` (Mildenhall et al. 2020, equation 4): C (1 + 2 bands) numbers."""
    frequencies = math.pi * 2.0 ** torch.arange(bands, device=x.device, dtype=x.dtype)
    angles = (x[..., None, :] * frequencies[:, None]).flatten(-2)
    return torch.cat([x, angles.sin(), angles.cos()], -1)


class ConditionedMLP(nn.Module):
    """A perceptron of points under a condition that many points share; its output starts at zero.

    The condition enters the first layer only, so its half of that layer is computed once per picture (:meth:`prepare`).

    Args:
        points, condition, outputs: widths of an encoded point, of the condition (0: none) and of the output.
        width, depth: of the hidden layers.
        skip: hidden layer that sees the encoded point again, or None.
        unheard: so many numbers of the condition have no effect before training.
    """

    def __init__(
        self,
        points: int,
        condition: int,
        outputs: int,
        width: int,
        depth: int,
        skip: int | None = None,
        unheard: int = 0,
    ) -> None:
        super().__init__()
        self.points, self.skip = points, skip
        self.first = nn.Linear(points + condition, width)
        nn.init.zeros_(self.first.weight[:, points : points + unheard])
        self.hidden = nn.ModuleList(
            nn.Linear(a + (points if i == skip else 0), b)
            for i, (a, b) in enumerate(pairwise([width] * depth), start=1)
        )
        self.last = nn.Linear(width, outputs)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def prepare(self, condition: Float[Tensor, "b k"]) -> Float[Tensor, "b 1 h"]:
        """The condition's half of the first layer, and its bias."""
        return F.linear(condition, self.first.weight[:, self.points :], self.first.bias)[:, None]

    def forward(
        self, points: Float[Tensor, "b n p"], prepared: Float[Tensor, "b 1 h"]
    ) -> Float[Tensor, "b n o"]:
        x = (F.linear(points, self.first.weight[:, : self.points]) + prepared).relu()
        for i, layer in enumerate(self.hidden, start=1):
            x = layer(torch.cat([x, points], -1) if i == self.skip else x).relu()
        return self.last(x)


class DeformationField(nn.Module):
    """x_c = x_d + W(PE(x_d), identity) D(PE(x_d), identity, expression) (section 3.3, backward warp).

    It stands in front of the plane lookup of both passes::

        prepared = field.prepare(identity, expression)
        render_rays(lambda points: generator.query(planes, field(points, prepared)), rays, sampling)

    It starts as exactly the identity. Sizes of the networks are not stated in the paper. Ours: who a person is starts without effect,
    since a hundred random columns hide the expression (fitted to tracked heads, the field then explains 91 % of the motion of people
    it has not seen, 90 % otherwise).

    Args:
        identity, expression: widths of the conditions, 80 and 64 for Deep3DFaceRecon's coefficients.
        box: side of the cube that the planes span; encoded coordinates are -1 and 1 at its faces.
        bands: octaves of the positional encoding.
        width, depth: hidden layers of the D-Net, which sees the point again in its middle.
        weight_width, weight_depth: hidden layers of the W-Net.
        weighted: have a W-Net; False is an ablation of table 5.
        identity_condition: both networks see the identity; False is the other ablation.
    """

    def __init__(
        self,
        identity: int = 80,
        expression: int = 64,
        box: float = 1.0,
        bands: int = 6,
        width: int = 128,
        depth: int = 6,
        weight_width: int = 64,
        weight_depth: int = 3,
        weighted: bool = True,
        identity_condition: bool = True,
    ) -> None:
        super().__init__()
        self.box, self.bands, self.identity_condition = box, bands, identity_condition
        points, person = 3 * (1 + 2 * bands), identity if identity_condition else 0
        self.displacement_net = ConditionedMLP(
            points, person + expression, 3, width, depth, depth // 2, unheard=person
        )
        self.weight_net = (
            ConditionedMLP(points, person, 1, weight_width, weight_depth, unheard=person)
            if weighted
            else None
        )

    def prepare(self, identity: Float[Tensor, "b i"], expression: Float[Tensor, "b e"]) -> Prepared:
        """Once per picture: the person's identity (of the source picture) and the expression to show.

        ``identity`` is ignored without ``identity_condition``. Both are of order one; scale coefficients that are not.
        """
        person = identity if self.identity_condition else identity[:, :0]
        displacement = self.displacement_net.prepare(torch.cat([person, expression], 1))
        return Prepared(displacement, None if self.weight_net is None else self.weight_net.prepare(person))

    def deformation(self, points: Float[Tensor, "b n 3"], prepared: Prepared) -> Deformation:
        """Offset and weight at world points, for pictures of the weights and for regularisers."""
        encoded = positional_encoding(points * (2 / self.box), self.bands)
        offset = self.displacement_net(encoded, prepared.displacement) * (self.box / 2)
        if self.weight_net is None or prepared.weight is None:
            return Deformation(offset, torch.ones_like(offset[..., :1]))
        return Deformation(offset, self.weight_net(encoded, prepared.weight).sigmoid())

    def forward(self, points: Float[Tensor, "b n 3"], prepared: Prepared) -> Float[Tensor, "b n 3"]:
        """World points of the deformed head to world points of the canonical volume."""
        offset, weight = self.deformation(points, prepared)
        return points + weight * offset
