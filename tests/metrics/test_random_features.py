"""The fixed extractor: the same everywhere, sees what differs, and is not called FID."""

from __future__ import annotations

import warnings

import torch

from avatarzoo.metrics.random_features import RandomFeatures, random_feature_distance


def test_features_are_fixed() -> None:
    ramp = torch.linspace(0, 1, 3 * 40 * 40).view(1, 3, 40, 40)
    torch.manual_seed(5)
    first = RandomFeatures()(ramp)
    torch.manual_seed(6)
    assert torch.equal(first, RandomFeatures()(ramp))
    assert first.shape == (1, RandomFeatures.features)
    assert not RandomFeatures().state_dict()


def test_a_plain_picture_answers_no_filter() -> None:
    features = RandomFeatures()(torch.full((1, 3, 64, 64), 0.3))
    assert torch.allclose(features[:, :48], torch.full((1, 48), 0.3), atol=1e-6)
    assert features[:, 48:].abs().max() < 1e-5


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    metric = random_feature_distance()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few pictures
        metric.update(a, b)
        return float(metric.compute())


def test_distance_grows_with_the_difference() -> None:
    draws = torch.Generator().manual_seed(0)
    base = torch.rand(40, 3, 16, 16, generator=draws)
    sets = [torch.nn.functional.interpolate(b, 64, mode="bilinear") for b in (base[:20], base[20:])]
    same = distance(sets[0], sets[0])
    other = distance(sets[0], sets[1])
    noisy = distance(sets[0], (sets[1] + 0.2 * torch.randn(sets[1].shape, generator=draws)).clamp(0, 1))
    darker = distance(sets[0], sets[1] * 0.7)
    assert same < 1e-6 < other < min(noisy, darker)
    assert "FID" not in random_feature_distance().label
