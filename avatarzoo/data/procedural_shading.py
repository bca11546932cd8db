"""Texture, light, averaging and background of the procedural actor in one pass over the pixels.

In bands on torch's threads: numba's own parallel loops would set the number of OpenMP threads of the whole process, torch's with it.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from avatarzoo.geometry.raster_cpu import in_bands


def shade_pixels(face_id, barycentrics, faces, uv_faces, uv, light, texture, background, n_head, gamma):
    """Shade fragments drawn at twice the size and average 2 x 2.

    Args:
        face_id: ``(B, 2H, 2W)``, -1 outside; barycentrics: ``(B, 2H, 2W, 3)``.
        faces, uv_faces: ``(F, 3)``; uv: ``(T, 2)``, v = 1 on top.
        light: ``(B, V, 3)`` arriving at the vertices.
        texture: ``(Ht, Wt, 3)``; background: ``(H, W, 3)``.
        n_head: faces from this number on are clothes.
        gamma: exponent of the tone curve.

    Returns:
        ``(B, H, W, 5)`` float32: RGB over the background, coverage, coverage by the head.
    """
    batch, height, width = face_id.shape[0], face_id.shape[1] // 2, face_id.shape[2] // 2
    out = np.empty((batch, height, width, 5), np.float32)
    looks = faces, uv_faces, uv
    rest = texture, background, n_head, gamma

    def work(b: int, top: int, bottom: int) -> None:
        _shade(out[b], face_id[b], barycentrics[b], *looks, light[b], *rest, top, bottom)

    in_bands(work, batch, height)
    return out


@njit(cache=True, fastmath=True, nogil=True)
def _shade(
    out, face_id, barycentrics, faces, uv_faces, uv, light, texture, background, n_head, gamma, start, end
):
    """Rows ``start`` to ``end`` of one picture."""
    tall, wide = texture.shape[0], texture.shape[1]
    for i in range(start, end):
        for j in range(out.shape[1]):
            rgb, seen, head = np.zeros(3, np.float32), 0.0, 0.0
            for s in range(4):
                y, x = 2 * i + s // 2, 2 * j + s % 2
                f = face_id[y, x]
                if f < 0:
                    continue
                seen += 0.25
                head += 0.25 if f < n_head else 0.0
                u = v = r = g = l = 0.0
                for k in range(3):
                    w = barycentrics[y, x, k]
                    t, p = uv_faces[f, k], faces[f, k]
                    u += w * uv[t, 0]
                    v += w * uv[t, 1]
                    r += w * light[p, 0]
                    g += w * light[p, 1]
                    l += w * light[p, 2]
                tx = min(max(u * wide - 0.5, 0.0), wide - 1.001)
                ty = min(max((1 - v) * tall - 0.5, 0.0), tall - 1.001)
                x0, y0 = int(tx), int(ty)
                fx, fy = tx - x0, ty - y0
                for c in range(3):
                    top = (1 - fx) * texture[y0, x0, c] + fx * texture[y0, x0 + 1, c]
                    low = (1 - fx) * texture[y0 + 1, x0, c] + fx * texture[y0 + 1, x0 + 1, c]
                    shine = r if c == 0 else (g if c == 1 else l)
                    rgb[c] += 0.25 * min(max(((1 - fy) * top + fy * low) * shine, 0.0), 1.0) ** gamma
            for c in range(3):
                out[i, j, c] = rgb[c] + (1 - seen) * background[i, j, c]
            out[i, j, 3], out[i, j, 4] = seen, head
