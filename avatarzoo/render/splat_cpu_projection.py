"""numba kernels of the CPU splatting backend: projection, sorting into tiles, and the projection's backward.

Geometry runs in float64 (it is a small part of the work), so that a float32 picture differs from the oracle's by what
blending in float32 costs. Inria's conventions: view depth > 0.2, x/z and y/z clamped to 1.3 tan(fov/2) inside the Jacobian,
0.3 added to the 2D covariance, 16-pixel tiles that touch the square of half side ceil(3 sqrt(largest eigenvalue)).
"""

from __future__ import annotations

import math

import numpy as np

from avatarzoo.render.simd import kernel
from avatarzoo.render.splat_cpu_kernels import TILE

NEAR = np.float32(0.2)  # compared in float32, as Inria does
LOW_PASS, CLAMP, INRIA_TILE = 0.3, 1.3, 16
CAMERA = 18  # rotation (9, row-major), translation, fx, fy, cx, cy, width, height


@kernel
def _rotate(camera, x, y, z):
    """World to camera."""
    return (
        camera[0] * x + camera[1] * y + camera[2] * z + camera[9],
        camera[3] * x + camera[4] * y + camera[5] * z + camera[10],
        camera[6] * x + camera[7] * y + camera[8] * z + camera[11],
    )


@kernel
def _unit(q):
    """Normalised quaternion and its length before; (0, 0, 0, 0) stays, which is no rotation."""
    w, x, y, z = float(q[0]), float(q[1]), float(q[2]), float(q[3])
    length = math.sqrt(w * w + x * x + y * y + z * z)
    inverse = 1 / max(length, 1e-12)
    return w * inverse, x * inverse, y * inverse, z * inverse, inverse


@kernel
def _axes(camera, w, x, y, z):
    """Camera rotation times the Gaussian's rotation, nine numbers row-major."""
    r0, r1, r2 = 1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)
    r3, r4, r5 = 2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)
    r6, r7, r8 = 2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)
    c = camera
    return (
        c[0] * r0 + c[1] * r3 + c[2] * r6, c[0] * r1 + c[1] * r4 + c[2] * r7, c[0] * r2 + c[1] * r5 + c[2] * r8,
        c[3] * r0 + c[4] * r3 + c[5] * r6, c[3] * r1 + c[4] * r4 + c[5] * r7, c[3] * r2 + c[4] * r5 + c[5] * r8,
        c[6] * r0 + c[7] * r3 + c[8] * r6, c[6] * r1 + c[7] * r4 + c[8] * r7, c[6] * r2 + c[7] * r5 + c[8] * r8,
    )  # fmt: skip


@kernel
def _jacobian(camera, x, y, z):
    """The four entries of the projection's Jacobian that are not zero, and the clamped x/z, y/z."""
    limit_x, limit_y = CLAMP * camera[16] / (2 * camera[12]), CLAMP * camera[17] / (2 * camera[13])
    u, v = min(max(x / z, -limit_x), limit_x), min(max(y / z, -limit_y), limit_y)
    return camera[12] / z, -camera[12] * u / z, camera[13] / z, -camera[13] * v / z, u, v


@kernel
def _spread(m, s, j00, j02, j11, j12):
    """Rows p, q of J M diag(s): the 2D covariance is [[p.p, p.q], [p.q, q.q]]."""
    s0, s1, s2 = float(s[0]), float(s[1]), float(s[2])
    p = ((j00 * m[0] + j02 * m[6]) * s0, (j00 * m[1] + j02 * m[7]) * s1, (j00 * m[2] + j02 * m[8]) * s2)
    q = ((j11 * m[3] + j12 * m[6]) * s0, (j11 * m[4] + j12 * m[7]) * s1, (j11 * m[5] + j12 * m[8]) * s2)
    return p, q


