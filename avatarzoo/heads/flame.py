"""FLAME 2020, 2023 and 2023 Open from the user's own file (flame.is.tue.mpg.de), without chumpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Float
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from avatarzoo import assets
from avatarzoo.errors import HeadModelMismatchError, MissingAssetError
from avatarzoo.geometry.rotations import axis_angle_to_matrix
from avatarzoo.heads.base import HeadParams
from avatarzoo.heads.linear import LinearHead, Rig
from avatarzoo.heads.pickles import load_npy, load_pickle

ASSET = {"2020": "flame2020", "2023": "flame2023", "2023_open": "flame2023-open"}
IDENTITY_SHAPES = 300
"""Of FLAME's 400 shape directions the first 300 are identity, the rest expression."""


class FLAME(LinearHead):
    """FLAME with its five joints and pose correctives (Li et al. 2017, Eq. 1-6), metres, y up, face towards +z.

    The rigid motion turns about the origin as with every head here; FLAME's own global pose turns about its root joint, see
    :meth:`from_native`. ``face_regions``: ``skin`` (``neck`` as a subset: what the neck joint does not carry fully),
    ``eyeball_left``, ``eyeball_right``. FLAME has no teeth and no mouth cavity; :meth:`mouth_loop` is the rim of the hole.

    Args:
        path: the pickle; ``None`` takes the asset of this version.
        version: only names the file to look for and goes into :attr:`signature`.
        template: ``head_template.obj`` or FLAME's texture .npz (keys vt, ft) for the texture coordinates, which are not in
            the pickle; ``None`` takes whichever of the two assets is present.
        eyelids: two extra shapes, an .npz with arrays ``left`` and ``right`` (V, 3) in metres, or a folder with
            ``l_eyelid.npy`` and ``r_eyelid.npy``; ``None`` takes the asset ``flame-eyelids`` if present.
        n_identity, n_expression: how many of the 300 and 100 coefficients to use.

    Raises:
        MissingAssetError: a file is not here (the message says where to register) or is not a FLAME model.
        UnsafeCheckpointError: the pickle asks for code.
    """

    name = "flame"

    def __init__(
        self,
        path: str | None = None,
        version: Literal["2020", "2023", "2023_open"] = "2020",
        template: str | None = None,
        eyelids: str | None = None,
        n_identity: int = 300,
        n_expression: int = 100,
    ) -> None:
        if version not in ASSET:
            raise MissingAssetError(
                f"There is no FLAME version {version!r}; the versions are {', '.join(ASSET)}."
            )
        file = assets.find(ASSET[version]) if path is None else Path(path)
        data = _checked(load_pickle(file), file)
        shapes = data["shapedirs"]
        regressor = scipy.sparse.csr_matrix(data["J_regressor"])
        identity = shapes[:, :, : min(n_identity, IDENTITY_SHAPES)]
        expression = shapes[:, :, IDENTITY_SHAPES : IDENTITY_SHAPES + n_expression]

        def regress(basis: np.ndarray) -> Tensor:
            return torch.from_numpy((regressor @ basis.reshape(len(basis), -1)).reshape(-1, *basis.shape[1:]))

        rig = Rig(
            regress(data["v_template"]), regress(identity), regress(expression),
            torch.from_numpy(data["weights"]), torch.from_numpy(data["posedirs"]),
        )  # fmt: skip
        lids = _eyelids(eyelids, len(data["v_template"]))
        super().__init__(
            torch.from_numpy(data["v_template"]),
            torch.from_numpy(identity),
            torch.from_numpy(expression),
            rig,
            lids,
        )
        self.version, self.source_hash = version, assets.file_hash(file)
        self.expression_names = tuple(f"exp_{i:03d}" for i in range(self.n_expression))
        self.expression_bounds = None
        self.register_buffer("faces", torch.from_numpy(data["f"]), persistent=False)
        self._set_regions(rig.weights)
        self._set_uv(template)

    def _set_regions(self, weights: Tensor) -> None:
        """By connected components: the skin is the largest, the eyeballs are the two others, left at larger x."""
        faces = self.faces.numpy()
        edges = np.concatenate([faces[:, :2], faces[:, 1:]])
        count = len(self.v_template)
        graph = scipy.sparse.coo_matrix((np.ones(len(edges), bool), tuple(edges.T)), shape=(count, count))
        piece = torch.from_numpy(connected_components(graph, directed=False)[1].astype(np.int64))
        sizes = torch.bincount(piece)
        order = sizes.argsort(descending=True, stable=True)[:3].tolist()
        if len(order) < 3 or sizes[order[2]] < 4:
            raise MissingAssetError(
                "This file is not a FLAME head: it has no two eyeballs; give the model's own pickle."
            )
        eyes = sorted(order[1:], key=lambda p: -float(self.v_template[piece == p, 0].mean()))
        self.vertex_regions = {
            name: (piece == p).nonzero()[:, 0]
            for name, p in zip(("skin", "eyeball_left", "eyeball_right"), [order[0], *eyes])
        }
        self.vertex_regions["neck"] = ((weights[:, 0] > 0.05) & (piece == order[0])).nonzero()[:, 0]
        inside = torch.zeros(len(self.v_template), dtype=torch.bool)
        self.face_regions = {}
        for name, vertices in self.vertex_regions.items():
            inside.zero_()[vertices] = True
            self.face_regions[name] = inside[self.faces].all(1).nonzero()[:, 0]

    def _set_uv(self, template: str | None) -> None:
        found = (
            Path(template) if template else assets.locate("flame-template") or assets.locate("flame-texture")
        )
        self._uv: Tensor | None
        self._uv_faces: Tensor | None
        if found is None:
            self._uv = self._uv_faces = None
            return
        uv, uv_faces = read_uv(found, self.faces.numpy())
        self.register_buffer("_uv", torch.from_numpy(uv), persistent=False)
        self.register_buffer("_uv_faces", torch.from_numpy(uv_faces), persistent=False)

    @property
    def uv(self) -> Tensor:  # type: ignore[override]
        return self._present(self._uv)

    @property
    def uv_faces(self) -> Tensor:  # type: ignore[override]
        return self._present(self._uv_faces)

    @staticmethod
    def _present(value: Tensor | None) -> Tensor:
        if value is None:
            raise MissingAssetError(assets.way_out(assets.describe("flame-template")))
        return value

    def mouth_loop(self) -> tuple[Tensor, Tensor]:
        """``(upper, lower)`` vertex ids of the rim of the mouth hole, each from the corner at smallest x to the other one.

        Both contain both corners. It is the highest boundary loop of the mesh; the other one is the neck's.

        Raises:
            HeadModelMismatchError: the mesh has no hole besides the neck's.
        """
        loops = boundary_loops(self.faces.cpu().numpy())
        if len(loops) < 2:
            raise HeadModelMismatchError("This mesh has no open mouth; use FLAME's own topology.")
        points = self.v_template.cpu().numpy()
        loop = max(loops, key=lambda ids: points[ids, 1].mean())
        loop = np.roll(loop, -int(points[loop, 0].argmin()))
        far = int(points[loop, 0].argmax())
        sides = [loop[: far + 1], np.concatenate([loop[far:], loop[:1]])[::-1]]
        lower, upper = sorted(sides, key=lambda ids: points[ids, 1].mean())
        return torch.from_numpy(upper.copy()), torch.from_numpy(lower.copy())

    def from_native(
        self,
        identity: Float[Tensor, "b i"],
        expression: Float[Tensor, "b e"],
        pose: Float[Tensor, "b 15"],
        translation: Float[Tensor, "b 3"] | None = None,
    ) -> HeadParams:
        """Parameters as FLAME's own code writes them: pose = axis-angles of global, neck, jaw, left eye, right eye.

        There the global rotation turns about the root joint; the difference goes into the translation here.
        """
        zeros = self.zeros(len(pose), pose.device)
        params = zeros._replace(
            identity=identity,
            expression=expression,
            rotation=pose[:, :3],
            neck=pose[:, 3:6],
            jaw=pose[:, 6:9],
            eyes=pose[:, 9:],
        )
        root = self._joints(params)[:, 0]
        offset = root - (axis_angle_to_matrix(params.rotation) @ root[..., None])[..., 0]
        return params._replace(translation=offset if translation is None else offset + translation)


