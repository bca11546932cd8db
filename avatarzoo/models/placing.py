"""Pictures of EG3D's crop in the picture of any camera that stands in the same place."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from avatarzoo.geometry.camera import Camera
from avatarzoo.models.base import AvatarImage

MOST_SAMPLES = 8
"""Samples across a pixel at most, where a picture shrinks."""


def on_ground(
    rgb: Float[Tensor, "b 3 s s"], opacity: Float[Tensor, "b 1 r r"], drawn_on: float, ground: float
) -> AvatarImage:
    """Pictures in [0, 1] with their opacity at full size, the plain ground behind the head exchanged.

    Args:
        drawn_on: grey level of empty space in the prior. ground: the one that is asked for.
    """
    alpha = F.interpolate(opacity, rgb.shape[-2:], mode="bilinear", align_corners=False).clamp(0, 1)
    return AvatarImage(rgb + (ground - drawn_on) * (1 - alpha), alpha)


def placed(image: AvatarImage, crop: Camera, camera: Camera, ground: float) -> AvatarImage:
    """EG3D's crop back into the picture of the camera that was asked for.

    Args:
        image: in the crop. crop: its cameras (b rows). camera: b rows or one, any size; it stands where the crop's stands.
        ground: grey level round the crop.
    """
    turn = camera.world_to_camera[:, :3, :3] @ crop.world_to_camera[:, :3, :3].transpose(1, 2)
    to_crop = crop.intrinsics @ turn.transpose(1, 2) @ torch.linalg.inv(camera.intrinsics)
    height, width = camera.size
    shrink = float((crop.intrinsics[:, 0, 0] / camera.intrinsics[:, 0, 0]).max())
    samples = min(MOST_SAMPLES, max(1, math.ceil(shrink - 0.01)))
    y, x = ((torch.arange(samples * n, device=turn.device) + 0.5) / samples for n in (height, width))
    pixels = torch.stack([*torch.meshgrid(x, y, indexing="xy"), torch.ones(len(y), len(x)).to(x)], -1)
    places = pixels.to(to_crop) @ to_crop[:, None].transpose(2, 3)
    depth = places[..., 2:]
    scale = places.new_tensor([2 / crop.size[1], 2 / crop.size[0]])
    places = torch.where(depth > 1e-6, places[..., :2] / depth.clamp_min(1e-6) * scale - 1, -2.0)
    layers = torch.cat([image.rgb - ground, image.alpha], 1)
    # where their padding begins, super-resolution networks draw a thin frame
    layers = F.pad(layers[..., 1:-1, 1:-1], (1, 1, 1, 1), mode="replicate")
    drawn = F.grid_sample(layers, places.to(layers), align_corners=False)
    drawn = F.avg_pool2d(drawn, samples) if samples > 1 else drawn
    return AvatarImage((drawn[:, :3] + ground).clamp(0, 1), drawn[:, 3:].clamp(0, 1))
