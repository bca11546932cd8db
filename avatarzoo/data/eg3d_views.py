"""Any tracked picture as EG3D sees heads: the 25-number label of its camera, and EG3D's crop of it with the camera that saw that crop.

The head frame (metres) and EG3D's world are joined by ``2.7 * (x - HEAD_CENTRE)``, see :mod:`avatarzoo.data.procedural_people`. EG3D's
own recipe (fact sheet of NOFA++, section 5.1) finds crops by five landmarks and cameras by Deep3DFaceRecon; here both follow in closed
form from tracked parameters and the tracking camera. The neck joint is taken to be at rest, as all trackers here leave it.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from avatarzoo.data.batch import AvatarBatch
from avatarzoo.data.procedural_people import HEAD_CENTRE, portrait_labels
from avatarzoo.errors import UsageError
from avatarzoo.geometry.camera import Camera, rigid
from avatarzoo.geometry.rotations import axis_angle_to_matrix
from avatarzoo.heads.base import HeadParams
from avatarzoo.priors.eg3d_config import FFHQ_FOCAL

MOST_SAMPLES = 8
"""Samples across a crop's pixel at most; a picture that shrinks by more is sampled that often."""


def eg3d_labels(params: HeadParams, camera: Camera) -> Float[Tensor, "b 25"]:
    """EG3D labels of cameras as the head sees them: the head's motion is absorbed, the radius is 2.7 world units (one metre).

    A camera at another distance is moved along its line of sight and its focal length scaled alike, so that the head keeps its place
    and size in the picture; perspective changes (EG3D normalises its cameras' radius, too). Exact for a distance of one metre.

    Args:
        params: b heads, of which only ``rotation`` and ``translation`` count.
        camera: b cameras, or one for all.

    Raises:
        UsageError: a head lies behind its camera.
    """
    seen = _from_head(params, camera)
    centre = seen.world_to_camera[:, :3, 3]
    distance = centre.norm(dim=1)[:, None, None]
    lens = seen.intrinsics.clone()
    lens[:, :2, :2] /= distance
    sight = centre[:, :2] / centre[:, 2:]
    lens[:, :2, 2:] += (seen.intrinsics - lens)[:, :2, :2] @ sight[..., None]
    pose = seen.world_to_camera.clone()
    pose[:, :3, 3] = centre / distance[..., 0]
    return portrait_labels(Camera(pose, lens, seen.size))


def eg3d_camera(params: HeadParams, camera: Camera, side: int) -> Camera:
    """The camera of EG3D's crop: where ``camera`` stands, turned to the head's centre, the head upright, its size as in FFHQ's crops.

    Its label has EG3D's focal length and a centred principal point. Arguments and errors as in :func:`eg3d_crop`.
    """
    return _aimed(_from_head(params, camera), camera, side)[0]


def eg3d_crop(
    images: Float[Tensor, "b 3 h w"],
    masks: Float[Tensor, "b 1 h w"] | None,
    params: HeadParams,
    camera: Camera,
    side: int,
    background: float,
) -> AvatarBatch:
    """Pictures resampled to EG3D's crops; ``image``, ``mask``, ``params`` and the crop's ``camera`` (b rows).

    The camera is turned and its lens changed, but it is not moved: the crop is exact for every depth (a homography of the picture;
    paper: scale and shift, which differ from it by keystone distortion alone). Shrinking is anti-aliased.

    Args:
        images: in [0, 1].
        masks: what to show, in [0, 1]; the rest becomes background. ``None``: the whole picture.
        params: of the heads; identity and expression are handed through.
        camera: that saw ``images``; b rows, or one for all.
        side: of the crops in pixels.
        background: grey level in [0, 1], also beyond the picture's rim; the returned mask is zero there.

    Raises:
        UsageError: a head lies behind its camera, or ``images``, ``params`` and ``camera`` disagree.
    """
    if params.batch != len(images) or camera.batch not in (1, len(images)):
        raise UsageError(
            f"{len(images)} pictures need as many rows of head parameters and as many cameras, or one, not {params.batch} and "
            f"{camera.batch}; give each picture its own."
        )
    if tuple(images.shape[-2:]) != tuple(camera.size):
        raise UsageError(
            f"The camera belongs to pictures of {camera.size[1]} x {camera.size[0]} pixels, these have {images.shape[-1]} x "
            f"{images.shape[-2]}; use Camera.resized."
        )
    seen = _from_head(params, camera)
    target, turn = _aimed(seen, camera, side)
    shrink = float((seen.intrinsics[:, 0, 0] / target.intrinsics[:, 0, 0]).max())
    samples = min(MOST_SAMPLES, max(1, math.ceil(shrink - 0.01)))
    grid = _source_places(seen, turn, target.resized(samples * side, samples * side))
    alpha = torch.ones_like(images[:, :1]) if masks is None else masks
    cut = F.grid_sample(torch.cat([images * alpha, alpha], 1), grid, align_corners=False)
    cut = F.avg_pool2d(cut, samples) if samples > 1 else cut
    colour, alpha = cut[:, :3], cut[:, 3:]
    return AvatarBatch(image=colour + (1 - alpha) * background, mask=alpha, params=params, camera=target)


def _from_head(params: HeadParams, camera: Camera) -> Camera:
    """Cameras in the head frame, its origin on :data:`HEAD_CENTRE`."""
    turn = axis_angle_to_matrix(params.rotation)
    centre = turn @ turn.new_tensor(HEAD_CENTRE) + params.translation
    seen = camera.after(turn, centre)
    if bool((seen.world_to_camera[:, 2, 3] <= 0).any()):
        raise UsageError(
            "A head lies behind its camera; parameters and camera do not belong together, track the picture again."
        )
    return seen


def _aimed(seen: Camera, camera: Camera, side: int) -> tuple[Camera, Float[Tensor, "b 3 3"]]:
    """:func:`eg3d_camera` of cameras in the head frame and in the world, and the turn from the old to the new camera axes."""
    centre = seen.world_to_camera[:, :3, 3]
    forward = F.normalize(centre, dim=1)
    right = F.normalize(torch.linalg.cross(-seen.world_to_camera[:, :3, 1], forward), dim=1)
    turn = torch.stack([right, torch.linalg.cross(forward, right), forward], 1)
    lens = torch.eye(3, dtype=turn.dtype, device=turn.device).repeat(len(turn), 1, 1)
    lens[:, (0, 1), (0, 1)] = (FFHQ_FOCAL * side * centre.norm(dim=1))[:, None]
    lens[:, :2, 2] = side / 2
    pose = rigid(turn, torch.zeros_like(centre)) @ camera.world_to_camera
    return Camera(pose, lens, (side, side)), turn


def _source_places(source: Camera, turn: Float[Tensor, "b 3 3"], target: Camera) -> Float[Tensor, "b s s 2"]:
    """Where the target's pixel centres lie in the source picture, as ``grid_sample`` wants them; behind the camera: outside."""
    height, width = target.size
    y, x = (torch.arange(n, device=turn.device, dtype=turn.dtype) + 0.5 for n in (height, width))
    pixels = torch.stack([*torch.meshgrid(x, y, indexing="xy"), torch.ones(height, width).to(x)], -1)
    homography = source.intrinsics @ turn.transpose(1, 2) @ torch.linalg.inv(target.intrinsics)
    places = pixels @ homography[:, None].transpose(2, 3)
    depth = places[..., 2:]
    scale = places.new_tensor([2 / source.size[1], 2 / source.size[0]])
    return torch.where(depth > 1e-6, places[..., :2] / depth.clamp_min(1e-6) * scale - 1, -2.0)