@kernel
def _span(centre, half, radius, size):
    """First and one-past-last pixel along an axis; empty when nothing of the picture is reached."""
    blocks = (size + INRIA_TILE - 1) // INRIA_TILE
    block0 = min(max((centre - radius) / INRIA_TILE, 0.0), float(blocks))
    block1 = min(max((centre + radius + INRIA_TILE - 1) / INRIA_TILE, 0.0), float(blocks))
    low = max(math.ceil(centre - half), float(int(block0) * INRIA_TILE))
    high = min(math.floor(centre + half), float(min(int(block1) * INRIA_TILE, size) - 1))
    if low > high:
        return 0, 0
    return int(low), int(high) + 1


@kernel
def project(first, last, camera, means, quaternions, scales, opacities, colors, records, depths, boxes):
    """Project Gaussians ``first <= n < last``; an empty box marks one that is not seen.

    Writes ``records`` (N, 11): centre x, y as whole and fraction, s, t, k, log opacity, colour; ``depths`` (N,);
    ``boxes`` (N, 4): pixels x0, y0, x1, y1 (ends exclusive) where alpha may reach 1/255, within Inria's tiles.
    """
    width, height = int(camera[16]), int(camera[17])
    for n in range(first, last):
        boxes[n, 0] = boxes[n, 1] = boxes[n, 2] = boxes[n, 3] = 0
        o = float(opacities[n])
        x, y, z = _rotate(camera, float(means[n, 0]), float(means[n, 1]), float(means[n, 2]))
        if not (np.float32(z) > NEAR and o * 255 >= 1):
            continue
        w, i, j, k, _ = _unit(quaternions[n])
        j00, j02, j11, j12, _, _ = _jacobian(camera, x, y, z)
        p, q = _spread(_axes(camera, w, i, j, k), scales[n], j00, j02, j11, j12)
        a = p[0] * p[0] + p[1] * p[1] + p[2] * p[2] + LOW_PASS
        b = p[0] * q[0] + p[1] * q[1] + p[2] * q[2]
        c = q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + LOW_PASS
        det = a * c - b * b
        checksum = x + y + det + o + float(colors[n, 0]) + float(colors[n, 1]) + float(colors[n, 2])
        if not (det > 0 and math.isfinite(checksum)):
            continue
        middle = 0.5 * (a + c)
        radius = math.ceil(3 * math.sqrt(middle + math.sqrt(max(0.1, middle * middle - det))))
        cut = 2 * math.log(255 * o)
        mx, my = camera[12] * x / z + camera[14] - 0.5, camera[13] * y / z + camera[15] - 0.5
        # a hair more than exact: blending applies the test against 1/255 itself
        x0, x1 = _span(mx, math.sqrt(a * cut) * (1 + 1e-6) + 1e-5, radius, width)
        y0, y1 = _span(my, math.sqrt(c * cut) * (1 + 1e-6) + 1e-5, radius, height)
        if x0 >= x1 or y0 >= y1:
            continue
        boxes[n, 0], boxes[n, 1], boxes[n, 2], boxes[n, 3] = x0, y0, x1, y1
        depths[n] = z
        s = math.sqrt(c / (2 * det))
        records[n, 0], records[n, 2] = math.floor(mx), math.floor(my)
        records[n, 1], records[n, 3] = mx - math.floor(mx), my - math.floor(my)
        records[n, 4], records[n, 5], records[n, 6] = s, -s * b / c, 1 / math.sqrt(2 * c)
        records[n, 7] = math.log(o)
        records[n, 8], records[n, 9], records[n, 10] = colors[n, 0], colors[n, 1], colors[n, 2]


@kernel
def _by_depth(visible, bits):
    """Stable radix sort of ``visible`` by ``bits[n]``, 11 bits a pass, only as many passes as the range needs."""
    low, high = np.uint32(0xFFFFFFFF), np.uint32(0)
    for n in visible:
        low, high = min(low, bits[n]), max(high, bits[n])
    keys = np.empty(len(visible), np.uint32)
    for i in range(len(visible)):
        keys[i] = bits[visible[i]] - low
    other, other_keys = np.empty_like(visible), np.empty_like(keys)
    count = np.empty(2049, np.int64)
    shift = 0
    while len(visible) and (np.int64(high) - np.int64(low)) >> shift:
        count[:] = 0
        for i in range(len(keys)):
            count[((keys[i] >> shift) & 2047) + 1] += 1
        for i in range(2048):
            count[i + 1] += count[i]
        for i in range(len(keys)):
            digit = (keys[i] >> shift) & 2047
            other[count[digit]], other_keys[count[digit]] = visible[i], keys[i]
            count[digit] += 1
        visible, other, keys, other_keys = other, visible, other_keys, keys
        shift += 11
    return visible


