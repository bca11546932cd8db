"""MediaPipe behind our interface, on the astronaut of scikit-image."""

import os
import subprocess
import sys

import numpy as np
import pytest
from skimage import data

from avatarzoo.perception.landmarks import (
    LEFT_EYE,
    LIPS,
    N_LANDMARKS,
    NOSE,
    RIGHT_EYE,
    FaceDetector,
    FaceLandmarker,
    face_height,
)


@pytest.fixture(scope="module")
def astronaut():
    return data.astronaut()


@pytest.fixture(scope="module")
def face(astronaut):
    with FaceLandmarker(static=True) as landmarker:
        found = landmarker.detect(astronaut)
    assert found.shape == (1, N_LANDMARKS, 3)
    assert found.dtype == np.float32
    return found[0]


def test_points_lie_where_they_should(face):
    centre = {name: face[list(ids), :2].mean(0) for name, ids in
              {"left": LEFT_EYE, "right": RIGHT_EYE, "nose": NOSE, "lips": LIPS}.items()}  # fmt: skip
    assert centre["right"][0] < centre["nose"][0] < centre["left"][0]  # the subject's right is on the left
    assert centre["left"][1] < centre["nose"][1] < centre["lips"][1]
    assert 90 < face_height(face) < 125
    assert np.abs(face[468, :2] - centre["right"]).max() < 4
    assert np.abs(face[473, :2] - centre["left"]).max() < 4
    assert (
        face[4, 2] < face[[234, 454], 2].min() - 20
    )  # the tip of the nose is nearest, on the scale of pixels


def test_shift_and_scale_go_along(astronaut, face):
    with FaceLandmarker(static=True) as landmarker:
        moved = landmarker.detect(np.ascontiguousarray(astronaut[20:, 40:440]))[0]
        doubled = landmarker.detect(astronaut.repeat(2, 0).repeat(2, 1))[0]
    assert np.abs(moved[:, :2] + [40, 20] - face[:, :2]).mean() < 1.0
    assert np.abs(doubled / 2 - face)[:, :2].mean() < 1.0
    assert abs(np.ptp(doubled[:, 2]) / np.ptp(face[:, 2]) - 2) < 0.15


def test_no_face_and_two_faces(astronaut):
    portrait = astronaut[30:230, 130:330]
    two = np.concatenate([portrait, portrait[:, ::-1]], 1)
    blank = np.full((100, 100, 3), 127, np.uint8)
    with FaceLandmarker(static=True) as landmarker, FaceDetector() as detector:
        assert landmarker.detect(blank).shape == (0, N_LANDMARKS, 3)
        assert len(landmarker.detect(two)) == 2
        boxes = detector.detect(two)
        assert len(detector.detect(blank)) == 0
        far = detector.detect(np.concatenate([astronaut[:300], np.full((300, 800, 3), 127, np.uint8)], 1))
    assert sorted(boxes[:, 0] > 200) == [False, True]
    assert len(far) == 1


def test_restart_is_like_new(astronaut):
    frames = [np.roll(astronaut, 3 * i, 1) for i in range(5)]
    with FaceLandmarker(max_faces=1) as landmarker:
        first = np.stack([landmarker.detect(f) for f in frames])
        going_on = np.stack([landmarker.detect(f) for f in frames])
        landmarker.restart()
        again = np.stack([landmarker.detect(f) for f in frames])
    assert np.array_equal(first, again)
    assert not np.array_equal(first, going_on)


@pytest.mark.assets
def test_tasks_agree_with_solutions(astronaut, face):
    if "AVATARZOO_ASSETS" not in os.environ:
        pytest.skip("AVATARZOO_ASSETS is not set: no face_landmarker.task")
    with FaceLandmarker(api="tasks", static=True) as landmarker:
        other = landmarker.detect(astronaut)
    assert other.shape == (1, N_LANDMARKS, 3)
    assert np.abs(other[0] - face)[:, :2].mean() < 0.02 * face_height(face)


def test_nothing_on_stderr_but_ours():
    """The networks keep quiet; Python's own messages are heard, also while they work."""
    program = (
        "import sys, os, numpy as np\n"
        "from avatarzoo.perception.landmarks import FaceLandmarker, quiet_stderr\n"
        "with quiet_stderr():\n"
        "    print('inside', file=sys.stderr)\n"
        "    os.write(2, b'chatter')\n"
        "    with FaceLandmarker(max_faces=1) as f: f.detect(np.zeros((64, 64, 3), np.uint8))\n"
        "print('outside', file=sys.stderr)\n"
        "os.write(2, b'raw')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.split() == ["inside", "outside", "raw"]
