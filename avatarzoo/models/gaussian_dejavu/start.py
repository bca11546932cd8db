"""A first appearance without a reconstruction network: the mean colour of the training frames under each Gaussian."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from avatarzoo.data.batch import AvatarBatch
from avatarzoo.geometry.camera import project
from avatarzoo.geometry.rotations import axis_angle_to_matrix
from avatarzoo.geometry.spherical_harmonics import rgb_to_sh0
from avatarzoo.models.gaussian_dejavu.uv_gaussians import CHANNELS, COLOR
from avatarzoo.render import rasterize_mesh

if TYPE_CHECKING:
    from avatarzoo.models.gaussian_dejavu.module import GaussianDejaVu

DEPTH_TOLERANCE = 0.004
"""A point counts as seen when it lies at most this far, in metres, behind the nearest surface of the head model."""


@torch.no_grad()
def baked_color_offsets(module: GaussianDejaVu, batch: AvatarBatch) -> Float[Tensor, "n 13"]:
    """Offsets whose colour channels give each Gaussian its mean colour over the frames that see it.

    Gaussians that no frame sees get the mean colour of those that are seen, so that later training starts from skin, not grey.
    """
    params = batch["params"]._replace(identity=module.identity.expand(len(batch["image"]), -1))
    vertices = module.head(params.in_head_frame())
    points = module.uv_map.positions(vertices)
    seen = batch["camera"].after(axis_angle_to_matrix(params.rotation), params.translation)
    image_points = project(points, seen)
    height, width = seen.size
    grid = (image_points[..., :2] / image_points.new_tensor([width, height]) * 2 - 1)[:, None]
    depth = rasterize_mesh(vertices, module.head.faces, seen).depth[:, None]
    depth = torch.where(torch.isfinite(depth) & (depth > 0), depth, torch.full_like(depth, 1e3))

    def sample(picture: Tensor, mode: str) -> Tensor:
        return torch.nn.functional.grid_sample(picture, grid, mode=mode, align_corners=False)[:, :, 0]

    visible = (image_points[..., 2] < sample(depth, "nearest")[:, 0] + DEPTH_TOLERANCE).float()
    visible = visible * (sample(batch["mask"], "bilinear")[:, 0] > 0.95)
    weight = visible.sum(0)[:, None]
    mean = (sample(batch["image"], "bilinear") * visible[:, None]).sum(0).T / weight.clamp_min(1)
    covered = weight[:, 0] > 0
    if covered.any():
        mean[~covered] = mean[covered].mean(0)
    offsets = torch.zeros(len(module.uv_map), CHANNELS, device=mean.device)
    offsets[:, COLOR] = rgb_to_sh0(mean) - module.uv_map.initial[:, COLOR]
    return offsets
