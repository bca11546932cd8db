"""The analytic tracker on landmarks projected from a known head."""

import numpy as np
import pytest
import torch

from avatarzoo.errors import BadSequenceError, NoFaceError
from avatarzoo.geometry.camera import look_at_face
from avatarzoo.heads import load_head
from avatarzoo.trackers import landmark_groups as groups
from avatarzoo.trackers import quality
from avatarzoo.trackers.analytic import fit_sequence

FRAMES, SIZE, NOISE = 80, 512, 0.3
MOVING = ("jawOpen", "eyeBlink_L", "eyeBlink_R", "mouthSmile_L", "mouthSmile_R", "browDown_L", "browDown_R")


@pytest.fixture(scope="module")
def head():
    return load_head("procedural")


@pytest.fixture(scope="module")
def truth(head):
    """Parameters, camera and noisy landmarks of a short performance."""
    time = torch.arange(FRAMES) / 25
    params = head.zeros(FRAMES)
    generator = torch.Generator().manual_seed(3)
    params.identity[:] = 0.6 * torch.randn(head.n_identity, generator=generator)
    for k, name in enumerate(MOVING):
        side = MOVING.index(name.replace("_R", "_L"))
        wave = 0.5 - 0.5 * torch.cos(2 * np.pi * time * (0.35 + 0.12 * side) + k)
        params.expression[:, head.expression_names.index(name)] = 0.7 * wave.square()
    params.rotation[:, 1] = 0.3 * torch.sin(1.5 * time)
    params.rotation[:, 0] = 0.1 * torch.sin(2.1 * time + 1)
    params.translation[:, 0] = 0.02 * torch.sin(time)
    params.eyes[:, 1] = params.eyes[:, 4] = 0.25 * torch.sin(2 * time)
    camera = look_at_face(0.8, 20.0, SIZE)
    exact = quality.projected_landmarks(head, params, camera)
    return params, camera, exact + np.random.default_rng(0).normal(0, NOISE, exact.shape)


@pytest.fixture(scope="module")
def fit(head, truth):
    return fit_sequence(head, truth[2], SIZE)


def test_error_is_small(head, truth, fit):
    assert fit.error.mean() < 0.3
    again = quality.projected_landmarks(head, fit.params, fit.camera)
    # the error that the fit reports is that of the head's own vertices, not of a linear stand-in
    assert abs(quality.errors(again, truth[2])["all"] - float(fit.error.mean())) < 0.02


def test_rotation_and_expression_are_recovered(head, truth, fit):
    params, camera, _ = truth
    turn = quality.rotation_errors(fit.params, fit.camera, params, camera)
    assert turn.mean() < 1.0
    assert turn.max() < 1.5
    modes = quality.main_modes(head, fit.params, params, len(MOVING))
    assert set(modes) == set(MOVING)
    assert min(modes.values()) > 0.9, modes


def test_gaze_follows_the_irises(truth, fit):
    for column in (1, 4):
        assert np.corrcoef(truth[0].eyes[:, column], fit.params.eyes[:, column])[0, 1] > 0.9
        assert (truth[0].eyes[:, column] - fit.params.eyes[:, column]).abs().median() < 0.06


def test_expressions_stay_in_their_box(head, fit):
    low, high = head.expression_bounds
    assert low <= fit.params.expression.min()
    assert fit.params.expression.max() <= high


def test_one_identity_for_all_frames(fit):
    assert (fit.params.identity == fit.params.identity[:1]).all()


def test_smoothing_takes_jitter_off_the_pose(head, truth, fit):
    rough = fit_sequence(head, truth[2], SIZE, smooth=False)
    shaky, calm = (
        quality.jitter(quality.projected_landmarks(head, f.params, f.camera), truth[2], order=4)
        for f in (rough, fit)
    )
    assert calm < 0.8 * shaky


def test_lost_frames_are_filled_and_marked(head, truth, fit):
    landmarks = truth[2].copy()
    lost = slice(30, 45)
    landmarks[lost] = np.nan
    gappy = fit_sequence(head, landmarks, SIZE)
    assert not gappy.valid[lost].any()
    assert gappy.valid.sum() == FRAMES - 15
    assert torch.isnan(gappy.error[lost]).all()
    assert all(torch.isfinite(x).all() for x in gappy.params)
    # between its neighbours, not at rest
    assert (gappy.params.rotation[lost] - fit.params.rotation[lost]).norm(dim=1).max() < 0.15


def test_the_picture_size_does_not_matter(head, truth, fit):
    half = fit_sequence(head, truth[2] / 2, SIZE // 2)
    assert (half.params.rotation - fit.params.rotation).norm(dim=1).max() < 0.002
    assert (half.params.expression - fit.params.expression).abs().max() < 0.02


def test_no_face_is_said(head):
    with pytest.raises(NoFaceError, match="one face"):
        fit_sequence(head, np.full((5, 478, 2), np.nan), SIZE)


def test_other_landmark_sets_are_refused(head):
    with pytest.raises(BadSequenceError, match="478"):
        fit_sequence(head, np.zeros((5, 468, 2)), SIZE)


def test_one_frame_is_enough(head, truth):
    single = fit_sequence(head, truth[2][:1], SIZE)
    assert single.error[0] < 0.4


@pytest.mark.media
@pytest.mark.assets
def test_real_clip(media_folder, ict):
    """Half a second of a real person with a closed mouth and a blink in reach of the bars of the whole clip."""
    import cv2

    from avatarzoo.data.video import read_frames
    from avatarzoo.perception.landmarks import FaceLandmarker

    rows = []
    with FaceLandmarker(max_faces=1) as landmarker:
        for k, frame in enumerate(read_frames(media_folder / "video" / "hdtf_aoc_512p25_8s.mp4")):
            if k == 60:
                break
            rows.append(landmarker.detect(cv2.resize(frame, (SIZE, SIZE)))[0, :, :2])
    landmarks = np.stack(rows).astype(float)
    fit = fit_sequence(ict, landmarks, SIZE)
    assert fit.error.mean() < 0.6
    fitted = quality.projected_landmarks(ict, fit.params, fit.camera)
    for name in groups.GAPS:
        closed = quality.closure(fitted, landmarks, name)
        assert abs(closed.fitted - closed.measured) < 2.0, (name, closed)
        assert closed.correlation > 0.9


@pytest.fixture
def media_folder():
    import os
    from pathlib import Path

    if "AVATARZOO_MEDIA" not in os.environ:
        pytest.skip("AVATARZOO_MEDIA does not name a folder of real clips")
    return Path(os.environ["AVATARZOO_MEDIA"])


@pytest.fixture(scope="module")
def ict():
    from avatarzoo.errors import MissingAssetError

    try:
        return load_head("ict")
    except MissingAssetError:
        pytest.skip("the ICT head file is not on this machine (AVATARZOO_ASSETS)")