def boundary_loops(faces: np.ndarray) -> list[np.ndarray]:
    """Vertex ids along each open boundary of a triangle mesh, in the direction of its half-edges.

    Raises:
        HeadModelMismatchError: boundaries touch or triangles are turned differently.
    """
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64)
    base = int(edges.max()) + 1
    open_edges = edges[~np.isin(edges[:, 0] * base + edges[:, 1], edges[:, 1] * base + edges[:, 0])]
    after = dict(open_edges.tolist())
    loops = []
    while after:
        start, following = after.popitem()
        loop = [start]
        while following != start:
            loop.append(following)
            if following not in after:
                raise HeadModelMismatchError(
                    "The mesh's boundary does not consist of loops; use the model's own topology."
                )
            following = after.pop(following)
        loops.append(np.array(loop))
    return loops


def read_uv(path: Path, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``(uv (T, 2) float32, uv_faces (F, 3) int64)`` from an OBJ file with the same triangles, or an .npz with vt and ft.

    Raises:
        MissingAssetError: unreadable. HeadModelMismatchError: other triangles.
    """
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                uv, uv_faces, corners = file["vt"], file["ft"], faces
        else:
            uv, uv_faces, corners = _read_obj(path)
    except (OSError, KeyError, ValueError, IndexError) as error:
        raise MissingAssetError(
            f"{path} holds no texture coordinates ({error}); give FLAME's head_template.obj."
        ) from error
    if uv_faces.shape != faces.shape or not (corners == faces).all():
        raise HeadModelMismatchError(
            f"{path} has other triangles than the FLAME file; give the template of this model."
        )
    return uv.astype(np.float32), uv_faces.astype(np.int64)


def _read_obj(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``(vt (T, 2), triangles of vt, triangles of v)`` of a triangulated OBJ file."""
    lines = path.read_text().splitlines()
    uv = np.array([line.split()[1:3] for line in lines if line.startswith("vt ")], float)
    corners = [
        [corner.split("/")[:2] for corner in line.split()[1:]] for line in lines if line.startswith("f ")
    ]
    indices = np.array(corners, np.int64) - 1
    return uv, indices[..., 1], indices[..., 0]


def _checked(content: Any, path: Path) -> dict[str, Any]:
    """FLAME's arrays with the expected shapes; float64 as stored."""
    wanted = ("v_template", "f", "shapedirs", "posedirs", "J_regressor", "weights")
    if not isinstance(content, dict) or any(key not in content for key in wanted):
        raise MissingAssetError(
            f"{path} is not a FLAME model (keys {', '.join(wanted)}); give the model's own pickle."
        )
    data = {key: content[key] for key in wanted}
    data["f"] = np.asarray(data["f"]).astype(np.int64)
    count = len(data["v_template"])
    shapes = {
        "v_template": (count, 3),
        "posedirs": (count, 3, 36),
        "weights": (count, 5),
        "J_regressor": (5, count),
    }
    wrong = [key for key, shape in shapes.items() if data[key].shape != shape]
    if (
        wrong
        or data["shapedirs"].shape[:2] != (count, 3)
        or data["f"].shape[1:] != (3,)
        or data["f"].max() >= count
    ):
        raise MissingAssetError(
            f"{path} is not a FLAME model (shapes of {', '.join(wrong or ['f'])}); give its own pickle."
        )
    return data


def _eyelids(path: str | None, count: int) -> Tensor | None:
    """``(V, 3, 2)`` left, right."""
    found = Path(path) if path else assets.locate("flame-eyelids")
    if found is None:
        return None
    try:
        if found.is_dir():
            pair = [load_npy(found / f"{side}_eyelid.npy") for side in ("l", "r")]
        else:
            with np.load(found, allow_pickle=False) as file:
                pair = [file["left"], file["right"]]
        shapes = np.stack([np.asarray(x, np.float64).reshape(count, 3) for x in pair], -1)
    except (OSError, KeyError, ValueError) as error:
        raise MissingAssetError(
            f"{found} holds no eyelid shapes for this head ({error}); give an .npz with left and right, ({count}, 3) each."
        ) from error
    return torch.from_numpy(shapes)
