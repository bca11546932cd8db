"""Alignment against known similarities; each embedder's preprocessing on a network whose output is known."""

from __future__ import annotations

import copy
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from avatarzoo.errors import MissingAssetError
from avatarzoo.perception import face_embedding as fe
from avatarzoo.perception.landmarks import LEFT_EYE, RIGHT_EYE


def field(number: int, value: int | bytes | str) -> bytes:
    """One field of a protocol buffer."""
    if isinstance(value, int):
        return bytes([number << 3]) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return bytes([number << 3 | 2]) + varint(len(value)) + value


def varint(value: int) -> bytes:
    low, rest = value & 127, value >> 7
    return bytes([low | 128]) + varint(rest) if rest else bytes([low])


def tensor_type(name: str, shape: list[int | str]) -> bytes:
    dims = b"".join(field(1, field(1 if isinstance(d, int) else 2, d)) for d in shape)
    return field(1, name) + field(2, field(1, field(1, 1) + field(2, dims)))


def mean_colour_network(path: Path, batch: int | str = "n", shape: tuple = (3, 112, 112)) -> Path:
    """An ONNX file that returns the mean of each channel of what it is given."""
    pool = field(1, "x") + field(2, "p") + field(4, "GlobalAveragePool")
    flat = field(1, "p") + field(2, "y") + field(4, "Flatten")
    values = field(11, tensor_type("x", [batch, *shape])) + field(12, tensor_type("y", [batch, shape[0]]))
    graph = field(1, pool) + field(1, flat) + field(2, "mean colour") + values
    path.write_bytes(field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 13)))
    return path


def face_at(points: np.ndarray) -> np.ndarray:
    """478 landmarks whose five points are these."""
    face = np.zeros((478, 3), np.float32)
    for group, point in zip((RIGHT_EYE, LEFT_EYE, (4,), (61,), (291,)), points):
        face[list(group), :2] = point
    return face


def similar(points: np.ndarray, scale: float = 3.0, angle: float = 0.4) -> np.ndarray:
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return scale * points @ turn.T + [250, 60]


def test_alignment_undoes_a_similarity() -> None:
    crop = fe.alignment(face_at(similar(fe.TEMPLATE))[None])
    back = crop.points(torch.from_numpy(similar(fe.TEMPLATE))[None])[0].numpy()
    assert np.abs(back - fe.TEMPLATE).max() < 1e-4
    assert abs(torch.linalg.det(crop.matrix[0, :, :2]).item() - 1 / 9) < 1e-6
    larger = fe.alignment(face_at(similar(fe.TEMPLATE))[None], 160)
    assert torch.allclose(larger.matrix, crop.matrix * (160 / 112))


def test_alignment_is_least_squares_not_affine() -> None:
    wide = torch.from_numpy(fe.TEMPLATE * [1.3, 1.0])
    matrix = fe.alignment(face_at(wide.numpy())[None]).matrix[0]
    assert torch.allclose(matrix[0, 0], matrix[1, 1])
    assert torch.allclose(matrix[0, 1], -matrix[1, 0])

    def error(factor: float) -> float:
        moved = factor * wide @ matrix[:, :2].T + matrix[:, 2]
        return float((moved - torch.from_numpy(fe.TEMPLATE)).square().sum())

    assert error(1.0) < min(error(0.999), error(1.001))


def test_pictures_go_where_the_points_go() -> None:
    points = similar(fe.TEMPLATE)
    y, x = np.mgrid[:500, :500] + 0.5
    blobs = sum(np.exp(-((x - px) ** 2 + (y - py) ** 2) / 60) for px, py in points)
    picture = torch.from_numpy(np.clip(blobs, 0, 1)).float().expand(1, 3, -1, -1)
    aligned = fe.align_faces(picture, torch.from_numpy(face_at(points))[None])
    assert aligned.shape == (1, 3, 112, 112)
    for px, py in fe.TEMPLATE:
        left, top = round(px) - 6, round(py) - 6
        patch = aligned[0, 0, top : top + 12, left : left + 12].numpy()
        gy, gx = np.mgrid[:12, :12] + 0.5
        assert abs((patch * gx).sum() / patch.sum() + left - px) < 0.15
        assert abs((patch * gy).sum() / patch.sum() + top - py) < 0.15


def test_a_picture_without_a_face_is_not_aligned() -> None:
    with pytest.raises(ValueError, match="without a face"):
        fe.align_faces(torch.zeros(1, 3, 64, 64), torch.full((1, 478, 3), torch.nan))


