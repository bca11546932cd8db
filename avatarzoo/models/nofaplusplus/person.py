"""A reconstructed person as a file, and the pictures of it that a camera asks for."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from avatarzoo.geometry.camera import Camera
from avatarzoo.models.base import AvatarImage
from avatarzoo.models.nofaplusplus.generator import HeadGenerator, Volume
from avatarzoo.priors.eg3d import TriPlaneImage

DRAWING = ("prior.decoder.", "prior.superresolution.", "field.")
"""Networks that draw a person once its planes are known."""


def drawing_tensors(networks: HeadGenerator) -> dict[str, Tensor]:
    """What animation needs of the networks, by their names."""
    return {k: v.detach() for k, v in networks.state_dict().items() if k.startswith(DRAWING)}


def person_tensors(volume: Volume, alpha: Float[Tensor, "1 i"]) -> dict[str, Tensor]:
    """One person: planes, the super-resolution's code, standardised identity numbers."""
    return {"planes": volume.planes.detach(), "code": volume.codes[:, -1:].detach(), "identity": alpha}


def volume_of(tensors: dict[str, Tensor], count: int) -> Volume:
    """Inverse of :func:`person_tensors`, ``count`` times without copies."""
    return Volume(tensors["planes"].expand(count, -1, -1, -1, -1), tensors["code"].expand(count, -1, -1))


def on_ground(view: TriPlaneImage, drawn_on: float, ground: float) -> AvatarImage:
    """Pictures with their opacity at full size, the plain ground behind the head exchanged.

    Priors of real portraits fill the whole picture; their opacity is 1 nearly everywhere and their background stays.

    Args:
        drawn_on: grey level of empty space in the prior. ground: the one that is asked for.
    """
    size = view.rgb.shape[-2:]
    alpha = F.interpolate(view.opacity, size, mode="bilinear", align_corners=False).clamp(0, 1)
    return AvatarImage(view.rgb + (ground - drawn_on) * (1 - alpha), alpha)


def placed(image: AvatarImage, crop: Camera, camera: Camera, ground: float) -> AvatarImage:
    """EG3D's crop back into the picture of the camera that was asked for; both stand in the same place.

    Args:
        crop: camera of ``image`` (b rows). camera: b rows or one, any size.
    """
    turn = camera.world_to_camera[:, :3, :3] @ crop.world_to_camera[:, :3, :3].transpose(1, 2)
    to_crop = crop.intrinsics @ turn.transpose(1, 2) @ torch.linalg.inv(camera.intrinsics)
    height, width = camera.size
    # crop pixels per picture pixel in the middle of the crop; a picture that shrinks is sampled more often
    shrink = float((crop.intrinsics[:, 0, 0] / camera.intrinsics[:, 0, 0]).max())
    finer = min(8, max(1, math.ceil(shrink - 0.01)))
    y, x = ((torch.arange(finer * n, device=turn.device) + 0.5) / finer for n in (height, width))
    grid = torch.stack([*torch.meshgrid(x, y, indexing="xy"), torch.ones(len(y), len(x)).to(x)], -1)
    places = grid.to(to_crop) @ to_crop[:, None].transpose(2, 3)
    depth = places[..., 2:]
    scale = places.new_tensor([2 / crop.size[1], 2 / crop.size[0]])
    places = torch.where(depth > 1e-6, places[..., :2] / depth.clamp_min(1e-6) * scale - 1, -2.0)
    layers = torch.cat([image.rgb - ground, image.alpha], 1)
    drawn = F.grid_sample(layers, places.to(layers), align_corners=False)
    drawn = F.avg_pool2d(drawn, finer) if finer > 1 else drawn
    return AvatarImage((drawn[:, :3] + ground).clamp(0, 1), drawn[:, 3:].clamp(0, 1))
