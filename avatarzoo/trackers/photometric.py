"""Head pose from the pictures themselves: every frame is aligned to the mean look of the head's rigid surface.

Landmarks leave about a degree of slowly drifting yaw and a few millimetres of depth, which costs an avatar several dB. Here
points of the surface that expressions hardly move (forehead, temples, nose, ears, upper cheeks) carry a template value, the mean
over the clip of what the pictures show there; so do points of an upright plane through the ears for the head mask, whose upper
outline turns with the head nearly as if it lay in that plane, as long as the head turns little. Each frame's six pose numbers
follow from Gauss-Newton on the difference (Lucas and Kanade 1981, on a 3D surface), and template and poses alternate. No
rendering, no training: a frame is some thousand samples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor
from tqdm import tqdm

from avatarzoo.geometry.camera import Camera
from avatarzoo.geometry.mesh import vertex_normals
from avatarzoo.geometry.rotations import axis_angle_to_matrix, geodesic_distance
from avatarzoo.heads.base import HeadModel, HeadParams

SIDE = 256
"""Side of the pictures that are compared."""
POINTS = 4000
ROUNDS = ((3.0, 4), (1.5, 4), (1.0, 4), (1.0, 3))
"""Blur in pixels of :data:`SIDE` and Gauss-Newton steps, one round after the other; the template is made anew before each."""
FACING = 0.35
"""Cosine between normal and view below which a point is left out."""
STILL = 1.5e-3
"""Metres of expression motion that halve a point's weight."""
PRIOR_TURN, PRIOR_MOVE = 0.035, 0.008
"""Radians and metres by which the landmarks' pose may be off (standard deviations)."""
NOISE = 0.25
"""Standard deviation of a contrast-normalised sample at a good alignment; larger residuals lose weight (Huber)."""
CORRELATED = 40.0
"""Neighbouring samples are not independent: so many of them count as one."""
EAR_DEPTH = -1.35
"""Eye distances from the eyes back to the plane in which the outline is taken to lie."""
OUTLINE_WEIGHT = 1.0
OUTLINE_TURN = 0.16
"""Radians away from the clip's usual view at which the outline has lost most of its say: it is then another part of the head."""
TEMPLATE_FRAMES = 96
CHUNK = 64


class Pose(NamedTuple):
    """Head frame to camera frame: ``R x + t``."""

    rotation: Float[Tensor, "t 3 3"]
    translation: Float[Tensor, "t 3"]

    def at(self, rows: Tensor) -> Pose:
        return Pose(self.rotation[rows], self.translation[rows])


def refine_pose(
    head: HeadModel,
    params: HeadParams,
    camera: Camera,
    pictures: UInt8[np.ndarray, "t s s"],
    masks: UInt8[np.ndarray, "t s s"] | None = None,
    progress: bool = False,
) -> tuple[Float[Tensor, "t 3 3"], Float[Tensor, "t 3"]]:
    """World rotation matrices and translations of the head, aligned to the pictures.

    Args:
        params: T rows from the landmarks; camera: batch 1.
        pictures: T grey pictures from :func:`compared_picture`; masks: head masks of the same size, if there are any.
    """
    intrinsics = camera.resized(SIDE, SIDE).intrinsics[0]
    world = camera.world_to_camera[0]
    start = Pose(
        world[:3, :3] @ axis_angle_to_matrix(params.rotation),
        params.translation @ world[:3, :3].T + world[:3, 3],
    )
    layers: list[tuple[_Points, np.ndarray, Normalize]] = [(_skin(head, params), pictures, _contrast)]
    if masks is not None:
        layers.append((_outline(head, params, _mean_rotation(start.rotation)), masks, _soft_mask))
    middle = layers[0][0].rest.mean(0)
    pose = start
    spread = torch.linspace(0, len(pictures) - 1, min(TEMPLATE_FRAMES, len(pictures))).round().long()
    for blur, steps in ROUNDS:
        templates = [
            _template(
                points, spread, pose.at(spread), intrinsics, _features(seen[spread.numpy()], blur, normalize)
            )
            for points, seen, normalize in layers
        ]
        parts = []
        chunks = torch.arange(len(pictures)).split(CHUNK)
        for rows in tqdm(chunks, desc=f"alignment, blur {blur:g} px", leave=False, disable=not progress):
            part = pose.at(rows)
            features = [_features(seen[rows.numpy()], blur, normalize) for _, seen, normalize in layers]
            for _ in range(steps):
                terms = [
                    _equations(points, rows, part, intrinsics, feature, template, middle)
                    for (points, _, _), feature, template in zip(layers, features, templates)
                ]
                part = _step(part, start.at(rows), terms, middle)
            parts.append(part)
        pose = Pose(*(torch.cat(x) for x in zip(*parts)))
    back = world[:3, :3].T
    return back @ pose.rotation, (pose.translation - world[:3, 3]) @ back.T


def compared_picture(picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "s s"]:
    """What is compared of an RGB crop: grey, of side :data:`SIDE`."""
    return cv2.cvtColor(cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)


