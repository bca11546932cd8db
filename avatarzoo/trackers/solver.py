"""Compiled kernels: the normal matrix of a frame, the box-constrained quadratic, one Gauss-Newton step.

Per frame the unknowns are the pose (rotation and translation of the head in camera axes, 6) and the mode coefficients b,
which live in a box and carry an L1 weight. The pose is eliminated from each step (Schur complement) and b is found by
coordinate descent on what remains, so bounds hold at every step and nothing is clipped afterwards.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

POSE = 6
SWEEPS = 60
TOLERANCE = 1e-5


@njit(cache=True, fastmath=True)
def gram(rows, out):
    """Upper triangle of ``rows' rows`` in float32; four rows at a time, so that a loaded output serves four products."""
    count, width = rows.shape
    out[:] = 0.0
    for r in range(0, count, 4):
        for i in range(width):
            a, b, c, d = rows[r, i], rows[r + 1, i], rows[r + 2, i], rows[r + 3, i]
            for j in range(i, width):
                out[i, j] += a * rows[r, j] + b * rows[r + 1, j] + c * rows[r + 2, j] + d * rows[r + 3, j]


@njit(cache=True)
def box_descent(hessian, gradient, low, high, x):
    """Minimise ``x'Hx / 2 - g'x`` over the box from ``x``, in place, by cyclic coordinate descent.

    ``residual = g - Hx`` is kept up to date; a sweep costs one row of H for every coordinate that moves.
    """
    n = len(x)
    residual = gradient.copy()
    for j in range(n):
        if x[j] != 0.0:
            for i in range(n):
                residual[i] -= hessian[j, i] * x[j]
    for _ in range(SWEEPS):
        largest = 0.0
        for j in range(n):
            value = min(max(x[j] + residual[j] / hessian[j, j], low[j]), high[j])
            change = value - x[j]
            if change != 0.0:
                x[j] = value
                for i in range(n):
                    residual[i] -= hessian[j, i] * change
                largest = max(largest, abs(change))
        if largest < TOLERANCE:
            break


@njit(cache=True, fastmath=True)
def linearise(base, modes, extra, coefficients, rotation, translation, target, weight, focal, centre, rows):
    """Fill ``rows`` with weighted derivatives of the projection: pose (6), modes (M), extra (X), residual (1).

    Args:
        base: ``(L, 3)`` landmarks of the person at rest. modes: ``(L, 3, M)``. extra: ``(L, 3, X)``, X may be 0.
        rotation, translation: head to camera, OpenCV axes.
        target: ``(L, 2)`` pixels. weight: ``(L,)`` square roots of the weights, 1 / px.
        rows: ``(>= 2L, >= 6 + M + X + 1)`` float32.
    """
    m, x = modes.shape[2], extra.shape[2]
    point = np.empty(3)
    turned = np.empty(3)
    a = np.empty((2, 3))
    ar = np.empty((2, 3))
    for l in range(len(base)):
        for k in range(3):
            value = base[l, k]
            for j in range(m):
                value += modes[l, k, j] * coefficients[j]
            point[k] = value
        for k in range(3):
            turned[k] = rotation[k, 0] * point[0] + rotation[k, 1] * point[1] + rotation[k, 2] * point[2]
        px, py, pz = turned[0] + translation[0], turned[1] + translation[1], turned[2] + translation[2]
        scale = weight[l] * focal / pz
        a[0, 0], a[0, 1], a[0, 2] = scale, 0.0, -scale * px / pz
        a[1, 0], a[1, 1], a[1, 2] = 0.0, scale, -scale * py / pz
        for i in range(2):
            r = 2 * l + i
            # d(w x p)/dw = -[p]x : row i of -A [p]x is p x a_i
            rows[r, 0] = turned[1] * a[i, 2] - turned[2] * a[i, 1]
            rows[r, 1] = turned[2] * a[i, 0] - turned[0] * a[i, 2]
            rows[r, 2] = turned[0] * a[i, 1] - turned[1] * a[i, 0]
            for k in range(3):
                rows[r, 3 + k] = a[i, k]
                ar[i, k] = a[i, 0] * rotation[0, k] + a[i, 1] * rotation[1, k] + a[i, 2] * rotation[2, k]
            u, v, w = np.float32(ar[i, 0]), np.float32(ar[i, 1]), np.float32(ar[i, 2])
            for j in range(m):
                rows[r, POSE + j] = u * modes[l, 0, j] + v * modes[l, 1, j] + w * modes[l, 2, j]
            for j in range(x):
                rows[r, POSE + m + j] = u * extra[l, 0, j] + v * extra[l, 1, j] + w * extra[l, 2, j]
        rows[2 * l, POSE + m + x] = weight[l] * (target[l, 0] - centre - focal * px / pz)
        rows[2 * l + 1, POSE + m + x] = weight[l] * (target[l, 1] - centre - focal * py / pz)


