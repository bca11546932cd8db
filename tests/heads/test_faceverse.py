"""FaceVerse from files the tests write."""

from __future__ import annotations

import math
import os

import numpy as np
import pytest
import torch

from avatarzoo.errors import MissingAssetError, UnsafeCheckpointError
from avatarzoo.heads import FaceVerse, load_head


@pytest.fixture(scope="module")
def head(faceverse_file):
    return FaceVerse(str(faceverse_file))


def test_linear_model_in_metres(head, faceverse_data):
    generator = torch.manual_seed(0)
    params = head.zeros(2)._replace(
        identity=torch.randn(2, 150, generator=generator), expression=torch.rand(2, 52, generator=generator)
    )
    expected = (
        faceverse_data["meanshape"].ravel() + params.identity.double().numpy() @ faceverse_data["idBase"].T
    )
    expected += params.expression.double().numpy() @ faceverse_data["exBase_52"].T
    np.testing.assert_allclose(head(params), expected.reshape(2, -1, 3) / 1000, atol=1e-6)


def test_names_bounds_and_versions(head, faceverse4_file, faceverse_file):
    assert (head.n_identity, head.n_expression) == (150, 52)
    assert head.expression_names[0] == "jawOpen"
    assert head.expression_bounds == (0.0, math.inf)
    long = FaceVerse(str(faceverse_file), expression="exBase")
    assert (long.n_expression, long.expression_bounds, long.expression_names[3]) == (171, None, "exp_003")
    v4 = load_head("faceverse4", str(faceverse4_file))
    assert (v4.n_identity, v4.n_expression, v4.version) == (156, 177, "4")
    assert len(v4.face_regions["teeth"]) > 0
    assert "teeth" not in head.face_regions
    assert v4.landmarks().faces.shape == (478,)


def test_scale_axes_and_offset(head, faceverse_file):
    """The public v3 tracker's own frame, and one shifted like Next3D's."""
    params = head.zeros()._replace(identity=torch.randn(1, 150), expression=torch.rand(1, 52))
    flipped = FaceVerse(str(faceverse_file), scale=0.01, axes=(1, -1, -1))
    torch.testing.assert_close(
        flipped(params), head(params) * 10 * torch.tensor([1.0, -1, -1]), atol=1e-5, rtol=1e-5
    )
    moved = FaceVerse(str(faceverse_file), offset=(0, 1, 0))
    torch.testing.assert_close(moved(params), head(params) + torch.tensor([0.0, 1, 0]))
    mirrored = FaceVerse(str(faceverse_file), axes=(1, 1, -1))
    assert torch.equal(mirrored.faces, head.faces.flip(1))  # triangles still face outwards


def test_landmarks_are_the_files_own_vertices(head, faceverse_data):
    vertices = head(head.zeros())
    expected = vertices[:, torch.from_numpy(faceverse_data["mediapipe_keypoints"])]
    torch.testing.assert_close(head.landmark_points(vertices), expected)


def test_eyes_turn_about_their_middle_and_nothing_else_moves(head):
    params = head.zeros()._replace(eyes=torch.tensor([[0.0, 0.4, 0.0, 0.0, 0.0, 0.0]]))
    rest, moved = head(head.zeros())[0], head(params)[0]
    left = head.vertex_regions["eyeball_left"]
    still = torch.ones(len(rest), dtype=torch.bool)
    still[left] = False
    assert torch.equal(moved[still], rest[still])
    centre = head.joints(params)["eye_left"][0]
    torch.testing.assert_close(centre, rest[left].mean(0) + torch.tensor([0, 0, 0.0005]), atol=1e-6, rtol=0)
    torch.testing.assert_close(
        (moved[left] - centre).norm(dim=1), (rest[left] - centre).norm(dim=1), atol=1e-6, rtol=0
    )
    assert (
        moved[left][rest[left][:, 2].argmax(), 0] > rest[left][rest[left][:, 2].argmax(), 0]
    )  # +y turns to +x


def test_neck_turns_all_and_jaw_is_refused(head):
    turned = head(head.zeros()._replace(neck=torch.tensor([[0.0, 0.3, 0.0]])))[0]
    rest = head(head.zeros())[0]
    torch.testing.assert_close(torch.pdist(turned[::40]), torch.pdist(rest[::40]), atol=1e-6, rtol=1e-5)
    assert (turned - rest).norm(dim=1).max() > 0.02
    with pytest.raises(ValueError, match="no jaw joint"):
        head(head.zeros()._replace(jaw=torch.tensor([[0.1, 0, 0]])))


def test_texture_coordinates(head, faceverse_data, tmp_path):
    np.testing.assert_allclose(head.uv, faceverse_data["uvtex"][:, :2] / 255, atol=1e-6)
    np.save(tmp_path / "plain.npy", {k: v for k, v in faceverse_data.items() if k != "uvtex"})
    with pytest.raises(MissingAssetError, match="texture coordinates"):
        _ = FaceVerse(str(tmp_path / "plain.npy")).uv


def test_bad_files(tmp_path, faceverse_data, monkeypatch):
    monkeypatch.setenv("AVATARZOO_ASSETS", str(tmp_path))
    with pytest.raises(MissingAssetError, match=r"FaceVerse.*faceverse_v4_2\.npy"):
        FaceVerse(version="4")
    np.save(tmp_path / "other.npy", {"a": 1})
    with pytest.raises(MissingAssetError, match="not a FaceVerse model"):
        FaceVerse(str(tmp_path / "other.npy"))
    np.save(tmp_path / "short.npy", {**faceverse_data, "idBase": np.zeros((10, 3))})
    with pytest.raises(MissingAssetError, match="not a FaceVerse model"):
        FaceVerse(str(tmp_path / "short.npy"))

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    np.save(tmp_path / "evil.npy", {**faceverse_data, "texBase": Evil()})
    with pytest.raises(UnsafeCheckpointError):
        FaceVerse(str(tmp_path / "evil.npy"))
    assert not (tmp_path / "ran").exists()
