"""Single pictures: the steps of the video pipeline on one frame, kept by content, failures told and not fatal."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from avatarzoo.data.video import VideoPart
from avatarzoo.errors import BadVideoError, NoFaceError, OutputError
from avatarzoo.trackers import pipeline
from avatarzoo.trackers.pipeline import track_video
from avatarzoo.trackers.portraits import FaceFinder, cached_portrait, cached_portraits, track_portrait

SIZE = 128


@pytest.fixture
def head(quick_solver, monkeypatch):
    """The stand-in head; its solver is asked not to smooth over time."""
    solver = pipeline.fit_sequence

    def without_time(*arguments, smooth=True):
        assert not smooth
        return solver(*arguments)

    monkeypatch.setattr(pipeline, "fit_sequence", without_time)
    return pipeline.load_head()


@pytest.fixture
def face(portrait):
    return next(portrait(1))


def save(path, picture):
    cv2.imwrite(str(path), picture[..., ::-1])
    return path


def test_one_frame_in_the_usual_format(head, face, tmp_path):
    picture = save(tmp_path / "her.png", face)
    tracked = track_portrait(picture, tmp_path / "out", head, size=SIZE, consent="hers")
    assert len(tracked) == 1
    assert tracked.valid.all()
    assert tracked.info["consent"] == "hers"
    assert tracked.info["source"]["name"] == "her.png"
    assert tracked.info["tracker"]["version"].startswith("portrait")
    assert not (tmp_path / "out.partial").exists()
    mask = tracked.masks(slice(None)).float() / 255
    assert 0.15 < mask.mean() < 0.75
    x, y = tracked.landmarks[0, 4].astype(int)
    assert mask[0, y, x] > 0.9
    affine = np.array(tracked.info["crop"]["affine"])
    seen = FaceFinder()(face, "her")
    assert np.allclose(seen @ affine[:, :2].T + affine[:, 2], tracked.landmarks[0], atol=1e-2)


def test_small_face_is_found_where_it_is(face, tmp_path):
    wide = np.full((1000, 1400, 3), 90, np.uint8)
    small = cv2.resize(face, None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA)
    wide[600 : 600 + small.shape[0], 900 : 900 + small.shape[1]] = small
    with FaceFinder() as finder:
        near, far = finder(small, "near"), finder(wide, "far")
    distance = np.linalg.norm(far - near - [900, 600], axis=1)
    assert distance.mean() < 0.02 * (near[152] - near[10])[1] * 2


def test_two_people(face, tmp_path):
    small = cv2.resize(face, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA)
    both = np.full((256, 480, 3), 128, np.uint8)
    both[:, :240], both[40 : 40 + small.shape[0], 260 : 260 + small.shape[1]] = face, small
    with FaceFinder("largest") as finder:
        assert finder(both, "both")[:, 0].max() < 240
    with FaceFinder("only") as finder, pytest.raises(NoFaceError, match="more than one"):
        finder(both, "both")


def test_cached_by_content_and_settings(head, face, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    first = cached_portrait(save(tmp_path / "a.png", face), cache, head, size=SIZE, matting=False)
    (tmp_path / "a.png").rename(tmp_path / "b.png")
    monkeypatch.setattr(pipeline, "head_crop", None)
    again = cached_portrait(tmp_path / "b.png", cache, head, size=SIZE, matting=False)
    assert again.path == first.path
    monkeypatch.undo()
    other = save(tmp_path / "c.png", 255 - face)
    with pytest.raises(OutputError, match="another"):
        track_portrait(other, first.path, head, size=SIZE)


def test_failures_do_not_stop_the_rest(head, face, tmp_path):
    paths = [
        save(tmp_path / "wall.png", np.full_like(face, 100)),
        tmp_path / "broken.jpg",
        tmp_path / "no.png",
    ]
    paths[1].write_bytes(b"no picture")
    paths.append(save(tmp_path / "her.png", face))
    found = cached_portraits(paths, tmp_path / "cache", head, size=SIZE, matting=False, progress=False)
    assert list(found.tracked) == paths[3:]
    assert [path for path, _ in found.failures] == paths[:3]
    for (_, reason), word in zip(found.failures, ("No face", "cannot be read", "does not exist")):
        assert word in reason
    with pytest.raises(NoFaceError):
        cached_portrait(paths[0], tmp_path / "cache", head, size=SIZE)
    with pytest.raises(BadVideoError):
        cached_portrait(paths[1], tmp_path / "cache", head, size=SIZE)
    assert len(list((tmp_path / "cache").iterdir())) == 1  # failures leave nothing behind


def test_folder_of_frames_is_tracked_like_a_video(quick_solver, portrait, tmp_path):
    folder = tmp_path / "image"
    folder.mkdir()
    for n, picture in enumerate(portrait(14), 1):
        save(folder / f"{n}.png", picture)
    part = VideoPart(folder, 2, 13)
    tracked = track_video(part, tmp_path / "out", size=SIZE, matting=False, progress=False)
    assert len(tracked) == 11
    assert tracked.fps == 25
    assert tracked.valid.all()
    affine = np.array(tracked.info["crop"]["affine"])
    seen = FaceFinder()(list(portrait(3))[2], "third")
    first = seen @ affine[:, :2].T + affine[:, 2]
    assert np.linalg.norm(first - tracked.landmarks[0], axis=1).mean() < 0.02 * SIZE
    with pytest.raises(BadVideoError, match="at least 10"):
        track_video(VideoPart(folder, 0, 9), tmp_path / "short", size=SIZE, progress=False)


@pytest.mark.media
@pytest.mark.assets
def test_real_portraits(tmp_path):
    from avatarzoo.geometry.camera import project
    from avatarzoo.heads import load_head

    model = load_head("ict")
    pictures = sorted((Path(os.environ["AVATARZOO_MEDIA"]) / "image").glob("*.[pj]*g"))
    found = cached_portraits(pictures, tmp_path, model, size=256, progress=False)
    assert not found.failures
    for tracked in found.tracked.values():
        fitted = project(model.landmark_points(model(tracked.params)), tracked.camera)[0, :, :2].numpy()
        height = np.linalg.norm(tracked.landmarks[0, 152] - tracked.landmarks[0, 10])
        assert np.linalg.norm(fitted - tracked.landmarks[0], axis=1).mean() < 0.03 * height
        assert 0.1 < (tracked.masks(0) > 127).float().mean() < 0.7
