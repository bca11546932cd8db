"""Eye rotations from the iris landmarks, in closed form (StyleAvatar section 3.1: R2 and R3 after the head pose)."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from avatarzoo.trackers import landmark_groups as groups

LIMIT = np.radians(40)
HIDDEN = 0.025
"""Of the face height: with lids nearer than this the iris is a guess of the detector."""


def eye_rotations(
    points: np.ndarray, eyes: np.ndarray, targets: np.ndarray, rotation: np.ndarray, translation: np.ndarray,
    focal: float, centre: float,
) -> np.ndarray:  # fmt: skip
    """Turn each eyeball so that its iris centre lies on the ray through the detected one.

    The ray is cut with the sphere on which the iris centre turns about the eyeball's centre; where it misses the sphere, the
    sphere's nearest point is taken.

    Args:
        points: ``(T, 478, 3)`` landmarks in the head frame, eyes straight. eyes: ``(2, 3)`` centres, left then right.
        targets: ``(T, 478, 2)`` pixels.
        rotation, translation: ``(T, 3, 3)``, ``(T, 3)`` head to camera, OpenCV axes.

    Returns:
        ``(T, 6)`` axis-angle of the left, then the right eye in the head frame.
    """
    origin = -np.einsum("tji,tj->ti", rotation, translation)
    turns = []
    for eye, iris in zip(eyes, (groups.IRIS_LEFT, groups.IRIS_RIGHT)):
        straight = points[:, iris[0]] - eye
        radius = np.linalg.norm(straight, axis=1)
        pixel = (targets[:, iris[0]] - centre) / focal
        ray = np.concatenate([pixel, np.ones((len(pixel), 1))], 1)
        ray = np.einsum("tji,tj->ti", rotation, ray / np.linalg.norm(ray, axis=1, keepdims=True))
        middle = ((eye - origin) * ray).sum(1, keepdims=True) * ray + origin - eye
        # middle: the ray's point nearest to the eyeball's centre, seen from there
        depth = np.sqrt(np.maximum(radius**2 - (middle**2).sum(1), 0))
        turns.append(_shortest_turn(straight, middle - depth[:, None] * ray))
    return np.concatenate(turns, 1)


def hidden_eyes(targets: np.ndarray) -> np.ndarray:
    """``(T, 2)`` bool: the left, the right eye is too closed to see its iris."""
    height = np.median(groups.face_height(targets))
    pairs = (groups.GAPS["eye_left"], groups.GAPS["eye_right"])
    gaps = [np.linalg.norm(targets[:, a] - targets[:, b], axis=1) for a, b in pairs]
    return np.stack(gaps, 1) < HIDDEN * height


def turned_irises(points: np.ndarray, eyes: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """``points (T, 478, 3)`` with the irises turned by ``turns (T, 6)`` about ``eyes (2, 3)``."""
    points = points.copy()
    for k, (eye, iris) in enumerate(zip(eyes, (groups.IRIS_LEFT, groups.IRIS_RIGHT))):
        matrices = Rotation.from_rotvec(turns[:, 3 * k : 3 * k + 3]).as_matrix()
        points[:, iris] = np.einsum("tij,tlj->tli", matrices, points[:, iris] - eye) + eye
    return points


def _shortest_turn(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Axis-angle ``(T, 3)`` that takes direction a to direction b, at most :data:`LIMIT`."""
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    axis = np.cross(a, b)
    sine = np.linalg.norm(axis, axis=1)
    angle = np.minimum(np.arctan2(sine, (a * b).sum(1)), LIMIT)
    return axis * (angle / np.maximum(sine, 1e-12))[:, None]
