"""Triangle rasterisation in plain torch, for CUDA: no loop over triangles, no compiled extension.

Every triangle is unrolled into the pixels of its bounding box ("candidates"); the z-test is a scatter-max of
depth keys followed by a scatter-min of face ids. Candidates are worked off in blocks of bounded memory. The
arithmetic is the CPU kernel's, in the same order and in float64, so that both find the same faces.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

BLOCK = 1 << 23
"""Candidates worked on at a time (about 1.2 GB of temporaries)."""


def rasterize(
    points: Tensor, faces: Tensor, size: tuple[int, int], perspective: bool, cull: bool, near: float
) -> tuple[Tensor, Tensor, Tensor]:
    """See :func:`avatarzoo.geometry.raster.rasterize_projected`; tensors stay on their device."""
    height, width = size
    batch, count = len(points), len(faces)
    corners = points.detach()[:, faces].double().flatten(0, 1)  # (B F, 3, 3)
    keys = _keys(corners, perspective)
    zbuffer = corners.new_full((batch * height * width,), -torch.inf)
    none = torch.full((batch * height * width,), count, dtype=torch.int64, device=points.device)
    ids = none.clone()
    for triangle, column, row, edges in _hits(corners, size, cull, near):
        key = _weighted(edges, keys[triangle]) / _total(edges)
        pixel = (triangle // count * height + row) * width + column
        before = zbuffer
        zbuffer = before.scatter_reduce(0, pixel, key, "amax")
        ids = torch.where(zbuffer > before, none, ids)
        won = key == zbuffer[pixel]
        ids.scatter_reduce_(0, pixel[won], triangle[won] % count, "amin")
    face_id = torch.where(ids == count, -1, ids).view(batch, height, width)
    return face_id, *_resolve(points.detach(), faces, face_id, perspective)


def count_layers(points: Tensor, faces: Tensor, size: tuple[int, int]) -> Tensor:
    """How many triangles cover each pixel, ``(H, W)`` int64, for one set of points ``(V, 3)``."""
    layers = torch.zeros(size[0] * size[1], dtype=torch.int64, device=points.device)
    for _, column, row, _ in _hits(points[faces].double(), size, False, -torch.inf):
        layers.scatter_add_(0, row * size[1] + column, torch.ones_like(row))
    return layers.view(size)


def pick(
    points: Tensor, faces: Tensor, places: Tensor, perspective: bool, near: float
) -> tuple[Tensor, Tensor]:
    """Nearest face and barycentrics at places ``(L, 2)`` px of points ``(V, 3)``; -1 and 0 for none."""
    corners = points[faces]
    low, high = corners.amin(1), corners.amax(1)
    reachable = (
        (high[:, :2] >= places.amin(0)).all(1) & (low[:, :2] <= places.amax(0)).all(1) & (low[:, 2] > near)
    )
    kept = reachable.nonzero()[:, 0]
    (left, top), (right, bottom) = low[kept, :2].unbind(1), high[kept, :2].unbind(1)
    x, y = places[:, :1], places[:, 1:]
    place, local = ((x >= left) & (x <= right) & (y >= top) & (y <= bottom)).nonzero(as_tuple=True)
    face = kept[local]
    corners = corners.double()
    edges, inside = _edges(corners[face], *places[place].double().unbind(1))
    place, face, edges = place[inside], face[inside], edges[inside]
    keys = _keys(corners[face], perspective)
    key = _weighted(edges, keys) / _total(edges)
    best = key.new_full((len(places),), -torch.inf).scatter_reduce(0, place, key, "amax")
    won = key == best[place]
    weights = (edges * keys if perspective else edges)[won]
    faces_out = face.new_full((len(places),), -1).scatter(0, place[won], face[won])
    barycentrics = points.new_zeros(len(places), 3)
    barycentrics[place[won]] = (weights / _total(weights)[:, None]).to(points.dtype)
    return faces_out, barycentrics


def _keys(corners: Tensor, perspective: bool) -> Tensor:
    """Depth keys of the corners: 1 / z or -z, linear on the screen, larger is nearer."""
    return 1 / corners[..., 2] if perspective else -corners[..., 2]


def _hits(corners: Tensor, size: tuple[int, int], cull: bool, near: float):
    """Blocks of (triangle, column, row, edge functions) of all pixels inside triangles."""
    kept, box = _boxes(corners, size, cull, near)
    for part in _blocks((box[:, 2] * box[:, 3]).cumsum(0)):
        local, column, row = _unroll(box[part])
        triangle = kept[part][local]
        edges, inside = _edges(corners[triangle], column + 0.5, row + 0.5)
        yield triangle[inside], column[inside], row[inside], edges[inside]


def _boxes(corners: Tensor, size: tuple[int, int], cull: bool, near: float) -> tuple[Tensor, Tensor]:
    """Indices of the triangles that can cover a pixel centre and their boxes (column, row, width, height)."""
    xy = corners[..., :2]
    limit = corners.new_tensor([size[1], size[0]])
    first = (xy.amin(1) - 0.5).ceil().clamp_min(0)
    last = torch.minimum((xy.amax(1) - 0.5).floor(), limit - 1)
    a, b = xy[:, 1] - xy[:, 0], xy[:, 2] - xy[:, 0]
    area = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    good = area.isfinite() & (area != 0) & (corners[..., 2].amin(1) > near) & (first <= last).all(1)
    if cull:
        good &= area < 0
    kept = good.nonzero()[:, 0]
    return kept, torch.cat([first[kept], last[kept] - first[kept] + 1], 1).long()


def _blocks(ends: Tensor):
    """Slices of triangles whose boxes hold about ``BLOCK`` pixels together (plus at most one box)."""
    if not len(ends):
        return
    marks = torch.arange(1, int(ends[-1]) // BLOCK + 1, device=ends.device) * BLOCK
    cuts = [0, *torch.searchsorted(ends, marks).add(1).unique().tolist(), len(ends)]
    for start, stop in pairwise(cuts):
        if start < stop:
            yield slice(start, stop)


def _unroll(box: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(box index, column, row) of every pixel of every box."""
    area = box[:, 2] * box[:, 3]
    local = torch.repeat_interleave(area)
    place = torch.arange(len(local), device=box.device) - (area.cumsum(0) - area)[local]
    wide = box[local, 2]
    return local, box[local, 0] + place % wide, box[local, 1] + place // wide


