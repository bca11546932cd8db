"""AKD and jitter by hand, on a real face moved by a known amount, and on faces that are not there."""

from __future__ import annotations

import itertools
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data

from avatarzoo.data.video import read_frames
from avatarzoo.metrics.landmarks import AKD, POINTS, RIGID, Jitter, akd, jitter, still_frames
from avatarzoo.perception.faces import FaceReader

SIZE = (200, 400)


@pytest.fixture(scope="module")
def reader():
    with FaceReader() as reader:
        yield reader


def tensor(*frames: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 255


@pytest.fixture(scope="module")
def face() -> torch.Tensor:
    return tensor(np.ascontiguousarray(data.astronaut()[:256, 96:352]))


@pytest.fixture
def points() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return 100 * torch.rand(2, 478, 3, generator=generator), 100 * torch.rand(2, 478, 3, generator=generator)


@pytest.mark.parametrize("name", ["478", "468", "lips_eyes"])
def test_every_convention_by_hand(points, name: str) -> None:
    a, b = (x.double().numpy() for x in points)
    chosen = {"478": range(478), "468": range(468), "lips_eyes": POINTS["lips_eyes"]}[name]
    eyes = np.hypot(*(b[:, 263, :2] - b[:, 33, :2]).T)
    for norm, scale in {
        "pixels": np.ones((2, 2)),
        "px256": np.full((2, 2), 256 / 400),
        "image": np.array([[1 / 400, 1 / 200]] * 2),
        "iod": np.stack([1 / eyes] * 2, 1),
    }.items():
        mean = [
            np.mean([np.hypot(*((a[i, k, :2] - b[i, k, :2]) * scale[i])) for k in chosen]) for i in (0, 1)
        ]
        squares = [
            np.sum([(((a[i, k, :2] - b[i, k, :2]) * scale[i]) ** 2).sum() for k in chosen]) for i in (0, 1)
        ]
        for reduce, expected in (("mean_l2", mean), ("sum_sq", squares)):
            assert akd(*points, SIZE, name, norm, reduce).tolist() == pytest.approx(expected, rel=1e-4)


def test_point_sets() -> None:
    assert len(POINTS["lips_eyes"]) == len(set(POINTS["lips_eyes"])) == 72
    assert max(POINTS["468"]) < 468


def test_a_shift_of_five_is_five(points) -> None:
    moved = points[1] + torch.tensor([3.0, 4.0, 7.0])
    assert akd(moved, points[1], (256, 256)).tolist() == pytest.approx([5, 5], abs=1e-4)
    assert akd(moved, points[1], (512, 512)).tolist() == pytest.approx([2.5, 2.5], abs=1e-4)
    moved[1, 400] = torch.nan
    assert torch.isnan(akd(moved, points[1], (256, 256))).tolist() == [False, True]


def test_invertavatars_numbers_mean_what_is_said() -> None:
    """Its AKD of 0.018 is 3.1 pixels of 512 (root mean square) under the preset named after it."""
    metric = AKD.invertavatar()
    offset = torch.zeros(1, 478, 3)
    offset[..., 0] = 3.14
    value = akd(offset, torch.zeros(1, 478, 3), (512, 512), *metric.convention)
    assert value.item() == pytest.approx(0.018, abs=2e-4)
    assert metric.label == "AKD (478, image, sum_sq)"


@pytest.mark.parametrize("wrong", [{"points": "68"}, {"norm": "face"}, {"reduce": "mean"}])
def test_unknown_conventions_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="knows no convention"):
        AKD(**wrong)


def test_itself_a_known_shift_and_lost_faces(reader: FaceReader, face: torch.Tensor) -> None:
    metric = AKD(norm="pixels", reader=reader)
    metric.update(face, face)
    assert metric.compute() == 0
    black = torch.zeros_like(face)
    broken = face.clone()
    broken[0, 2, 9, 9] = torch.inf
    for prediction, reference in ((black, face), (face, black), (black, black), (broken, face)):
        metric.update(prediction, reference)
    assert metric.failures == 4
    assert metric.compute() == 0
    metric.reset()
    metric.update(shift(face, 4), face)
    assert metric.compute().item() == pytest.approx(4, abs=0.8)


def shift(pictures: torch.Tensor, by: int) -> torch.Tensor:
    """To the right, the edge repeated."""
    return torch.nn.functional.pad(pictures, (by, 0, 0, 0), mode="replicate")[..., : pictures.shape[-1]]


