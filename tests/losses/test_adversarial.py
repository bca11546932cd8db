"""Adversarial losses against values worked out by hand."""

from __future__ import annotations

import math

import torch

from avatarzoo.losses.adversarial import density_variation, discriminator_loss, generator_loss, r1_penalty


def test_logistic_losses() -> None:
    fake, real = torch.tensor([[2.0], [-1.0]]), torch.tensor([[0.5], [3.0]])

    def minus_log_sigmoid(x: float) -> float:
        return -math.log(1 / (1 + math.exp(-x)))

    assert math.isclose(
        float(generator_loss(fake)), (minus_log_sigmoid(2) + minus_log_sigmoid(-1)) / 2, rel_tol=1e-6
    )
    expected = (
        minus_log_sigmoid(-2) + minus_log_sigmoid(1) + minus_log_sigmoid(0.5) + minus_log_sigmoid(3)
    ) / 2
    assert math.isclose(float(discriminator_loss(fake, real)), expected, rel_tol=1e-6)


def test_gradient_penalty_of_a_known_function() -> None:
    """D = a |x|^2 + sum(y): gradients 2 a x and 1, so the penalty is (4 a^2 |x|^2 + count) / 2 per row."""
    a = torch.tensor(0.7, requires_grad=True)
    x = torch.randn(3, 3, 4, 4, requires_grad=True)
    y = torch.randn(3, 3, 2, 2, requires_grad=True)
    logits = (a * x.square().sum((1, 2, 3)) + y.sum((1, 2, 3)))[:, None]
    penalty = r1_penalty(logits, [x, y])
    squares = x.detach().square().sum((1, 2, 3))
    assert torch.allclose(penalty, ((4 * 0.49 * squares + 12) / 2).mean())
    (slope,) = torch.autograd.grad(penalty, a)  # it can be trained on
    assert torch.allclose(slope, (4 * 0.7 * squares).mean())


def test_density_variation() -> None:
    points, offsets = torch.rand(2, 10, 3), torch.randn(2, 10, 3)
    direction = torch.tensor([1.0, -2.0, 0.5])
    variation = density_variation(lambda p: p @ direction, points, offsets)
    assert torch.allclose(variation, (offsets @ direction).abs().mean(), atol=1e-6)
