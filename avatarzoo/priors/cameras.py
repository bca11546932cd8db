"""Where EG3D's own programs put their cameras (fact: radius is measured from the origin, the pivot only turns the view)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from avatarzoo.geometry.camera import rigid
from avatarzoo.priors.eg3d_config import FFHQ, EG3DConfig


def sphere_label(
    yaw: Float[Tensor, " b"], pitch: Float[Tensor, " b"], config: EG3DConfig = FFHQ
) -> Float[Tensor, "b 25"]:
    """Labels of cameras on a sphere round the origin that look at ``config``'s pivot, up = +y, no roll.

    Args:
        yaw: radians; positive moves the camera to +x (the subject's left).
        pitch: EG3D's own measure, negative moves the camera up: the elevation is ``asin(-2 pitch / pi)``, so that evenly
            distributed numbers are evenly distributed on the sphere; 0.3 is 11 degrees.
        config: radius, pivot and focal length.
    """
    height = (-2 * pitch / math.pi).clamp(-1 + 1e-6, 1 - 1e-6)
    flat = (1 - height.square()).sqrt()
    centre = config.camera_radius * torch.stack([flat * yaw.sin(), height, flat * yaw.cos()], -1)
    forward = F.normalize(centre.new_tensor(config.camera_pivot) - centre, dim=-1)
    up = forward.new_tensor([0.0, 1.0, 0.0]).expand_as(forward)
    right = F.normalize(torch.linalg.cross(forward, up), dim=-1)
    down = torch.linalg.cross(forward, right)
    pose = rigid(torch.stack([right, down, forward], -1), centre)
    f = config.focal
    intrinsics = pose.new_tensor([f, 0, 0.5, 0, f, 0.5, 0, 0, 1]).expand(len(pose), 9)
    return torch.cat([pose.flatten(1), intrinsics], 1)


def frontal_label(count: int = 1, config: EG3DConfig = FFHQ) -> Float[Tensor, "b 25"]:
    """The label that identities are usually conditioned on."""
    return sphere_label(torch.zeros(count), torch.zeros(count), config)


def orbit_labels(
    count: int, yaw: float = 0.35, pitch: float = 0.25, config: EG3DConfig = FFHQ
) -> Float[Tensor, "b 25"]:
    """``count`` cameras on a closed ellipse of half axes ``yaw`` and ``pitch`` (see :func:`sphere_label`), as in EG3D's videos."""
    turn = torch.arange(count) * (2 * math.pi / count)
    return sphere_label(yaw * turn.sin(), pitch * turn.cos(), config)
