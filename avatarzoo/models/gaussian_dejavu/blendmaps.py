"""Expression-aware rectification blendmaps (paper Eq. 10-11): which maps act, and how much, for an expression."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avatarzoo.heads.base import HeadModel

Gate = Literal["paper", "standardized", "clusters"]


class BlendGate(nn.Module):
    """Blending weights ``b = softmax(A e + c)`` from expression coefficients e (paper Eq. 10 has A = [I 0], c = 0).

    paper: softmax of the first ten FLAME coefficients; released code: the same in v1.0, of a frozen MLP in v1.1. Both come out
    almost uniform on real speech (fact sheet section 4), so the maps get little signal. ``standardized`` uses the coefficients that
    move the face most, each scaled by its own spread in the video; ``clusters`` (our default) puts one map at each typical expression
    of the video, its weight falling with the distance in millimetres of face motion. All three are this one formula.
    """

    weight: Float[Tensor, "d e"]
    bias: Float[Tensor, "d"]

    def __init__(self, n_maps: int, n_expression: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.eye(n_maps, n_expression))
        self.register_buffer("bias", torch.zeros(n_maps))

    def forward(self, expression: Float[Tensor, "b e"]) -> Float[Tensor, "b d"]:
        return torch.softmax(expression @ self.weight.T + self.bias, -1)

    @torch.no_grad()
    def fit(
        self, head: HeadModel, expression: Float[Tensor, "t e"], kind: Gate, temperature: float, seed: int = 0
    ) -> None:
        """Set A and c from the expressions of the training frames.

        Args:
            temperature: softness; below 1 is sharper.
        """
        n_maps = len(self.bias)
        if kind == "paper":
            self.weight.copy_(torch.eye(n_maps, self.weight.shape[1]))
            self.bias.zero_()
            return
        size = _motion_size(head).to(expression)
        if kind == "standardized":
            spread = expression.std(0)
            chosen = (spread * size).topk(n_maps).indices
            slope = 1 / (temperature * spread[chosen].clamp_min(1e-3))
            self.weight.zero_()
            self.weight[torch.arange(n_maps), chosen] = slope
            self.bias.copy_(-slope * expression.mean(0)[chosen])
            return
        centres, radius = _cluster(expression * size, n_maps, seed)
        # -|e - m|^2 / (2 r^2) without the term common to all maps is linear in e
        precision = 1 / (temperature * radius.square())
        self.weight.copy_(centres * size * precision)
        self.bias.copy_(-0.5 * centres.square().sum(-1) * precision)


def _motion_size(head: HeadModel) -> Float[Tensor, "e"]:
    """Root mean square displacement in millimetres of the landmarks for one unit of each expression coefficient."""
    _, _, basis = head.linear_basis()
    faces, weights = head.landmarks()
    moved = (basis[head.faces[faces]] * weights.to(basis)[:, :, None, None]).sum(1)
    return 1000 * moved.square().sum(1).mean(0).sqrt()


def _cluster(points: Float[Tensor, "t e"], count: int, seed: int, rounds: int = 25) -> tuple[Tensor, Tensor]:
    """k-means with k-means++ seeding; returns the centres and their typical radius (a scalar)."""
    generator = torch.Generator().manual_seed(seed)
    chosen = [int(torch.randint(len(points), (1,), generator=generator))]
    for _ in range(count - 1):
        nearest = torch.cdist(points, points[chosen]).amin(1).square() + 1e-12
        chosen.append(int(torch.multinomial(nearest, 1, generator=generator)))
    centres = points[chosen].clone()
    for _ in range(rounds):
        label = torch.cdist(points, centres).argmin(1)
        sums = torch.zeros_like(centres).index_add_(0, label, points)
        counts = torch.bincount(label, minlength=count).clamp_min(1)[:, None]
        centres = torch.where(counts > 1, sums / counts, centres)
    radius = torch.cdist(points, centres).amin(1).square().mean().sqrt().clamp_min(1e-3)
    return centres, radius
