"""AED and APD through our own tracker, on exact landmarks; ``benchmarks/coefficient_reality.py`` tries detected ones."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from avatarzoo.data.procedural import ProceduralActor
from avatarzoo.heads import load_head
from avatarzoo.metrics.coefficients import AED, APD, aed, apd
from avatarzoo.trackers.coefficients import TrackerEstimator, expression_rows, pose_rows

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "coefficient_reality.py"
spec = importlib.util.spec_from_file_location("coefficient_reality", SCRIPT)
assert spec is not None
assert spec.loader is not None
reality = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reality)
SIZE, FRAMES = reality.SIZE, reality.FRAMES
measure, variants = reality.measure, reality.variants


class Film:
    """Pictures that stand for frames, and a reader that knows the exact landmarks behind each."""

    def __init__(self, landmarks: Tensor) -> None:
        self.landmarks, self.looks = landmarks, 0

    def pictures(self, frames: range) -> Tensor:
        return (torch.tensor(frames) / 1000)[:, None, None, None].expand(-1, 3, SIZE, SIZE)

    def __call__(self, pictures: Tensor) -> Tensor:
        self.looks += len(pictures)
        rows = self.landmarks[(pictures[:, 0, 0, 0] * 1000).round().long()]
        return torch.cat([rows, torch.zeros_like(rows[..., :1])], 2)


@pytest.fixture(scope="module")
def head():
    return load_head("procedural")


@pytest.fixture(scope="module")
def known():
    """Half of the variants of one actor as exact landmarks: the driver's clip first."""
    actor = ProceduralActor(seed=1, size=SIZE)
    driver, made = variants(actor)
    made = {name: made[name] for name in made if name.endswith((" 0.5", " 1.0", " 8"))}
    clips = [driver, *made.values()]
    return driver, made, torch.cat([actor.landmarks(p) for p in clips])


def test_exact_landmarks_give_the_known_differences(head, known) -> None:
    """The tracker's own part, apart from the detector's: the order of all clips, whichever way they differ."""
    driver, made, landmarks = known
    film = Film(landmarks)
    estimator = TrackerEstimator(head, film)
    true, seen = [], []
    for k, params in enumerate(made.values(), 1):
        clip = film.pictures(range(k * FRAMES, (k + 1) * FRAMES))
        got = measure(estimator, clip, film.pictures(range(FRAMES)))
        seen.append([float(x.mean()) for x in got])
        true.append(
            [
                float(aed(params.expression, driver.expression).mean()),
                float(apd(pose_rows(params), pose_rows(driver)).mean()),
            ]
        )
    true, seen = np.array(true), np.array(seen)
    names = list(made)
    for column, kind in ((0, "expression"), (1, "pose")):
        rows = [k for k, name in enumerate(names) if name.startswith(kind)]
        assert spearmanr(true[rows, column], seen[rows, column])[0] > 0.95
        others = [k for k in range(len(names)) if k not in rows]
        # what differs in the other alone stays small: the two do not pass for each other
        assert seen[others, column].max() < 0.15 * seen[rows, column].max()
    pose = [k for k, name in enumerate(names) if name.startswith("pose")]
    assert seen[pose, 1] == pytest.approx(true[pose, 1], rel=0.03)
    assert film.looks == len(landmarks), "each picture is read once, the driver's too"


def test_pose_is_in_radians_and_metres(head, known) -> None:
    driver, _, landmarks = known
    estimator = TrackerEstimator(head, Film(landmarks))
    film = estimator.reader
    rows = estimator.observed(film.pictures(range(FRAMES)))
    got = estimator.clip(rows, (SIZE, SIZE)).pose
    true = pose_rows(driver)
    assert (got[:, :3] - true[:, :3] - (got - true)[:, :3].mean(0)).abs().mean() < 0.01
    assert (got[:, 3:5] - true[:, 3:5] - (got - true)[:, 3:5].mean(0)).abs().mean() < 0.002


def test_lost_faces_are_nan_and_short_clips_work(head, known) -> None:
    landmarks = known[2].clone()
    landmarks[3] = torch.nan
    film = Film(landmarks)
    metric = AED(TrackerEstimator(head, film))
    metric.update(film.pictures(range(6)), film.pictures(range(FRAMES, FRAMES + 6)))
    metric.end_clip()
    assert metric.failures == 1
    assert torch.isnan(metric.per_image()[3])
    metric.update(film.pictures(range(3, 4)), film.pictures(range(1)))  # a clip without any face
    metric.end_clip()
    assert metric.failures == 2
    for frames in (1, 2):
        metric.update(film.pictures(range(frames)), film.pictures(range(FRAMES, FRAMES + frames)))
        metric.end_clip()
    assert metric.failures == 2
    assert len(metric.per_image()) == 6 + 1 + 3


def test_pictures_must_be_square(head, known) -> None:
    estimator = TrackerEstimator(head, Film(known[2]))
    metric = APD(estimator)
    tall = torch.zeros(2, 3, 40, 20)
    metric.update(tall, tall)
    with pytest.raises(ValueError, match="square"):
        metric.end_clip()


def test_the_jaw_joint_counts_as_expression(head) -> None:
    params = head.zeros(2)._replace(jaw=torch.ones(2, 3))
    assert expression_rows(head, params).shape == (
        2,
        head.n_expression,
    )  # this head's jaw moves by coefficients
    assert TrackerEstimator(head, Film(torch.zeros(1))).name == "avatarzoo tracker, procedural"
