"""The landmark embedding that the project finds by itself."""

import numpy as np
import pytest
import torch

from avatarzoo.errors import MissingAssetError, NoFaceError
from avatarzoo.heads import load_head
from avatarzoo.trackers import embedding as finder
from avatarzoo.trackers import landmark_groups as groups
from avatarzoo.trackers.margins import find_margin
from avatarzoo.trackers.portrait import Portrait


@pytest.fixture(scope="module")
def ict():
    try:
        return load_head("ict")
    except MissingAssetError:
        pytest.skip("the ICT head file is not on this machine (AVATARZOO_ASSETS)")


@pytest.fixture(scope="module")
def procedural():
    return load_head("procedural")


def on_head(head, embedding, **expression):
    """``(478, 3)`` places in millimetres under an expression."""
    params = head.zeros(1)
    for name, value in expression.items():
        params.expression[0, head.expression_names.index(name)] = value
    corners = head(params)[0][head.faces[embedding.faces]]
    return 1000 * (corners * embedding.barycentrics[..., None]).sum(1).numpy()


def test_closest_point_on_mesh(procedural):
    """Against a brute force over dense samples of the same faces."""
    faces = procedural.face_regions["skin"].numpy()
    rng = np.random.default_rng(0)
    chosen, weights = rng.choice(faces, 200), rng.dirichlet([1, 1, 1], 200)
    corners = procedural.v_template.double().numpy()[procedural.faces.numpy()[chosen]]
    points = (corners * weights[..., None]).sum(1)
    found, barycentrics = finder.closest_on_mesh(points, procedural, faces)
    again = procedural.v_template.double().numpy()[procedural.faces.numpy()[found]]
    assert np.abs((again * barycentrics[..., None]).sum(1) - points).max() < 1e-6
    assert (barycentrics > -1e-9).all()
    assert np.allclose(barycentrics.sum(1), 1)
    away = points + 0.003 * rng.normal(size=points.shape)
    found, barycentrics = finder.closest_on_mesh(away, procedural, faces)
    again = procedural.v_template.double().numpy()[procedural.faces.numpy()[found]]
    distance = np.linalg.norm((again * barycentrics[..., None]).sum(1) - away, axis=1)
    assert (distance <= np.linalg.norm(away - points, axis=1) + 1e-9).all()


def test_margin_of_an_eye_lies_between_skin_and_eyeball(procedural):
    portrait = Portrait(procedural)
    joints = procedural.joints(procedural.zeros(1))
    centre = joints["eye_left"][0].numpy() + [0, 0, 0.012]
    margin = find_margin(procedural, portrait, procedural.zeros(1), centre, "eyeball_left")
    assert (margin.upper[:, 1] >= margin.lower[:, 1]).all()
    assert 0.006 < (margin.upper[:, 1] - margin.lower[:, 1]).max() < 0.016
    ball = np.linalg.norm(np.concatenate(margin) - joints["eye_left"][0].numpy(), axis=1)
    # on the lid, which rests on the eyeball
    assert ball.min() > 0.0105
    assert np.median(ball) < 0.016


@pytest.mark.assets
@pytest.mark.slow
def test_found_again_as_stored(ict):
    """The packaged ICT embedding is what ``avatarzoo embed`` finds."""
    found, stored = finder.find_embedding(ict), ict.landmarks()
    distance = np.linalg.norm(on_head(ict, found) - on_head(ict, stored), axis=1)
    assert np.median(distance) < 0.1
    assert distance.max() < 1.0


@pytest.mark.assets
def test_lids_and_lips_close(ict):
    stored = ict.landmarks()
    closed = on_head(ict, stored, eyeBlink_L=1.0, eyeBlink_R=1.0)
    for name in ("eye_left", "eye_right"):
        a, b = groups.GAPS[name]
        # lids slide sideways on each other when they close; without the margins they stay 3.5 mm apart in height
        assert abs(closed[a, 1] - closed[b, 1]) < 1.0
    a, b = groups.GAPS["lips"]
    assert abs(closed[a, 1] - closed[b, 1]) < 1.0


@pytest.mark.assets
def test_symmetric_and_on_the_right_parts(ict):
    stored = ict.landmarks()
    points = on_head(ict, stored)
    pairs = finder.mirror_pairs(points)
    assert (pairs[pairs] == np.arange(478)).all()
    assert pairs[33] == 263
    assert np.abs(points - points[pairs] * [-1, 1, 1]).max() < 1.0
    for side, iris in (("left", groups.IRIS_LEFT), ("right", groups.IRIS_RIGHT)):
        assert torch.isin(stored.faces[list(iris)], ict.face_regions[f"eyeball_{side}"]).all()


def test_a_head_that_is_no_face_is_refused(procedural, monkeypatch):
    monkeypatch.setattr(finder.FaceLandmarker, "detect", lambda self, picture: np.zeros((0, 478, 3)))
    with pytest.raises(NoFaceError, match="landmark embedding of its own"):
        finder.find_embedding(procedural)


def test_ensure_stores_what_it_finds(procedural, monkeypatch):
    kept = []
    expected = procedural.landmarks()

    def missing(self):
        raise MissingAssetError("none")

    monkeypatch.setattr(type(procedural), "landmarks", missing)
    monkeypatch.setattr(finder, "find_embedding", lambda head, progress: expected)
    monkeypatch.setattr("avatarzoo.heads.embedding_files.save_embedding", lambda head, e: kept.append(e))
    assert finder.ensure_embedding(procedural, progress=False) is expected
    assert kept == [expected]
