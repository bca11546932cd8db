"""Building the ICT file from OBJ files, and the head class on such a file: a small one with the same rules and parts."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from avatarzoo import assets
from avatarzoo.errors import MissingAssetError
from avatarzoo.heads import ICTFace
from avatarzoo.heads.ict_build import NEUTRAL, build, fan, fetch_ict, read_obj

PARTS = {  # name: centre, radius (cm); in the order of the vertices
    "face": ((0, 0, 2), 9), "head_neck": ((0, -2, -2), 11), "mouth_socket": ((0, -4, 7), 2),
    "gums_tongue": ((0, -4, 7), 1.5),
    "teeth_upper": ((0, -3, 9), 0.8), "teeth_lower": ((0, -5, 9), 0.8), "sclera_left": ((3, 3, 8), 1.5),
    "iris_left": ((3, 3, 8), 1.3), "sclera_right": ((-3, 3, 8), 1.5), "iris_right": ((-3, 3, 8), 1.3),
}  # fmt: skip
JOINED = {"teeth": ("teeth_upper", "teeth_lower"), "eyeball_left": ("sclera_left", "iris_left"),
          "eyeball_right": ("sclera_right", "iris_right")}  # fmt: skip
EXPRESSIONS = ["eyeBlink_L", "eyeBlink_R", "jawLeft", "jawOpen", "jawRight", "mouthLeft", "mouthRight"]
RINGS, COLUMNS = 10, 14
HINGE, ANGLE = np.array([0, -0.5, 1.8]), np.deg2rad(25)


def ball(part: int) -> tuple[np.ndarray, np.ndarray, list[list[int]]]:
    """Vertices, texture coordinates (a disc of radius 0.5 about the pole that looks along +z) and polygons of a part."""
    centre, radius = list(PARTS.values())[part]
    polar = np.linspace(0, np.pi, RINGS + 1)[1:-1, None]
    around = np.arange(COLUMNS) * 2 * np.pi / COLUMNS
    ring = np.stack(
        np.broadcast_arrays(np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), np.cos(polar)), -1
    )
    points = np.concatenate([[[0, 0, 1.0]], ring.reshape(-1, 3), [[0, 0, -1.0]]])
    reach = np.arccos(points[:, 2:].clip(-1, 1)) / np.pi
    flat = points[:, :2] / np.linalg.norm(points[:, :2], axis=1, keepdims=True).clip(1e-9)
    uv = 0.5 + 0.49 * reach * flat + [1 if part in (1, 2) else 0, 0]
    if part == 2:  # the mouth socket shares the tile of the back of the head
        uv = (uv - [1, 0]) * 0.1 + [1.02, 0.9]
    last, polygons = len(points) - 1, []
    for c in range(COLUMNS):
        d = (c + 1) % COLUMNS
        polygons.append([0, 1 + c, 1 + d])
        for r in range(RINGS - 2):
            a, b = 1 + r * COLUMNS, 1 + (r + 1) * COLUMNS
            polygons.append([a + c, b + c, b + d, a + d])
        polygons.append([last - COLUMNS + d, last - COLUMNS + c, last])
    return points * radius + centre, uv, polygons


def write_folder(folder: Path) -> dict[str, tuple[int, int]]:
    folder.mkdir(parents=True)
    balls = [ball(i) for i in range(len(PARTS))]
    starts = np.cumsum([0, *(len(v) for v, _, _ in balls)])
    vertices = np.concatenate([v for v, _, _ in balls])
    regions = {name: (int(a), int(b)) for name, a, b in zip(PARTS, starts, starts[1:])}
    regions |= {name: (regions[a][0], regions[b][1]) for name, (a, b) in JOINED.items()}
    lines = [f"vt {u:.6f} {v:.6f}" for _, uv, _ in balls for u, v in uv]
    for name, start, (_, _, polygons) in zip(PARTS, starts, balls):
        lines.append(f"usemtl M_{name}")
        lines += [
            "f " + " ".join(f"{i + start + 1}/{i + start + 1}" for i in polygon) for polygon in polygons
        ]

    def write(name: str, points: np.ndarray, more: list[str]) -> None:
        text = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in points]
        (folder / f"{name}.obj").write_text("\n".join(["# made by a test", *text, *more]))

    rng = np.random.default_rng(0)
    write(NEUTRAL.removesuffix(".obj"), vertices, lines)
    for i in range(4):
        write(
            f"identity{i:03d}",
            vertices + rng.normal(size=3) * 0.1 + rng.normal(size=vertices.shape) * 0.01,
            lines,
        )
    for name in EXPRESSIONS:
        moved = vertices.copy()
        if name == "jawOpen":
            c, s = np.cos(ANGLE), np.sin(ANGLE)
            low = slice(*regions["teeth_lower"])
            moved[low] = (vertices[low] - HINGE) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]]).T + HINGE
        elif name.startswith("eyeBlink"):
            moved[: regions["face"][1]] += rng.normal(size=(regions["face"][1], 3)) * 0.1
        write(name, moved, lines)
    write("cheekRaiser_L", vertices + 0.5, lines)
    lists = {
        "expressions": EXPRESSIONS,
        "idx_to_landmark_verts": list(range(68)),
        "idx_to_lap_rigid_verts": [1, 2],
    }
    (folder / "vertex_indices.json").write_text(json.dumps(lists))
    (folder.parent / "LICENSE").write_text("MIT License")
    return regions


@pytest.fixture(scope="module")
def upstream(tmp_path_factory) -> tuple[Path, dict[str, tuple[int, int]]]:
    folder = tmp_path_factory.mktemp("upstream") / "FaceXModel"
    return folder, write_folder(folder)


@pytest.fixture(scope="module")
def built(upstream, tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("built") / "ict.npz"
    build(upstream[0], target, upstream[1])
    return target


@pytest.fixture
def head(built) -> ICTFace:
    return ICTFace(str(built))


def test_bases_are_differences_to_the_neutral_mesh(upstream, built):
    folder, _ = upstream
    with np.load(built, allow_pickle=False) as file:
        neutral = read_obj((folder / NEUTRAL).read_text()).vertices
        assert file["v_template"].dtype == np.float32
        np.testing.assert_array_equal(file["v_template"], neutral.astype(np.float32))
        assert list(file["expression_names"]) == EXPRESSIONS
        assert list(file["identity_names"]) == [f"identity{i:03d}" for i in range(4)]
        assert list(file["extra_names"]) == ["cheekRaiser_L"]
        assert str(file["license"]) == "MIT License"
        for key in ("identity", "expression", "extra"):
            assert file[f"{key}_basis"].dtype == np.float16
            for name, basis in zip(file[f"{key}_names"], file[f"{key}_basis"]):
                moved = read_obj((folder / f"{name}.obj").read_text()).vertices
                np.testing.assert_array_equal(basis, (moved - neutral).astype(np.float16))


def test_polygons_become_fans_in_the_order_of_their_corners(upstream, built):
    lines = (upstream[0] / NEUTRAL).read_text().splitlines()
    expected = []
    for line in lines:
        if line.startswith("f "):
            corners = [int(c.split("/")[0]) - 1 for c in line.split()[1:]]
            expected += [[corners[0], corners[i], corners[i + 1]] for i in range(1, len(corners) - 1)]
    with np.load(built) as file:
        assert file["faces"].tolist() == expected
        np.testing.assert_array_equal(
            file["uv_faces"], file["faces"]
        )  # the test's texture is numbered like its vertices
        assert [str(n) for n in file["material_names"]] == [f"M_{name}" for name in PARTS]
        for name, (low, high), (first, end) in zip(
            file["region_names"], file["region_vertices"], file["region_faces"]
        ):
            corners = file["faces"][first:end]
            assert (corners.min(), corners.max()) == (low, high - 1), name
    assert fan(np.array([[0, 1, 2, -1], [5, 6, 7, 8]])).tolist() == [[0, 1, 2, 0], [0, 1, 2, 1], [0, 2, 3, 1]]


def test_the_same_from_a_zip_archive(upstream, built, tmp_path):
    folder, regions = upstream
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in (*folder.iterdir(), folder.parent / "LICENSE"):
            archive.write(path, Path("ICT-FaceKit-x") / path.relative_to(folder.parent))
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        build(zipfile.Path(archive, "ICT-FaceKit-x/FaceXModel/"), tmp_path / "b.npz", regions)
    with np.load(tmp_path / "b.npz") as one, np.load(built) as two:
        assert set(one.files) == set(two.files)
        assert all(np.array_equal(one[key], two[key]) for key in two.files)


def test_fetch_refuses_another_model_than_the_published_one(upstream, tmp_path, monkeypatch):
    """The whole way: archive, build, verification, nothing left behind."""
    folder, _ = upstream
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, Path("ICT-FaceKit-x") / path.relative_to(folder.parent))
    monkeypatch.setenv("AVATARZOO_ASSETS", str(tmp_path / "assets"))
    monkeypatch.setattr(
        assets,
        "download",
        lambda url, target, progress: target.write_bytes((tmp_path / "a.zip").read_bytes()),
    )
    with pytest.raises(MissingAssetError, match="not the published"):
        fetch_ict()
    assert list((tmp_path / "assets").iterdir()) == []


def test_incomplete_folder_is_one_sentence(tmp_path):
    with pytest.raises(MissingAssetError, match="is not ICT-FaceKit's"):
        build(tmp_path, tmp_path / "x.npz")


def test_head_reads_it_in_metres(head, built):
    with np.load(built) as file:
        expected = (file["v_template"] - [0, 1, 5]) / 100
        np.testing.assert_allclose(head.v_template, expected, atol=1e-7)
        assert (head.n_identity, head.n_expression) == (4, len(EXPRESSIONS))
        params = head.zeros()._replace(identity=torch.tensor([[1.0, -2, 0, 0.5]]))
        moved = (
            np.einsum("n,nvk->vk", params.identity[0].numpy(), file["identity_basis"].astype(np.float32))
            / 100
        )
        np.testing.assert_allclose(head(params)[0], expected + moved, atol=1e-6)
    assert head.state_dict() == {}


def test_jaw_joint_repeats_the_lower_teeth_of_jaw_open(head):
    zeros = head.zeros()
    opened = zeros.expression.clone()
    opened[0, EXPRESSIONS.index("jawOpen")] = 1
    teeth = head.vertex_regions["teeth_lower"]
    by_shape = head(zeros._replace(expression=opened))[0, teeth]
    by_joint = head(zeros._replace(jaw=torch.tensor([[ANGLE, 0, 0]], dtype=torch.float32)))[0]
    torch.testing.assert_close(by_joint[teeth], by_shape, atol=2e-4, rtol=0)
    joint = head.joints(zeros)["jaw"][0]
    np.testing.assert_allclose(joint, (HINGE - [0, 1, 5]) / 100, atol=1e-4)
    upper = head.vertex_regions["teeth_upper"]
    torch.testing.assert_close(by_joint[upper], head.v_template[upper])


def test_eyelids_add_to_blink_and_blink_closes(head, built):
    lids = head(head.zeros()._replace(eyelids=torch.tensor([[0.4, 0.0]])))
    blink = head.zeros().expression
    blink[0, 0] = 0.4
    torch.testing.assert_close(lids, head(head.zeros()._replace(expression=blink)), atol=1e-7, rtol=1e-5)
    with np.load(built) as file:
        shape = file["expression_basis"][0].astype(np.float32) * 0.4 * 1.1 / 100
    np.testing.assert_allclose(lids[0] - head.v_template, shape, atol=1e-6)


def test_parts_choose_faces_and_keep_vertices(built, head):
    everything, eyes = ICTFace(str(built), parts="all"), ICTFace(str(built), parts=("sclera_left", "face"))
    inner = 2 * 2 * COLUMNS * (RINGS - 1)  # triangles of the two inner eyeballs
    assert len(everything.faces) == len(head.faces) + inner
    assert len(eyes.v_template) == len(head.v_template)
    assert set(eyes.face_regions) >= {"skin", "face", "eyeball_left", "iris_left"}
    assert "teeth" not in eyes.face_regions
    for model in (head, everything, eyes):
        ids = model.face_regions["eyeball_left"]
        assert set(model.faces[ids].unique().tolist()) == set(head.vertex_regions["sclera_left"].tolist())


def test_left_right_pairs(head):
    names = head.expression_names
    assert [(names[a], names[b]) for a, b in head.left_right] == [
        ("eyeBlink_L", "eyeBlink_R"), ("jawLeft", "jawRight"), ("mouthLeft", "mouthRight")
    ]  # fmt: skip


def test_foreign_files(tmp_path):
    with pytest.raises(MissingAssetError, match="avatarzoo assets fetch ict-facekit"):
        ICTFace(str(tmp_path / "none.npz"))
    np.savez(tmp_path / "other.npz", a=np.zeros(2))
    with pytest.raises(MissingAssetError, match="not an ICT head file"):
        ICTFace(str(tmp_path / "other.npz"))


def test_training_after_inference(head):
    """What inference leaves in the identity cache (joints, above all) must serve gradients of poses afterwards."""
    with torch.inference_mode():
        expected = head(head.zeros()._replace(jaw=torch.tensor([[0.2, 0, 0]])))
    jaw = torch.tensor([[0.2, 0.0, 0.0]], requires_grad=True)
    vertices = head(head.zeros()._replace(jaw=jaw))
    torch.testing.assert_close(vertices.detach(), expected)
    vertices[..., 1].sum().backward()
    assert jaw.grad[0, 0] < 0  # opening lowers the chin
