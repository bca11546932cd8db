"""ProceduralActor: pictures with exact truth that a face detector takes for a face."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from avatarzoo.data.procedural import ProceduralActor

FRAMES = 40


@pytest.fixture(scope="module")
def actor():
    return ProceduralActor(seed=1, size=256)


@pytest.fixture(scope="module")
def clip(actor):
    return actor.sequence(FRAMES)


def test_shapes(clip):
    assert clip.images.shape == (FRAMES, 256, 256, 3)
    assert clip.masks.shape == clip.head_masks.shape == (FRAMES, 256, 256)
    assert clip.images.dtype == clip.masks.dtype == np.uint8
    assert clip.landmarks.shape == (FRAMES, 478, 2)
    assert clip.params.batch == FRAMES
    assert clip.camera.size == (256, 256)
    assert all(torch.isfinite(x).all() for x in clip.params)


def test_masks(clip):
    assert (clip.head_masks <= clip.masks).all()
    assert 0.15 < (clip.head_masks > 127).mean() < 0.6
    assert (clip.masks[:, -1] > 127).mean() > 0.5  # the shoulders reach the lower edge
    assert (clip.masks[:, 0] == 0).all()


def test_same_seed_same_pictures(clip):
    again = ProceduralActor(seed=1, size=256).sequence(
        10
    )  # and a shorter clip is the beginning of a longer one
    for name in ("images", "masks", "landmarks"):
        assert np.array_equal(getattr(again, name), getattr(clip, name)[:10])
    other = ProceduralActor(seed=2, size=256).sequence(1)
    assert np.abs(other.images[0].astype(int) - clip.images[0]).mean() > 5


def test_motion_is_alive_and_within_bounds(actor):
    p = actor.motion(300)
    assert p.rotation[:, 1].abs().max() < np.radians(25.1)
    assert p.rotation[:, 1].max() - p.rotation[:, 1].min() > np.radians(15)
    assert p.expression.min() >= 0
    assert p.expression.max() <= 1
    column = {n: p.expression[:, i] for i, n in enumerate(actor.head.expression_names)}
    assert column["jawOpen"].std() > 0.05
    assert column["eyeBlink_L"].max() == 1
    assert (p.expression.amax(0) > 0.1).sum() > 15
    assert p.eyes.std(0)[1] > 0.02
    step = (p.rotation[1:] - p.rotation[:-1]).abs().max()
    assert step < np.radians(4)


def test_detector_sees_the_face_where_the_truth_says(clip):
    from avatarzoo.perception.landmarks import FaceLandmarker

    found, errors = 0, []
    frames = range(0, FRAMES, 4)
    with FaceLandmarker(max_faces=1, static=True) as landmarker:
        for i in frames:
            faces = landmarker.detect(clip.images[i])
            found += len(faces) == 1
            if len(faces):
                height = np.linalg.norm(clip.landmarks[i, 10] - clip.landmarks[i, 152])
                errors.append(np.linalg.norm(faces[0, :, :2] - clip.landmarks[i], axis=1).mean() / height)
    assert found >= 0.95 * len(frames)
    assert np.mean(errors) < 0.02


def test_pupils_are_dark_where_the_truth_says(clip):
    grey = clip.images[0].mean(-1)
    for index in (468, 473):
        x, y = clip.landmarks[0, index].astype(int)
        around = grey[y - 2 : y + 3, x - 2 : x + 3]
        assert around.min() < 0.5 * grey[y - 12 : y + 13, x - 12 : x + 13].max()


def test_plain_background_without_shoulders():
    clip = ProceduralActor(seed=0, size=128, shoulders=False, background=1.0).sequence(2)
    assert np.array_equal(clip.masks, clip.head_masks)
    assert (clip.images[clip.masks == 0] == 255).all()


def test_too_short():
    with pytest.raises(ValueError, match="at least one frame"):
        ProceduralActor(seed=0, size=128).sequence(0)


def test_write_video(actor, tmp_path):
    import av

    actor.write_video(tmp_path / "a.mp4", 3)
    with av.open(str(tmp_path / "a.mp4")) as video:
        pictures = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert len(pictures) == 3
    assert pictures[0].shape == (256, 256, 3)


def test_drawing_leaves_torchs_threads_alone():
    """In a process of its own: numba's parallel loops would set them to the number of cores."""
    code = (
        "import torch; from avatarzoo.data.procedural import ProceduralActor; torch.set_num_threads(3); "
        "actor = ProceduralActor(seed=1, size=16); actor.render(actor.motion(2)); print(torch.get_num_threads())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "3", done.stderr[-500:]
