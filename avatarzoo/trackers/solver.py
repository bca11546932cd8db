"""Compiled kernels over batches of frames: derivatives of the projection, and quadratics in a box.

One thread on purpose: they are a tenth of the work, and a second set of threads beside torch's fights it for the cores.
"""

from __future__ import annotations

import numpy as np
from numba import njit

POSE = 6
SWEEPS = 60
TOLERANCE = 1e-4
"""Of a coefficient, whose range is about one."""


@njit(cache=True, nogil=True, fastmath=True)
def linearise(
    base, modes, extra, coefficients, rotations, translations, targets, weight, focal, centre, rows
):
    """Weighted derivatives of the projection for every frame: pose (6), modes (M), extra (X), then the residual (1).

    Args:
        base: ``(L, 3)`` landmarks of the person at rest. modes: ``(L, 3, M)``. extra: ``(L, 3, X)``, X may be 0.
        coefficients: ``(T, M)``. rotations: ``(T, 3, 3)``, translations: ``(T, 3)`` head to camera, OpenCV axes.
        targets: ``(T, L, 2)`` pixels. weight: ``(L,)`` square roots of the weights, 1 / px.
        rows: ``(T, 2L, 6 + M + X + 1)`` float32, filled here.
    """
    m, x = modes.shape[2], extra.shape[2]
    for t in range(len(targets)):
        point, turned = np.empty(3), np.empty(3)
        a, ar = np.zeros((2, 3)), np.empty((2, 3), np.float32)
        rotation, translation, b, table = (
            rotations[t],
            translations[t],
            coefficients[t].astype(np.float32),
            rows[t],
        )
        for l in range(len(base)):
            for k in range(3):
                value = base[l, k]
                for j in range(m):
                    value += modes[l, k, j] * b[j]
                point[k] = value
            for k in range(3):
                turned[k] = rotation[k, 0] * point[0] + rotation[k, 1] * point[1] + rotation[k, 2] * point[2]
            px, py, pz = turned[0] + translation[0], turned[1] + translation[1], turned[2] + translation[2]
            scale = weight[l] * focal / pz
            a[0, 0], a[0, 2] = scale, -scale * px / pz
            a[1, 1], a[1, 2] = scale, -scale * py / pz
            for i in range(2):
                r = 2 * l + i
                # a rotation step w moves a point p by w x p, so the derivative along w of a_i . p is p x a_i
                table[r, 0] = turned[1] * a[i, 2] - turned[2] * a[i, 1]
                table[r, 1] = turned[2] * a[i, 0] - turned[0] * a[i, 2]
                table[r, 2] = turned[0] * a[i, 1] - turned[1] * a[i, 0]
                for k in range(3):
                    table[r, 3 + k] = a[i, k]
                    ar[i, k] = a[i, 0] * rotation[0, k] + a[i, 1] * rotation[1, k] + a[i, 2] * rotation[2, k]
                u, v, w = ar[i, 0], ar[i, 1], ar[i, 2]
                for j in range(m):
                    table[r, POSE + j] = u * modes[l, 0, j] + v * modes[l, 1, j] + w * modes[l, 2, j]
                for j in range(x):
                    table[r, POSE + m + j] = u * extra[l, 0, j] + v * extra[l, 1, j] + w * extra[l, 2, j]
            table[2 * l, POSE + m + x] = weight[l] * (targets[t, l, 0] - centre - focal * px / pz)
            table[2 * l + 1, POSE + m + x] = weight[l] * (targets[t, l, 1] - centre - focal * py / pz)


@njit(cache=True, nogil=True)
def box_descent(hessians, gradients, low, high, solutions):
    """Minimise ``x'Hx / 2 - g'x`` over ``low <= x <= high`` for every frame, in place from the given ``solutions``.

    Cyclic coordinate descent; ``residual = g - Hx`` is kept up to date, so a sweep costs one row of H for every
    coordinate that moves.

    Args:
        hessians: ``(T, M, M)`` positive definite. gradients, low, high, solutions: ``(T, M)``.
    """
    for t in range(len(gradients)):
        hessian, x = hessians[t], solutions[t]
        n = len(x)
        residual = gradients[t].copy()
        for j in range(n):
            x[j] = min(max(x[j], low[t, j]), high[t, j])
            if x[j] != 0.0:
                for i in range(n):
                    residual[i] -= hessian[j, i] * x[j]
        for _ in range(SWEEPS):
            largest = 0.0
            for j in range(n):
                change = min(max(x[j] + residual[j] / hessian[j, j], low[t, j]), high[t, j]) - x[j]
                if change != 0.0:
                    x[j] += change
                    for i in range(n):
                        residual[i] -= hessian[j, i] * change
                    largest = max(largest, abs(change))
            if largest < TOLERANCE:
                break
