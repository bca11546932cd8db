"""Builds ``ict_facekit_light.npz`` from ICT-FaceKit's own OBJ files (github.com/ICT-VGL/ICT-FaceKit, MIT).

Rules: bases are differences to ``generic_neutral_mesh.obj``, stored as float16; polygons are cut into fans in the order of
their corners; lengths stay centimetres. The regions are ranges of vertices, published with the model.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from avatarzoo import assets
from avatarzoo.errors import MissingAssetError
from avatarzoo.files import atomic_path

NEUTRAL = "generic_neutral_mesh.obj"
SOURCE = "https://github.com/ICT-VGL/ICT-FaceKit (ICT Face Model Light), commit da5f95a, MIT"
REGIONS = {
    "face": (0, 9409), "head_neck": (9409, 11248), "mouth_socket": (11248, 13294), "eye_socket_left": (13294, 13678),
    "eye_socket_right": (13678, 14062), "gums_tongue": (14062, 17039), "teeth": (17039, 21451),
    "eyeball_left": (21451, 23021), "eyeball_right": (23021, 24591), "lacrimal_fluid_left": (24591, 24795),
    "lacrimal_fluid_right": (24795, 24999), "eye_blend_left": (24999, 25023), "eye_blend_right": (25023, 25047),
    "eye_occlusion_left": (25047, 25199), "eye_occlusion_right": (25199, 25351), "eyelashes_left": (25351, 26035),
    "eyelashes_right": (26035, 26719), "face_narrow": (0, 6706), "sclera_left": (21451, 22221),
    "iris_left": (22221, 23021), "sclera_right": (23021, 23791), "iris_right": (23791, 24591),
    "teeth_upper": (17039, 19247), "teeth_lower": (19247, 21451),
}  # fmt: skip
JAW_LINE = (1278, 1272, 12, 1834, 243, 781, 2199, 1447, 966, 3661, 4390, 3022, 2484, 4036, 2253, 3490, 3496)
"""The published alternative for the first 17 of the 68 landmarks."""


class Mesh(NamedTuple):
    """Polygons of up to four corners, -1 where there is no fourth."""

    vertices: np.ndarray
    uv: np.ndarray
    polygons: np.ndarray
    uv_polygons: np.ndarray
    material: np.ndarray
    material_names: tuple[str, ...]


def fetch_ict(progress: Callable[[int, int], None] | None = None) -> Path:
    """Download the upstream archive, build the file in the first search folder, verify it.

    Raises:
        MissingAssetError: no connection, or the archive gives another model than the published one.
        OutputError: the folder cannot be written.
    """
    asset = assets.describe("ict-facekit")
    if assets.locate(asset.name) is not None:
        return assets.find(asset.name)
    target = assets.search_folders()[0] / asset.file
    with atomic_path(target) as temporary, tempfile.TemporaryDirectory() as scratch:
        archive = Path(scratch) / "upstream.zip"
        assets.download(str(asset.url), archive, progress)
        with zipfile.ZipFile(archive) as opened:
            root = next((n for n in opened.namelist() if n.endswith(f"FaceXModel/{NEUTRAL}")), None)
            if root is None:
                raise MissingAssetError(
                    f"{asset.url} holds no ICT head; try again or tell the avatarzoo authors."
                )
            build(zipfile.Path(opened, root.removesuffix(NEUTRAL)), temporary)
        assets.check_download(asset, temporary)
    return target


def build(folder: Any, target: Path, regions: dict[str, tuple[int, int]] | None = None) -> None:
    """Write the .npz from a folder like upstream's ``FaceXModel``.

    Args:
        folder: a ``pathlib.Path`` or ``zipfile.Path``.
        regions: name -> range of vertices, instead of the published :data:`REGIONS`.

    Raises:
        MissingAssetError: a file is missing or has another number of vertices.
    """
    try:
        lists = json.loads((folder / "vertex_indices.json").read_text())
        mesh = read_obj((folder / NEUTRAL).read_text())
        names = [path.name.removesuffix(".obj") for path in folder.iterdir() if path.name.endswith(".obj")]
        expressions = [str(name) for name in lists["expressions"]]
        identities = sorted(name for name in names if name.startswith("identity"))
        extras = sorted(set(names) - {*identities, *expressions, NEUTRAL.removesuffix(".obj")})
        bases = {key: _basis(folder, group, mesh) for key, group in
                 (("identity", identities), ("expression", expressions), ("extra", extras))}  # fmt: skip
    except (OSError, KeyError, ValueError) as error:
        raise MissingAssetError(
            f"{folder} is not ICT-FaceKit's FaceXModel folder ({error}); get it again."
        ) from error
    parent = Path(str(folder)).parent if isinstance(folder, Path) else folder.parent
    license_file = parent / "LICENSE"
    arrays = _topology(mesh, regions or REGIONS) | _lists(lists)
    for key, (group, basis) in bases.items():
        arrays |= {f"{key}_basis": basis, f"{key}_names": np.array(group)}
    arrays["license"] = np.array(license_file.read_text() if license_file.is_file() else "MIT")
    arrays["source"] = np.array(SOURCE)
    with target.open("wb") as file:
        np.savez_compressed(file, **arrays)


def read_obj(text: str) -> Mesh:
    """Vertices, texture coordinates and polygons of an OBJ file, in file order."""
    rows: dict[str, list[str]] = {"v": [], "vt": []}
    polygons: list[list[list[int]]] = []
    materials: list[str] = []
    current, of_polygon = -1, []
    for line in text.splitlines():
        head, _, rest = line.partition(" ")
        if head in rows:
            rows[head].append(rest)
        elif head == "f":
            polygons.append([[int(x) - 1 for x in corner.split("/")[:2]] for corner in rest.split()])
            of_polygon.append(current)
        elif head == "usemtl":
            materials += [rest.strip()] if rest.strip() not in materials else []
            current = materials.index(rest.strip())
    corners = np.full((len(polygons), 4, 2), -1, np.int32)
    for i, polygon in enumerate(polygons):
        corners[i, : len(polygon)] = polygon
    return Mesh(
        _numbers(rows["v"])[:, :3], _numbers(rows["vt"])[:, :2], corners[..., 0], corners[..., 1],
        np.array(of_polygon, np.int8), tuple(materials),
    )  # fmt: skip


def _numbers(lines: list[str]) -> np.ndarray:
    return np.array(" ".join(lines).split(), np.float64).reshape(len(lines), -1)


def _basis(folder: Any, names: list[str], mesh: Mesh) -> tuple[list[str], np.ndarray]:
    """``(names, (n, V, 3) float16)``: differences to the neutral mesh."""
    basis = np.empty((len(names), *mesh.vertices.shape), np.float16)
    for i, name in enumerate(names):
        lines = [
            line[2:] for line in (folder / f"{name}.obj").read_text().splitlines() if line.startswith("v ")
        ]
        basis[i] = _numbers(lines)[:, :3] - mesh.vertices
    return names, basis


def fan(polygons: np.ndarray) -> np.ndarray:
    """``(triangles (F, 3) as places in a polygon's corners, polygon of each triangle (F,))`` packed as ``(F, 4)``."""
    quads = polygons[:, 3] >= 0
    owner = np.repeat(np.arange(len(polygons)), 1 + quads)
    second = np.concatenate([[False], owner[1:] == owner[:-1]])
    places = np.where(second[:, None], [0, 2, 3], [0, 1, 2])
    return np.concatenate([places, owner[:, None]], 1)


def _topology(mesh: Mesh, regions: dict[str, tuple[int, int]]) -> dict[str, Any]:
    cut = fan(mesh.polygons)
    owner = cut[:, 3]
    highest = mesh.polygons.max(1)  # a part's polygons are those whose highest vertex lies in its range

    def span(of: np.ndarray, low: int, high: int) -> tuple[int, int]:
        inside = np.flatnonzero((of >= low) & (of < high))
        return (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (0, 0)

    return {
        "v_template": mesh.vertices.astype(np.float32), "uv": mesh.uv.astype(np.float32),
        "faces": np.take_along_axis(mesh.polygons[owner], cut[:, :3], 1).astype(np.int32),
        "uv_faces": np.take_along_axis(mesh.uv_polygons[owner], cut[:, :3], 1).astype(np.int32),
        "face_polygon": owner.astype(np.int32), "polygons": mesh.polygons, "uv_polygons": mesh.uv_polygons,
        "face_material": mesh.material[owner], "material_names": np.array(mesh.material_names),
        "region_names": np.array(list(regions)), "region_vertices": np.array(list(regions.values()), np.int32),
        "region_faces": np.array([span(highest[owner], *r) for r in regions.values()], np.int32),
        "region_polygons": np.array([span(highest, *r) for r in regions.values()], np.int32),
    }  # fmt: skip


def _lists(lists: dict[str, Any]) -> dict[str, np.ndarray]:
    """Index lists of ``vertex_indices.json``; those of rigid vertices have had more than one name upstream."""
    landmarks = np.array(lists["idx_to_landmark_verts"], np.int32)
    rigid: list[int] = next((lists[key] for key in lists if key.endswith("rigid_verts")), [])
    return {
        "landmarks68": landmarks,
        "landmarks68_jawline": np.concatenate([np.array(JAW_LINE, np.int32), landmarks[17:]]),
        "fitting_vertices": np.array(lists.get("idx_to_fitting_verts", []), np.int32),
        "rigid_vertices": np.array(rigid, np.int32),
        "rigid_landmarks": np.array(lists.get("idx_to_rigid_landmark_idx", []), np.int32),
    }