COLOURS = torch.tensor([[0.9, 0.5, 0.1], [0.2, 0.4, 1.0]])
FACES = COLOURS[:, :, None, None].expand(2, 3, 112, 112)


@pytest.mark.parametrize("batch", [1, "n"])
def test_arcface_sees_rgb_from_minus_one_to_one(tmp_path: Path, batch: int | str) -> None:
    network = fe.ArcFace(mean_colour_network(tmp_path / "a.onnx", batch))
    expected = torch.nn.functional.normalize(2 * COLOURS - 1)
    assert torch.allclose(network(FACES), expected, atol=1e-5)
    assert network(FACES[:0]).shape == (0, 3)
    assert (network.name, network.size) == ("ArcFace", 112)
    assert copy.deepcopy(network) is network


def test_mobilefacenet_sees_imagenet_statistics(tmp_path: Path) -> None:
    network = fe.MobileFaceNet(mean_colour_network(tmp_path / "m.onnx", 1))
    mean, deviation = (torch.tensor(v) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    assert torch.allclose(
        network(FACES), torch.nn.functional.normalize((COLOURS - mean) / deviation), atol=1e-4
    )


def test_rows_without_a_face_are_nan(tmp_path: Path) -> None:
    network = fe.ArcFace(mean_colour_network(tmp_path / "a.onnx"))
    landmarks = torch.from_numpy(np.stack([face_at(fe.TEMPLATE)] * 3))
    landmarks[1] = torch.nan
    pictures = torch.full((3, 3, 112, 112), 0.8)
    rows = fe.embed_faces(pictures, landmarks, network)
    assert torch.isnan(rows).all(1).tolist() == [False, True, False]
    assert torch.isnan(fe.embed_faces(pictures, torch.full_like(landmarks, torch.nan), network)).all()


def test_other_layouts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="square RGB"):
        fe.ArcFace(mean_colour_network(tmp_path / "a.onnx", "n", (112, 112, 3)))


def test_facenet_is_the_published_network(tmp_path: Path) -> None:
    package = pytest.importorskip("facenet_pytorch")
    torch.manual_seed(0)
    published = package.InceptionResnetV1(pretrained=None, classify=True, num_classes=7).eval()
    torch.save(published.state_dict(), tmp_path / "facenet.pt")
    network = fe.FaceNet(tmp_path / "facenet.pt")
    faces = torch.rand(2, 3, 160, 160)
    published.classify = False
    with torch.no_grad():
        expected = published((faces * 255 - 127.5) / 128)
    assert torch.allclose(network(faces), expected, atol=1e-5)
    assert network(faces[:0]).shape == (0, 512)
    weights = published.state_dict()
    weights.pop("last_linear.weight")
    torch.save(weights, tmp_path / "half.pt")
    with pytest.raises(RuntimeError, match="last_linear"):
        fe.FaceNet(tmp_path / "half.pt")


@pytest.fixture
def no_assets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("AVATARZOO_ASSETS", str(tmp_path))
    monkeypatch.setenv("AVATARZOO_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("auto", "fetch mobilefacenet"),
        ("mobilefacenet", "fetch mobilefacenet"),
        ("facenet", "fetch facenet"),
        ("arcface", "InsightFace"),
    ],
)
def test_missing_networks_are_named(no_assets: Path, name: str, way: str) -> None:
    with pytest.raises(MissingAssetError, match=way):
        fe.load_embedder(name)
    with pytest.raises(MissingAssetError, match="no file"):
        fe.ArcFace(no_assets / "nowhere.onnx")


def test_auto_takes_the_users_arcface_first(no_assets: Path) -> None:
    mean_colour_network(no_assets / "arcface.onnx")
    (no_assets / "MobileFaceNet.onnx").write_bytes(b"another network")
    assert fe.load_embedder().name == "ArcFace"
    with pytest.raises(MissingAssetError, match="sha256"):
        fe.load_embedder("mobilefacenet")
    with pytest.raises(ValueError, match="choose auto"):
        fe.load_embedder("sphereface")


@pytest.mark.assets
@pytest.mark.skipif("AVATARZOO_ASSETS" not in os.environ, reason="AVATARZOO_ASSETS is not set")
def test_real_mobilefacenet_gives_unit_vectors() -> None:
    network = fe.load_embedder("mobilefacenet")
    rows = network(torch.rand(3, 3, 112, 112, generator=torch.Generator().manual_seed(0)))
    assert rows.shape == (3, 128)
    assert torch.allclose(rows.norm(dim=1), torch.ones(3), atol=1e-5)
