"""Losses against the formulas they cite."""

from __future__ import annotations

import pytest
import torch

from avatarzoo.losses.photometric import huber, l1, ms_ssim_loss
from avatarzoo.losses.regularizers import roughness, view_spread, weighted_norm


def test_huber_is_quadratic_then_linear() -> None:
    target = torch.zeros(1, 3, 1, 1)
    assert huber(target + 0.05, target).item() == pytest.approx(0.5 * 0.05**2)
    assert huber(target + 0.5, target).item() == pytest.approx(0.1 * (0.5 - 0.05))


def test_huber_weight_masks_the_error_but_not_the_mean() -> None:
    target = torch.zeros(1, 3, 1, 2)
    weight = torch.tensor([[[[1.0, 0.0]]]])
    assert huber(target + 0.05, target, weight).item() == pytest.approx(0.25 * 0.05**2)


def test_l1() -> None:
    assert l1(torch.ones(2, 3, 4, 4) * 0.3, torch.zeros(2, 3, 4, 4)).item() == pytest.approx(0.3)


@pytest.mark.parametrize("size", [512, 128, 40])
def test_ms_ssim_runs_at_small_sizes_and_orders_errors(size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(1, 3, size, size, generator=generator)
    near = (target + 0.02 * torch.randn(target.shape, generator=generator)).clamp(0, 1)
    far = (target + 0.3 * torch.randn(target.shape, generator=generator)).clamp(0, 1)
    assert ms_ssim_loss(target, target).item() == pytest.approx(0, abs=1e-5)
    assert 0 < ms_ssim_loss(near, target).item() < ms_ssim_loss(far, target).item() < 1


def test_weighted_norm_is_channel_norm_over_all_pixels() -> None:
    offsets = torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 2.0]])
    value = weighted_norm(offsets, torch.tensor([10.0, 0.1]), pixels=100)
    assert value.item() == pytest.approx((10 * 5 + 0.1 * 2) / 100, rel=1e-5)


def test_weighted_norm_has_a_gradient_at_zero() -> None:
    offsets = torch.zeros(4, 3, requires_grad=True)
    weighted_norm(offsets, torch.ones(4), 4).backward()
    assert torch.isfinite(offsets.grad).all()


def test_view_spread_vanishes_when_views_agree() -> None:
    one = torch.randn(1, 5, 13)
    assert view_spread(one.expand(4, 5, 13)).item() == pytest.approx(0, abs=1e-6)
    two = torch.cat([torch.zeros(1, 1, 13), torch.ones(1, 1, 13)])
    assert view_spread(two).item() == pytest.approx((13 * 0.25) ** 0.5)


def test_roughness_sees_tears_not_motion() -> None:
    pairs = torch.tensor([[0, 1], [1, 2]])
    together = torch.full((3, 3), 0.7)
    torn = together + torch.tensor([[0.0], [0.0], [1.0]])
    assert roughness(together, pairs).item() == 0
    assert roughness(torn, pairs).item() == pytest.approx(1.5)
