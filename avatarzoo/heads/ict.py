"""ICT-FaceKit (light): the open head model for real work. MIT licence, 100 identities, 53 ARKit-named expressions.

``avatarzoo assets fetch ict-facekit`` builds the file; this module adds what it lacks (joints, skinning, one atlas).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from avatarzoo import assets
from avatarzoo.errors import MissingAssetError
from avatarzoo.heads.ict_rig import (
    IRIS_RADIUS,
    NECK,
    atlas,
    islands,
    jaw_hinge,
    jaw_weights,
    neck_weights,
    sphere_centre,
)
from avatarzoo.heads.linear import LinearHead, Rig

ORIGIN = np.array([0.0, 1.0, 5.0], dtype=np.float32)
"""Our origin in the file's frame, cm: 2.6 cm below and 3 cm behind the midpoint of the eyeballs, inside the head, about
where FLAME has it."""

BLINK_CLOSURE = 1.1
"""The file's eyeBlink leaves the lids 0.8 mm apart, which its lashes hide; times this, coefficient 1 closes the eye."""

VISIBLE = ("face", "head_neck", "mouth_socket", "gums_tongue", "teeth", "sclera_left", "sclera_right")
"""Parts that one sees and tracks. Left out by default: the inner eyeball (the file calls it iris; the outer surface,
sclera with cornea, covers it everywhere), eye sockets, tear fluid, eye blend and occlusion shells, lashes."""


class ICTFace(LinearHead):
    """The ICT head in metres, y up, face towards +z.

    Gaze: the file's eyeLook shapes move the lids only, its eyeballs stand still under all expressions; eyeballs are turned
    by ``params.eyes`` alone and lids follow by eyeLook. At zero the optical axes point 5.7 degrees outwards, as in the file
    (real eyes do so too when they look straight ahead).

    Jaw: both the sculpted jawOpen (linear, in ``expression``) and the joint ``params.jaw`` (skinned from jawOpen, hinge from
    the motion of the lower teeth) open the mouth; use one of them. ``params.eyelids`` adds to the coefficients eyeBlink_L
    and eyeBlink_R. Identity coefficients are N(0, 1), expressions 0..1.

    ``vertex_regions`` holds all parts of the file; ``face_regions`` has ``skin`` (with ``face`` and ``neck`` as subsets),
    ``mouth``, ``gums``, ``teeth`` (``teeth_upper``, ``teeth_lower``), ``eyeball_*`` and, on their outer surface, ``iris_*``.

    Args:
        path: the .npz; ``None`` takes the asset ``ict-facekit``.
        parts: names of the file's regions to keep as faces (vertices are all kept, so that the file's indices stay valid),
            or ``"all"`` for its 52,220 triangles; texture coordinates outside :data:`VISIBLE` are zero.

    Raises:
        MissingAssetError: no file, or not an ICT file.
    """

    def __init__(self, path: str | None = None, parts: tuple[str, ...] | str = VISIBLE) -> None:
        file = assets.find("ict-facekit") if path is None else Path(path)
        data = _read(file)
        spans = {str(n): (slice(*v), slice(*f)) for n, v, f in
                 zip(data["region_names"], data["region_vertices"], data["region_faces"])}  # fmt: skip
        names = tuple(str(n) for n in data["expression_names"])
        identity = data["identity_basis"].astype(np.float32).transpose(1, 2, 0)
        expression = data["expression_basis"].astype(np.float32).transpose(1, 2, 0)
        rig = _rig(data["v_template"], identity, expression[:, :, names.index("jawOpen")], spans)
        blink = [names.index("eyeBlink_L"), names.index("eyeBlink_R")]
        expression[:, :, blink] *= BLINK_CLOSURE
        super().__init__(
            torch.from_numpy((data["v_template"] - ORIGIN) / 100),
            torch.from_numpy(identity / 100),
            torch.from_numpy(expression / 100),
            rig,
            torch.from_numpy(expression[:, :, blink] / 100),
        )
        self.name, self.version, self.source_hash = "ict", "light", assets.file_hash(file, assets.ICT_MEMBERS)
        self.expression_names, self.expression_bounds = names, (0.0, 1.0)
        self._set_faces(data, spans, parts, rig)

    def _set_faces(self, data: dict, spans: dict, parts: tuple[str, ...] | str, rig: Rig) -> None:
        every = np.arange(len(data["faces"]))
        chosen = every if parts == "all" else np.sort(np.concatenate([every[spans[p][1]] for p in parts]))
        number = np.full(len(every), -1)
        number[chosen] = np.arange(len(chosen))
        regions = _face_regions(data, spans, rig.weights.numpy())
        kept = {name: number[faces][number[faces] >= 0] for name, faces in regions.items()}
        self.face_regions = {name: torch.from_numpy(faces) for name, faces in kept.items() if len(faces)}
        self.vertex_regions = {n: torch.arange(v.start, v.stop) for n, (v, _) in spans.items()}
        self.vertex_regions["neck"] = (rig.weights[:, 0] > 0.05).nonzero()[:, 0]
        uv = atlas(data["uv"], data["uv_faces"], _atlas_groups(data, spans))
        for name, value in (("faces", data["faces"]), ("uv_faces", data["uv_faces"])):
            self.register_buffer(name, torch.from_numpy(value[chosen].astype(np.int64)), persistent=False)
        self.register_buffer("uv", torch.from_numpy(uv), persistent=False)
        for name in ("landmarks68", "landmarks68_jawline"):
            self.register_buffer(name, torch.from_numpy(data[name].astype(np.int64)), persistent=False)

    @property
    def left_right(self) -> tuple[tuple[int, int], ...]:
        """Pairs of expression indices that mirror each other, subject's left first."""
        index = {name: i for i, name in enumerate(self.expression_names)}
        pairs = [(i, index[n[:-2] + "_R"]) for n, i in index.items() if n.endswith("_L")]
        return (*pairs, (index["jawLeft"], index["jawRight"]), (index["mouthLeft"], index["mouthRight"]))


