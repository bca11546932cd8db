"""A first appearance: what the training frames show under each Gaussian, or what a reconstruction network says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from scipy.spatial import cKDTree
from torch import Tensor

from avatarzoo.data.batch import AvatarBatch
from avatarzoo.geometry.camera import Camera, project
from avatarzoo.geometry.rotations import axis_angle_to_matrix
from avatarzoo.geometry.spherical_harmonics import rgb_to_sh0
from avatarzoo.models.gaussian_dejavu.reconstruction_files import (
    check_surface,
    load_reconstruction,
    network_file,
)
from avatarzoo.models.gaussian_dejavu.uv_gaussians import CHANNELS, COLOR, OPACITY
from avatarzoo.render import rasterize_mesh

if TYPE_CHECKING:
    from avatarzoo.models.gaussian_dejavu.module import GaussianDejaVu

DEPTH_TOLERANCE = 0.004
"""A point counts as seen when it lies at most this far, in metres, behind the nearest surface of the head model."""
ABSENT_LOGIT = -7.0
"""Opacity 0.0009, below the renderers' 1/255: such Gaussians are never drawn and get no gradient."""


@torch.no_grad()
def baked_offsets(module: GaussianDejaVu, batch: AvatarBatch) -> Float[Tensor, "n 13"]:
    """Offsets that give each Gaussian its mean colour over the frames that see it, and hide those outside the head mask.

    The mesh has parts that do not belong to the avatar (a neck under the collar); where most frames see a point outside the mask,
    it is made transparent. Points that no frame sees take both answers from the nearest point that is seen.
    """
    params = batch["params"]._replace(identity=module.identity.expand(len(batch["image"]), -1))
    vertices = module.head(params.in_head_frame())
    points = module.uv_map.positions(vertices)
    camera = batch["camera"].after(axis_angle_to_matrix(params.rotation), params.translation)
    visible = _visible(module, vertices, points, camera).float()
    grid = _grid(points, camera)
    mask = torch.nn.functional.grid_sample(batch["mask"], grid, align_corners=False)[:, 0, 0]
    image = torch.nn.functional.grid_sample(batch["image"], grid, align_corners=False)[:, :, 0]
    seen, inside = visible.sum(0), visible * (mask > 0.95)
    color = (image * inside[:, None]).sum(0).T / inside.sum(0).clamp_min(1)[:, None]
    absent = (visible * mask).sum(0) < 0.5 * seen
    known = (seen > 0) & ((inside.sum(0) > 0) | absent)
    if known.any():
        source = _nearest_known(points.mean(0), known)
        color, absent = color[source], absent[source]
    offsets = torch.zeros(len(module.uv_map), CHANNELS, device=color.device)
    offsets[:, COLOR] = rgb_to_sh0(color) - module.uv_map.initial[:, COLOR]
    offsets[:, OPACITY] = torch.where(absent[:, None], ABSENT_LOGIT - module.uv_map.initial[:, OPACITY], 0.0)
    return offsets


@torch.no_grad()
def reconstructed_offsets(module: GaussianDejaVu, batch: AvatarBatch) -> Float[Tensor, "n 13"]:
    """Mean offsets of the network that ``--model.reconstruction`` names, over frames of the person (section 3.4).

    Ours: what lies outside the person's mask in most frames (a neck under the collar) is hidden, as :func:`baked_offsets` hides it.

    Raises:
        UsageError: the network belongs to another head model or to other initial Gaussians.
        MissingAssetError, BadCheckpointError: see :func:`.reconstruction_files.load_reconstruction`.
    """
    hp = module.hparams
    path = network_file(hp["reconstruction"])
    network = load_reconstruction(path, hp["head_file"], hp["uv_size"]).to(module.global_delta.device)
    check_surface(path, network.head.signature, network.hparams["initialization"], module)
    ground = network.hparams["background"]
    alone = batch["image"] * batch["mask"] + ground * (1 - batch["mask"])
    state = network.reconstruct(alone, batch["params"], batch["camera"])
    offsets, hidden = module.uv_map.from_map(state.tensors["mean_offsets"]), baked_offsets(module, batch)
    offsets[:, OPACITY] = torch.where(hidden[:, OPACITY] < 0, hidden[:, OPACITY], offsets[:, OPACITY])
    return offsets


def _grid(points: Float[Tensor, "b n 3"], camera: Camera) -> Float[Tensor, "b 1 n 2"]:
    """Where points land in the pictures, in grid_sample's coordinates."""
    height, width = camera.size
    return (project(points, camera)[..., :2] / points.new_tensor([width, height]) * 2 - 1)[:, None]


def _visible(module: GaussianDejaVu, vertices: Tensor, points: Tensor, camera: Camera) -> Bool[Tensor, "b n"]:
    """Points that no other part of the head model hides."""
    drawn = rasterize_mesh(vertices, module.head.faces, camera)
    depth = torch.where(drawn.covered, drawn.depth, torch.full_like(drawn.depth, 1e3))[:, None]
    front = torch.nn.functional.grid_sample(
        depth, _grid(points, camera), mode="nearest", align_corners=False
    )[:, 0, 0]
    return project(points, camera)[..., 2] < front + DEPTH_TOLERANCE


def _nearest_known(points: Float[Tensor, "n 3"], known: Bool[Tensor, "n"]) -> Tensor:
    """Index of the nearest known point for each point (itself where known)."""
    rows = known.nonzero()[:, 0]
    _, nearest = cKDTree(points[known].cpu().numpy()).query(points.cpu().numpy())
    return rows[torch.from_numpy(nearest).to(rows.device)]
