"""The rasteriser's oracle: every triangle against every pixel in float64, made to be read, not to be fast."""

from __future__ import annotations

import torch
from torch import Tensor


def rasterize(
    points: Tensor, faces: Tensor, size: tuple[int, int], perspective: bool, cull: bool, near: float
) -> tuple[Tensor, Tensor, Tensor]:
    """See :func:`avatarzoo.geometry.raster.rasterize_projected`. Time and memory grow with faces x pixels."""
    height, width = size
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pixels = torch.stack([x, y], -1).reshape(-1, 2).to(points.device, torch.float64)
    results = [_picture(p[faces].double(), pixels, perspective, cull, near) for p in points.detach()]
    face_id, barycentrics, depth = (torch.stack(column) for column in zip(*results, strict=True))
    return (
        face_id.view(-1, height, width),
        barycentrics.view(-1, height, width, 3).to(points.dtype),
        depth.view(-1, height, width).to(points.dtype),
    )


def _picture(corners: Tensor, pixels: Tensor, perspective: bool, cull: bool, near: float):
    a, b, c = corners[:, :, :2].unbind(1)
    area = _cross(b - a, c - a)
    drawn = area.isfinite() & (area != 0) & (corners[..., 2] > near).all(1) & ~((area > 0) & cull)
    inside, weights = drawn[:, None].expand(-1, len(pixels)), []
    for start, end in ((b, c), (c, a), (a, b)):
        along = (end - start) * area.sign()[:, None]
        value = _cross(along[:, None], pixels[None] - start[:, None])
        top_left = (along[:, 1] < 0) | ((along[:, 1] == 0) & (along[:, 0] > 0))
        inside = inside & ((value > 0) | ((value == 0) & top_left[:, None]))
        weights.append(value / area.abs()[:, None])
    screen = torch.stack(weights, -1)  # (F, P, 3)
    z = corners[:, None, :, 2]
    depth = 1 / (screen / z).sum(-1) if perspective else (screen * z).sum(-1)
    nearest, face = torch.where(inside, depth, torch.inf).min(0)  # the first of equals
    hit = nearest.isfinite()
    place = torch.arange(len(pixels), device=pixels.device)
    weight = screen[face, place]
    if perspective:
        weight = weight / corners[face, :, 2] * nearest[:, None]
    blank = torch.zeros_like(nearest)
    return (
        torch.where(hit, face, -1),
        torch.where(hit[:, None], weight, blank[:, None]),
        torch.where(hit, nearest, blank),
    )


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
