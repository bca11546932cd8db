"""The condition of NOFA++'s deformation field: identity and expression numbers (alpha, beta) of any head model."""

from __future__ import annotations

from itertools import islice
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avatarzoo.heads.base import HeadModel, HeadParams

POSES = 3 + 6 + 2
"""Jaw, eyes and eyelids: part of the expression here (in the paper's 3DMM the expression basis holds them all)."""
LEAST_SPREAD = 0.05
"""Numbers that vary less than this are scaled as if they varied so much."""


class Condition(nn.Module):
    """alpha and beta of order one, from head parameters; the neutral expression is all zeros, the mean person, too.

    Head motion is no part of them: the camera carries it.

    Attributes:
        identity_mean, identity_scale: what identities are standardised with.
        expression_scale: what expressions are divided by; they are not centred, so that rest stays zero.
        known: 1 once :meth:`learn` has seen parameters.
    """

    identity_mean: Tensor
    identity_scale: Tensor
    expression_scale: Tensor
    known: Tensor

    def __init__(self, head: HeadModel) -> None:
        super().__init__()
        self.n_identity, self.n_expression = head.n_identity, head.n_expression + POSES
        self.register_buffer("identity_mean", torch.zeros(self.n_identity))
        self.register_buffer("identity_scale", torch.ones(self.n_identity))
        self.register_buffer("expression_scale", torch.ones(self.n_expression))
        self.register_buffer("known", torch.zeros((), dtype=torch.bool))

    @torch.no_grad()
    def learn(self, params: HeadParams) -> None:
        """Take the scales of the training data's parameters."""
        identity, expression = params.identity, expression_numbers(params)
        self.identity_mean.copy_(identity.mean(0))
        self.identity_scale.copy_(identity.std(0, correction=0).clamp_min(LEAST_SPREAD))
        self.expression_scale.copy_(expression.square().mean(0).sqrt().clamp_min(LEAST_SPREAD))
        self.known.fill_(True)

    def identity(self, params: HeadParams) -> Float[Tensor, "b i"]:
        """alpha."""
        return (params.identity - self.identity_mean) / self.identity_scale

    def expression(self, params: HeadParams) -> Float[Tensor, "b e"]:
        """beta."""
        return expression_numbers(params) / self.expression_scale

    def rest(self, batch: int) -> tuple[Float[Tensor, "b i"], Float[Tensor, "b e"]]:
        """alpha and beta of the mean person at rest."""
        zeros = self.identity_mean.new_zeros
        return zeros(batch, self.n_identity), zeros(batch, self.n_expression)


def expression_numbers(params: HeadParams) -> Float[Tensor, "b e"]:
    """Everything that moves in a face: expression, jaw, eyes, eyelids."""
    return torch.cat([params.expression, params.jaw, params.eyes, params.eyelids], 1)


def training_params(data: Any, batches: int = 32) -> HeadParams:
    """Head parameters of a data module's training frames, or of its first pairs where it has many people."""
    if hasattr(data, "training_params"):
        return data.training_params()
    some = list(islice(data.train_dataloader(), batches))
    parts = [batch[name]["params"] for batch in some if "source" in batch for name in ("source", "target")]
    return HeadParams(*(torch.cat(fields) for fields in zip(*parts)))
