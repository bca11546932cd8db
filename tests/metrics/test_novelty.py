"""Parameter novelty on numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from avatarzoo.geometry.rotations import euler_to_matrix, matrix_to_axis_angle
from avatarzoo.heads.base import HeadParams
from avatarzoo.metrics.novelty import nearest_distances, nearest_sample, parameter_novelty


def params(translation: list, yaw: list, expression: list) -> HeadParams:
    frames, zero = len(yaw), torch.zeros(len(yaw), dtype=torch.float64)
    turned = matrix_to_axis_angle(euler_to_matrix(torch.tensor(yaw, dtype=torch.float64), zero, zero))
    rows = [torch.zeros(frames, n, dtype=torch.float64) for n in (2, 3, 3, 6, 2)]
    moved = torch.tensor(translation, dtype=torch.float64).reshape(frames, 3)
    expressed = torch.tensor(expression, dtype=torch.float64).reshape(frames, 2)
    return HeadParams(rows[0], expressed, *rows[1:], turned, moved)


@pytest.fixture
def train() -> HeadParams:
    """Deviations by hand: translation sqrt(4 + 1) = sqrt 5, rotation 0.1, expression 0.5 in the first number alone."""
    return params(
        [[-2, -1, 0], [-2, 1, 0], [2, -1, 0], [2, 1, 0]],
        [-0.1, -0.1, 0.1, 0.1],
        [[0, 0.3], [1, 0.3], [0, 0.3], [1, 0.3]],
    )


@pytest.fixture
def test_frames() -> HeadParams:
    return params([[5, 5, 0], [-2, 1, 0]], [0.1, 0.35], [[1, 0.3], [0.25, 0.8]])


def test_group_deviation_by_hand(train: HeadParams, test_frames: HeadParams) -> None:
    got = nearest_distances(test_frames, train)
    assert got["translation"].tolist() == pytest.approx([5 / math.sqrt(5), 0], abs=1e-9)
    assert got["rotation"].tolist() == pytest.approx([0, 2.5], abs=1e-6)
    assert got["expression"].tolist() == pytest.approx([0, math.hypot(0.25, 0.5) / 0.5], abs=1e-9)
    assert parameter_novelty(test_frames, train)["rotation"] == pytest.approx(1.25, abs=1e-6)


def test_other_conventions_by_hand(train: HeadParams, test_frames: HeadParams) -> None:
    got = nearest_distances(test_frames, train, deviation="dimension")
    assert got["translation"].tolist() == pytest.approx([math.hypot(3 / 2, 4), 0], abs=1e-9)
    assert got["expression"].tolist() == pytest.approx(
        [0, 0.5], abs=1e-9
    )  # the number that never moved is left out
    got = nearest_distances(test_frames, train, norm="mean")
    assert got["translation"].tolist() == pytest.approx([7 / 3 / math.sqrt(5 / 3), 0], abs=1e-9)
    got = nearest_distances(test_frames, train, norm="mean", deviation="dimension")
    assert got["translation"].tolist() == pytest.approx([(3 / 2 + 4) / 2, 0], abs=1e-9)


def test_training_frames_are_not_novel_and_their_own_nearest(train: HeadParams) -> None:
    assert max(parameter_novelty(train, train).values()) < 1e-9
    assert nearest_sample(train, train).tolist() == [0, 1, 2, 3]


def test_nearest_sample_weighs_groups_equally(train: HeadParams) -> None:
    """Nearest in translation alone is frame 0; rotation and expression together pull the choice to frame 3."""
    asked = params([[-1.2, -0.1, 0]], [0.1], [[1, 0.3]])
    assert nearest_distances(asked, train)["translation"].item() == pytest.approx(
        math.hypot(0.8, 0.9) / math.sqrt(5)
    )
    assert nearest_sample(asked, train).tolist() == [3]


def test_jaw_counts_as_expression(train: HeadParams) -> None:
    opened = train._replace(jaw=torch.tensor([0.3, 0, 0], dtype=torch.float64).expand(4, 3))
    assert parameter_novelty(opened, train)["expression"] == pytest.approx(0.6)


def test_neighbours_are_told_apart_far_from_the_origin(train: HeadParams) -> None:
    far = train._replace(translation=train.translation * 1e-5 + 100)
    assert nearest_sample(far, far).tolist() == [0, 1, 2, 3]


def test_a_still_or_empty_training_set_is_refused(train: HeadParams) -> None:
    with pytest.raises(ValueError, match="rotation does not move"):
        parameter_novelty(train, train._replace(rotation=torch.zeros(4, 3, dtype=torch.float64)))
    with pytest.raises(ValueError, match="no frame"):
        nearest_sample(train, train.rows(slice(0, 0)))
