"""AED and APD against numbers worked out by hand, and against silent failures."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from avatarzoo.errors import MissingAssetError
from avatarzoo.metrics import coefficients
from avatarzoo.metrics.coefficients import (
    AED,
    APD,
    CoefficientEstimator,
    Coefficients,
    Deep3DEstimator,
    aed,
    apd,
)
from avatarzoo.perception import deep3d

F64 = torch.float64


class Channels(CoefficientEstimator):
    """Expression is the first pixel's red and green, the yaw its blue; a black pixel is no face."""

    name, row = "channels", (3,)

    def __init__(self) -> None:
        super().__init__()
        self.looks, self.solutions = 0, 0

    def observe(self, pictures: Tensor) -> Tensor:
        self.looks += len(pictures)
        rows = pictures[:, :, 0, 0].clone()
        return torch.where((rows == 0).all(1, keepdim=True), torch.nan, rows)

    def solve(self, rows: Tensor, size: tuple[int, int]) -> Coefficients:
        self.solutions += 1
        assert torch.isfinite(rows).any()
        return Coefficients(rows[:, :2], torch.cat([0 * rows[:, :1], rows[:, 2:], 0 * rows[:, :1]], 1))


def film(*colors: tuple[float, float, float]) -> Tensor:
    return torch.tensor(colors)[:, :, None, None].expand(-1, 3, 4, 4).clone()


def test_aed_by_hand() -> None:
    a = torch.tensor([[0.5, -1.0, 2.0, 0.0], [1.0, 1.0, 1.0, 1.0]], dtype=F64)
    b = torch.tensor([[0.0, 1.0, 2.0, 1.5], [1.0, 1.0, 1.0, torch.nan]], dtype=F64)
    assert aed(a, b)[0].item() == pytest.approx((0.5 + 2 + 0 + 1.5) / 4, abs=1e-12)
    assert aed(a, b, "l2")[0].item() == pytest.approx(math.sqrt(0.25 + 4 + 2.25), abs=1e-12)
    assert torch.isnan(aed(a, b)[1])


def test_apd_by_hand() -> None:
    a = torch.tensor([[0.1, -0.2, 3.1, 1.0, 2.0, 3.0]], dtype=F64)
    b = torch.tensor([[0.0, 0.2, -3.1, 1.0, 1.5, 4.0]], dtype=F64)
    turn = 2 * math.pi - 6.2  # the short way round
    assert apd(a, b).item() == pytest.approx((0.1 + 0.4 + turn) / 3, abs=1e-12)
    assert apd(a[:, :3], b[:, :3]).item() == pytest.approx((0.1 + 0.4 + turn) / 3, abs=1e-12)
    assert apd(a, b, "pose6").item() == pytest.approx((0.1 + 0.4 + turn + 0.5 + 1) / 6, abs=1e-12)
    assert apd(a, b, "angles", "l2").item() == pytest.approx(math.sqrt(0.01 + 0.16 + turn**2), abs=1e-12)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="same frames"):
        aed(torch.zeros(2, 64), torch.zeros(2, 52))
    with pytest.raises(ValueError, match="pose6 needs"):
        apd(torch.zeros(2, 3), torch.zeros(2, 3), "pose6")
    with pytest.raises(ValueError, match="mean or l2"):
        aed(torch.zeros(2, 3), torch.zeros(2, 3), "max")  # type: ignore[arg-type]


def test_a_clip_gives_one_value_per_frame_at_its_end() -> None:
    estimator = Channels()
    expression, pose = AED(estimator), APD(estimator)
    prediction = film((0.5, 0.5, 0.1), (0.5, 0.1, 0.4), (0.3, 0.3, 0.3))
    reference = film((0.4, 0.2, 0.1), (0.5, 0.1, 0.1), (0.3, 0.3, 0.9))
    for part in (slice(0, 2), slice(2, 3)):
        for metric in (expression, pose):
            metric.update(prediction[part], reference[part])
    for metric in (expression, pose):
        metric.end_clip()
    assert expression.per_image().tolist() == pytest.approx([0.2, 0, 0], abs=1e-6)
    assert pose.per_image().tolist() == pytest.approx([0, 0.1, 0.2], abs=1e-6)
    assert pose.compute().item() == pytest.approx(0.1, abs=1e-6)
    assert (expression.label, pose.label) == ("AED (channels)", "APD (channels)")
    assert (estimator.looks, estimator.solutions) == (6, 2), "AED and APD together estimate once"