def _edges(corners: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Edge functions (opposite corners 0, 1, 2; positive inside) and whether the triangle owns the pixel."""
    p = corners[..., :2]
    d, e = p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]
    clockwise = d[:, 0] * e[:, 1] - d[:, 1] * e[:, 0] > 0
    edges, inside = [], torch.ones_like(clockwise)
    for i, j in ((1, 2), (2, 0), (0, 1)):
        a = torch.where(clockwise[:, None], p[:, i], p[:, j])
        b = torch.where(clockwise[:, None], p[:, j], p[:, i])
        own = (b[:, 1] < a[:, 1]) | ((b[:, 1] == a[:, 1]) & (b[:, 0] > a[:, 0]))  # left or top edge
        ordered = (a[:, 1] < b[:, 1]) | ((a[:, 1] == b[:, 1]) & (a[:, 0] < b[:, 0]))
        origin, end = (torch.where(ordered[:, None], *pair) for pair in ((a, b), (b, a)))
        u, v = (end - origin).unbind(1)
        value = u * (y - origin[:, 1]) - v * (x - origin[:, 0])
        value = torch.where(ordered, value, -value)
        inside &= (value > 0) | ((value == 0) & own)
        edges.append(value)
    return torch.stack(edges, 1), inside


def _weighted(edges: Tensor, values: Tensor) -> Tensor:
    return edges[..., 0] * values[..., 0] + edges[..., 1] * values[..., 1] + edges[..., 2] * values[..., 2]


def _total(edges: Tensor) -> Tensor:
    return edges[..., 0] + edges[..., 1] + edges[..., 2]


def _resolve(points: Tensor, faces: Tensor, face_id: Tensor, perspective: bool) -> tuple[Tensor, Tensor]:
    """Perspective-correct barycentrics and depth of the winning faces; zeros on the background."""
    picture, row, column = (face_id >= 0).nonzero(as_tuple=True)
    corners = points[picture[:, None], faces[face_id[picture, row, column]]].double()
    keys = _keys(corners, perspective)
    edges, _ = _edges(corners, column + 0.5, row + 0.5)
    key = _weighted(edges, keys) / _total(edges)
    weights = edges * keys if perspective else edges
    barycentrics = points.new_zeros(*face_id.shape, 3)
    depth = points.new_zeros(face_id.shape)
    barycentrics[picture, row, column] = (weights / _total(weights)[:, None]).to(points.dtype)
    depth[picture, row, column] = (1 / key if perspective else -key).to(points.dtype)
    return barycentrics, depth
