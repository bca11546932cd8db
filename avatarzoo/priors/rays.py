"""Rays of an EG3D camera label, and where samples lie on them (Chan et al. 2022, section 4.2; NeRF's two passes)."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


class Rays(NamedTuple):
    """One ray per pixel, row by row. World units."""

    origins: Float[Tensor, "b 3"]
    directions: Float[Tensor, "b n 3"]


def camera_rays(label: Float[Tensor, "b 25"], resolution: int, centre: float = 0.5) -> Rays:
    """Rays through the pixels of a square picture.

    Args:
        label: camera-to-world (16 numbers, OpenCV axes), intrinsics in picture sides (9 numbers), both row-major.
        resolution: side of the picture.
        centre: where a ray passes through its pixel: 0.5 its middle, 0 its upper left corner.
    """
    pose, intrinsics = label[:, :16].unflatten(1, (4, 4)), label[:, 16:].unflatten(1, (3, 3))
    centres = (torch.arange(resolution, device=label.device, dtype=label.dtype) + centre) / resolution
    v, u = torch.meshgrid(centres, centres, indexing="ij")
    fx, skew, cx = intrinsics[:, 0, :].unsqueeze(-1).unbind(1)
    fy, cy = intrinsics[:, 1, 1:].unsqueeze(-1).unbind(1)
    y = (v.flatten() - cy) / fy
    x = (u.flatten() - cx - skew * y) / fx
    directions = torch.stack([x, y, torch.ones_like(x)], -1) @ pose[:, :3, :3].transpose(1, 2)
    return Rays(pose[:, :3, 3], F.normalize(directions, dim=-1))


def depth_limits(
    rays: Rays, depth_range: tuple[float, float] | Literal["auto"], box: float
) -> tuple[Float[Tensor, "b n 1"], Float[Tensor, "b n 1"]]:
    """Start and end of every ray: the given numbers, or its way through the cube of side ``box`` ("auto").

    In "auto", rays that miss the cube get the smallest start of all hits as start and the *largest start* as end, as the
    released code has it.
    """
    if depth_range != "auto":
        near, far = (rays.directions.new_full((1, 1, 1), d) for d in depth_range)
        shape = (*rays.directions.shape[:2], 1)
        return near.expand(shape), far.expand(shape)
    faces = torch.stack([rays.directions.new_tensor(s * box / 2) - rays.origins for s in (-1.0, 1.0)])
    crossings = faces[:, :, None] / rays.directions
    near = crossings.amin(0).amax(-1, keepdim=True)
    far = crossings.amax(0).amin(-1, keepdim=True)
    hit, far_away = far > near, torch.inf
    first = torch.where(hit, near, far_away).amin()
    last = torch.where(hit, near, -far_away).amax()
    nothing = ~hit.any()  # then every ray has no length
    first, last = (torch.where(nothing, torch.zeros_like(edge), edge) for edge in (first, last))
    return torch.where(hit, near, first), torch.where(hit, far, last)


def stratified_depths(
    near: Float[Tensor, "b n 1"], far: Float[Tensor, "b n 1"], samples: int, jitter: Tensor | float
) -> Float[Tensor, "b n s"]:
    """Evenly spaced depths, each moved forward by ``jitter`` (in [0, 1]) of a step; the last one may lie behind ``far``."""
    steps = torch.linspace(0, 1, samples, device=near.device, dtype=near.dtype)
    return near + (far - near) * steps + jitter * ((far - near) / (samples - 1))


@torch.no_grad()
def importance_depths(
    depths: Float[Tensor, "b n s"], weights: Float[Tensor, "b n s-1"], positions: Float[Tensor, "*#b f"]
) -> Float[Tensor, "b n f"]:
    """Depths drawn where the weights of the first pass are large, by inversion of their cumulative distribution.

    Weights are spread to their neighbours (largest of two, then mean of two) and raised by 0.01. Bins end at the middles between
    samples. As in the released code the first and last weight are dropped but the bins are not, so weight i + 1 fills bin i and
    nothing is drawn from the last bin.

    Args:
        depths: sorted depths of the first pass.
        weights: of the intervals between them.
        positions: numbers in [0, 1) at which the distribution is inverted, sorted or not.
    """
    rows = weights.flatten(0, 1)[:, None]
    spread = F.avg_pool1d(F.max_pool1d(rows, 2, 1, padding=1), 2, 1).reshape(weights.shape) + 0.01
    edges = (depths[..., :-1] + depths[..., 1:]) / 2
    mass = spread[..., 1:-1] + 1e-5
    cumulative = F.pad((mass / mass.sum(-1, keepdim=True)).cumsum(-1), (1, 0))
    positions = positions.expand(*depths.shape[:2], -1).contiguous()
    above = torch.searchsorted(cumulative, positions, right=True)
    below = (above - 1).clamp(min=0)
    above = above.clamp(max=mass.shape[-1])
    low, high = cumulative.gather(-1, below), cumulative.gather(-1, above)
    start, end = edges.gather(-1, below), edges.gather(-1, above)
    width = high - low
    width = torch.where(width < 1e-5, torch.ones_like(width), width)
    return start + (positions - low) / width * (end - start)
