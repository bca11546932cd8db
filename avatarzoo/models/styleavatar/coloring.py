"""A fixed colouring of any head model: what a condition render shows besides shape.

The texture only carries shape and expression (paper section 3.1), so heads without a mean texture get flat colours of the
parts whose motion matters: lips, brows, irises, teeth. Lips, brows and the face region come from the head's MediaPipe points.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatarzoo.heads.base import HeadModel
from avatarzoo.perception.landmarks import FACE_OVAL, LEFT_BROW, LIPS, RIGHT_BROW

PALETTE = {
    "skin": (0.78, 0.58, 0.47),
    "lips": (0.72, 0.24, 0.25),
    "brows": (0.22, 0.14, 0.10),
    "mouth": (0.28, 0.08, 0.08),
    "gums": (0.45, 0.15, 0.16),
    "teeth": (0.92, 0.90, 0.85),
    "white": (0.88, 0.88, 0.88),
    "iris": (0.10, 0.28, 0.45),
    "pupil": (0.02, 0.02, 0.02),
}
"""RGB in [0, 1]."""
CLASSES = ("skin", "mouth", "gums", "teeth", "white", "iris", "pupil")
IRIS_ANGLE, PUPIL_ANGLE = math.radians(28), math.radians(11)
"""Radii on the eyeball, from the optical axis (12 mm ball, 11.5 mm iris)."""
IRIS_POINTS = {"left": 473, "right": 468}
EDGE = 0.0015
"""Metres over which lips and brows fade into skin."""
RADIUS = 0.08
"""Metres: of the cylinder on which outlines are compared."""


class Coloring(NamedTuple):
    """Colours at the corners of triangles; a vertex has one corner for every part it belongs to, so parts end sharply.

    Attributes:
        colors: ``(N, 3)`` in [0, 1].
        face: ``(N,)`` metres inside the face region (the skin within the face oval; eyes, mouth and teeth), negative outside.
        vertices: ``(N,)`` vertex of each corner.
        corners: ``(F, 3)`` into these.
    """

    colors: Float[Tensor, "n 3"]
    face: Float[Tensor, " n"]
    vertices: Int[Tensor, " n"]
    corners: Int[Tensor, "f 3"]


def color_head(head: HeadModel) -> Coloring:
    """The mean texture where the head has one (``vertex_colors``), else the fixed colours of its parts.

    Raises:
        MissingAssetError: the head has no landmark embedding yet; the message names the command that makes one.
    """
    points = head.landmark_points(head.v_template[None])[0].cpu()
    faces, template = head.faces.cpu(), head.v_template.cpu()
    keys, corners = (_parts(head, points)[:, None] * len(template) + faces).unique(return_inverse=True)
    part, vertices = keys // len(template), keys % len(template)
    face = torch.ones(len(keys))
    colors = torch.tensor([PALETTE[name] for name in CLASSES])[part]
    axis = float(points[list(FACE_OVAL), 2].min())
    chart, outlines = (_unrolled(x, axis) for x in (template[vertices[part == 0]], points))
    hull = cv2.convexHull(
        outlines[list(FACE_OVAL)].numpy()
    )  # embeddings are unsure of the points before the ears
    face[part == 0] = _within(chart, hull)
    colors[part == 0] = _skin(chart, outlines)
    mean = getattr(head, "vertex_colors", None)
    return Coloring(colors if mean is None else mean.cpu()[vertices], face, vertices, corners)


def _parts(head: HeadModel, points: Tensor) -> Int[Tensor, " f"]:
    """Index into :data:`CLASSES` of every face."""
    part = torch.zeros(len(head.faces), dtype=torch.int64)
    for name in ("mouth", "gums", "teeth"):
        if name in head.face_regions:
            part[head.face_regions[name].cpu()] = CLASSES.index(name)
    joints = head.joints(head.zeros())
    for side, point in IRIS_POINTS.items():
        ball, centre = head.face_regions[f"eyeball_{side}"].cpu(), joints[f"eye_{side}"][0].cpu()
        corners = head.v_template.cpu()[head.faces.cpu()[ball]] - centre
        axis = torch.nn.functional.normalize(points[point] - centre, dim=0)
        angle = torch.acos((torch.nn.functional.normalize(corners, dim=-1) @ axis).clamp(-1, 1)).mean(1)
        part[ball] = CLASSES.index("white") + (angle < IRIS_ANGLE).long() + (angle < PUPIL_ANGLE).long()
    return part


def _skin(chart: Float[Tensor, "n 2"], outlines: Float[Tensor, "478 2"]) -> Float[Tensor, "n 3"]:
    """Colours of places on the skin."""
    colors = torch.tensor(PALETTE["skin"]).repeat(len(chart), 1)
    for outline, name in ((LIPS, "lips"), (LEFT_BROW, "brows"), (RIGHT_BROW, "brows")):
        weight = (_within(chart, outlines[list(outline)].numpy()) / EDGE + 0.5).clamp(0, 1)
        colors = torch.lerp(colors, torch.tensor(PALETTE[name]), weight[:, None])
    return colors


def _unrolled(places: Float[Tensor, "n 3"], axis: float) -> Float[Tensor, "n 2"]:
    """Metres along and up a cylinder round the head, whose axis stands at x = 0 and this depth; the face is in the middle."""
    return torch.stack([torch.atan2(places[:, 0], places[:, 2] - axis) * RADIUS, places[:, 1]], -1)


def _within(chart: Float[Tensor, "n 2"], outline: np.ndarray) -> Float[Tensor, " n"]:
    """Distance in metres to a closed outline, positive inside."""
    return torch.tensor([cv2.pointPolygonTest(outline, (x, y), True) for x, y in chart.tolist()])
