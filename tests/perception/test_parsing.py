"""Mattes, label maps and the head mask."""

import os

import cv2
import numpy as np
import pytest
from skimage import data

from avatarzoo.perception import parsing
from avatarzoo.perception.landmarks import CHIN, TOP, FaceLandmarker, face_height
from avatarzoo.perception.matting import SelfieMatting, guided_filter
from avatarzoo.perception.parsing import Votes, parse_head, similarity
from avatarzoo.perception.regions import Region


@pytest.fixture(scope="module")
def crop():
    return cv2.resize(data.astronaut()[:256, 96:352], (512, 512), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="module")
def face(crop):
    with FaceLandmarker(static=True) as landmarker:
        return landmarker.detect(crop)[0, :, :2]


@pytest.fixture(scope="module")
def matte(crop):
    with SelfieMatting() as matting:
        return matting(crop)


def test_matte(crop, matte):
    assert matte.shape == (512, 512)
    assert matte.dtype == np.float32
    assert matte.min() >= 0
    assert matte.max() <= 1
    assert matte[200, 256] > 0.99
    assert ((matte > 0.1) & (matte < 0.9)).mean() < 0.12


def test_matte_knows_no_past(crop, matte):
    with SelfieMatting() as matting:
        matting(np.ascontiguousarray(crop[::-1]))
        assert np.array_equal(matting(crop), matte)


def test_guided_filter_follows_the_guide():
    """A blurred step becomes sharp where the guide has its edge; a flat guide gives a plain mean."""
    guide = np.zeros((40, 40), np.float32)
    guide[:, 20:] = 1
    soft = cv2.blur(guide, (9, 1))
    sharp = guided_filter(guide, soft, 5)
    jump, before = (sharp[:, 20] - sharp[:, 19]).min(), (soft[:, 20] - soft[:, 19]).max()
    assert jump > 3 * before
    rng = np.random.default_rng(0)
    noise = rng.uniform(size=(40, 40)).astype(np.float32)
    flat = guided_filter(np.full_like(guide, 0.5), noise, 3)
    twice = cv2.blur(cv2.blur(noise, (7, 7)), (7, 7))
    assert np.abs(flat - twice).max() < 1e-4


def test_similarity_is_exact():
    rng = np.random.default_rng(1)
    points = rng.normal(size=(9, 2))
    turn = np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
    moved = 1.7 * points @ turn.T + [3.0, -2.0]
    found = similarity(points, moved)
    assert np.allclose(found, np.column_stack([1.7 * turn, [3.0, -2.0]]))


def labels_at(labels, points):
    return labels[tuple(np.floor(points).astype(int).T[::-1])]


def test_labels_without_network(matte, face):
    votes = Votes(parsing.reference_shape(face[None]), None, None)
    labels, mask = parse_head(matte, face, votes)
    assert "no parsing network" in votes.rule
    expected = {
        468: Region.EYES,
        473: Region.EYES,
        13: Region.LIPS,
        1: Region.NOSE,
        50: Region.SKIN,
        280: Region.SKIN,
    }
    assert labels_at(labels, face[list(expected)]).tolist() == list(expected.values())
    up = (face[TOP] - face[CHIN]) / face_height(face)
    assert labels_at(labels, face[None, TOP] + up * 0.15 * face_height(face))[0] == Region.HAIR
    below = face[None, CHIN] - up * 0.12 * face_height(face)
    assert labels_at(labels, below)[0] == Region.BODY
    assert labels_at(mask, below)[0] == 0
    assert (labels_at(mask, face[[468, 473, 13, 1, 50, 280]]) > 250).all()
    assert set(np.unique(labels)) <= set(Region)


def test_mask_is_smooth_at_the_jaw(matte, face):
    """Half a pixel of motion moves the cut by half a pixel, not by none or one."""
    votes = Votes(parsing.reference_shape(face[None]), None, None)
    full = np.ones_like(matte)
    column = round(face[CHIN, 0])
    areas = [
        parse_head(full, face + np.float32([0, shift]), votes)[1][:, column].sum() / 255
        for shift in (0, 0.5, 1)
    ]
    assert np.allclose(np.diff(areas), 0.5, atol=0.13)


def test_long_hair_stays_and_a_collar_does_not(matte, face):
    """What the votes call hair below the ears stays if it hangs from the head."""
    shape = parsing.reference_shape(face[None])
    hair = np.zeros((parsing.VOTE_SIZE, parsing.VOTE_SIZE), np.float32)
    hair[20:230, 50:80] = 1  # a strand from the crown to below the chin
    hair[215:230, 120:150] = 1  # a patch on the chest
    votes = Votes(shape, hair, 1 - hair)
    _, mask = parse_head(np.ones_like(matte), face, votes)
    to_frame = cv2.invertAffineTransform(parsing.align(face, shape))

    def at(x, y):
        return labels_at(mask, (to_frame @ [x, y, 1])[None])[0]

    assert at(65, 200) > 250
    assert at(135, 222) == 0
    assert at(200, 220) == 0


def test_smoothed_cut_keeps_gaps_and_lines():
    t = np.arange(30.0)[:, None, None]
    landmarks = np.broadcast_to(0.3 * t + 0.01 * t**2, (30, 478, 2)).copy()
    smooth = parsing.steady(landmarks)
    assert np.abs(smooth - landmarks).max() < 1e-9  # parabolas pass
    noise = np.random.default_rng(0).normal(size=landmarks.shape)
    assert (parsing.steady(landmarks + noise) - landmarks).std() < 0.75
    landmarks[10:14] = np.nan
    gap = parsing.steady(landmarks)
    assert np.array_equal(np.isnan(gap), np.isnan(landmarks))


@pytest.mark.assets
def test_network_votes(crop, matte, face):
    if "AVATARZOO_ASSETS" not in os.environ:
        pytest.skip("AVATARZOO_ASSETS is not set: no parsing network")
    shape = parsing.reference_shape(face[None])
    votes = parsing.collect_votes([crop], face[None], shape, parsing.load_network())
    assert "vote" in votes.rule
    labels, mask = parse_head(matte, face, votes)
    up = (face[TOP] - face[CHIN]) / face_height(face)
    assert labels_at(labels, face[None, TOP] + up * 0.2 * face_height(face))[0] == Region.HAIR
    assert labels_at(labels, face[[151]])[0] == Region.SKIN
    assert 0.1 < (mask / 255).mean() < 0.7


def test_missing_network_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("AVATARZOO_ASSETS", str(tmp_path))
    monkeypatch.setenv("AVATARZOO_CACHE", str(tmp_path))
    assert parsing.load_network() is None
