"""FaceVerse v3, v3.1 and v4 from the user's own .npy file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Float
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from avatarzoo import assets
from avatarzoo.errors import MissingAssetError
from avatarzoo.heads.base import HeadParams, LandmarkEmbedding
from avatarzoo.heads.linear import LinearHead, Rig
from avatarzoo.heads.pickles import load_npy

ASSET = {"3": "faceverse3", "3.1": "faceverse3.1", "4": "faceverse4"}
KEYPOINTS = ("mediapipe_keypoints", "keypoints_mediapipe")  # v3, v4
EYE_FORWARD = 0.5
"""mm: the public tracker turns eyeballs about their mean vertex, moved 0.005 of its units (0.1 m) forward."""


class FaceVerse(LinearHead):
    """FaceVerse in metres, y up, face towards +z (the files are in millimetres and lie so already).

    There is no jaw joint: the jaw moves by expression, and ``params.jaw`` must stay zero. There is no skinning either: the
    neck joint turns everything about the middle of the lower rim; the eye joints turn the eyeballs. ``face_regions``:
    ``skin``, ``eyeball_left``, ``eyeball_right`` and, in v4, ``teeth`` (both rows and the tongue). ``vertex_colors`` is the mean
    texture ``(V, 3)`` in [0, 1], or ``None``.

    Args:
        path: the .npy; ``None`` takes the asset of this version.
        version: only names the file to look for and goes into :attr:`signature`.
        expression: key of the expression basis; ``None`` takes ``exBase_52`` where it exists, else ``exBase``.
        scale, axes, offset: vertices are ``file * axes * scale + offset``. The defaults give our frame; the public v3
            tracker's own is scale 0.01, axes (1, -1, -1); Next3D multiplies by 0.1 and moves by (0, 1, 0).

    Raises:
        MissingAssetError: no file (the message says where to get it) or not a FaceVerse model.
        UnsafeCheckpointError: the file asks for code.
    """

    name = "faceverse"

    def __init__(
        self,
        path: str | None = None,
        version: Literal["3", "3.1", "4"] = "3",
        expression: str | None = None,
        scale: float = 0.001,
        axes: tuple[float, float, float] = (1.0, 1.0, 1.0),
        offset: tuple[float, float, float] = (0.0, 0.0, 0.0),
    ) -> None:
        if version not in ASSET:
            raise MissingAssetError(
                f"There is no FaceVerse version {version!r}; the versions are {', '.join(ASSET)}."
            )
        file = assets.find(ASSET[version]) if path is None else Path(path)
        data = _read(file, expression)
        turn = np.asarray(axes) * scale
        template = data["meanshape"] * turn + np.asarray(offset)
        identity, shapes = (data[key] * turn[:, None] for key in ("idBase", "expression"))
        regions = _regions(data["tri"], template)
        rig = _rig(template, identity, regions, EYE_FORWARD * turn[2])
        super().__init__(
            torch.from_numpy(template), torch.from_numpy(identity), torch.from_numpy(shapes), rig
        )
        self.version, self.source_hash = version, assets.file_hash(file)
        arkit = len(data["names"]) == self.n_expression
        self.expression_names = (
            data["names"] if arkit else tuple(f"exp_{i:03d}" for i in range(self.n_expression))
        )
        self.expression_bounds = (0.0, math.inf) if arkit else None  # the public tracker clamps at zero only
        faces = data["tri"] if scale * math.prod(axes) > 0 else data["tri"][:, ::-1].copy()
        self.register_buffer("faces", torch.from_numpy(faces), persistent=False)
        self._set_regions(regions)
        self._set_uv(data["uvtex"])
        self.register_buffer("vertex_colors", data["meantex"], persistent=False)
        self._keypoints = data["keypoints"]

    def _set_regions(self, regions: dict[str, np.ndarray]) -> None:
        self.vertex_regions = {name: torch.from_numpy(ids) for name, ids in regions.items()}
        self.face_regions = {}
        for name, ids in self.vertex_regions.items():
            inside = torch.zeros(len(self.v_template), dtype=torch.bool)
            inside[ids] = True
            self.face_regions[name] = inside[self.faces[:, 0]].nonzero()[:, 0]

    def _set_uv(self, uvtex: np.ndarray | None) -> None:
        """``uvtex`` is a colour per vertex: red is u and green is v, up to 255 (facts measured on its renders, inferred)."""
        self._uv: Tensor | None
        if uvtex is None:
            self._uv = None
            return
        uv = uvtex[:, :2] / (255 if uvtex.max() > 1.5 else 1)
        self.register_buffer("_uv", torch.from_numpy(uv.astype(np.float32)), persistent=False)

    @property
    def uv(self) -> Tensor:  # type: ignore[override]
        if self._uv is None:
            raise MissingAssetError(
                "This FaceVerse file has no texture coordinates (uvtex); use a v3 file for texture space."
            )
        return self._uv

    @property
    def uv_faces(self) -> Tensor:  # type: ignore[override]
        return self.faces

    def pose(self, vertices: Float[Tensor, "b v 3"], params: HeadParams) -> Float[Tensor, "b v 3"]:
        if bool(params.jaw.detach().any()):
            raise ValueError(
                "FaceVerse has no jaw joint: open the mouth by its expression coefficients, keep params.jaw zero."
            )
        return super().pose(vertices, params)

    def landmarks(self) -> LandmarkEmbedding:
        """The file's own 478 vertices, each as the corner of one of its triangles."""
        if self._keypoints is None:
            return super().landmarks()
        faces = self.faces.cpu().numpy()
        corner_of = np.zeros(len(self.v_template), np.int64)
        corner_of[faces.ravel()] = np.arange(faces.size)
        corners = torch.from_numpy(corner_of[self._keypoints])
        weights = torch.nn.functional.one_hot(corners % 3, 3).float()
        return LandmarkEmbedding((corners // 3).to(self.faces.device), weights.to(self.faces.device))


def _read(path: Path, expression: str | None) -> dict[str, Any]:
    """Arrays by name: vertices ``(V, 3)``, bases ``(V, 3, n)`` in the file's units, triangles int64."""
    content = load_npy(path)
    wanted = ("meanshape", "idBase", "tri")
    if not isinstance(content, dict) or any(key not in content for key in wanted):
        raise MissingAssetError(
            f"{path} is not a FaceVerse model (keys {', '.join(wanted)}); give the model's own .npy."
        )
    key = expression or ("exBase_52" if "exBase_52" in content else "exBase")
    if key not in content:
        raise MissingAssetError(
            f"{path} has no expression basis {key}; its keys are {', '.join(map(str, content))}."
        )
    template = np.asarray(content["meanshape"], np.float64).reshape(-1, 3)
    names = content.get("exp_name_list_52") if key == "exBase_52" else content.get("exp_name_list")
    points = next((content[k] for k in KEYPOINTS if k in content), None)
    color = content.get("meantex")
    try:
        return {
            "meanshape": template,
            "idBase": np.asarray(content["idBase"], np.float64).reshape(*template.shape, -1),
            "expression": np.asarray(content[key], np.float64).reshape(*template.shape, -1),
            "tri": np.asarray(content["tri"]).astype(np.int64).reshape(-1, 3),
            "uvtex": None
            if "uvtex" not in content
            else np.asarray(content["uvtex"], np.float64).reshape(len(template), -1),
            "meantex": None if color is None else _unit_colors(np.asarray(color).reshape(template.shape)),
            "names": tuple(str(n) for n in (names if names is not None else ())),
            "keypoints": None if points is None else np.asarray(points).astype(np.int64).ravel(),
        }
    except ValueError as error:
        raise MissingAssetError(
            f"{path} is not a FaceVerse model ({error}); give the model's own .npy."
        ) from error


def _unit_colors(colors: np.ndarray) -> Float[Tensor, "v 3"]:
    """RGB in [0, 1], from that or from 0 to 255."""
    return torch.from_numpy(colors / (255 if colors.max() > 1.5 else 1)).float().clamp(0, 1)


def _regions(faces: np.ndarray, template: np.ndarray) -> dict[str, np.ndarray]:
    """Vertex ids by connected component: head, the two eyeballs that follow it in the file, then mouth parts (v4)."""
    edges = np.concatenate([faces[:, :2], faces[:, 1:]])
    graph = scipy.sparse.coo_matrix((np.ones(len(edges), bool), tuple(edges.T)), shape=(len(template),) * 2)
    _, piece = connected_components(graph, directed=False)
    _, first, sizes = np.unique(piece, return_index=True, return_counts=True)
    order = [p for p in np.argsort(first) if sizes[p] > 3]
    if len(order) < 3 or sizes[order[0]] < max(sizes[order[1:]]):
        raise MissingAssetError(
            "This file is not a FaceVerse head: no head followed by two eyeballs; give the model's own .npy."
        )
    eyes = sorted(order[1:3], key=lambda p: -template[piece == p, 0].mean())
    names = dict(zip(("skin", "eyeball_left", "eyeball_right"), (order[0], *eyes)))
    regions = {name: np.flatnonzero(piece == p) for name, p in names.items()}
    return regions if len(order) == 3 else regions | {"teeth": np.flatnonzero(np.isin(piece, order[3:]))}


def _rig(template: np.ndarray, identity: np.ndarray, regions: dict[str, np.ndarray], forward: float) -> Rig:
    """Eye joints at the eyeballs' mean vertices, the neck joint in the middle of the lowest tenth of the skin."""
    skin = regions["skin"]
    height = template[skin, 1]
    lowest = skin[height < height.min() + 0.1 * np.ptp(height)]
    eyes = [regions["eyeball_left"], regions["eyeball_right"]]
    joints = np.stack([template[ids].mean(0) for ids in (lowest, lowest, lowest, *eyes)])
    joints[3:, 2] += forward
    moves = np.stack([identity[ids].mean(0) for ids in (lowest, lowest, lowest, *eyes)])
    weights = np.zeros((len(template), 5))
    weights[:, 1] = 1
    for column, ids in zip((3, 4), eyes):
        weights[ids] = np.eye(5)[column]
    return Rig(torch.from_numpy(joints), torch.from_numpy(moves), None, torch.from_numpy(weights), None)
