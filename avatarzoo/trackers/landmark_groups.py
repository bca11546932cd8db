"""Indices of MediaPipe's 478 face points. "Right" is the subject's right, on the left side of a picture."""

from __future__ import annotations

import numpy as np

N_LANDMARKS = 478
FOREHEAD, CHIN = 10, 152
"""Their distance in a picture is the face height, the unit of all tracker errors."""

UPPER_LID_RIGHT = (33, 246, 161, 160, 159, 158, 157, 173, 133)
LOWER_LID_RIGHT = (33, 7, 163, 144, 145, 153, 154, 155, 133)
UPPER_LID_LEFT = (263, 466, 388, 387, 386, 385, 384, 398, 362)
LOWER_LID_LEFT = (263, 249, 390, 373, 374, 380, 381, 382, 362)
"""Lids from the outer to the inner corner."""

UPPER_LIP_INNER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
LOWER_LIP_INNER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
UPPER_LIP_OUTER = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
LOWER_LIP_OUTER = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)
"""Lips from the subject's right to the left corner."""

BROW_RIGHT = (70, 63, 105, 66, 107, 55, 65, 52, 53, 46)
BROW_LEFT = (300, 293, 334, 296, 336, 285, 295, 282, 283, 276)
IRIS_RIGHT = (468, 469, 470, 471, 472)
IRIS_LEFT = (473, 474, 475, 476, 477)
"""Centre first, then the four points of the ring."""

FACE_OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
CHIN_ARC = (378, 400, 377, 152, 148, 176, 149)

LIDS = tuple(dict.fromkeys(UPPER_LID_RIGHT + LOWER_LID_RIGHT + UPPER_LID_LEFT + LOWER_LID_LEFT))
LIPS = tuple(dict.fromkeys(UPPER_LIP_INNER + LOWER_LIP_INNER + UPPER_LIP_OUTER + LOWER_LIP_OUTER))
BROWS = BROW_RIGHT + BROW_LEFT
IRISES = IRIS_RIGHT + IRIS_LEFT

GAPS = {"lips": (13, 14), "eye_right": (159, 145), "eye_left": (386, 374)}
"""Pairs whose distance says how far mouth and eyes are open."""

CLOSURES = tuple(
    (upper, lower)
    for ring in (
        (UPPER_LID_RIGHT, LOWER_LID_RIGHT),
        (UPPER_LID_LEFT, LOWER_LID_LEFT),
        (UPPER_LIP_INNER, LOWER_LIP_INNER),
    )
    for upper, lower in list(zip(*ring))[1:-1]
)
"""Facing points of lids and inner lips; their differences say what is closed more exactly than their places do."""

RIGID = (6, 168, 197, 195, 5, 4, 10, 151, 9, 8)
"""Forehead and bridge of the nose: what moves with the skull alone; for jitter."""


def landmark_weights() -> np.ndarray:
    """``(478,)`` weights of squared residuals: what carries expression counts more, the unstable oval less."""
    weights = np.full(N_LANDMARKS, 0.7)
    groups = ((FACE_OVAL, 0.3), (CHIN_ARC, 1.5), (BROWS, 1.0), (LIPS, 2.0), (LIDS, 3.0), (IRISES, 2.0))
    for indices, weight in groups:
        weights[list(indices)] = weight
    return weights


def face_height(landmarks: np.ndarray) -> np.ndarray:
    """Distance of forehead and chin, ``(...)`` from ``(..., 478, 2)``."""
    return np.linalg.norm(landmarks[..., FOREHEAD, :] - landmarks[..., CHIN, :], axis=-1)