@pytest.mark.media
@pytest.mark.skipif("AVATARZOO_MEDIA" not in os.environ, reason="AVATARZOO_MEDIA is not set")
def test_known_shifts_of_real_people(reader: FaceReader) -> None:
    """The mean over eight frames of two clips is the shift within 0.4 px, detector noise included; each frame within 1.3."""
    for name in ("obama_oval_450p25_20s.mp4", "hdtf_aoc_512p25_8s.mp4"):
        frames = tensor(
            *itertools.islice(read_frames(Path(os.environ["AVATARZOO_MEDIA"]) / "video" / name), 0, 160, 20)
        )
        means = []
        for by in (4, 8, 16):
            metric = AKD(norm="pixels", reader=reader)
            metric.update(shift(frames, by), frames)
            assert metric.failures == 0
            assert (metric.per_image() - by).abs().max() < 1.3
            means.append(metric.compute().item())
        assert means == pytest.approx([4, 8, 16], abs=0.4)


def test_jitter_of_white_noise_is_its_deviation() -> None:
    generator = torch.Generator().manual_seed(0)
    t = torch.arange(600.0)[:, None, None]
    track = 3 * t + 100 + 0.7 * torch.randn(600, 10, 2, generator=generator, dtype=torch.float64)
    assert jitter(track).mean().item() == pytest.approx(0.7, rel=0.03)
    assert jitter(3 * t.expand(-1, 10, 2) + 100).max() < 1e-3
    assert jitter(track).shape == still_frames(track).shape == (598,)


def test_still_frames_are_those_that_move_least() -> None:
    x = torch.cat([torch.zeros(40), 5 * torch.arange(60.0)])
    still = still_frames(x[:, None, None].expand(-1, 10, 2))
    assert still[:30].all()
    assert not still[45:].any()


class Scripted:
    """Stands in for a reader: the value of the first pixel says which row of the script comes."""

    def __init__(self, script: torch.Tensor) -> None:
        self.script = script

    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.script[(pictures[:, 0, 0, 0] * 255).round().long()]


def numbered(first: int, count: int) -> torch.Tensor:
    return (torch.arange(first, first + count) / 255)[:, None, None, None].expand(-1, 3, 64, 64)


@pytest.fixture
def script() -> torch.Tensor:
    """100 steady rows and 100 that shake by 0.1 px."""
    generator = torch.Generator().manual_seed(1)
    steady = torch.linspace(20, 26, 100)[:, None, None].expand(-1, 478, 3)
    return torch.cat([steady, steady + 0.1 * torch.randn(100, 478, 3, generator=generator)])


def run(metric: Jitter, prediction: torch.Tensor, reference: torch.Tensor, batch: int = 13) -> Jitter:
    for a, b in zip(prediction.split(batch), reference.split(batch)):
        metric.update(a, b)
    metric.end_clip()
    return metric


def test_jitter_is_what_is_more_than_the_references(script: torch.Tensor) -> None:
    metric = Jitter(Scripted(script))  # type: ignore[arg-type]
    assert run(metric, numbered(0, 100), numbered(0, 100)).compute() == 0
    metric.reset()
    run(metric, numbered(100, 100), numbered(0, 100))
    assert metric.compute().item() == pytest.approx(0.4, rel=0.15)  # 0.1 px of 64 are 0.4 of 256
    assert metric.both() == pytest.approx((metric.compute().item(), 0), abs=1e-3)
    metric.reset()
    assert run(metric, numbered(0, 100), numbered(100, 100)).compute() < -0.3


def test_clips_do_not_touch(script: torch.Tensor) -> None:
    """A cut between two clips is no shaking."""
    script = torch.cat([script[:50], script[:50] + 9])
    metric = Jitter(Scripted(script))  # type: ignore[arg-type]
    run(metric, numbered(0, 50), numbered(0, 50))
    run(metric, numbered(50, 50), numbered(0, 50))
    assert metric.compute().abs() < 1e-4
    assert metric.failures == 0


def test_lost_faces_are_failures_of_jitter_too(script: torch.Tensor) -> None:
    script[30] = torch.nan
    metric = Jitter(Scripted(script))  # type: ignore[arg-type]
    run(metric, numbered(0, 100), numbered(0, 100))
    assert metric.failures == 3  # the frame and its neighbours
    metric.reset()
    run(metric, numbered(100, 100), numbered(0, 100))
    assert metric.failures == 3
    metric.reset()
    script[:] = torch.nan
    run(metric, numbered(0, 100), numbered(0, 100))
    assert metric.failures == 98
    assert math.isnan(metric.compute())
    assert all(math.isnan(x) for x in metric.both())


def test_what_was_gathered_is_never_forgotten(script: torch.Tensor) -> None:
    metric = Jitter(Scripted(script))  # type: ignore[arg-type]
    metric.update(numbered(100, 100), numbered(0, 100))
    assert metric.compute() > 0.2  # without end_clip
    metric.reset()
    assert len(metric.per_image()) == 0
    metric.update(numbered(0, 2), numbered(0, 2))
    assert metric.failures == 1
    assert len(RIGID) == 10
