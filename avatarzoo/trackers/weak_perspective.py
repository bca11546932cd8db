"""A start without a guess: StyleAvatar's two analytic steps (section 3.1, Eq. 1 and 2) under scaled orthography.

paper: Procrustes on MediaPipe's 3D points for the pose, an unbounded ridge for shape and expression. We fit the pose to
the 2D points (their z is a guess that adds pitch noise) and keep expressions inside their bounds. The normal matrix of
Eq. 2 is the sum of six cached blocks, factored by the entries of R'R, so it is never rebuilt from the basis.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from avatarzoo.trackers.products import product
from avatarzoo.trackers.solver import box_descent

PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))


class ScaledPose(NamedTuple):
    """``pixels = scale * rotation[:2] @ x + offset``; ``(T,)``, ``(T, 3, 3)``, ``(T, 2)``; image axes x right, y down."""

    scale: np.ndarray
    rotation: np.ndarray
    offset: np.ndarray


def scaled_pose(points: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> ScaledPose:
    """Eq. 1: the affine camera by least squares, then the nearest scaled rotation by SVD.

    Args:
        points: ``(T, L, 3)``. targets: ``(T, L, 2)`` pixels. weights: ``(L,)``.
    """
    w = weights / weights.sum()
    centre, middle = w @ points, w @ targets
    x, u = points - centre[:, None], targets - middle[:, None]
    weighted = (w[:, None] * x).transpose(0, 2, 1)
    affine = np.linalg.solve(weighted @ x, weighted @ u).transpose(0, 2, 1)
    left, singular, right = np.linalg.svd(affine, full_matrices=False)
    two = left @ right
    rotation = np.concatenate([two, np.cross(two[:, 0], two[:, 1])[:, None]], 1)
    scale = singular.mean(1)
    offset = middle - scale[:, None] * np.einsum("tij,tj->ti", two, centre)
    return ScaledPose(scale, rotation, offset)


def weak_start(
    base: np.ndarray,
    modes: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray,
    sigma: float,
    prior,
    bounds,
    rounds: int = 2,
) -> tuple[ScaledPose, np.ndarray]:
    """Alternate Eq. 1 and Eq. 2 on every frame by itself.

    Args:
        base: ``(L, 3)``. modes: ``(L, 3, M)``. targets: ``(T, L, 2)``. sigma: pixels of a unit residual.
        prior: :class:`~avatarzoo.trackers.priors.ExpressionPrior`. bounds: ``(low, high)``.

    Returns:
        pose and ``(T, M)`` mode coefficients.
    """
    blocks = np.stack([np.einsum("l,lm,ln->mn", weights, modes[:, i], modes[:, j]) for i, j in PAIRS])
    blocks = (blocks + blocks.transpose(0, 2, 1)) / 2
    coefficients = np.zeros((len(targets), modes.shape[2]))
    flat = modes.reshape(-1, modes.shape[2])
    for _ in range(rounds):
        points = base + product(coefficients, flat.T).reshape(-1, *base.shape)
        pose = scaled_pose(points, targets, weights)
        two = pose.scale[:, None, None] * pose.rotation[:, :2]
        residual = targets - pose.offset[:, None] - base @ two.transpose(0, 2, 1)
        pulled = (weights[:, None] * residual) @ two
        gradient = product(pulled.reshape(len(targets), -1), flat) / sigma**2 - prior.linear
        products = two.transpose(0, 2, 1) @ two
        factors = np.stack([products[:, i, j] * (1 if i == j else 2) for i, j in PAIRS], 1) / sigma**2
        hessian = product(factors, blocks.reshape(6, -1)).reshape(-1, *blocks.shape[1:]) + prior.quadratic
        low, high = (np.broadcast_to(x, gradient.shape) for x in bounds)
        box_descent(hessian, gradient, low, high, coefficients)
    return pose, coefficients
