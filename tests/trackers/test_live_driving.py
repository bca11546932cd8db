"""From a driver's motion to an avatar's: relative and absolute, lost faces, framing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avatarzoo.errors import HeadModelMismatchError
from avatarzoo.geometry.camera import look_at_face, project
from avatarzoo.heads import load_head
from avatarzoo.trackers.live import LiveFit, whole
from avatarzoo.trackers.live_driving import Driving, Rest, framed, rest_of

FPS = 25
SIZE = 256
LOST = np.full((478, 2), np.nan)


@pytest.fixture(scope="module")
def head():
    return load_head("procedural")


def fit_of(head, params, neutral, valid=True):
    return LiveFit(
        params, look_at_face(1.0, 20, SIZE), whole((SIZE, SIZE), SIZE), valid, LOST, 1, neutral, 0.5, ()
    )


def person(head, **fields):
    params = head.zeros(1)
    for name, value in fields.items():
        getattr(params, name)[0, : len(value)] = torch.tensor(value)
    return params


def test_relative_driving_is_the_drivers_change_on_the_avatar(head):
    rest = Rest(
        person(head, expression=[0.1], rotation=[0, 0.1, 0], translation=[0.0, 0.02, 0]), look_at_face(1.2)
    )
    neutral = person(head, expression=[0.2, 0.3], rotation=[0, 0.2, 0], translation=[0.05, 0, 0])
    now = person(
        head, expression=[0.5, 0.1], rotation=[0, 0.5, 0], translation=[0.06, 0.01, 0], identity=[2.0]
    )
    driven = Driving(head, rest)(fit_of(head, now, neutral), 0.0)
    assert torch.allclose(
        driven.params.expression[0, :2], torch.tensor([0.4, 0.0])
    )  # the second ends at its bound
    assert torch.allclose(driven.params.rotation, torch.tensor([[0, 0.4, 0]]), atol=1e-5)
    assert torch.allclose(driven.params.translation, torch.tensor([[0.01, 0.03, 0]]), atol=1e-6)
    assert float(driven.params.identity.abs().max()) == 0
    assert driven.camera is rest.camera
    plain = Driving(head, rest, relative_expression=False, relative_pose=False)(
        fit_of(head, now, neutral), 0.0
    )
    assert torch.allclose(plain.params.expression, now.expression)
    assert torch.allclose(plain.params.rotation, now.rotation)
    assert not torch.equal(plain.camera.world_to_camera, rest.camera.world_to_camera)


def test_a_lost_face_is_held_then_goes_to_rest_and_comes_back_gently(head):
    rest = framed(head, SIZE)
    neutral, now = head.zeros(1), person(head, expression=[0.8], rotation=[0, 0.4, 0])
    driving = Driving(head, rest)
    values = []
    for k in range(100):
        driven = driving(fit_of(head, now, neutral, valid=k < 10 or k >= 70), k / FPS)
        values.append(float(driven.params.expression[0, 0]))
    assert values[9] == values[20] == pytest.approx(0.8)  # held
    assert 0.1 < values[40] < 0.7  # easing
    assert values[65] == 0
    assert 0 < values[71] < 0.5  # on the way back
    assert values[-1] == pytest.approx(0.8)
    assert max(abs(np.diff(values))) < 0.15


def test_rest_frames_the_face_like_a_crop(head):
    rest = framed(head, 400)
    points = project(head.landmark_points(head(rest.params)), rest.camera)[0, :, :2]
    assert abs(float((points[10] - points[152]).norm()) / 400 - 0.52) < 0.02
    middle = (points.amin(0) + points.amax(0)) / 2
    assert abs(float(middle[0]) - 200) < 4
    assert abs(float(middle[1]) - 212) < 6


def test_rest_from_a_tracked_sequence(head, tmp_path):
    """The median frame, seen by the sequence's camera at another size."""
    from avatarzoo.data.sequence import FRAMES
    from avatarzoo.data.sequence_writer import SequenceWriter

    writer, params = SequenceWriter(tmp_path / "s"), head.zeros(5)
    params.rotation[:, 1] = torch.tensor([0.1, 0.2, 0.3, 9.0, 0.25])
    for k in range(5):
        writer.write(FRAMES, k, np.zeros((SIZE, SIZE, 3), np.uint8))
    writer.finish(
        head, params, look_at_face(0.9, 20, SIZE), np.zeros((5, 478, 2), np.float32), fps=25.0,
        valid=np.array([True, True, True, False, False]), error=np.zeros(5), crop={"rule": "x", "affine": []},
    )  # fmt: skip
    rest = rest_of(tmp_path / "s", head, 128, torch.ones(1, head.n_identity))
    assert float(rest.params.rotation[0, 1]) == pytest.approx(0.2)
    assert float(rest.params.identity.min()) == 1
    assert rest.camera.size == (128, 128)
    assert float(rest.camera.world_to_camera[0, 2, 3]) == pytest.approx(0.9)
    head.source_hash, kept = "0" * 64, head.source_hash
    with pytest.raises(HeadModelMismatchError):
        rest_of(tmp_path / "s", head, 128)
    head.source_hash = kept
