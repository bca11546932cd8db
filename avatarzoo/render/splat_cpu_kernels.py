# mypy: disable-error-code="call-arg, var-annotated"
# (numba passes the first argument of an intrinsic itself)
"""numba kernels of the CPU splatting backend: blending of depth-sorted tiles, forward and backward.

Everything that a pixel needs of a Gaussian stands in one record of 12 float32 (see :mod:`.splat_cpu_projection`), with the
2D Gaussian in Cholesky form: log alpha = log o - u^2 - v^2, u = s dx + t dy, v = k dy. It cannot come out positive by
rounding, which is what Inria's test "power > 0" guards against.
"""

from __future__ import annotations

import numpy as np

from avatarzoo.render.simd import LANES, kernel, load, select, splat, store, total

TILE = 32  # pixels a side
FIELDS = 11  # x and y of the centre as (whole, fraction), s, t, k, log opacity, r, g, b
GRADS = 9  # s, t, k, u-sum, v-sum, log opacity, r, g, b
ALPHA_MIN, ALPHA_MAX, T_MIN = 1 / 255, 0.99, 1e-4
_STOP_CHECK = 64  # Gaussians between two looks whether all pixels of a tile are finished

# degree-5 fit of exp on [-0.7, 0], relative error 8e-8
C0, C1, C2, C3, C4, C5 = 0.99999994, 0.99999255, 0.49988258, 0.16597396, 0.03977255, 0.00584675

# A tile's scratch memory has one plane per quantity and LANES columns more than the tile, for windows that stand over.
_ROW = TILE + LANES
_SIZE = TILE * _ROW
_T, _R, _G, _B, _REST = 0, _SIZE, 2 * _SIZE, 3 * _SIZE, 4 * _SIZE
_FAR = 1e4  # u of a lane right of the Gaussian's box: alpha is 0 there


@kernel
def _exp(x):
    """exp for -5.6 <= x <= 0 to 1e-6: a degree-5 minimax polynomial on x / 8, squared three times."""
    y = x * 0.125
    p = C5 * y + C4
    p = p * y + C3
    p = p * y + C2
    p = p * y + C1
    p = p * y + C0
    p = p * p
    p = p * p
    return p * p


@kernel
def _opacity(u, e):
    """Alpha before the cap: exp(e - u^2), where anything below exp(-5.6) < 1/255 may come out as that."""
    power = e - u * u
    return _exp(select(power < -5.6, -5.6, power))


@kernel
def _any_open(scratch):
    """Whether some pixel of the tile still takes light (finished ones carry their transmittance negated)."""
    for y in range(TILE):
        live = splat(0.0)
        for x in range(0, TILE, LANES):
            T = load(scratch, _T + y * _ROW + x)
            live = live + select(T < 0.0, 0.0, T)
        if total(live) > 0.0:
            return True
    return False


@kernel
def _overlap(boxes, n, x0, y0):
    """The part of the Gaussian's box in the tile at (x0, y0), in the tile's pixels; ends exclusive."""
    return (
        max(boxes[n, 0] - x0, 0),
        max(boxes[n, 1] - y0, 0),
        min(boxes[n, 2] - x0, TILE),
        min(boxes[n, 3] - y0, TILE),
    )