def _read(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise MissingAssetError(f"{path} does not exist; run: avatarzoo assets fetch ict-facekit")
    try:
        with np.load(path, allow_pickle=False) as file:
            wanted = ("v_template", "faces", "uv", "uv_faces", "identity_basis", "expression_basis", "expression_names",
                      "region_names", "region_vertices", "region_faces", "landmarks68", "landmarks68_jawline")  # fmt: skip
            return {key: file[key] for key in wanted}
    except (KeyError, ValueError, OSError) as error:
        raise MissingAssetError(
            f"{path} is not an ICT head file ({error}); run: avatarzoo assets fetch ict-facekit"
        ) from error


def _rig(template: np.ndarray, identity: np.ndarray, jaw_open: np.ndarray, spans: dict) -> Rig:
    teeth = spans["teeth_lower"][0]
    rotation, hinge = jaw_hinge(template[teeth], template[teeth] + jaw_open[teeth])
    eyes = [sphere_centre(template[spans[f"sclera_{side}"][0]]) for side in ("left", "right")]
    neck, jaw = neck_weights(template), jaw_weights(template, jaw_open, rotation, hinge)
    weights = np.zeros((len(template), 5))
    weights[:, 0], weights[:, 1], weights[:, 2] = 1 - neck, neck * (1 - jaw), neck * jaw
    for column, side in ((3, "left"), (4, "right")):
        weights[spans[f"eyeball_{side}"][0]] = np.eye(5)[column]
    joints = np.stack([NECK, NECK, hinge, *eyes])

    def mean_of(chosen: np.ndarray | slice) -> np.ndarray:
        return identity[chosen].mean(0)

    skin = np.arange(spans["head_neck"][0].stop)
    around_hinge = skin[
        (np.linalg.norm((template[skin] - hinge)[:, 1:], axis=1) < 2.5) & (abs(template[skin, 0]) > 4)
    ]
    around_neck = skin[abs(template[skin, 1] + 0.3 * (template[skin, 2] - NECK[2]) - NECK[1]) < 1.5]
    moves = [
        mean_of(around_neck),
        mean_of(around_hinge),
        *(mean_of(spans[f"sclera_{s}"][0]) for s in ("left", "right")),
    ]
    joint_identity = np.stack([moves[0], *moves]) / 100
    places = torch.from_numpy((joints - ORIGIN) / 100)
    return Rig(places, torch.from_numpy(joint_identity), None, torch.from_numpy(weights), None)


def _face_regions(data: dict, spans: dict, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Names of :class:`HeadModel` and a few more -> triangle indices of the file."""
    faces, every = data["faces"], np.arange(len(data["faces"]))
    rename = {
        "mouth": "mouth_socket",
        "gums": "gums_tongue",
        "eyeball_left": "sclera_left",
        "eyeball_right": "sclera_right",
    }
    same = ("face", "teeth", "teeth_upper", "teeth_lower")
    result = {new: every[spans[old][1]] for new, old in (*rename.items(), *((n, n) for n in same))}
    result["skin"] = np.concatenate([every[spans["face"][1]], every[spans["head_neck"][1]]])
    below = (weights[faces[result["skin"]], 0] > 0.05).all(1)
    result["neck"] = result["skin"][below]
    for side in ("left", "right"):
        outer = result[f"eyeball_{side}"]
        radius = np.linalg.norm(data["uv"][data["uv_faces"][outer]] - 0.5, axis=2)
        result[f"iris_{side}"] = outer[(radius < IRIS_RADIUS).all(1)]
    return result


def _atlas_groups(data: dict, spans: dict) -> dict[str, np.ndarray]:
    """Boxes of the atlas -> triangles; the back of the head is split into scalp (with the backs of the ears) and neck."""
    every = np.arange(len(data["faces"]))
    names = {"face": "face", "mouth_socket": "mouth_socket", "gums_tongue": "gums_tongue", "teeth": "teeth",
             "eyeball_left": "sclera_left", "eyeball_right": "sclera_right"}  # fmt: skip
    groups = {box: every[spans[part][1]] for box, part in names.items()}
    back = every[spans["head_neck"][1]]
    piece = islands(data["uv_faces"][back], len(data["uv"]))
    lowest = data["uv"][data["uv_faces"][back].ravel(), 1].argmin() // 3
    groups["neck"], groups["scalp"] = back[piece == piece[lowest]], back[piece != piece[lowest]]
    return groups