@njit(cache=True)
def padded(landmarks, columns):
    """A zeroed float32 table for :func:`linearise`: whole blocks of four rows, whole vectors of eight columns."""
    return np.zeros(((2 * landmarks + 3) // 4 * 4, (columns + 7) // 8 * 8), np.float32)


@njit(cache=True)
def turn(rotation, omega):
    """``exp(omega) rotation``."""
    angle = np.sqrt(omega[0] ** 2 + omega[1] ** 2 + omega[2] ** 2)
    if angle < 1e-12:
        return rotation
    x, y, z = omega[0] / angle, omega[1] / angle, omega[2] / angle
    k = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return rotation + np.sin(angle) * (k @ rotation) + (1 - np.cos(angle)) * (k @ (k @ rotation))


@njit(cache=True, parallel=True)
def refine_frames(
    base, modes, targets, weight, focal, centre, quadratic, linear, low, high, rotations, translations, modes_b, steps, hold
):
    """``steps`` Gauss-Newton steps on every frame by itself, in place; the pose stays as it is where ``hold``.

    Args:
        base: ``(L, 3)`` float32. modes: ``(L, 3, M)`` float32. targets: ``(T, L, 2)``. weight: ``(L,)``.
        quadratic, linear, low, high: prior and box of the modes.
        rotations: ``(T, 3, 3)``, translations: ``(T, 3)``, modes_b: ``(T, M)``; changed in place.
    """
    m = modes.shape[2]
    nothing = np.zeros((modes.shape[0], 3, 0), np.float32)
    for t in prange(len(targets)):
        rows = padded(len(base), POSE + m + 1)
        square = np.zeros((rows.shape[1], rows.shape[1]), np.float32)
        for _ in range(steps):
            b = modes_b[t]
            linearise(base, modes, nothing, b, rotations[t], translations[t], targets[t], weight, focal, centre, rows)
            gram(rows, square)
            hessian, gradient = quadratic.copy(), -linear - quadratic @ b
            for i in range(m):
                gradient[i] += square[POSE + i, POSE + m]
                for j in range(i, m):
                    value = square[POSE + i, POSE + j]
                    hessian[i, j] += value
                    if j > i:
                        hessian[j, i] += value
            pose, pose_gradient, cross = pose_block(square, m)
            if not hold:
                inverse_cross = np.linalg.solve(pose, cross)
                hessian -= cross.T @ inverse_cross
                gradient -= inverse_cross.T @ pose_gradient
            delta = np.zeros(m)
            box_descent(hessian, gradient, low - b, high - b, delta)
            modes_b[t] = np.minimum(np.maximum(b + delta, low), high)
            if not hold:
                step = np.linalg.solve(pose, pose_gradient - cross @ delta)
                rotations[t] = turn(rotations[t], step[:3])
                translations[t] += step[3:]


@njit(cache=True)
def pose_block(square, width):
    """``(6, 6)`` normal matrix of the pose, its gradient, and its ``(6, width)`` cross terms with what follows."""
    pose, gradient, cross = np.empty((POSE, POSE)), np.empty(POSE), np.empty((POSE, width))
    for i in range(POSE):
        for j in range(i, POSE):
            pose[i, j] = square[i, j]
            pose[j, i] = square[i, j]
        for j in range(width):
            cross[i, j] = square[i, POSE + j]
        gradient[i] = square[i, POSE + width]
    return pose, gradient, cross


@njit(cache=True, parallel=True)
def identity_normals(
    base, modes, identity, targets, weight, focal, centre, quadratic, linear, low, high, rotations, translations, modes_b
):
    """Normal equations of the identity, summed over frames, pose and the modes inside their box eliminated.

    Returns:
        ``(I, I)`` matrix and ``(I,)`` gradient at the present estimate, without the identity's own prior.
    """
    m, n = modes.shape[2], identity.shape[2]
    frames = len(targets)
    hessians, gradients = np.zeros((frames, n, n)), np.zeros((frames, n))
    for t in prange(frames):
        rows = padded(len(base), POSE + m + n + 1)
        full = np.zeros((rows.shape[1], rows.shape[1]), np.float32)
        b = modes_b[t]
        linearise(base, modes, identity, b, rotations[t], translations[t], targets[t], weight, focal, centre, rows)
        gram(rows, full)
        free = np.empty(POSE + m, np.int64)
        count = 0
        for j in range(POSE + m):
            if j < POSE or low[j - POSE] + 1e-6 < b[j - POSE] < high[j - POSE] - 1e-6:
                free[count] = j
                count += 1
        inner, cross, slope = np.empty((count, count)), np.empty((count, n)), np.empty(count)
        prior = -linear - quadratic @ b
        for p in range(count):
            i = free[p]
            for q in range(p, count):
                value = np.float64(full[i, free[q]])
                if i >= POSE:
                    value += quadratic[i - POSE, free[q] - POSE]
                inner[p, q] = value
                inner[q, p] = value
            for k in range(n):
                cross[p, k] = full[i, POSE + m + k]
            slope[p] = full[i, POSE + m + n] + (prior[i - POSE] if i >= POSE else 0.0)
        eliminated = np.linalg.solve(inner, cross)
        for i in range(n):
            gradients[t, i] = full[POSE + m + i, POSE + m + n]
            for j in range(i, n):
                hessians[t, i, j] = full[POSE + m + i, POSE + m + j]
                hessians[t, j, i] = hessians[t, i, j]
        hessians[t] -= cross.T @ eliminated
        gradients[t] -= eliminated.T @ slope
    return hessians.sum(0), gradients.sum(0)
