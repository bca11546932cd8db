"""Gauss-Newton on whole batches of frames under full perspective.

Per frame the unknowns are the pose (rotation and translation of the head in camera axes) and the mode coefficients, which
live in a box and carry an L1 weight. The pose is eliminated from each step (Schur complement) and the modes are found by
coordinate descent on what remains: bounds hold at every step and nothing is clipped afterwards (clipping a ridge solution
costs 0.1 % of the face height).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from avatarzoo.trackers import landmark_groups as groups
from avatarzoo.trackers import solver
from avatarzoo.trackers.priors import ExpressionPrior
from avatarzoo.trackers.products import product, solve
from avatarzoo.trackers.solver import POSE

BATCH = 32
CONTACT_GAIN = 200.0
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
        rows = slice(k, k + BATCH)
        part, seen = Motion(*(x[rows] for x in motion)), targets[rows]
        # the normal matrix hardly changes along a frame's few steps: made once, with exact slopes at every step
        square = normal_matrices(problem, part, seen)
        for step in range(steps):
            slopes = square[:, :-1, -1] if step == 0 else exact_slopes(problem, part, seen)
            part = frame_step(problem, part, square, slopes, hold, (pull[0], pull[1][rows]))
        parts.append(part)
    return Motion(*(np.concatenate(x) for x in zip(*parts)))


def frame_step(
    problem: Problem, motion: Motion, square: np.ndarray, slopes: np.ndarray, hold: bool, pull: tuple
) -> Motion:
    """One step of every frame, from normal matrices ``(T, n, n)`` and slopes ``(T, 6 + M)`` of pose and modes."""
    b, m = motion.modes, motion.modes.shape[1]
    modes = slice(POSE, POSE + m)
    strength, goal = pull
    hessian = square[:, modes, modes] + problem.prior.quadratic + np.diag(strength)
    gradient = slopes[:, modes] - problem.prior.linear - b @ problem.prior.quadratic + strength * (goal - b)
    if not hold:
        pose, cross, slope = square[:, :POSE, :POSE], square[:, :POSE, modes], slopes[:, :POSE]
        solved = solve(pose, np.concatenate([cross, slope[..., None]], 2))
        hessian -= product(cross.transpose(0, 2, 1), solved[..., :-1])
        gradient -= (slope[:, None] @ solved[..., :-1])[:, 0]
    delta = np.zeros_like(b)
    solver.box_descent(hessian, gradient, problem.low - b, problem.high - b, delta)
    if hold:
        return motion._replace(modes=b + delta)
    step = solved[..., -1] - (solved[..., :-1] @ delta[..., None])[..., 0]
    rotation = Rotation.from_rotvec(step[:, :3]).as_matrix() @ motion.rotation
    return Motion(rotation, motion.translation + step[:, 3:], b + delta)


def identity_step(problem: Problem, motion: Motion, square: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Normal equations of the identity summed over frames; pose and the modes inside their box are eliminated.

    Args:
        square: from :func:`normal_matrices` with the identity basis as extra columns.

    Returns:
        ``(I, I)`` matrix and ``(I,)`` gradient at the present estimate, without the identity's own prior.
    """
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
    solved = solve(hessian, np.concatenate([cross, slope[..., None]], 2))
    matrix = (square[:, own, own] - product(cross.transpose(0, 2, 1), solved[..., :-1])).sum(0)
    gradient = square[:, own, -1].sum(0) - np.einsum("tji,tj->i", cross, solved[..., -1])
    return matrix, gradient


def normal_matrices(
    problem: Problem, motion: Motion, targets: np.ndarray, extra: np.ndarray | None = None
) -> np.ndarray:
    """``(T, n, n)`` products of the columns pose, modes, extra, residual.

    Args:
        extra: ``(L, 3, X)`` float32 fields beside the modes, such as the identity basis.
    """
    if extra is None:
        extra = np.zeros((*problem.base.shape, 0), np.float32)
    width = POSE + problem.modes.shape[2] + extra.shape[2] + 1
    single, pairs = 2 * len(problem.base), 2 * len(groups.CLOSURES)
    rows = _table(len(targets), single + pairs, width)
    pose = (np.ascontiguousarray(motion.rotation), np.ascontiguousarray(motion.translation))
    solver.linearise(
        problem.base, problem.modes, extra, np.ascontiguousarray(motion.modes), *pose,
        np.ascontiguousarray(targets), problem.weight, problem.focal, problem.centre, rows,
    )  # fmt: skip
    _closure_rows(problem, targets, rows)
    table = torch.from_numpy(rows)
    return torch.bmm(table.transpose(1, 2), table).double().numpy()


_tables: dict[tuple[int, int], np.ndarray] = {}


def _table(frames: int, rows: int, width: int) -> np.ndarray:
    """A float32 table that is used again: fresh memory for every batch costs more than filling it."""
    if (rows, width) not in _tables or len(_tables[rows, width]) < frames:
        _tables[rows, width] = np.empty((frames, rows, width), np.float32)
    return _tables[rows, width][:frames]


def exact_slopes(problem: Problem, motion: Motion, targets: np.ndarray) -> np.ndarray:
    """``(T, 6 + M)`` derivatives of the squared residuals along pose and modes, halved and negated."""
    flat = problem.modes.reshape(-1, problem.modes.shape[2])
    points = problem.base + product(motion.modes.astype(np.float32), flat.T).reshape(-1, *problem.base.shape)
    turned = points @ motion.rotation.transpose(0, 2, 1)
    seen = turned + motion.translation[:, None]
    scale = problem.focal / seen[..., 2]
    pull = targets - problem.centre - scale[..., None] * seen[..., :2]
    upper, lower = np.array(groups.CLOSURES).T
    pairs = _closure_scale(problem, targets)[..., None] ** 2 * (pull[:, upper] - pull[:, lower])
    pull *= problem.weight[:, None] ** 2
    pull[:, upper] += pairs
    pull[:, lower] -= pairs
    force = np.empty_like(seen)
    force[..., :2] = scale[..., None] * pull
    force[..., 2] = -(force[..., :2] * seen[..., :2]).sum(-1) / seen[..., 2]
    along_modes = product((force @ motion.rotation).reshape(len(seen), -1).astype(np.float32), flat)
    return np.concatenate([np.cross(turned, force).sum(1), force.sum(1), along_modes], 1)


def _closure_scale(problem: Problem, targets: np.ndarray) -> np.ndarray:
    """``(T, P)`` square roots of the weights of the facing pairs: heavier where the detector sees them meet."""
    upper, lower = np.array(groups.CLOSURES).T
    gap = np.linalg.norm(targets[:, upper] - targets[:, lower], axis=-1) / problem.contact
    return problem.closure * np.sqrt(1 + CONTACT_GAIN * np.exp(-(gap**2)))


def _closure_rows(problem: Problem, targets: np.ndarray, rows: np.ndarray) -> None:
    """Append the differences of facing lid and lip points."""
    upper, lower = np.array(groups.CLOSURES).T
    scale = _closure_scale(problem, targets)
    points = len(problem.base)
    pairs = rows.reshape(len(rows), -1, 2, rows.shape[2])
    weights = problem.weight[:, None, None].astype(np.float32)
    difference = pairs[:, upper] / weights[upper] - pairs[:, lower] / weights[lower]
    pairs[:, points:] = scale[..., None, None].astype(np.float32) * difference
