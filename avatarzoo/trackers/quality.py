"""How good a fit is: error by part, closure of eyes and lips, jitter, meaning of coefficients, distance from a truth."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from avatarzoo.geometry.camera import Camera, project
from avatarzoo.geometry.rotations import axis_angle_to_matrix, geodesic_distance
from avatarzoo.heads.base import HeadModel, HeadParams
from avatarzoo.trackers import landmark_groups as groups

STILLEST, CLOSED = 0.3, 0.02
"""Shares of frames that count as still, as closed."""
STILL_FRAMES = 9
CHUNK = 100


class Closure(NamedTuple):
    """Gap of eyes or lips in pixels: measured and fitted on the most closed frames; correlation over all frames."""

    measured: float
    fitted: float
    correlation: float


def projected_landmarks(head: HeadModel, params: HeadParams, camera: Camera) -> np.ndarray:
    """``(T, 478, 2)`` pixels of the head's landmarks."""
    parts = []
    with torch.no_grad():
        for k in range(0, params.batch, CHUNK):
            points = head.landmark_points(head(params.rows(slice(k, k + CHUNK))))
            parts.append(project(points, camera)[..., :2].numpy())
    return np.concatenate(parts)


def errors(fitted: np.ndarray, landmarks: np.ndarray) -> dict[str, float]:
    """Mean distance in % of the face height, of all points and by part."""
    parts = {
        "all": range(groups.N_LANDMARKS),
        "lips": groups.LIPS,
        "lids": groups.LIDS,
        "irises": groups.IRISES,
        "brows": groups.BROWS,
        "oval": groups.FACE_OVAL,
    }
    distance = np.linalg.norm(fitted - landmarks, axis=-1) / np.median(groups.face_height(landmarks))
    return {name: float(100 * distance[:, list(index)].mean()) for name, index in parts.items()}


def gap(landmarks: np.ndarray, name: str) -> np.ndarray:
    """``(T,)`` opening in pixels; ``name`` as in :data:`.landmark_groups.GAPS`."""
    a, b = groups.GAPS[name]
    return np.linalg.norm(landmarks[:, a] - landmarks[:, b], axis=-1)


def closure(fitted: np.ndarray, landmarks: np.ndarray, name: str) -> Closure:
    """Whether what is closed in the picture is closed in the fit."""
    measured, found = gap(landmarks, name), gap(fitted, name)
    closed = measured <= np.quantile(measured, CLOSED)
    return Closure(
        float(measured[closed].mean()), float(found[closed].mean()), float(np.corrcoef(measured, found)[0, 1])
    )


def jitter(points: np.ndarray, landmarks: np.ndarray, order: int = 2) -> float:
    """Noise of the rigid points in pixels, per coordinate, on the stillest frames.

    The second difference halved, over sqrt(1.5): the standard deviation if all of it were white noise. Real acceleration
    of the head counts as noise too; ``order=4`` (fourth difference over sqrt(70)) lets slow motion through far less.

    Args:
        points: ``(T, 478, 2)`` what is judged. landmarks: ``(T, 478, 2)`` says which frames are still: those whose rigid
            points move least over nine frames.
    """
    rigid = list(groups.RIGID)
    speed = np.linalg.norm(np.diff(landmarks[:, rigid].mean(1), axis=0), axis=1)
    speed = np.convolve(np.pad(speed, STILL_FRAMES // 2, mode="edge"), np.ones(STILL_FRAMES), "valid")
    half = order // 2
    speed = speed[half - 1 : len(landmarks) - half - 1]
    difference = np.diff(points[:, rigid], n=order, axis=0)[: len(speed)]
    still = speed <= np.quantile(speed, STILLEST)
    variance = {2: 6.0, 4: 70.0}[order]
    return float(np.sqrt((difference[still] ** 2).mean() / variance))


def correlations(head: HeadModel, params: HeadParams, landmarks: np.ndarray) -> dict[str, float]:
    """Of blink and jaw coefficients with the measured openings."""
    pairs = {"jawOpen": "lips", "eyeBlink_L": "eye_left", "eyeBlink_R": "eye_right"}
    names = list(head.expression_names)
    return {
        name: float(np.corrcoef(params.expression[:, names.index(name)], gap(landmarks, opening))[0, 1])
        for name, opening in pairs.items()
        if name in names
    }


def rotation_errors(fit: HeadParams, camera: Camera, truth: HeadParams, true_camera: Camera) -> np.ndarray:
    """``(T,)`` degrees between fitted and true head rotation as the camera sees them."""
    seen = [
        c.world_to_camera[:, :3, :3] @ axis_angle_to_matrix(p.rotation)
        for p, c in ((fit, camera), (truth, true_camera))
    ]
    return np.degrees(geodesic_distance(*seen).numpy())


def main_modes(head: HeadModel, fit: HeadParams, truth: HeadParams, count: int = 12) -> dict[str, float]:
    """Correlation of fitted and true coefficients for the modes that vary most in the truth."""
    true, found = truth.expression.numpy(), fit.expression.numpy()
    top = np.argsort(-true.std(0))[:count]
    return {
        head.expression_names[k]: float(np.corrcoef(true[:, k], found[:, k])[0, 1])
        if found[:, k].std() > 0
        else 0.0
        for k in top
    }
