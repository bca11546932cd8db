"""Gaussian splatting in plain torch: the oracle of the other backends. Any float type, any device, slow.

Conventions are those of Inria's diff-gaussian-rasterization (Kerbl et al. 2023, "3D Gaussian Splatting"): view depth
> 0.2; x/z and y/z clamped to 1.3 tan(fov/2) inside the Jacobian; 0.3 added to the diagonal of the 2D covariance; a
Gaussian is drawn in the 16-pixel tiles that touch the square of half side ceil(3 sqrt(largest eigenvalue)); order by view
depth in float32; alpha = min(0.99, o exp(power)), dropped under 1/255; a pixel stops before the Gaussian that would
leave T < 1e-4.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from avatarzoo.geometry.camera import Camera
from avatarzoo.geometry.rotations import quaternion_to_matrix
from avatarzoo.render.gaussians import Gaussians

NEAR, LOW_PASS, CLAMP, TILE = 0.2, 0.3, 1.3, 16
ALPHA_MIN, ALPHA_MAX, T_MIN = 1 / 255, 0.99, 1e-4


def render(gaussians: Gaussians, camera: Camera) -> tuple[Tensor, Tensor]:
    """Premultiplied colour ``(B, 3, H, W)`` and alpha ``(B, 1, H, W)``, differentiable in Gaussians and camera."""
    batch = camera.batch
    intrinsics = camera.intrinsics.expand(batch, 3, 3)
    sets = [x.expand(batch, *x.shape[1:]) for x in gaussians]
    pictures = [
        _render_one(Gaussians(*(x[b] for x in sets)), camera.world_to_camera[b], intrinsics[b], camera.size)
        for b in range(batch)
    ]
    rgb, alpha = zip(*pictures)
    return torch.stack(rgb), torch.stack(alpha)[:, None]


def _render_one(
    gaussians: Gaussians, pose: Tensor, k: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """One picture: ``(3, H, W)`` and ``(H, W)``, tile by tile."""
    g = Gaussians(*(x[_sound(gaussians)] for x in gaussians))
    pose, k = pose.to(g.means), k.to(g.means)
    seen = g.means @ pose[:3, :3].T + pose[:3, 3]
    front = seen[:, 2].float() > NEAR
    g, seen = Gaussians(*(x[front] for x in g)), seen[front]
    order = torch.sort(seen[:, 2].detach().float(), stable=True).indices  # Inria's keys are float32
    g, seen = Gaussians(*(x[order] for x in g)), seen[order]

    lens = torch.stack([k[0, 0], k[1, 1]])
    centres = lens * seen[:, :2] / seen[:, 2:] + k[:2, 2] - 0.5  # pixel (0, 0) has its centre at the origin
    covariance = _project_covariance(g, seen, pose[:3, :3], lens, size)
    a, b, c = covariance[:, 0, 0], covariance[:, 0, 1], covariance[:, 1, 1]
    det = a * c - b * b
    conic = torch.stack([c, -b, a], -1) / torch.where(det > 0, det, 1.0)[:, None]
    boxes = _inria_boxes(centres.detach(), a.detach(), c.detach(), det.detach(), size)

    height, width = size
    rows = []
    for y in range(0, height, TILE):
        row = []
        for x in range(0, width, TILE):
            inside = (boxes[0] <= x) & (x < boxes[2]) & (boxes[1] <= y) & (y < boxes[3])
            index = inside.nonzero()[:, 0]
            extent = min(TILE, height - y), min(TILE, width - x)
            row.append(
                _blend(centres[index], conic[index], g.opacities[index], g.colors[index], (y, x), extent)
            )
        rows.append(torch.cat(row, -1))
    picture = torch.cat(rows, -2)
    return picture[:3], picture[3]


def _sound(gaussians: Gaussians) -> Tensor:
    """``(N,)`` whether all numbers of a Gaussian are finite; others are skipped."""
    flat = torch.cat([x.reshape(len(x), x.shape[1:].numel()) for x in gaussians], -1)
    return torch.isfinite(flat).all(-1)


def _project_covariance(
    g: Gaussians, seen: Tensor, rotation: Tensor, lens: Tensor, size: tuple[int, int]
) -> Tensor:
    """``(N, 2, 2)`` covariance in pixels with the low-pass filter (Zwicker et al. 2001, EWA splatting)."""
    height, width = size
    z = seen[:, 2]
    limit = CLAMP * lens.new_tensor([width, height]) / (2 * lens)
    slope = torch.minimum(torch.maximum(seen[:, :2] / z[:, None], -limit), limit)
    zero = torch.zeros_like(z)
    top = torch.stack([lens[0] / z, zero, -lens[0] * slope[:, 0] / z], -1)
    bottom = torch.stack([zero, lens[1] / z, -lens[1] * slope[:, 1] / z], -1)
    spread = (
        torch.stack([top, bottom], -2) @ rotation @ quaternion_to_matrix(g.quaternions) * g.scales[:, None]
    )
    return spread @ spread.transpose(1, 2) + LOW_PASS * torch.eye(2, dtype=z.dtype, device=z.device)


def _inria_boxes(
    centres: Tensor, a: Tensor, c: Tensor, det: Tensor, size: tuple[int, int]
) -> tuple[Tensor, ...]:
    """Pixel ranges x0, y0, x1, y1 (end exclusive), whole tiles, in which each Gaussian is drawn; empty if det <= 0."""
    middle = 0.5 * (a + c)
    radius = (3 * (middle + (middle * middle - det).clamp_min(0.1).sqrt()).sqrt()).ceil()
    radius = torch.where(det > 0, radius, torch.full_like(radius, -torch.inf))
    x, y = centres.unbind(-1)
    edges = [(x - radius), (y - radius), (x + radius + TILE - 1), (y + radius + TILE - 1)]
    ends = [(size[1] + TILE - 1) // TILE, (size[0] + TILE - 1) // TILE]
    return tuple((edge / TILE).trunc().clamp(0, ends[i % 2]) * TILE for i, edge in enumerate(edges))


def _blend(
    centres: Tensor,
    conic: Tensor,
    opacities: Tensor,
    colors: Tensor,
    corner: tuple[int, int],
    extent: tuple[int, int],
) -> Tensor:
    """``(4, h, w)`` colour and alpha of a block of pixels; Gaussians ordered near to far."""
    like: dict[str, Any] = {"dtype": centres.dtype, "device": centres.device}
    if len(centres) == 0:
        return torch.zeros(4, *extent, **like)
    ys = torch.arange(extent[0], **like) + corner[0]
    xs = torch.arange(extent[1], **like) + corner[1]
    dy = (centres[:, 1:] - ys)[:, :, None]
    dx = (centres[:, :1] - xs)[:, None, :]
    a, b, c = conic[:, :, None, None].unbind(1)
    power = -0.5 * (a * dx * dx + c * dy * dy) - b * dx * dy
    alpha = (opacities[:, None, None] * power.exp()).clamp_max(ALPHA_MAX)
    # the cap's derivative is 0 above it (Inria's backward passes the gradient on as if there were no cap)
    alpha = torch.where((power <= 0) & (alpha >= ALPHA_MIN), alpha, 0.0)
    after = torch.cumprod(1 - alpha, 0)
    alpha = torch.where(after.detach() >= T_MIN, alpha, 0.0)
    after = torch.cumprod(1 - alpha, 0)
    before = torch.cat([torch.ones_like(after[:1]), after[:-1]])
    rgb = torch.einsum("nhw,nc->chw", alpha * before, colors)
    return torch.cat([rgb, 1 - after[-1:]])
