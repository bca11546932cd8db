"""The true lid and lip margins of a head model: where the visible skin ends at the eye and at the mouth.

Found in close-up frontal renders, for any model: in each pixel column of the open eye or the parted mouth, the
last skin pixel above the opening and the first one below it. The ring of landmarks is put on that line, keeping
the place along the ring that the detector gave it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.ndimage import label, median_filter

from avatarzoo.geometry.camera import look_at_face
from avatarzoo.heads.base import HeadModel, HeadParams
from avatarzoo.trackers import landmark_groups as groups
from avatarzoo.trackers.portrait import Portrait, open_mouth, rest_points

SIZE = 900
FOV = 4.0
DISTANCE = 1.0
"""7 cm of the face on 900 pixels: 0.08 mm a pixel."""
JAW = 0.12
"""Share of the jaw's range that parts the lips without rolling them."""


class Margin(NamedTuple):
    """Two lines on the mean head at rest, ``(N, 3)`` metres, one point a pixel column from -x to +x."""

    upper: np.ndarray
    lower: np.ndarray


def snap_margins(head: HeadModel, portrait: Portrait, points: np.ndarray) -> np.ndarray:
    """Put the lid rings and the inner-lip ring of ``points (478, 3)`` on the margins of the head."""
    points = points.copy()
    neutral = head.zeros(1, "cpu")
    rings = (
        (neutral, groups.UPPER_LID_RIGHT, groups.LOWER_LID_RIGHT, "eyeball_right"),
        (neutral, groups.UPPER_LID_LEFT, groups.LOWER_LID_LEFT, "eyeball_left"),
        (open_mouth(head, neutral, JAW), groups.UPPER_LIP_INNER, groups.LOWER_LIP_INNER, None),
    )
    for params, upper, lower, eyeball in rings:
        margin = find_margin(head, portrait, params, points[list(upper + lower)].mean(0), eyeball)
        for ring, line in ((upper, margin.upper), (lower, margin.lower)):
            inner = list(ring[1:-1])
            points[inner] = _along(line, points[inner])
        if eyeball is None:
            ends = (margin.upper[[0, -1]] + margin.lower[[0, -1]]) / 2
            points[[upper[0], upper[-1]]] = ends
    return points


def find_margin(
    head: HeadModel, portrait: Portrait, params: HeadParams, centre: np.ndarray, eyeball: str | None
) -> Margin:
    """The rim of the opening nearest to ``centre``: an eye's, or the mouth's where ``eyeball`` is None."""
    target = torch.from_numpy(centre).float()
    with torch.no_grad():
        vertices = head(params).cpu() - target
    _, fragments = portrait.draw(vertices, look_at_face(DISTANCE, FOV, SIZE))
    face_id, covered = fragments.face_id[0], fragments.covered[0]
    if eyeball is None:
        opening = ~portrait.is_skin[face_id.clamp_min(0)] & ~portrait.is_eye[face_id.clamp_min(0)]
    else:
        part = torch.zeros(len(portrait.is_skin), dtype=torch.bool)
        part[head.face_regions[eyeball].cpu()] = True
        opening = part[face_id.clamp_min(0)] & covered
    column, top, bottom = _column_ends(_nearest_blob(opening.numpy()))

    def line(row: np.ndarray) -> np.ndarray:
        r, c = torch.from_numpy(row), torch.from_numpy(column)
        return rest_points(head, face_id[r, c].clamp_min(0), fragments.barycentrics[0, r, c]).double().numpy()

    return Margin(line(top - 1), line(bottom + 1))


def _nearest_blob(mask: np.ndarray) -> np.ndarray:
    """The connected piece of at least 200 pixels that comes closest to the picture's middle."""
    pieces, count = label(mask)
    if count == 0:
        raise ValueError(
            "the head model shows no opening at the lids or lips: it has no eyeballs or no mouth cavity."
        )
    row, column = np.indices(mask.shape)
    distance = np.hypot(row - mask.shape[0] / 2, column - mask.shape[1] / 2)
    sizes = np.bincount(pieces.ravel())
    ranked = sorted(range(1, count + 1), key=lambda k: (sizes[k] < 200, distance[pieces == k].min()))
    return pieces == ranked[0]


def _column_ends(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``(column, first row, last row)`` of every column that the piece covers."""
    column = np.flatnonzero(mask.any(0))
    top = mask.argmax(0)[column]
    bottom = mask.shape[0] - 1 - mask[::-1].argmax(0)[column]
    return column, top, bottom


def _along(line: np.ndarray, ring: np.ndarray) -> np.ndarray:
    """``ring (R, 3)`` put on ``line (N, 3)`` at the x the detector saw; beyond its ends (tear duct) they stay."""
    order = np.argsort(line[:, 0])
    line = median_filter(line[order], size=(9, 1), mode="nearest")
    x = ring[:, 0]
    snapped = np.stack([x, *(np.interp(x, line[:, 0], line[:, k]) for k in (1, 2))], 1)
    within = (line[0, 0] <= x) & (x <= line[-1, 0])
    return np.where(within[:, None], snapped, ring)