@kernel
def _tiles(boxes, n):
    """Tiles x0, y0, x1, y1 (ends exclusive) that a box of pixels touches."""
    return (
        boxes[n, 0] // TILE,
        boxes[n, 1] // TILE,
        (boxes[n, 2] - 1) // TILE + 1,
        (boxes[n, 3] - 1) // TILE + 1,
    )


@kernel
def bin_tiles(depth_bits, boxes, tiles_x, tiles_y):
    """Tile lists, near to far.

    Args:
        depth_bits: the depths' float32 bits as uint32 (the order of positive floats).

    Returns:
        ``offsets`` (tiles + 1,) and ``entries`` (E,) uint32, see :func:`.splat_cpu_kernels.blend`; ``slots`` (N,) int64:
        the number of pairs of all Gaussians before n, their rows in the buffer of gradients.
    """
    slots = np.empty(len(boxes), np.int64)
    counts = np.zeros(tiles_x * tiles_y + 1, np.int64)
    visible = np.empty(len(boxes), np.uint32)
    seen, pairs = 0, 0
    for n in range(len(boxes)):
        slots[n] = pairs
        if boxes[n, 2] > boxes[n, 0]:
            x0, y0, x1, y1 = _tiles(boxes, n)
            visible[seen] = n
            seen += 1
            pairs += (x1 - x0) * (y1 - y0)
            for ty in range(y0, y1):
                for tx in range(x0, x1):
                    counts[ty * tiles_x + tx + 1] += 1
    for i in range(tiles_x * tiles_y):
        counts[i + 1] += counts[i]
    offsets = counts.copy()
    entries = np.empty(pairs, np.uint32)
    for n in _by_depth(visible[:seen].copy(), depth_bits):
        x0, y0, x1, y1 = _tiles(boxes, n)
        for ty in range(y0, y1):
            for tx in range(x0, x1):
                tile = ty * tiles_x + tx
                entries[counts[tile]] = n
                counts[tile] += 1
    return offsets, entries, slots


