"""What changes while EG3D trains: every schedule at its ends and in between."""

from __future__ import annotations

import pytest
import torch

from avatarzoo.models.eg3d.schedules import (
    average_decay,
    gaussian_blur,
    lazy,
    ramp,
    swap_labels,
)
from avatarzoo.networks.training import finite_gradients, update_average


def test_ramp() -> None:
    assert [ramp(s, 200, 10, 0) for s in (0, 50, 200, 900)] == [10, 7.5, 0, 0]
    assert ramp(0, 0, 10, 3) == 3


def test_average_forgets_half_after_its_half_life() -> None:
    assert average_decay(10**6, 32, 10_000, 0.05) ** (10_000 / 32) == pytest.approx(0.5)
    assert average_decay(1000, 32, 10_000, 0.05) == pytest.approx(
        0.5 ** (32 / 50)
    )  # young: 5 % of what it saw
    assert average_decay(0, 32, 10_000, 0.05) == 0
    assert average_decay(0, 32, 10_000, 0) ** (10_000 / 32) == pytest.approx(0.5)


def test_average_moves_parameters_and_copies_buffers() -> None:
    average, network = torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2)
    with torch.no_grad():
        network.weight.fill_(3.0)
        network.running_mean.fill_(5.0)
    update_average(average, network, 0.75)
    assert average.weight.tolist() == [1.5, 1.5]
    assert average.running_mean.tolist() == [5.0, 5.0]


def test_blur_is_the_stated_kernel() -> None:
    dot = torch.zeros(1, 1, 21, 21)
    dot[..., 10, 10] = 1
    seen = gaussian_blur(dot, 2.0)
    t = torch.arange(-6, 7.0)
    taps = 2 ** -((t / 2) ** 2)
    expected = torch.outer(taps, taps) / taps.sum() ** 2
    assert torch.allclose(seen[0, 0, 4:17, 4:17], expected, atol=1e-6)
    assert seen.sum() == pytest.approx(1, abs=1e-5)
    assert gaussian_blur(dot, 0.3) is dot  # radius floor(0.9) = 0


def test_blur_keeps_channels_apart_and_differentiates_twice() -> None:
    x = torch.randn(2, 3, 16, 16, requires_grad=True)
    y = gaussian_blur(x, 1.0)
    assert torch.allclose(y[:, 1:2], gaussian_blur(x[:, 1:2], 1.0), atol=1e-6)
    (g,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    g.square().sum().backward()
    assert x.grad is not None


def test_swapped_labels() -> None:
    own, others = torch.zeros(4, 25), torch.ones(4, 25)
    draws = torch.tensor([0.0, 0.4, 0.5, 0.9])
    assert swap_labels(own, others, 0.5, draws)[:, 0].tolist() == [1, 1, 0, 0]


def test_lazy_correction() -> None:
    rate, betas = lazy(0.0025, (0.0, 0.99), 4)
    assert rate == pytest.approx(0.002)
    assert betas == pytest.approx((0.0, 0.99**0.8))
    assert lazy(0.1, (0.5, 0.9), 0) == (0.1, (0.5, 0.9))


def test_gradients_become_finite() -> None:
    layer = torch.nn.Linear(3, 1, bias=False)
    layer.weight.grad = torch.tensor([[float("nan"), float("inf"), -float("inf")]])
    finite_gradients(layer)
    assert layer.weight.grad.tolist() == [[0.0, 1e5, -1e5]]
