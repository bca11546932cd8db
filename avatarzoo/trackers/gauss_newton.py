"""Gauss-Newton on whole batches of frames under full perspective.

Per frame the unknowns are the pose (rotation and translation of the head in camera axes) and the mode coefficients, which
live in a box and carry an L1 weight. The pose is eliminated from each step (Schur complement) and the modes are found by
coordinate descent on what remains: bounds hold at every step and nothing is clipped afterwards (clipping a ridge solution
costs 0.1 % of the face height).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from avatarzoo.trackers import landmark_groups as groups
from avatarzoo.trackers import solver
from avatarzoo.trackers.priors import ExpressionPrior
from avatarzoo.trackers.solver import POSE

BATCH = 128
CONTACT_GAIN = 150.0
"""How much heavier the difference of facing lid or lip points weighs where the detector sees them meet."""


class Motion(NamedTuple):
    """Pose in camera axes ``(T, 3, 3)``, ``(T, 3)`` and mode coefficients ``(T, M)``."""

    rotation: np.ndarray
    translation: np.ndarray
    modes: np.ndarray


class Problem(NamedTuple):
    """What all frames of a person share.

    Attributes:
        base: ``(L, 3)`` float32 landmarks at rest. modes: ``(L, 3, M)`` float32.
        weight: ``(L,)`` square roots of the weights, 1 / px.
        closure: the same for the differences of facing lid and lip points. contact: pixels below which they meet.
        focal, centre: pixels. prior: of the modes. low, high: ``(M,)``.
    """

    base: np.ndarray
    modes: np.ndarray
    weight: np.ndarray
    closure: float
    contact: float
    focal: float
    centre: float
    prior: ExpressionPrior
    low: np.ndarray
    high: np.ndarray


def refine(
    problem: Problem,
    motion: Motion,
    targets: np.ndarray,
    steps: int,
    hold: bool = False,
    pull: tuple[np.ndarray, np.ndarray] | None = None,
) -> Motion:
    """``steps`` Gauss-Newton steps on every frame by itself.

    Args:
        targets: ``(T, L, 2)`` pixels.
        hold: keep the pose as given.
        pull: ``(M,)`` weights and ``(T, M)`` values that draw modes beside the prior, such as lids after the gaze.
    """
    if pull is None:
        pull = (np.zeros(motion.modes.shape[1]), np.zeros_like(motion.modes))
    parts = []
    for k in range(0, len(targets), BATCH):
        part = Motion(*(x[k : k + BATCH] for x in motion))
        for _ in range(steps):
            part = _step(problem, part, targets[k : k + BATCH], hold, (pull[0], pull[1][k : k + BATCH]))
        parts.append(part)
    return Motion(*(np.concatenate(x) for x in zip(*parts)))


def _step(problem: Problem, motion: Motion, targets: np.ndarray, hold: bool, pull: tuple) -> Motion:
    square = _normal_matrices(problem, motion, targets, None)
    b, m = motion.modes, motion.modes.shape[1]
    modes = slice(POSE, POSE + m)
    strength, goal = pull
    hessian = square[:, modes, modes] + problem.prior.quadratic + np.diag(strength)
    gradient = square[:, modes, -1] - problem.prior.linear - b @ problem.prior.quadratic
    gradient += strength * (goal - b)
    if not hold:
        pose, cross, slope = square[:, :POSE, :POSE], square[:, :POSE, modes], square[:, :POSE, -1]
        solved = np.linalg.solve(pose, np.concatenate([cross, slope[..., None]], 2))
        hessian = hessian - cross.transpose(0, 2, 1) @ solved[..., :-1]
        gradient = gradient - np.einsum("tpm,tp->tm", cross, solved[..., -1])
    delta = np.zeros_like(b)
    solver.box_descent(hessian, gradient, problem.low - b, problem.high - b, delta)
    if hold:
        return motion._replace(modes=b + delta)
    step = solved[..., -1] - np.einsum("tpm,tm->tp", solved[..., :-1], delta)
    rotation = Rotation.from_rotvec(step[:, :3]).as_matrix() @ motion.rotation
    return Motion(rotation, motion.translation + step[:, 3:], b + delta)


def identity_step(
    problem: Problem, basis: np.ndarray, motion: Motion, targets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Normal equations of the identity summed over frames; pose and the modes inside their box are eliminated.

    Args:
        basis: ``(L, 3, I)`` float32.

    Returns:
        ``(I, I)`` matrix and ``(I,)`` gradient at the present estimate, without the identity's own prior.
    """
    square = _normal_matrices(problem, motion, targets, basis)
    b, m = motion.modes, motion.modes.shape[1]
    inner, own = slice(0, POSE + m), slice(POSE + m, -1)
    hessian, cross = square[:, inner, inner].copy(), square[:, inner, own].copy()
    slope = square[:, inner, -1].copy()
    hessian[:, POSE:, POSE:] += problem.prior.quadratic
    slope[:, POSE:] -= problem.prior.linear + b @ problem.prior.quadratic
    held = np.zeros((len(b), POSE + m), bool)
    held[:, POSE:] = (b < problem.low + 1e-6) | (b > problem.high - 1e-6)
    cross[held] = 0
    slope[held] = 0
    hessian[held] = 0
    hessian.transpose(0, 2, 1)[held] = 0
    frame, row = held.nonzero()
    hessian[frame, row, row] = 1
    solved = np.linalg.solve(hessian, np.concatenate([cross, slope[..., None]], 2))
    matrix = (square[:, own, own] - cross.transpose(0, 2, 1) @ solved[..., :-1]).sum(0)
    gradient = square[:, own, -1].sum(0) - np.einsum("tji,tj->i", cross, solved[..., -1])
    return matrix, gradient


def _normal_matrices(
    problem: Problem, motion: Motion, targets: np.ndarray, extra: np.ndarray | None
) -> np.ndarray:
    """``(T, n, n)`` products of the columns pose, modes, extra, residual."""
    if extra is None:
        extra = np.zeros((*problem.base.shape, 0), np.float32)
    width = POSE + problem.modes.shape[2] + extra.shape[2] + 1
    single, pairs = 2 * len(problem.base), 2 * len(groups.CLOSURES)
    rows = np.empty((len(targets), single + pairs, width), np.float32)
    pose = (np.ascontiguousarray(motion.rotation), np.ascontiguousarray(motion.translation))
    solver.linearise(
        problem.base, problem.modes, extra, np.ascontiguousarray(motion.modes), *pose,
        np.ascontiguousarray(targets), problem.weight, problem.focal, problem.centre, rows,
    )  # fmt: skip
    _closure_rows(problem, targets, rows)
    # numpy sees that both factors are one table and computes half the product; twice as fast as torch.bmm here
    return np.matmul(rows.transpose(0, 2, 1), rows).astype(np.float64)


def _closure_rows(problem: Problem, targets: np.ndarray, rows: np.ndarray) -> None:
    """Append the differences of facing lid and lip points, heavier where the detector sees them meet."""
    upper, lower = np.array(groups.CLOSURES).T
    gap = np.linalg.norm(targets[:, upper] - targets[:, lower], axis=-1) / problem.contact
    scale = problem.closure * np.sqrt(1 + CONTACT_GAIN * np.exp(-(gap**2)))
    points = len(problem.base)
    pairs = rows.reshape(len(rows), -1, 2, rows.shape[2])
    weights = problem.weight[:, None, None].astype(np.float32)
    difference = pairs[:, upper] / weights[upper] - pairs[:, lower] / weights[lower]
    pairs[:, points:] = scale[..., None, None].astype(np.float32) * difference
