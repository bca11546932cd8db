"""What the ICT file lacks: joints, skinning weights, and one UV atlas made from its UDIM tiles.

Lengths are in the file's own centimetres.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

NECK = np.array([0.0, -8.5, -1.0])  # middle of the neck, cm
NECK_RAMP = (-14.0, -6.0)  # height + 0.3 depth over which the neck's weight goes from 0 to 1, cm
IRIS_RADIUS = 0.107  # about the pole of the eyeball's own texture: the ring 5.4 mm from the optical axis

ATLAS = {
    # island group: (u, v, width, height) of its box; uniform scale, centred, face skin biggest
    "face": (0.0, 0.36, 0.64, 0.64),
    "scalp": (0.64, 0.62, 0.36, 0.38),
    "neck": (0.0, 0.04, 0.68, 0.32),
    "eyeball_left": (0.64, 0.44, 0.18, 0.18),
    "eyeball_right": (0.82, 0.44, 0.18, 0.18),
    "mouth_socket": (0.68, 0.2, 0.24, 0.24),
    "gums_tongue": (0.68, 0.0, 0.19, 0.2),
    "teeth": (0.87, 0.0, 0.13, 0.2),
}
GUTTER = 1 / 256


def jaw_hinge(closed: np.ndarray, opened: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``(rotation (3, 3), centre (3,))`` of the motion of the lower teeth under jawOpen, which is rigid to 0.2 mm there.

    Procrustes; the centre is the fixed point in the sagittal plane (x = 0).
    """
    a, b = closed.mean(0), opened.mean(0)
    u, _, vt = np.linalg.svd((closed - a).T @ (opened - b))
    flip = np.diag([1.0, 1.0, np.linalg.det(vt.T @ u.T)])
    rotation = vt.T @ flip @ u.T
    offset = b - rotation @ a
    centre = np.zeros(3)
    centre[1:] = np.linalg.solve(np.eye(2) - rotation[1:, 1:], offset[1:])
    return rotation, centre


def jaw_weights(
    template: np.ndarray, jaw_open: np.ndarray, rotation: np.ndarray, centre: np.ndarray
) -> np.ndarray:
    """``(V,)`` share of the jaw's rigid motion that the sculpted jawOpen gives each vertex, in [0, 1].

    Projection of the shape's displacement on the rigid one; the 1 mm^2 in the denominator lets the weight fade at the hinge.
    """
    rigid = (template - centre) @ (rotation - np.eye(3)).T
    return np.clip((jaw_open * rigid).sum(1) / ((rigid**2).sum(1) + 0.01), 0, 1)


def neck_weights(template: np.ndarray) -> np.ndarray:
    """``(V,)`` from 0 on the shoulders to 1 on the head, smooth along a plane that leans with the jaw line."""
    low, high = NECK_RAMP
    t = np.clip((template[:, 1] + 0.3 * template[:, 2] - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def sphere_centre(points: np.ndarray) -> np.ndarray:
    """Least-squares centre of a sphere."""
    system = np.concatenate([2 * points, np.ones((len(points), 1))], 1)
    return np.linalg.lstsq(system, (points**2).sum(1), rcond=None)[0][:3]


def islands(uv_faces: np.ndarray, count: int) -> np.ndarray:
    """``(F,)`` number of the connected piece of texture each triangle lies in."""
    edges = np.concatenate([uv_faces[:, :2], uv_faces[:, 1:]])
    graph = coo_matrix((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1][uv_faces[:, 0]]


def atlas(uv: np.ndarray, uv_faces: np.ndarray, groups: dict[str, np.ndarray]) -> np.ndarray:
    """Coordinates ``(T, 2)`` with each group of triangles moved into its box of :data:`ATLAS`.

    Args:
        groups: box name -> triangle indices. Coordinates of triangles in no group become zero.
    """
    result = np.zeros_like(uv)
    for name, faces in ((name, faces) for name, faces in groups.items() if len(faces)):
        rows = np.unique(uv_faces[faces])
        left, bottom, width, height = ATLAS[name]
        low, high = uv[rows].min(0), uv[rows].max(0)
        room = np.array([width, height]) - 2 * GUTTER
        scale = (room / (high - low)).min()
        corner = np.array([left, bottom]) + GUTTER + (room - scale * (high - low)) / 2
        result[rows] = corner + scale * (uv[rows] - low)
    return result