def test_a_shared_estimator_is_shared_by_copies_and_methods() -> None:
    estimator = Channels()
    reference = film((0.4, 0.2, 0.1), (0.5, 0.1, 0.1))
    for k in range(3):
        metric = copy.deepcopy(AED(estimator))
        metric.update(film((0.1 * k, 0.2, 0.3), (0.5, 0.5, 0.5)), reference)
        metric.end_clip()
        assert metric.per_image()[0].item() == pytest.approx(abs(0.1 * k - 0.4) / 2, abs=1e-6)
    assert estimator.solutions == 4  # the reference once, three predictions
    assert estimator.looks == 2 + 4  # and the picture that all three predictions have in common once


def test_missing_faces_are_failures_on_either_side() -> None:
    metric = AED(Channels())
    face, black, broken = film((0.4, 0.2, 0.1)), film((0.0, 0.0, 0.0)), film((torch.nan, 0.5, 0.5))
    prediction, reference = torch.cat([face, black, broken, face]), torch.cat([face, face, face, black])
    metric.update(prediction, reference)
    metric.end_clip()
    assert metric.failures == 3
    assert metric.compute() == 0
    metric.update(black, face)
    metric.end_clip()
    assert metric.failures == 4, "a clip without any face"
    metric = AED(Channels())
    metric.update(black.repeat(3, 1, 1, 1), face.repeat(3, 1, 1, 1))
    metric.end_clip()
    assert metric.failures == 3
    assert torch.isnan(metric.compute())


def test_an_unfinished_clip_is_no_result() -> None:
    metric = APD(Channels())
    metric.update(film((0.4, 0.2, 0.1)), film((0.4, 0.2, 0.1)))
    for ask in (metric.compute, metric.per_image, lambda: metric.failures):
        with pytest.raises(ValueError, match="end_clip"):
            ask()
    with pytest.raises(ValueError, match="end_clip"):
        metric.update(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8))
    metric.reset()
    assert metric.failures == 0
    metric.end_clip()
    assert len(metric.per_image()) == 0


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coefficients, "REMEMBERED", 4)
    estimator = Channels()
    rows = estimator.observed(torch.cat([film((0.1, 0.2, 0.01 * k)) for k in range(1, 10)]))
    assert len(estimator.seen) == 4
    assert rows[:, 2].tolist() == pytest.approx([0.01 * k for k in range(1, 10)])


def test_deep3d_takes_expression_angles_and_translation(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def estimate(network, pictures, points, standard):
        seen["points"] = points
        rows = torch.arange(257.0).repeat(len(pictures), 1)
        return torch.where(torch.from_numpy(np.isnan(points[:, 0, :1])), torch.nan, rows)

    monkeypatch.setattr(deep3d, "load_deep3d", lambda: torch.nn.Identity())
    monkeypatch.setattr(deep3d, "standard_landmarks", lambda: np.zeros((5, 3)))
    monkeypatch.setattr(deep3d, "estimate", estimate)

    def reader(pictures: Tensor) -> Tensor:
        rows = torch.ones(len(pictures), 478, 3)
        rows[1] = torch.nan
        return rows

    estimator = Deep3DEstimator(reader)
    got = estimator.clip(estimator.observed(film((0.1, 0.2, 0.3), (0.2, 0.2, 0.3))), (4, 4))
    assert got.expression[0].tolist() == list(range(80, 144))
    assert got.pose[0].tolist() == [224, 225, 226, 254, 255, 256]
    assert torch.isnan(got.expression[1]).all()
    assert seen["points"].shape == (2, 5, 2)
    assert AED(estimator).label == "AED (Deep3D)"
    assert APD(estimator, "pose6").label == "APD (Deep3D, pose6)"


def test_deep3d_never_runs_without_its_weights(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("AVATARZOO_ASSETS", str(tmp_path))
    monkeypatch.setenv("AVATARZOO_CACHE", str(tmp_path))
    with pytest.raises(MissingAssetError, match=r"epoch_20\.pth"):
        Deep3DEstimator()
