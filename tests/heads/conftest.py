"""Small FLAME and FaceVerse files that the tests make themselves."""

from __future__ import annotations

import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse


def sphere(
    centre: tuple[float, float, float], radius: float, rings: int = 6, columns: int = 8
) -> tuple[np.ndarray, np.ndarray]:
    """A closed sphere of quads split into triangles, poles up and down."""
    angles = np.linspace(0, np.pi, rings + 1)[1:-1]
    around = np.arange(columns) * 2 * np.pi / columns
    ring = np.stack([np.cos(around), np.zeros(columns), np.sin(around)], -1)
    points = [np.array([[0.0, 1.0, 0.0]])]
    points += [np.sin(a) * ring + [0, np.cos(a), 0] for a in angles]
    points.append(np.array([[0.0, -1.0, 0.0]]))
    vertices = np.concatenate(points) * radius + centre
    faces, last = [], len(vertices) - 1
    for c in range(columns):
        d = (c + 1) % columns
        faces.append([0, 1 + d, 1 + c])
        for r in range(rings - 2):
            a, b = 1 + r * columns, 1 + (r + 1) * columns
            faces += [[a + c, a + d, b + c], [a + d, b + d, b + c]]
        faces.append([last - columns + c, last - columns + d, last])
    return vertices, np.array(faces)


def head_mesh() -> tuple[np.ndarray, np.ndarray]:
    """A ball with an open mouth and an open neck, and two closed eyeballs, in that order."""
    skin, faces = sphere((0, 0, 0), 0.1, rings=24, columns=32)
    mouth = (abs(skin[:, 0]) < 0.03) & (abs(skin[:, 1] + 0.03) < 0.015) & (skin[:, 2] > 0)
    kept = faces[~(mouth | (skin[:, 1] < -0.09))[faces].any(1)]
    used, kept = np.unique(kept, return_inverse=True)
    parts = [
        (skin[used], kept.reshape(-1, 3)),
        sphere((0.03, 0.03, 0.09), 0.012),
        sphere((-0.03, 0.03, 0.09), 0.012),
    ]
    offsets = np.cumsum([0, *(len(v) for v, _ in parts)])
    return np.concatenate([v for v, _ in parts]), np.concatenate([f + o for (_, f), o in zip(parts, offsets)])


def flame_content(seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    vertices, faces = head_mesh()
    count = len(vertices)
    weights = rng.random((count, 5)) ** 4
    regressor = scipy.sparse.random(5, count, 0.05, "csc", random_state=seed)
    regressor = scipy.sparse.csc_matrix(regressor / regressor.sum(1))
    return {
        "v_template": vertices, "f": faces.astype(np.uint32), "shapedirs": rng.normal(size=(count, 3, 400)) * 1e-3,
        "posedirs": rng.normal(size=(count, 3, 36)) * 1e-3, "J_regressor": regressor,
        "kintree_table": np.array([[4294967295, 0, 1, 1, 1], [0, 1, 2, 3, 4]], np.uint32),
        "weights": weights / weights.sum(1, keepdims=True), "bs_style": "lbs", "bs_type": "lrotmin",
    }  # fmt: skip


def write_flame(path: Path, content: dict, protocol: int = 2, chumpy: bool = True) -> Path:
    """Pickle it with shapedirs, posedirs and v_template as chumpy arrays; chumpy exists only while pickling."""
    package, module = types.ModuleType("chumpy"), types.ModuleType("chumpy.ch")
    module.Ch = type("Ch", (), {"__module__": "chumpy.ch"})
    sys.modules.update({"chumpy": package, "chumpy.ch": module})
    try:
        content = dict(content)
        for key in ("shapedirs", "posedirs", "v_template") if chumpy else ():
            array = module.Ch()
            array.__dict__.update(x=content[key], _dirty_vars=set(), _itr=None, _depends_on_deps={})
            content[key] = array
        path.write_bytes(pickle.dumps(content, protocol))
    finally:
        del sys.modules["chumpy"], sys.modules["chumpy.ch"]
    return path


@pytest.fixture(scope="session")
def flame_data() -> dict:
    return flame_content()


@pytest.fixture(scope="session")
def flame_file(flame_data, tmp_path_factory) -> Path:
    return write_flame(tmp_path_factory.mktemp("flame") / "generic_model.pkl", flame_data)


def faceverse_content(v4: bool = False, seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    vertices, faces = head_mesh()
    if v4:
        teeth, more = sphere((0, -0.03, 0.07), 0.01)
        vertices, faces = np.concatenate([vertices, teeth]), np.concatenate([faces, more + len(vertices)])
    n = 3 * len(vertices)
    content = {
        "meanshape": vertices.reshape(-1, 1) * 1000, "tri": faces, "idBase": rng.normal(size=(n, 156 if v4 else 150)),
        "meantex": rng.random((len(vertices), 3)), "uvtex": rng.random((len(vertices), 3)) * 255,
    }  # fmt: skip
    points = rng.integers(0, len(vertices), 478)
    if v4:
        return content | {"exBase": rng.normal(size=(n, 177)), "keypoints_mediapipe": points}
    names = ["jawOpen", *(f"shape{i}" for i in range(51))]
    return content | {
        "exBase_52": rng.normal(size=(n, 52)), "exBase": rng.normal(size=(n, 171)), "exp_name_list_52": names,
        "mediapipe_keypoints": points,
    }  # fmt: skip


@pytest.fixture(scope="session")
def faceverse_data() -> dict:
    return faceverse_content()


@pytest.fixture(scope="session")
def faceverse_file(faceverse_data, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("faceverse") / "faceverse_v3_6_s.npy"
    np.save(path, faceverse_data)
    return path


@pytest.fixture(scope="session")
def faceverse4_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("faceverse4") / "faceverse_v4_2.npy"
    np.save(path, faceverse_content(v4=True))
    return path


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> None:
    """Tests neither read nor write the user's cache."""
    monkeypatch.setenv("AVATARZOO_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def make_flame():
    """``make_flame(path, content, protocol=2, chumpy=True)`` writes a FLAME file."""
    return write_flame
