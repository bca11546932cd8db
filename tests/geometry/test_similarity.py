"""Alignment: exact recovery, the least-squares optimum under noise, StyleAvatar's scale."""

import pytest
import torch

from avatarzoo.geometry.rotations import axis_angle_to_matrix
from avatarzoo.geometry.similarity import Similarity, align


@pytest.fixture
def problem():
    """Points, a similarity per batch entry, its images with and without noise, weights."""
    g = torch.Generator().manual_seed(0)
    source = torch.randn(6, 40, 3, generator=g, dtype=torch.float64)
    truth = Similarity(
        axis_angle_to_matrix(torch.randn(6, 3, generator=g, dtype=torch.float64)),
        torch.rand(6, generator=g, dtype=torch.float64) + 0.5,
        torch.randn(6, 3, generator=g, dtype=torch.float64),
    )
    noisy = truth(source) + 0.3 * torch.randn(6, 40, 3, generator=g, dtype=torch.float64)
    weights = torch.rand(6, 40, generator=g, dtype=torch.float64)
    return source, truth, noisy, weights


@pytest.mark.parametrize("rule", ["target", "source"])
def test_exact_recovery(problem, rule):
    source, truth, _, weights = problem
    found = align(source, truth(source), weights, scale=rule)
    for a, b in zip(found, truth, strict=True):
        assert torch.allclose(a, b, atol=1e-9)
    assert torch.allclose(found.inverse()(found(source)), source, atol=1e-9)


def cost(rule, similarity, source, target, weights):
    """The quantity each rule minimises."""
    error = similarity(source) - target
    if rule == "source":
        error = error / similarity.scale[:, None, None]
    return (weights * (error**2).sum(-1)).sum(1)


@pytest.mark.parametrize("rule", ["target", "source", "fixed"])
def test_no_neighbour_is_better_under_noise(problem, rule):
    source, _, target, weights = problem
    best = align(source, target, weights, scale=rule)
    least = cost(rule, best, source, target, weights)
    g = torch.Generator().manual_seed(1)
    for _ in range(200):
        nudge = 1e-2 * torch.randn(6, 7, generator=g, dtype=torch.float64)
        other = Similarity(
            axis_angle_to_matrix(nudge[:, :3]) @ best.rotation,
            best.scale if rule == "fixed" else best.scale * (1 + nudge[:, 3]),
            best.translation + nudge[:, 4:],
        )
        assert (cost(rule, other, source, target, weights) >= least).all()


def test_styleavatar_scale_is_larger_by_the_squared_correlation(problem):
    """Fact sheet 3.4: a = 1 / s = <R Kc, Kt,c> / |Kt,c|^2, and it differs from Umeyama's by corr^2."""
    source, _, target, _ = problem
    umeyama, styleavatar = align(source, target), align(source, target, scale="source")
    assert torch.allclose(umeyama.rotation, styleavatar.rotation)
    x, y = source - source.mean(1, keepdim=True), target - target.mean(1, keepdim=True)
    turned = x @ styleavatar.rotation.transpose(1, 2)
    a = (turned * y).sum((1, 2)) / (y * y).sum((1, 2))
    assert torch.allclose(1 / styleavatar.scale, a)
    correlation = (turned * y).sum((1, 2)) / (x.norm(dim=(1, 2)) * y.norm(dim=(1, 2)))
    assert torch.allclose(umeyama.scale / styleavatar.scale, correlation**2)


def test_mirrored_target_still_gives_a_rotation(problem):
    source, _, _, _ = problem
    mirrored = source * torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    rotation = align(source, mirrored).rotation
    assert torch.allclose(torch.linalg.det(rotation), torch.ones(6, dtype=torch.float64))


def test_zero_weight_points_do_not_count_and_source_is_shared(problem):
    source, truth, _, weights = problem
    target = truth(source[:1])
    target[:, :5] += 100
    weights[:, :5] = 0
    found = align(source[:1], target, weights)
    assert torch.allclose(found.rotation, truth.rotation, atol=1e-9)
    assert torch.allclose(found.translation, truth.translation, atol=1e-9)


def test_unknown_rule(problem):
    with pytest.raises(ValueError, match="target, source or fixed"):
        align(problem[0], problem[2], scale="both")
