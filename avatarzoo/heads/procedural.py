"""`ProceduralHead`: a complete head model made by code alone, for the quickstart, tests and machines without assets.

Nothing is read from a file and nothing carries a foreign licence. About 5,300 vertices: skin with neck, ears, lid and lip
rims, eye sockets and mouth cavity as one surface; eyeballs; two rows of teeth. Surface, topology, identity and expression
modes live in the ``procedural_*`` modules beside this one.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatarzoo.heads.base import HeadParams
from avatarzoo.heads.linear import LinearHead, Rig
from avatarzoo.heads.procedural_expressions import EXPRESSION_NAMES, JAW_JOINT, expression_basis, jaw_weight
from avatarzoo.heads.procedural_identity import at_joint, identity_basis
from avatarzoo.heads.procedural_parts import HeadMesh, head_mesh
from avatarzoo.heads.procedural_surface import EYE, EYE_RADIUS, LEVELS, smoothstep

VERSION = "1"
NECK_JOINT = np.array([0.0, -0.1050, -0.0250])
LID_CLEARANCE = 0.0004
"""Metres the lids keep from the eyeball."""


class Modes(NamedTuple):
    """Everything heavy, as float32 tensors; made once a process and shared by all heads."""

    identity: Tensor
    expression: Tensor
    rig: Rig
    lid_vertices: tuple[Tensor, Tensor]
    lid_radius: tuple[Tensor, Tensor]


class ProceduralHead(LinearHead):
    """The embedded default head model.

    ``expression`` coefficients are ARKit names in (0, 1); ``eyelids`` adds to ``eyeBlink_L`` and ``eyeBlink_R``. The eyeLook
    shapes move lids only: gaze is ``eyes``. After the linear part the lids are kept outside the eyeballs (a half-closed
    lid would cut through on its straight way), which :meth:`linear_basis` leaves out.
    """

    name = "procedural"
    version = VERSION
    expression_names = EXPRESSION_NAMES
    expression_bounds = (0.0, 1.0)

    def __init__(self) -> None:
        mesh, modes = head_mesh(), _modes()
        blinks = [EXPRESSION_NAMES.index(f"eyeBlink_{side}") for side in "LR"]
        super().__init__(
            _tensor(mesh.vertices), modes.identity, modes.expression, modes.rig, modes.expression[..., blinks]
        )
        self.source_hash = _source_hash()
        self.register_buffer("faces", torch.from_numpy(mesh.faces), persistent=False)
        self.register_buffer("uv", _tensor(mesh.uv), persistent=False)
        self.register_buffer("uv_faces", torch.from_numpy(mesh.uv_faces), persistent=False)
        for side in (0, 1):
            self.register_buffer(f"lid_vertices_{side}", modes.lid_vertices[side], persistent=False)
            self.register_buffer(f"lid_radius_{side}", modes.lid_radius[side], persistent=False)
        self.face_regions, self.vertex_regions = _regions(mesh)

    def rest(self, params: HeadParams) -> Float[Tensor, "b v 3"]:
        vertices = super().rest(params)
        joints = self._joints(params)
        for side in (0, 1):
            vertices = self._keep_outside(vertices, joints[:, 3 + side], side)
        return vertices

    def _keep_outside(self, vertices: Tensor, centre: Tensor, side: int) -> Tensor:
        """Push lid vertices that entered the eyeball out along the radius."""
        index = getattr(self, f"lid_vertices_{side}")
        arm = vertices[:, index] - centre[:, None]
        radius = arm.norm(dim=-1).clamp_min(1e-6)
        factor = (getattr(self, f"lid_radius_{side}") / radius).clamp_min(1.0)
        return vertices.index_copy(1, index, centre[:, None] + arm * factor[..., None])


@lru_cache(maxsize=1)
def _modes() -> Modes:
    mesh = head_mesh()
    identity = identity_basis(mesh)
    right = EYE * [-1, 1, 1]
    joints = np.stack([np.zeros(3), NECK_JOINT, JAW_JOINT, EYE, right])
    eyeball = mesh.part == mesh.parts.index("eyeball")
    left_ball, right_ball = (np.flatnonzero(eyeball & (s * mesh.vertices[:, 0] > 0))[0] for s in (1, -1))
    ears = (at_joint(mesh, identity, p) for p in np.array([[0.07, -0.012, 0.012], [-0.07, -0.012, 0.012]]))
    jaw = sum(ears) / 2
    sides = (at_joint(mesh, identity, p) for p in np.array([[0.06, -0.105, -0.025], [-0.06, -0.105, -0.025]]))
    neck = sum(sides) / 2
    moves = np.stack([np.zeros_like(neck), neck, jaw, identity[left_ball], identity[right_ball]])
    rig = Rig(_tensor(joints), _tensor(moves), None, _tensor(skinning(mesh)), None)
    lids = [(mesh.info["lid"] > 0.55) | (mesh.info["socket"] == 1)] * 2
    index = [
        np.flatnonzero(m & (mesh.part == 0) & (s * mesh.vertices[:, 0] > 0)) for m, s in zip(lids, (1, -1))
    ]
    at_rest = [np.linalg.norm(mesh.vertices[i] - c, axis=1) for i, c in zip(index, (EYE, right))]
    radius = [np.minimum(r, EYE_RADIUS + LID_CLEARANCE) for r in at_rest]
    return Modes(
        _tensor(identity), _tensor(expression_basis(mesh)), rig,
        (torch.from_numpy(index[0]), torch.from_numpy(index[1])), (_tensor(radius[0]), _tensor(radius[1])),
    )  # fmt: skip


def skinning(mesh: HeadMesh) -> np.ndarray:
    """``(V, 5)`` weights of root, neck, jaw, left eye, right eye; rows sum to one."""
    neck = np.where(mesh.part == 0, smoothstep(mesh.info["level"], 0.0, LEVELS[3]), 1.0)
    jaw = jaw_weight(mesh)
    ball = mesh.part == mesh.parts.index("eyeball")
    left, right = (
        (ball & (mesh.vertices[:, 0] > 0)).astype(float),
        (ball & (mesh.vertices[:, 0] < 0)).astype(float),
    )
    eyes = left + right
    return np.stack([1 - neck, neck * (1 - jaw) * (1 - eyes), neck * jaw, left, right], -1)


def _regions(mesh: HeadMesh) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Faces and vertices by name."""
    centre = mesh.vertices[mesh.faces].mean(1)
    part = np.array(mesh.parts)[mesh.face_part]
    level = mesh.info["level"][mesh.faces].mean(1)
    socket = (mesh.info["socket"][mesh.faces] > 0).any(1) & (part == "skin")
    masks = {
        "skin": (part == "skin") & ~socket,
        "sockets": socket,
        "mouth": part == "mouth",
        "teeth": np.char.startswith(part, "teeth"),
        "eyeball_left": (part == "eyeball") & (centre[:, 0] > 0),
        "eyeball_right": (part == "eyeball") & (centre[:, 0] < 0),
        "neck": (part == "skin") & (level < LEVELS[2]),
    }
    masks["lips"] = (part == "skin") & (mesh.info["lip"][mesh.faces] >= 1.0).all(1)
    masks["ears"] = (part == "skin") & (mesh.info["ear"][mesh.faces] > 0).all(1)
    faces = {name: torch.from_numpy(np.flatnonzero(m)) for name, m in masks.items()}
    vertices = {name: torch.from_numpy(np.unique(mesh.faces[m])) for name, m in masks.items()}
    rims = {
        "lid_rim": (mesh.info["lid"] == 1.0) & (mesh.info["socket"] == 0),
        "lip_rim": mesh.info["lip"] == 2.0,
    }
    vertices |= {name: torch.from_numpy(np.flatnonzero(m & (mesh.part == 0))) for name, m in rims.items()}
    return faces, vertices


@lru_cache(maxsize=1)
def _source_hash() -> str:
    """Of the version and of everything that indices into the mesh depend on."""
    digest = hashlib.sha256(f"avatarzoo procedural head {VERSION}".encode())
    for array in (head_mesh().faces, head_mesh().uv_faces):
        digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
    return digest.hexdigest()


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
