"""Triangle rasterisation on the CPU: a numba kernel that releases the GIL, run over bands of rows by threads.

Plain Python threads rather than numba's own parallel layer: they may be used beside torch's threads, from
several threads at once and after a fork, which numba's OpenMP and workqueue layers do not all allow.

Everything is computed in float64 from float32 points. A product of two differences of float32 pixel
coordinates is (nearly) exact there, so that edge functions have no cracks and no tolerance.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import torch
from torch import Tensor

_pools: dict[int, ThreadPoolExecutor] = {}


def rasterize(
    points: Tensor, faces: Tensor, size: tuple[int, int], perspective: bool, cull: bool, near: float
) -> tuple[Tensor, Tensor, Tensor]:
    """See :func:`avatarzoo.geometry.raster.rasterize_projected`; float32 CPU tensors in and out."""
    height, width = size
    corners = faces.detach().to(torch.int32).contiguous().numpy()
    xyz = points.detach().contiguous().numpy()
    batch = len(xyz)
    face_id = torch.empty(batch, height, width, dtype=torch.int64)
    barycentrics = torch.empty(batch, height, width, 3)
    depth = torch.empty(batch, height, width)
    ids, weights, z = face_id.numpy(), barycentrics.numpy(), depth.numpy()

    def work(b: int, top: int, bottom: int) -> None:
        _band(xyz[b], corners, ids[b], weights[b], z[b], top, bottom, perspective, cull, near)

    in_bands(work, batch, height)
    return face_id, barycentrics, depth


def in_bands(work: Callable[[int, int, int], None], batch: int, height: int) -> None:
    """Call ``work(picture, top, bottom)`` for bands of rows of all pictures, on torch's number of threads."""
    threads = torch.get_num_threads()
    # twice as many bands as threads, since what is drawn is rarely as dense at the rim as in the middle
    bands = 1 if threads == 1 or batch >= 2 * threads else min(height, -(-2 * threads // batch))
    edges = np.linspace(0, height, bands + 1).astype(np.int64)
    jobs = [
        (b, edges[k], edges[k + 1]) for b in range(batch) for k in range(bands) if edges[k] < edges[k + 1]
    ]
    if len(jobs) == 1 or threads == 1:
        for job in jobs:
            work(*job)
    else:
        list(_pool(threads).map(lambda job: work(*job), jobs))


def _pool(threads: int) -> ThreadPoolExecutor:
    """The threads of this process; a forked child starts its own, since threads do not survive a fork."""
    if threads not in _pools:
        _pools[threads] = ThreadPoolExecutor(threads, thread_name_prefix="raster")
    return _pools[threads]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pools.clear)


@numba.njit(cache=True, nogil=True, inline="always")
def _edge(ax, ay, bx, by):
    """Edge function of a -> b, ``e = s (u (y - oy) - v (x - ox))``: inside if e > 0, or e = 0 and ``own``.

    The origin is the smaller end, whichever way the edge runs: its two triangles get exactly opposite values.
    """
    # left or top edge of a triangle that is clockwise on the screen
    own = by < ay or (by == ay and bx > ax)
    if ay < by or (ay == by and ax < bx):
        return bx - ax, by - ay, ax, ay, 1.0, own
    return ax - bx, ay - by, bx, by, -1.0, own


@numba.njit(cache=True, nogil=True)
def _corners(points, faces, f, perspective):
    """Corners of face f in float64, and depth keys: 1 / z or -z, linear on the screen, larger is nearer."""
    i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
    x0, y0, z0 = np.float64(points[i, 0]), np.float64(points[i, 1]), np.float64(points[i, 2])
    x1, y1, z1 = np.float64(points[j, 0]), np.float64(points[j, 1]), np.float64(points[j, 2])
    x2, y2, z2 = np.float64(points[k, 0]), np.float64(points[k, 1]), np.float64(points[k, 2])
    if perspective:
        return x0, y0, 1.0 / z0, x1, y1, 1.0 / z1, x2, y2, 1.0 / z2
    return x0, y0, -z0, x1, y1, -z1, x2, y2, -z2


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _band(points, faces, face_id, barycentrics, depth, top, bottom, perspective, cull, near):
    """Rows [top, bottom) of one picture: z-buffer over all faces, then barycentrics of the winners."""
    width = face_id.shape[1]
    face_id[top:bottom] = -1
    zbuffer = np.full((bottom - top, width), -np.inf)
    for f in range(len(faces)):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        low = min(points[i, 1], points[j, 1], points[k, 1])
        high = max(points[i, 1], points[j, 1], points[k, 1])
        if not (high >= top and low <= bottom and min(points[i, 2], points[j, 2], points[k, 2]) > near):
            continue
        x0, y0, k0, x1, y1, k1, x2, y2, k2 = _corners(points, faces, f, perspective)
        area = (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0)
        if not np.isfinite(area) or area == 0.0 or (cull and area > 0.0):
            continue
        left, right = min(x0, x1, x2), max(x0, x1, x2)
        first, last = max(np.ceil(left - 0.5), 0.0), min(np.floor(right - 0.5), width - 1.0)
        upper, lower = max(np.ceil(low - 0.5), np.float64(top)), min(np.floor(high - 0.5), bottom - 1.0)
        if (
            first > last or upper > lower
        ):  # before the conversion to integers, which huge numbers do not survive
            continue
        if area < 0.0:  # make it clockwise on the screen
            x1, y1, k1, x2, y2, k2 = x2, y2, k2, x1, y1, k1
        u0, v0, ox0, oy0, s0, own0 = _edge(x1, y1, x2, y2)
        u1, v1, ox1, oy1, s1, own1 = _edge(x2, y2, x0, y0)
        u2, v2, ox2, oy2, s2, own2 = _edge(x0, y0, x1, y1)
        for row in range(int(upper), int(lower) + 1):
            y = row + 0.5
            a0, a1, a2 = u0 * (y - oy0), u1 * (y - oy1), u2 * (y - oy2)
            for column in range(int(first), int(last) + 1):
                x = column + 0.5
                e0 = s0 * (a0 - v0 * (x - ox0))
                e1 = s1 * (a1 - v1 * (x - ox1))
                e2 = s2 * (a2 - v2 * (x - ox2))
                if e0 < 0.0 or e1 < 0.0 or e2 < 0.0:
                    continue
                if (e0 == 0.0 and not own0) or (e1 == 0.0 and not own1) or (e2 == 0.0 and not own2):
                    continue
                key = (e0 * k0 + e1 * k1 + e2 * k2) / (e0 + e1 + e2)
                if key > zbuffer[row - top, column]:
                    zbuffer[row - top, column] = key
                    face_id[row, column] = f
    _resolve(points, faces, face_id, barycentrics, depth, top, bottom, perspective)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _resolve(points, faces, face_id, barycentrics, depth, top, bottom, perspective):
    """Perspective-correct barycentrics and depth of the winning faces; zeros on the background."""
    for row in range(top, bottom):
        for column in range(face_id.shape[1]):
            f = face_id[row, column]
            if f < 0:
                barycentrics[row, column] = 0.0
                depth[row, column] = 0.0
                continue
            x0, y0, k0, x1, y1, k1, x2, y2, k2 = _corners(points, faces, f, perspective)
            x, y = column + 0.5, row + 0.5
            e0 = (x2 - x1) * (y - y1) - (y2 - y1) * (x - x1)
            e1 = (x0 - x2) * (y - y2) - (y0 - y2) * (x - x2)
            e2 = (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0)
            total = e0 + e1 + e2
            key = (e0 * k0 + e1 * k1 + e2 * k2) / total
            if perspective:
                e0, e1, e2 = e0 * k0, e1 * k1, e2 * k2
                total = e0 + e1 + e2
                depth[row, column] = 1.0 / key
            else:
                depth[row, column] = -key
            barycentrics[row, column, 0] = e0 / total
            barycentrics[row, column, 1] = e1 / total
            barycentrics[row, column, 2] = e2 / total
