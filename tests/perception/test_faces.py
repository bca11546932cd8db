"""Faces of pictures that are scored: the largest, small ones too, each looked at once; nothing where there is none."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from skimage import data

from avatarzoo.data.procedural import ProceduralActor
from avatarzoo.perception.faces import FaceReader, find_face, found_faces, shared_reader, window
from avatarzoo.perception.landmarks import FaceDetector, FaceLandmarker, face_height


def tensor(*frames: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 255


@pytest.fixture(scope="module")
def reader():
    with FaceReader(remember=8) as reader:
        yield reader


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    return np.ascontiguousarray(data.astronaut()[:256, 96:352])


def test_points_are_those_of_the_landmarker(reader, portrait) -> None:
    points = reader(tensor(portrait))
    with FaceLandmarker(static=True) as landmarker:
        assert np.array_equal(points[0].numpy(), landmarker.detect(portrait)[0])
    assert points.dtype == torch.float32


def test_black_grey_and_broken_pictures_have_no_face(reader, portrait) -> None:
    pictures = tensor(np.zeros_like(portrait), np.full_like(portrait, 127), portrait, portrait)
    pictures[3, 1, 5, 5] = torch.nan
    points = reader(pictures)
    assert found_faces(points).tolist() == [False, False, True, False]
    assert torch.isnan(points[[0, 1, 3]]).all()
    assert reader(pictures[:0]).shape == (0, 478, 3)


def test_the_largest_of_several_faces_counts(reader, portrait) -> None:
    canvas = np.full((256, 460, 3), 90, np.uint8)
    canvas[40:216, 10:186] = cv2.resize(portrait, (176, 176), interpolation=cv2.INTER_AREA)
    canvas[:, 204:] = portrait
    for frame, centre in ((canvas, 332), (canvas[:, ::-1], 128)):
        points = reader(tensor(np.ascontiguousarray(frame)))
        assert abs(points[0, :, 0].mean() - centre) < 60


class Scripted:
    """Stands in for both networks."""

    def __init__(self, answers: list[np.ndarray]) -> None:
        self.answers, self.seen = answers, []

    def detect(self, picture: np.ndarray) -> np.ndarray:
        self.seen.append(picture.shape)
        return self.answers[len(self.seen) - 1]


def test_order_of_the_faces_does_not_matter() -> None:
    faces = np.random.default_rng(0).normal(size=(1, 478, 3)).astype(np.float32) * [[[1]], [[3]], [[2]]]
    nothing = np.zeros((0, 478, 3), np.float32)
    frame = np.zeros((100, 100, 3), np.uint8)
    assert np.array_equal(find_face(frame, Scripted([faces]), Scripted([])), faces[1])
    second, boxes = Scripted([nothing, faces[::-1]]), np.float32([[10, 10, 5, 5], [50, 60, 12, 12]])
    assert np.allclose(find_face(frame, second, Scripted([boxes])), faces[1] + [38, 48, 0])
    assert second.seen == [(100, 100, 3), (36, 36, 3)]


def test_small_faces_in_a_corner_are_found(reader, portrait) -> None:
    canvas = np.full((512, 512, 3), 90, np.uint8)
    canvas[362:482, 372:492] = cv2.resize(portrait, (120, 120), interpolation=cv2.INTER_AREA)
    with FaceLandmarker(static=True) as landmarker, FaceDetector() as detector:
        assert len(landmarker.detect(canvas)) == 0  # FaceMesh alone does not start on it
        assert np.isfinite(find_face(canvas, landmarker, detector)).all()
    small, large = reader(tensor(canvas))[0], reader(tensor(portrait))[0]
    expected = large[:, :2] * (120 / 256) + torch.tensor([372.0, 362.0])
    assert (small[:, :2] - expected).norm(dim=1).mean() < 1.5


def test_windows_stay_inside_at_the_upper_left() -> None:
    assert window(np.array([5, 200, 40, 40])) == (0, 160, 120)


def test_each_picture_is_looked_at_once(portrait, monkeypatch) -> None:
    seen: list[bytes] = []
    reader = FaceReader(remember=2)
    monkeypatch.setattr(
        reader, "_look", lambda f: seen.append(f.tobytes()) or np.full((478, 3), f.mean(), "f4")
    )
    a, b, c = (tensor(np.full((8, 8, 3), v, np.uint8)) for v in (10, 20, 30))
    assert reader(torch.cat([a, b, a]))[:, 0, 0].tolist() == [10, 20, 10]
    assert len(seen) == reader.looks == 2
    reader(a), reader(c)  # b goes, it was used longest ago
    assert len(seen) == 3
    reader(a), reader(c)
    assert len(seen) == 3
    reader(b)
    assert len(seen) == 4
    assert len(reader._known) == 2
    one = reader(a.expand(1, 3, 8, 8)[..., :4])  # the same pixels in another shape are another picture
    assert one.shape == (1, 478, 3)
    assert len(seen) == 5
    assert copy.deepcopy(reader) is reader
    reader.close()


def test_networks_come_late_and_come_again(portrait) -> None:
    reader = FaceReader(remember=1)
    assert not reader._made
    first = reader(tensor(portrait))
    assert reader._made
    reader.close()
    assert not reader._made
    assert torch.equal(reader(tensor(portrait)), first)  # remembered
    assert not reader._made
    assert found_faces(reader(tensor(portrait[:, ::-1].copy())))
    reader.close()
    assert shared_reader() is shared_reader()


def test_batch_and_order_do_not_matter(portrait) -> None:
    frames = [np.roll(portrait, 3 * i, 1) for i in range(5)]
    with FaceReader() as one, FaceReader() as other:
        together = one(tensor(*frames))
        alone = torch.cat([other(tensor(f)) for f in frames[::-1]]).flip(0)
    assert torch.equal(together, alone)


def test_procedural_faces_are_found(reader) -> None:
    clip = ProceduralActor(seed=0, size=256).sequence(3)
    points = reader(tensor(*clip.images))
    assert found_faces(points).all()
    distance = np.linalg.norm(points[..., :2].numpy() - clip.landmarks[..., :2], axis=-1).mean()
    assert distance < 0.06 * face_height(clip.landmarks).mean()


@pytest.mark.media
@pytest.mark.skipif("AVATARZOO_MEDIA" not in os.environ, reason="AVATARZOO_MEDIA is not set")
def test_faces_of_portraits(reader) -> None:
    for name in ("obama_portrait_910x1137.jpg", "biden_standing_970x2204.jpg", "astronaut_512.png"):
        frame = cv2.imread(str(Path(os.environ["AVATARZOO_MEDIA"]) / "image" / name))[..., ::-1]
        points = reader(tensor(frame.copy()))[0].numpy()
        assert face_height(points) > 0.09 * min(frame.shape[:2]), name
