"""The pose that was asked for, by turning head or camera, against what an estimator reads."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from avatarzoo.evaluation.asked_pose import AskedPoseDistance, asked_angles
from avatarzoo.geometry.camera import look_at_face
from avatarzoo.geometry.rotations import matrix_to_axis_angle
from avatarzoo.heads import load_head
from avatarzoo.metrics.coefficients import CoefficientEstimator, Coefficients

HEAD = load_head("procedural")
YAW = torch.tensor([-0.6, 0.0, 0.4])


def turned(yaw: Tensor) -> Tensor:
    """Axis-angle of heads turned about y."""
    matrices = torch.eye(3).repeat(len(yaw), 1, 1)
    matrices[:, 0, 0] = matrices[:, 2, 2] = yaw.cos()
    matrices[:, 0, 2], matrices[:, 2, 0] = yaw.sin(), -yaw.sin()
    return matrix_to_axis_angle(matrices)


class Reads(CoefficientEstimator):
    """Reads the yaw that a picture's grey level tells; black shows no face."""

    name, row = "grey", (1,)

    def observe(self, pictures: Tensor) -> Tensor:
        grey = pictures.mean((1, 2, 3))
        return torch.where(grey > 0, 2 * grey - 1, torch.nan)[:, None]

    def solve(self, rows: Tensor, size: tuple[int, int]) -> Coefficients:
        pose = torch.zeros(len(rows), 3)
        pose[:, 1] = rows[:, 0]
        return Coefficients(torch.zeros(len(rows), 1), pose)


def test_a_turned_head_has_its_angles() -> None:
    params = HEAD.zeros(3)._replace(rotation=turned(YAW))
    angles = asked_angles(params, look_at_face()[[0, 0, 0]])
    assert torch.allclose(angles, torch.stack([0 * YAW, YAW, 0 * YAW], 1), atol=1e-6)


def test_a_camera_that_goes_round_sees_the_head_turned_the_other_way() -> None:
    angles = asked_angles(HEAD.zeros(3), look_at_face(yaw=YAW))
    assert torch.allclose(angles[:, 1], -YAW, atol=1e-6)


def test_the_distance_is_the_mean_over_three_angles() -> None:
    metric = AskedPoseDistance(Reads())
    pictures = ((YAW + torch.tensor([0.0, 0.3, 0.0]) + 1) / 2)[:, None, None, None].expand(3, 3, 8, 8)
    metric.ask(HEAD.zeros(3)._replace(rotation=turned(YAW)), look_at_face()[[0, 0, 0]])
    metric.update(pictures, pictures)
    metric.end_clip()
    assert metric.per_image().tolist() == pytest.approx([0.0, 0.1, 0.0], abs=1e-5)
    assert metric.failures == 0


def test_pictures_without_a_face_are_failures() -> None:
    metric = AskedPoseDistance(Reads())
    pictures = torch.zeros(2, 3, 8, 8)
    pictures[1] = 0.5
    for rows in (pictures[:1], pictures[1:]):
        metric.ask(HEAD.zeros(1), look_at_face())
        metric.update(rows, rows)
    metric.end_clip()
    assert metric.failures == 1
    assert metric.compute().item() == pytest.approx(0.0, abs=1e-6)