@kernel
def blend(first, last, offsets, entries, boxes, records, tiles_x, lane, rgb, alpha):
    """Blend tiles ``first <= tile < last`` front to back.

    Args:
        offsets, entries: Gaussians of tile i, near to far, are ``entries[offsets[i] : offsets[i + 1]]``.
        records: ``(N, FIELDS)``.
        lane: 0...7 as float32.
        rgb: ``(3, H, W)`` out, without background; alpha: ``(H, W)`` out.
    """
    height, width = alpha.shape
    scratch = np.empty(4 * _SIZE, np.float32)
    columns = load(lane, 0)
    for tile in range(first, last):
        x0, y0 = (tile % tiles_x) * TILE, (tile // tiles_x) * TILE
        scratch[:_SIZE] = 1.0
        scratch[_SIZE:] = 0.0
        for j in range(offsets[tile], offsets[tile + 1]):
            if (j - offsets[tile]) % _STOP_CHECK == _STOP_CHECK - 1 and not _any_open(scratch):
                break
            n = entries[j]
            left, low, right, high = _overlap(boxes, n, x0, y0)
            mx = records[n, 0] - np.float32(x0) + records[n, 1]
            my = records[n, 2] - np.float32(y0) + records[n, 3]
            t, k, top = records[n, 5], records[n, 6], records[n, 7]
            red, green, blue = splat(records[n, 8]), splat(records[n, 9]), splat(records[n, 10])
            for x in range(left, right, LANES):
                ux = select(
                    columns < np.float32(right - x), ((mx - np.float32(x)) - columns) * records[n, 4], _FAR
                )
                for y in range(low, high):
                    dy = my - np.float32(y)
                    v = k * dy
                    a = _opacity(ux + t * dy, top - v * v)
                    a = select(a < ALPHA_MIN, 0.0, select(a < ALPHA_MAX, a, ALPHA_MAX))
                    at = y * _ROW + x
                    T = load(scratch, _T + at)
                    after = T - a * T
                    stop = after < T_MIN  # also true of finished pixels, whose T is negative
                    w = select(stop, 0.0, a * T)
                    store(scratch, _R + at, load(scratch, _R + at) + w * red)
                    store(scratch, _G + at, load(scratch, _G + at) + w * green)
                    store(scratch, _B + at, load(scratch, _B + at) + w * blue)
                    store(scratch, _T + at, select(stop, select(T < 0.0, T, T * -1.0), after))
        for y in range(min(TILE, height - y0)):
            for x in range(min(TILE, width - x0)):
                p = y * _ROW + x
                alpha[y0 + y, x0 + x] = np.float32(1.0) - abs(scratch[_T + p])
                rgb[0, y0 + y, x0 + x] = scratch[_R + p]
                rgb[1, y0 + y, x0 + x] = scratch[_G + p]
                rgb[2, y0 + y, x0 + x] = scratch[_B + p]


@kernel
def _load_tile(scratch, x0, y0, rgb, alpha, grad_rgb, grad_alpha):
    """Fill a tile's scratch memory: T = 1, gradient of the colour, and REST (see :func:`blend_backward`)."""
    height, width = alpha.shape
    scratch[:] = 0.0
    scratch[:_SIZE] = 1.0
    for y in range(min(TILE, height - y0)):
        for x in range(min(TILE, width - x0)):
            p, i, j = y * _ROW + x, y0 + y, x0 + x
            rest = -(np.float32(1.0) - alpha[i, j]) * grad_alpha[i, j]
            for c in range(3):
                scratch[_R + c * _SIZE + p] = grad_rgb[c, i, j]
                rest += rgb[c, i, j] * grad_rgb[c, i, j]
            scratch[_REST + p] = rest


@kernel
def blend_backward(
    first, last, offsets, entries, boxes, records, tiles_x, lane, rgb, alpha, grad_rgb, grad_alpha, slots, sums
):  # fmt: skip
    """Backward of :func:`blend`, replaying it front to back.

    REST is what the picture's gradient still has to gain from behind the current Gaussian,
    sum_{j > i} w_j c_j . dL/drgb - T_N dL/dalpha: it starts at the value of the whole pixel and each Gaussian takes its
    share away, so that no second pass from the back is needed. dL/dalpha_i = T_i c_i . dL/drgb - REST_i / (1 - alpha_i).

    Each (tile, Gaussian) pair has its own row of ``sums`` (E, GRADS): no two threads write to the same place and the
    order of summation never changes. The row is ``slots[n]`` plus the tile's place among those of ``boxes[n]``.
    """
    scratch = np.empty(5 * _SIZE, np.float32)
    columns, zero = load(lane, 0), splat(0.0)
    for tile in range(first, last):
        tx, ty = tile % tiles_x, tile // tiles_x
        x0, y0 = tx * TILE, ty * TILE
        if offsets[tile] == offsets[tile + 1]:
            continue
        _load_tile(scratch, x0, y0, rgb, alpha, grad_rgb, grad_alpha)
        is_open = True
        for j in range(offsets[tile], offsets[tile + 1]):
            n = entries[j]
            tx0, across = boxes[n, 0] // TILE, (boxes[n, 2] - 1) // TILE - boxes[n, 0] // TILE + 1
            out = sums[slots[n] + (ty - boxes[n, 1] // TILE) * across + tx - tx0]
            if (j - offsets[tile]) % _STOP_CHECK == _STOP_CHECK - 1:
                is_open = is_open and _any_open(scratch)
            if not is_open:
                out[:] = 0.0
                continue
            left, low, right, high = _overlap(boxes, n, x0, y0)
            mx = records[n, 0] - np.float32(x0) + records[n, 1]
            my = records[n, 2] - np.float32(y0) + records[n, 3]
            t, k, top = records[n, 5], records[n, 6], records[n, 7]
            red, green, blue = splat(records[n, 8]), splat(records[n, 9]), splat(records[n, 10])
            # sums lane by lane: h = dL/dlog alpha, h u, h dy, h u dx, h u dy, h dy^2, and w dL/drgb
            sh, shu, shy, shux, shuy, shyy = zero, zero, zero, zero, zero, zero
            sr, sg, sb = zero, zero, zero
            for x in range(left, right, LANES):
                dx = (mx - np.float32(x)) - columns
                ux = select(columns < np.float32(right - x), dx * records[n, 4], _FAR)
                window = zero  # of h u, as dx changes from window to window
                for y in range(low, high):
                    dy = my - np.float32(y)
                    v = k * dy
                    u = ux + t * dy
                    raw = _opacity(u, top - v * v)
                    a = select(raw < ALPHA_MIN, 0.0, select(raw < ALPHA_MAX, raw, ALPHA_MAX))
                    at = y * _ROW + x
                    T = load(scratch, _T + at)
                    after = T - a * T
                    stop = after < T_MIN
                    w = select(stop, 0.0, a * T)
                    gx, gy, gz = load(scratch, _R + at), load(scratch, _G + at), load(scratch, _B + at)
                    shaded = w * (red * gx + green * gy + blue * gz)
                    rest = load(scratch, _REST + at) - shaded
                    # the cap's derivative is 0 above it (Inria's backward passes the gradient as if there were no cap)
                    h = select(raw < ALPHA_MAX, shaded - rest * a / (1.0 - a), 0.0)
                    h = select(stop, 0.0, h)
                    hu = h * u
                    hy = h * dy
                    sh = sh + h
                    window = window + hu
                    shy = shy + hy
                    shuy = shuy + hu * dy
                    shyy = shyy + hy * dy
                    sr = sr + w * gx
                    sg = sg + w * gy
                    sb = sb + w * gz
                    store(scratch, _REST + at, rest)
                    store(scratch, _T + at, select(stop, select(T < 0.0, T, T * -1.0), after))
                shu = shu + window
                shux = shux + window * dx
            out[0] = np.float32(-2.0) * total(shux)
            out[1] = np.float32(-2.0) * total(shuy)
            out[2] = np.float32(-2.0) * k * total(shyy)
            out[3] = total(shu)
            out[4] = total(shy)
            out[5] = total(sh)
            out[6] = total(sr)
            out[7] = total(sg)
            out[8] = total(sb)
