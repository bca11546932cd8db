"""Linear least squares in closed form, as an optimiser: every step takes in rows and is the best answer to all rows so far."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


class LeastSquares(torch.optim.Optimizer):
    """Ridge regression: the weight that minimises ``mean |features @ weight - target|^2 + ridge * |weight|^2``.

    The sums over rows are state of the optimiser, so that a checkpoint of a training goes on where it stopped.

    Args:
        weight: ``(f, e)``; gets no gradient.
        ridge: how much a large weight costs.
    """

    def __init__(self, weight: nn.Parameter, ridge: float) -> None:
        super().__init__([weight], {"ridge": ridge})
        features, targets = weight.shape
        self.state[weight] = {
            "rows": weight.new_zeros(()),
            "square": weight.new_zeros(features, features),
            "product": weight.new_zeros(features, targets),
        }

    @torch.no_grad()
    def add(self, features: Float[Tensor, "n f"], target: Float[Tensor, "n e"]) -> None:
        """Take in rows; :meth:`step` makes use of them."""
        (sums,) = self.state.values()
        sums["rows"] += len(features)
        sums["square"].addmm_(features.T, features)
        sums["product"].addmm_(features.T, target)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Solve for all rows so far."""
        ((weight, sums),) = self.state.items()
        penalty = self.param_groups[0]["ridge"] * torch.eye(len(weight)).to(weight)
        factor = torch.linalg.cholesky(sums["square"] / sums["rows"] + penalty)
        weight.copy_(torch.cholesky_solve(sums["product"] / sums["rows"], factor))
