"""D_W: are codes such as the mapping network makes? (Nitzan et al. 2020; e4e, section 3.2; InvertAvatar, equation 2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class LatentDiscriminator(nn.Module):
    """Four linear layers on single codes, leaky rectifiers of slope 0.2 between them.

    e4e and the release also show it codes from a pool of earlier ones; ours are drawn anew at each step.
    """

    def __init__(self, code_dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(code_dim, code_dim) for _ in range(3))
        self.output = nn.Linear(code_dim, 1)

    def forward(self, codes: Float[Tensor, "n w"]) -> Float[Tensor, "n 1"]:
        """Logits."""
        for layer in self.layers:
            codes = F.leaky_relu(layer(codes), 0.2)
        return self.output(codes)


def codes_penalty(logits: Float[Tensor, "n 1"], codes: Float[Tensor, "n w"]) -> Float[Tensor, ""]:
    """Half the squared gradient norm of the logits of real ``codes``, which require gradients; differentiable."""
    (gradient,) = torch.autograd.grad(logits.sum(), codes, create_graph=True)
    return gradient.square().sum(1).mean() / 2
