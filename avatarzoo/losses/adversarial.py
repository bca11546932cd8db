"""Adversarial losses of StyleGAN2 and EG3D: non-saturating logistic loss, gradient penalty, smooth density."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def generator_loss(fake_logits: Float[Tensor, "b 1"]) -> Float[Tensor, ""]:
    """Non-saturating logistic loss ``-log sigmoid(D(fake))`` (Goodfellow et al. 2014, section 3), mean over the batch."""
    return F.softplus(-fake_logits).mean()


def discriminator_loss(
    fake_logits: Float[Tensor, "b 1"], real_logits: Float[Tensor, "b 1"]
) -> Float[Tensor, ""]:
    """``-log(1 - sigmoid(D(fake))) - log sigmoid(D(real))``, mean over the batch."""
    return F.softplus(fake_logits).mean() + F.softplus(-real_logits).mean()


def r1_penalty(
    logits: Float[Tensor, "b 1"], pictures: Sequence[Float[Tensor, "b c h w"]]
) -> Float[Tensor, ""]:
    """Half the squared gradient norm of real logits (Mescheder et al. 2018, equation 9), summed over ``pictures``.

    Args:
        logits: of real pictures.
        pictures: what they were computed from, with ``requires_grad``; EG3D: the picture and the raw one, both in [-1, 1].

    The result is differentiable. Multiply by gamma, and by the interval where it is evaluated every n-th iteration only.
    """
    gradients = torch.autograd.grad(logits.sum(), list(pictures), create_graph=True)
    squared = [gradient.square().sum((1, 2, 3)) for gradient in gradients]
    return torch.stack(squared).sum(0).mean() / 2


def density_variation(
    density: Callable[[Float[Tensor, "b n 3"]], Float[Tensor, "b n"]],
    points: Float[Tensor, "b n 3"],
    offsets: Float[Tensor, "b n 3"],
) -> Float[Tensor, ""]:
    """Mean absolute difference of the raw density at ``points`` and at ``points + offsets`` (Chan et al. 2022, supplement 1).

    One call of ``density`` serves both halves.
    """
    both = density(torch.cat([points, points + offsets], 1))
    near, moved = both.chunk(2, 1)
    return (near - moved).abs().mean()
