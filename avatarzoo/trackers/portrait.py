"""Plainly shaded pictures of a head model that a landmark detector takes for a face."""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from scipy.interpolate import CubicSpline
from torch import Tensor

from avatarzoo.geometry.camera import Camera
from avatarzoo.geometry.mesh import vertex_normals
from avatarzoo.heads.base import HeadModel, HeadParams
from avatarzoo.render.mesh import MeshFragments, interpolate, rasterize_mesh

COLOURS = {
    "skin": (0.80, 0.60, 0.50),
    "neck": (0.80, 0.60, 0.50),
    "eyeball_left": (0.95, 0.95, 0.95),
    "eyeball_right": (0.95, 0.95, 0.95),
    "teeth": (0.90, 0.88, 0.82),
    "mouth": (0.35, 0.10, 0.10),
}
LIP_COLOUR = (0.72, 0.40, 0.38)
IRIS_COLOUR = (0.25, 0.15, 0.08)
PUPIL_COLOUR = (0.02, 0.02, 0.02)
LIGHT = F.normalize(torch.tensor([0.2, 0.4, 1.0]), dim=0)
IRIS_RADIUS, PUPIL_RADIUS = 0.0059, 0.0022
"""Metres; an adult's iris is 11.8 mm across, within half a millimetre in everybody."""


class Portrait:
    """Draws one head model in skin colour, with irises painted on the outer eyeball surface.

    Parts without a colour of their own (lashes, tear film, sockets) are left out: they hide the lid margins.
    White eyes put a detector's lids up to 8 px off; painted brows draw its brows too high, so there are none.
    """

    def __init__(self, head: HeadModel) -> None:
        parts = {name: head.face_regions[name].cpu() for name in COLOURS if name in head.face_regions}
        self.head = head
        self.face_index = torch.unique(torch.cat(list(parts.values())))
        self.faces = head.faces.cpu()[self.face_index]
        colour = torch.zeros(len(head.faces), 3)
        for name, faces in parts.items():
            colour[faces] = torch.tensor(COLOURS[name])
        self.colour = colour[self.face_index]
        self.is_skin = torch.zeros(len(head.faces), dtype=torch.bool)
        self.is_skin[head.face_regions["skin"].cpu()] = True
        self.eyes = [self._eye(f"eyeball_{side}") for side in ("left", "right")]
        self.is_eye = self.eyes[0][0] | self.eyes[1][0]
        self.lip_outline: np.ndarray | None = None

    def draw(self, vertices: Float[Tensor, "b v 3"], camera: Camera) -> tuple[np.ndarray, MeshFragments]:
        """Pictures ``(B, H, W, 3)`` uint8 and what each pixel sees, face ids as in ``head.faces``."""
        fragments = rasterize_mesh(vertices, self.faces, camera)
        local = fragments.face_id
        colour = self.colour[local.clamp_min(0)]
        normals = interpolate(fragments, self.faces, vertex_normals(vertices, self.faces))
        to_light = torch.nn.functional.normalize(torch.tensor([0.2, 0.4, 1.0]), dim=0)
        light = 0.4 + 0.6 * (torch.nn.functional.normalize(normals, dim=1) * to_light[:, None, None]).sum(
            1
        ).clamp_min(0)
        face_id = torch.where(local >= 0, self.face_index[local.clamp_min(0)], local)
        fragments = fragments._replace(face_id=face_id)
        colour = self._paint(colour, fragments) * light[..., None]
        image = torch.where(fragments.covered[..., None], colour, torch.tensor(0.6))
        return (image * 255).round().to(torch.uint8).numpy(), fragments

    def _eye(self, region: str) -> tuple[Tensor, Tensor]:
        """Face mask and centre of an eyeball."""
        mask = torch.zeros(len(self.head.faces), dtype=torch.bool)
        mask[self.head.face_regions[region].cpu()] = True
        ball = self.head.v_template.cpu()[self.head.faces.cpu()[mask].unique()]
        return mask, (ball.amin(0) + ball.amax(0)) / 2

    def _paint(self, colour: Tensor, fragments: MeshFragments) -> Tensor:
        """Irises and lips, painted in rest space, so that they keep their place under every pose."""
        batch, row, column = fragments.covered.nonzero(as_tuple=True)
        faces = fragments.face_id[batch, row, column]
        rest = rest_points(self.head, faces, fragments.barycentrics[batch, row, column])
        colour = colour.clone()
        for eye, centre in self.eyes:
            # a disc about the eyeball's axis, on the outer surface: a cornea hides what is coloured beneath it
            front = eye[faces] & (rest[:, 2] > centre[2])
            across = (rest[:, :2] - centre[:2]).norm(dim=1)
            for radius, paint in ((IRIS_RADIUS, IRIS_COLOUR), (PUPIL_RADIUS, PUPIL_COLOUR)):
                hit = front & (across < radius)
                colour[batch[hit], row[hit], column[hit]] = torch.tensor(paint)
        hit = self.is_skin[faces] & self._on_lips(rest)
        colour[batch[hit], row[hit], column[hit]] = torch.tensor(LIP_COLOUR)
        return colour

    def _on_lips(self, rest: Tensor) -> Tensor:
        """Which rest points lie inside the lip outline seen from the front, at most 4 cm behind its front."""
        if self.lip_outline is None:
            return torch.zeros(len(rest), dtype=torch.bool)
        low, high = self.lip_outline.min(0), self.lip_outline.max(0)
        cell = 1e-4
        size = ((high - low)[:2] / cell).astype(int) + 3
        raster = np.zeros((size[1], size[0]), np.uint8)
        cv2.fillPoly(raster, [np.round((self.lip_outline - low)[:, :2] / cell).astype(np.int32)], 1)
        index = ((rest.numpy() - low) / cell).round()
        inside = (
            (index[:, :2] >= 0).all(1) & (index[:, :2] < size).all(1) & (rest.numpy()[:, 2] > high[2] - 0.04)
        )
        x, y = index[inside, :2].astype(int).T
        hit = np.zeros(len(rest), bool)
        hit[inside] = raster[y, x] > 0
        return torch.from_numpy(hit)


def smooth_outline(corners: np.ndarray, samples: int = 200) -> np.ndarray:
    """Closed smooth curve ``(samples, 3)`` through ``corners (N, 3)``."""
    closed = np.concatenate([corners, corners[:1]])
    return CubicSpline(np.arange(len(closed)), closed, bc_type="periodic")(
        np.linspace(0, len(corners), samples)
    )


def rest_points(head: HeadModel, faces: Tensor, barycentrics: Tensor) -> Float[Tensor, "n 3"]:
    """Where surface points lie on the mean head at rest, metres."""
    return (head.v_template.cpu()[head.faces.cpu()[faces]] * barycentrics[..., None]).sum(-2)


def open_mouth(head: HeadModel, params: HeadParams, amount: float) -> HeadParams:
    """The jaw lowered by a share of its range: by the shape ``jawOpen``, else by the joint (0.5 rad)."""
    if "jawOpen" in head.expression_names:
        expression = params.expression.clone()
        expression[:, head.expression_names.index("jawOpen")] = amount
        return params._replace(expression=expression)
    jaw = params.jaw.clone()
    jaw[:, 0] = 0.5 * amount
    return params._replace(jaw=jaw)