@kernel
def project_backward(
    first, last, camera, means, quaternions, scales, opacities, records, boxes, slots, sums,
    grad_means, grad_quaternions, grad_scales, grad_opacities, grad_colors,
):  # fmt: skip
    """Add up the pairs of Gaussians ``first <= n < last`` and carry them back through :func:`project`."""
    for n in range(first, last):
        if boxes[n, 2] <= boxes[n, 0]:
            continue
        x0, y0, x1, y1 = _tiles(boxes, n)
        pairs = (x1 - x0) * (y1 - y0)
        gs = gt = gk = su = sv = go = gr = gg = gb = 0.0
        for e in range(slots[n], slots[n] + pairs):
            gs, gt, gk = gs + sums[e, 0], gt + sums[e, 1], gk + sums[e, 2]
            su, sv, go = su + sums[e, 3], sv + sums[e, 4], go + sums[e, 5]
            gr, gg, gb = gr + sums[e, 6], gg + sums[e, 7], gb + sums[e, 8]
        grad_opacities[n] += go / opacities[n]
        grad_colors[n, 0] += gr
        grad_colors[n, 1] += gg
        grad_colors[n, 2] += gb
        s, t, k = float(records[n, 4]), float(records[n, 5]), float(records[n, 6])
        gmx, gmy = -2 * s * su, -2 * (t * su + k * k * sv)

        x, y, z = _rotate(camera, float(means[n, 0]), float(means[n, 1]), float(means[n, 2]))
        w, i, j, l, inverse = _unit(quaternions[n])
        m = _axes(camera, w, i, j, l)
        j00, j02, j11, j12, u, v = _jacobian(camera, x, y, z)
        p, q = _spread(m, scales[n], j00, j02, j11, j12)
        a = p[0] * p[0] + p[1] * p[1] + p[2] * p[2] + LOW_PASS
        b = p[0] * q[0] + p[1] * q[1] + p[2] * q[2]
        c = q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + LOW_PASS
        det = a * c - b * b

        # s = sqrt(c / 2 det), t = -s b / c, k = 1 / sqrt(2 c)
        through = gs - gt * b / c
        ga = -0.5 * through * s * c / det
        gb2 = through * s * b / det - gt * s / c
        gc = 0.5 * through * s * (1 / c - a / det) + gt * s * b / (c * c) - 0.5 * gk * k / c
        # p and q are the rows of J M diag(scale)
        gj00 = gj02 = gj11 = gj12 = 0.0
        gm0, gm1, gm2 = (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)
        for axis in range(3):
            scale = float(scales[n, axis])
            gp, gq = 2 * ga * p[axis] + gb2 * q[axis], 2 * gc * q[axis] + gb2 * p[axis]
            m0, m1, m2 = m[axis], m[3 + axis], m[6 + axis]
            v0, v1, v2 = j00 * gp, j11 * gq, j02 * gp + j12 * gq
            grad_scales[n, axis] += v0 * m0 + v1 * m1 + v2 * m2
            gj00, gj02 = gj00 + gp * m0 * scale, gj02 + gp * m2 * scale
            gj11, gj12 = gj11 + gq * m1 * scale, gj12 + gq * m2 * scale
            column = (v0 * scale, v1 * scale, v2 * scale)
            if axis == 0:
                gm0 = column
            elif axis == 1:
                gm1 = column
            else:
                gm2 = column

        fx, fy = camera[12], camera[13]
        gx, gy = gmx * fx / z, gmy * fy / z
        gz = -(gx * x + gy * y) / z - (gj00 * j00 + gj02 * j02 + gj11 * j11 + gj12 * j12) / z
        if u == x / z:  # not clamped
            gx, gz = gx - gj02 * fx / (z * z), gz + gj02 * fx * x / (z * z * z)
        if v == y / z:
            gy, gz = gy - gj12 * fy / (z * z), gz + gj12 * fy * y / (z * z * z)
        for axis in range(3):
            grad_means[n, axis] += camera[axis] * gx + camera[3 + axis] * gy + camera[6 + axis] * gz

        # gradient of the Gaussian's own rotation, R' = camera^T gM, then of the unit quaternion, then of its raw numbers
        r0, r3, r6 = _rotate_back(camera, gm0)
        r1, r4, r7 = _rotate_back(camera, gm1)
        r2, r5, r8 = _rotate_back(camera, gm2)
        hw = 2 * (-l * r1 + j * r2 + l * r3 - i * r5 - j * r6 + i * r7)
        hx = 2 * (j * r1 + l * r2 + j * r3 - 2 * i * r4 - w * r5 + l * r6 + w * r7 - 2 * i * r8)
        hy = 2 * (-2 * j * r0 + i * r1 + w * r2 + i * r3 + l * r5 - w * r6 + l * r7 - 2 * j * r8)
        hz = 2 * (-2 * l * r0 - w * r1 + i * r2 + w * r3 - 2 * l * r4 + j * r5 + i * r6 + j * r7)
        along = w * hw + i * hx + j * hy + l * hz
        grad_quaternions[n, 0] += (hw - w * along) * inverse
        grad_quaternions[n, 1] += (hx - i * along) * inverse
        grad_quaternions[n, 2] += (hy - j * along) * inverse
        grad_quaternions[n, 3] += (hz - l * along) * inverse


@kernel
def _rotate_back(camera, v):
    """Transposed camera rotation times a vector."""
    return (
        camera[0] * v[0] + camera[3] * v[1] + camera[6] * v[2],
        camera[1] * v[0] + camera[4] * v[1] + camera[7] * v[2],
        camera[2] * v[0] + camera[5] * v[1] + camera[8] * v[2],
    )