def compared_mask(mask: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "s s"]:
    """A head mask of side :data:`SIDE`."""
    return cv2.resize(mask, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


class _Points:
    """Points that move with the head: those of the skin also with the expressions, as far as these reach them.

    Attributes:
        rest: ``(N, 3)`` head frame. weight: ``(N,)``. normals: ``(N, 3)``, or ``None`` where a point is seen from any side.
        upright: ``(3, 3)`` head rotation away from which the points lose weight.
    """

    def __init__(
        self,
        rest: Tensor,
        weight: Tensor,
        normals: Tensor | None = None,
        basis: Tensor | None = None,
        expression: Tensor | None = None,
        upright: Tensor | None = None,
    ) -> None:
        self.rest, self.weight, self.normals = rest, weight, normals
        self.basis, self.expression, self.upright = basis, expression, upright

    def at(self, rows: Tensor) -> Float[Tensor, "b n 3"]:
        if self.basis is None or self.expression is None:
            return self.rest.expand(len(rows), -1, 3)
        moved = self.expression[rows] @ self.basis.flatten(0, 1).T
        return self.rest + moved.view(len(rows), -1, 3)


def _skin(head: HeadModel, params: HeadParams) -> _Points:
    """Points of the upper face, lighter the more expressions move them."""
    template, identity, expression = (x.cpu() for x in head.linear_basis())
    person = template + identity @ params.identity[0]
    chosen = _upper_face(head, params, person)
    motion = expression[chosen].square().sum(1).mean(1).sqrt()
    normals = vertex_normals(person[None], head.faces.cpu())[0][chosen]
    weight = 1 / (1 + (motion / STILL).square())
    return _Points(person[chosen], weight, normals, expression[chosen], params.expression)


def _outline(head: HeadModel, params: HeadParams, usual: Float[Tensor, "3 3"]) -> _Points:
    """A grid on the upright plane through the ears, from just below eye level up, wider and higher than any head."""
    middle, unit = _eyes(head, params)
    x = torch.linspace(-2.4, 2.4, 72)
    y = torch.linspace(-0.3, 3.0, 50)
    grid = torch.stack([x.expand(50, 72), y[:, None].expand(50, 72), torch.full((50, 72), EAR_DEPTH)], -1)
    rest = middle + unit * grid.reshape(-1, 3)
    return _Points(rest, torch.full((len(rest),), OUTLINE_WEIGHT), upright=usual)


def _mean_rotation(rotation: Float[Tensor, "t 3 3"]) -> Float[Tensor, "3 3"]:
    u, _, v = torch.linalg.svd(rotation.mean(0))
    return u @ v


def _eyes(head: HeadModel, params: HeadParams) -> tuple[Tensor, Tensor]:
    """Middle of the eyes and their distance, which is the unit of proportions here."""
    joints = head.joints(head.zeros(1, "cpu")._replace(identity=params.identity[:1]))
    left, right = joints["eye_left"][0], joints["eye_right"][0]
    return (left + right) / 2, (left - right).norm()


def _upper_face(head: HeadModel, params: HeadParams, person: Float[Tensor, "v 3"]) -> Tensor:
    """At most :data:`POINTS` skin vertices from the nose base up to the hairline, ears included, eyes left out."""
    middle, unit = _eyes(head, params)
    skin = head.faces[head.face_regions["skin"]].unique().cpu()
    at = (person[skin] - middle) / unit
    eyes = (at[:, :2] - torch.tensor([[[0.5, 0.0]], [[-0.5, 0.0]]])).norm(dim=-1).amin(0)
    keep = (at[:, 1] > -0.95) & (at[:, 1] < 0.95) & (at[:, 2] > -1.3) & (eyes > 0.3)
    skin = skin[keep]
    generator = torch.Generator().manual_seed(0)
    return skin[torch.randperm(len(skin), generator=generator)[:POINTS]].sort().values


Normalize = Callable[[np.ndarray], np.ndarray]


def _contrast(picture: np.ndarray) -> np.ndarray:
    """Local contrast in units of its surroundings': blind to slow changes of light."""
    wide = picture - cv2.GaussianBlur(picture, (0, 0), 12.0)
    return wide / (cv2.GaussianBlur(wide * wide, (0, 0), 16.0) ** 0.5 + 0.02)


def _soft_mask(mask: np.ndarray) -> np.ndarray:
    return mask


def _features(
    pictures: UInt8[np.ndarray, "t s s"], blur: float, normalize: Normalize
) -> Float[Tensor, "t 3 s s"]:
    """Blurred and normalised pictures, and their slopes per pixel."""
    result = np.empty((len(pictures), 3, SIDE, SIDE), np.float32)
    for row, picture in zip(result, pictures):
        row[0] = normalize(cv2.GaussianBlur(picture.astype(np.float32) / 255, (0, 0), blur))
        row[1] = cv2.Sobel(row[0], -1, 1, 0, scale=1 / 8)
        row[2] = cv2.Sobel(row[0], -1, 0, 1, scale=1 / 8)
    return torch.from_numpy(result)


class _View(NamedTuple):
    """What the pictures show at the points."""

    seen: Float[Tensor, "b n 3"]
    samples: Float[Tensor, "b 3 n"]
    weight: Float[Tensor, "b n"]


def _view(surface: _Points, rows: Tensor, pose: Pose, intrinsics: Tensor, features: Tensor) -> _View:
    """Project the points, sample the features there, weigh them by how squarely each is seen."""
    seen = surface.at(rows) @ pose.rotation.transpose(1, 2) + pose.translation[:, None]
    image = seen @ intrinsics.T
    pixels = image[..., :2] / image[..., 2:]
    samples = F.grid_sample(features, (pixels * (2 / SIDE) - 1)[:, None], align_corners=False)[:, :, 0]
    weight = surface.weight * ((pixels > 2) & (pixels < SIDE - 2)).all(-1)
    if surface.normals is not None:
        normals = surface.normals @ pose.rotation.transpose(1, 2)
        facing = -(normals * F.normalize(seen, dim=-1)).sum(-1)
        weight = weight * (facing - FACING).clamp_min(0)
    if surface.upright is not None:
        turned = geodesic_distance(pose.rotation, surface.upright.expand_as(pose.rotation))
        weight = weight * torch.exp(-(turned / OUTLINE_TURN).square())[:, None]
    return _View(seen, samples, weight)


def _template(
    surface: _Points, rows: Tensor, pose: Pose, intrinsics: Tensor, features: Tensor
) -> tuple[Tensor, Tensor]:
    """Weighted mean of each point's value over these frames, and how far single frames lie from it (standard deviation)."""
    view = _view(surface, rows, pose, intrinsics, features)
    value, weight = view.samples[:, 0], view.weight
    total = weight.sum(0).clamp_min(1e-6)
    mean = (weight * value).sum(0) / total
    return mean, ((weight * (value - mean).square()).sum(0) / total).sqrt()


def _slopes(
    view: _View, intrinsics: Tensor, template: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Change of each sample per metre of motion in the camera frame ``(b, n, 3)``, robust weights and residuals ``(b, n)``."""
    mean, spread = template
    residual = view.samples[:, 0] - mean
    deviation = (NOISE**2 + spread.square()).sqrt()
    robust = 1 / (residual.abs() / deviation).clamp_min(1)
    weight = view.weight * robust / (deviation.square() * CORRELATED)
    x, y, z = view.seen.unbind(-1)
    gx, gy = view.samples[:, 1] * intrinsics[0, 0] / z, view.samples[:, 2] * intrinsics[1, 1] / z
    return torch.stack([gx, gy, -(gx * x + gy * y) / z], -1), weight, residual


def _equations(
    points: _Points,
    rows: Tensor,
    pose: Pose,
    intrinsics: Tensor,
    features: Tensor,
    template: tuple[Tensor, Tensor],
    middle: Tensor,
) -> tuple[Float[Tensor, "b 6 6"], Float[Tensor, "b 6"]]:
    """Normal equations of turning about ``middle`` and moving."""
    view = _view(points, rows, pose, intrinsics, features)
    slope, weight, residual = _slopes(view, intrinsics, template)
    centre = pose.rotation @ middle + pose.translation
    turn = torch.linalg.cross(view.seen - centre[:, None], slope)
    jacobian = torch.cat([turn, slope], -1)
    return jacobian.transpose(1, 2) @ (jacobian * weight[..., None]), (
        jacobian * (weight * residual)[..., None]
    ).sum(1)


def _step(pose: Pose, start: Pose, terms: list[tuple[Tensor, Tensor]], middle: Tensor) -> Pose:
    """One Gauss-Newton step on the sum of the terms, held near the landmarks' pose."""
    precision = pose.translation.new_tensor([PRIOR_TURN] * 3 + [PRIOR_MOVE] * 3).pow(-2)
    hessian = sum((h for h, _ in terms), torch.diag(precision))
    gradient = sum((g for _, g in terms), precision * _difference(pose, start, middle))
    delta = -torch.linalg.solve(hessian, gradient)
    centre = pose.rotation @ middle + pose.translation
    turned = axis_angle_to_matrix(delta[:, :3])
    moved = (turned @ (pose.translation - centre)[..., None])[..., 0] + centre + delta[:, 3:]
    return Pose(turned @ pose.rotation, moved)


def _difference(pose: Pose, start: Pose, middle: Tensor) -> Float[Tensor, "b 6"]:
    """How far a pose has turned, and its middle moved, since the start (first order)."""
    turned = pose.rotation @ start.rotation.transpose(1, 2)
    vector = 0.5 * torch.stack(
        [
            turned[:, 2, 1] - turned[:, 1, 2],
            turned[:, 0, 2] - turned[:, 2, 0],
            turned[:, 1, 0] - turned[:, 0, 1],
        ],
        -1,
    )
    moved = (pose.rotation - start.rotation) @ middle + pose.translation - start.translation
    return torch.cat([vector, moved], -1)
