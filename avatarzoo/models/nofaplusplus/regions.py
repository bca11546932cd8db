"""Where eyes and mouth are in a picture whose head is tracked, and crops of them that let gradients through.

paper: boxes from MTCNN's landmarks; here from the tracked head's, which are known in every training picture, so that none is lost.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from avatarzoo.geometry.camera import Camera, project
from avatarzoo.geometry.crop import MOUTH_LEFT, MOUTH_RIGHT
from avatarzoo.heads.base import HeadModel, HeadParams
from avatarzoo.perception.face_embedding import NOSE_TIP, TEMPLATE, TEMPLATE_SIZE
from avatarzoo.perception.landmarks import LEFT_EYE, RIGHT_EYE

MOUTH_SIDE = 1.8
"""In distances of the corners of the mouth (ours; the paper does not say)."""
EYES_WIDTH, EYES_HEIGHT = 2.2, 0.9
"""In distances of the eyes (ours)."""
LEAST_SIDE = 1 / 8
"""Smallest box, in picture sides: a mouth seen from the side, or shut in a small picture."""


class RegionBoxes(NamedTuple):
    """Boxes as centre and half size, in [-1, 1] over the picture (x right, y down), and five points in the same measure.

    ``points``: eyes, tip of the nose, corners of the mouth, the subject's right first.
    """

    mouth: Float[Tensor, "b 4"]
    eyes: Float[Tensor, "b 4"]
    points: Float[Tensor, "b 5 2"]


@torch.no_grad()
def region_boxes(head: HeadModel, params: HeadParams, camera: Camera) -> RegionBoxes:
    """Boxes of b heads (rows of ``params``) in pictures of ``camera`` (b rows)."""
    seen = project(head.landmark_points(head(params)), camera)[..., :2]
    seen = seen / seen.new_tensor([camera.size[1], camera.size[0]]) * 2 - 1
    groups: tuple[tuple[int, ...], ...] = (RIGHT_EYE, LEFT_EYE, (NOSE_TIP,), (MOUTH_RIGHT,), (MOUTH_LEFT,))
    points = torch.stack([seen[:, list(group)].mean(1) for group in groups], 1)
    right_eye, left_eye, _, right_corner, left_corner = points.unbind(1)
    wide = (right_corner - left_corner).norm(dim=1, keepdim=True) * MOUTH_SIDE
    apart = (right_eye - left_eye).norm(dim=1, keepdim=True)
    least = torch.full_like(wide, 2 * LEAST_SIDE)
    mouth = torch.maximum(wide, least).expand(-1, 2)
    eyes = torch.cat([torch.maximum(apart * EYES_WIDTH, least), torch.maximum(apart * EYES_HEIGHT, least)], 1)
    return RegionBoxes(
        torch.cat([(right_corner + left_corner) / 2, mouth / 2], 1),
        torch.cat([(right_eye + left_eye) / 2, eyes / 2], 1),
        points,
    )


def cut(picture: Float[Tensor, "b 3 h w"], box: Float[Tensor, "b 4"], side: int) -> Float[Tensor, "b 3 s s"]:
    """The box of every picture, resampled to a square; black outside the picture."""
    theta = torch.zeros(len(box), 2, 3, dtype=picture.dtype, device=picture.device)
    theta[:, 0, 0], theta[:, 1, 1] = box[:, 2], box[:, 3]
    theta[:, :, 2] = box[:, :2]
    grid = F.affine_grid(theta, [len(box), 3, side, side], align_corners=False)
    return F.grid_sample(picture, grid, align_corners=False)


def aligned_faces(
    picture: Float[Tensor, "b 3 h w"], boxes: RegionBoxes, side: int
) -> Float[Tensor, "b 3 s s"]:
    """Faces as ArcFace's template has them: the least-squares similarity of five points, differentiable in the picture."""
    template = torch.as_tensor(TEMPLATE, dtype=picture.dtype, device=picture.device) / TEMPLATE_SIZE * 2 - 1
    theta = similarity(template.expand(len(picture), -1, -1), boxes.points)
    grid = F.affine_grid(theta, [len(picture), 3, side, side], align_corners=False)
    return F.grid_sample(picture, grid, align_corners=False)


def similarity(source: Float[Tensor, "b n 2"], target: Float[Tensor, "b n 2"]) -> Float[Tensor, "b 2 3"]:
    """Rotation, scale and shift that take ``source`` points to ``target`` points with the least squared error."""
    centre, goal = source.mean(1, keepdim=True), target.mean(1, keepdim=True)
    x, y = source - centre, target - goal
    norm = x.square().sum((1, 2))
    a = (x * y).sum((1, 2)) / norm
    b = (x[..., 0] * y[..., 1] - x[..., 1] * y[..., 0]).sum(1) / norm
    linear = torch.stack([torch.stack([a, -b], -1), torch.stack([b, a], -1)], 1)
    shift = goal[:, 0] - (linear @ centre.mT)[..., 0]
    return torch.cat([linear, shift[..., None]], -1)
