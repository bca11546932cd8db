"""AED and APD through our own tracker: what they recover of differences that are known exactly.

``python tests/trackers/test_coefficients.py [procedural|ict]`` prints the figures.
"""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from avatarzoo.data.procedural import ProceduralActor
from avatarzoo.heads import load_head
from avatarzoo.heads.base import HeadParams
from avatarzoo.metrics.coefficients import AED, APD, aed, apd
from avatarzoo.perception.faces import FaceReader
from avatarzoo.trackers.coefficients import TrackerEstimator, expression_rows, pose_rows

SIZE, FRAMES, EVERY = 320, 20, 6
SHARES = (0.25, 0.5, 0.75, 1.0)


def variants(actor: ProceduralActor) -> tuple[HeadParams, dict[str, HeadParams]]:
    """A driver's clip, and clips that differ from it in expression alone or in pose alone.

    The differences are those of the actor's own motion (towards another moment of it, by shares), expressions fading to neutral,
    and fixed turns.
    """
    long = actor.motion(20 + 2 * FRAMES * EVERY)
    driver = long.rows(slice(20, 20 + FRAMES * EVERY, EVERY))
    other = long.rows(slice(20 + FRAMES * EVERY, None, EVERY))
    made = {}
    for share in SHARES:
        mixed = torch.lerp(driver.expression, other.expression, share)
        made[f"expression to neutral {share}"] = driver._replace(expression=(1 - share) * driver.expression)
        made[f"expression to another {share}"] = driver._replace(expression=mixed)
        turned = torch.lerp(driver.rotation, other.rotation, share)
        made[f"pose to another {share}"] = driver._replace(rotation=turned)
    for axis, name in ((1, "yaw"), (0, "pitch")):
        for degrees in (3, 8):
            turn = torch.zeros(3)
            turn[axis] = np.radians(degrees)
            made[f"pose {name} {degrees}"] = driver._replace(rotation=driver.rotation + turn)
    return driver, made


def measure(estimator: TrackerEstimator, pictures: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """AED and APD per frame, through the metrics."""
    metrics = (AED(estimator), APD(estimator))
    for metric in metrics:
        metric.update(pictures, reference)
        metric.end_clip()
    return metrics[0].per_image(), metrics[1].per_image()


def figures(head: str = "procedural", actors: int = 3) -> dict[str, float]:
    """Rank correlations of measured with true distances, on pictures and detected landmarks; prints every pair."""
    estimator = TrackerEstimator(load_head(head), FaceReader(remember=0))
    rows = []
    for seed in range(actors):
        actor = ProceduralActor(seed=seed, size=SIZE)
        driver, made = variants(actor)
        reference = pictures_of(actor, driver)
        for name, params in made.items():
            true = aed(params.expression, driver.expression), apd(pose_rows(params), pose_rows(driver))
            seen = measure(estimator, pictures_of(actor, params), reference)
            assert all(torch.isfinite(x).all() for x in seen)
            rows.append((name, *true, *seen))
            print(f"actor {seed} {name:27s}", *(f"{float(x.mean()):.4f}" for x in (*true, *seen)), flush=True)

    def correlation(kind: str, k: int, whole: bool) -> float:
        picked = [(r[k], r[k + 2]) for r in rows if r[0].startswith(kind)]
        pairs = [(a.mean()[None], b.mean()[None]) for a, b in picked] if whole else picked
        return float(spearmanr(*(torch.cat(x).numpy() for x in zip(*pairs)))[0])

    result = {
        f"{metric}, {kind or 'any'} differs, {'clips' if whole else 'frames'}": correlation(kind, k, whole)
        for metric, k, kinds in (
            ("AED", 1, ("expression to neutral", "expression to another", "expression", "")),
            ("APD", 2, ("pose", "")),
        )
        for kind in kinds
        for whole in (True, False)
    }
    for name, value in result.items():
        print(f"{head}: {name}: {value:.3f}")
    return result


def pictures_of(actor: ProceduralActor, params: HeadParams) -> Tensor:
    with torch.inference_mode():
        rows = torch.arange(params.batch).split(8)
        return torch.cat([actor.render(params.rows(k))[0] for k in rows]).clamp(0, 1).clone()


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


@pytest.mark.slow
def test_detected_landmarks_recover_differences() -> None:
    """Clips rank as they should in pose, and in expression within one kind of difference.

    Measured: APD 0.94; AED 0.92 (0.89 with the first two actors alone: fading to neutral reads larger than an equal distance to
    another expression), within one kind 0.97 to 0.99. Single frames: 0.93 and 0.73. Where clips differ in pose and not in
    expression, AED says little (0.19 over all clips): see the estimator.
    """
    got = figures("procedural")
    assert got["APD, pose differs, clips"] > 0.9
    assert got["AED, expression to neutral differs, clips"] > 0.9
    assert got["AED, expression to another differs, clips"] > 0.9
    assert got["AED, expression differs, clips"] > 0.9


if __name__ == "__main__":
    figures(*sys.argv[1:2])
