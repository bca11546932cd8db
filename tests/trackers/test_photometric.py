"""Alignment of the head pose to pictures, on an actor whose pose is known exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avatarzoo.data.procedural import ProceduralActor
from avatarzoo.geometry.rotations import axis_angle_to_matrix, geodesic_distance
from avatarzoo.heads import ProceduralHead
from avatarzoo.trackers.photometric import SIDE, compared_mask, compared_picture, refine_pose


@pytest.fixture(scope="module")
def clip():
    return ProceduralActor(seed=3, size=SIDE).sequence(40)


def relative_error(rotation: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Degrees of each frame against the truth, a rotation common to all frames left out (the template cannot tell it)."""
    between = rotation @ truth.transpose(1, 2)
    u, _, v = torch.linalg.svd(between.mean(0))
    return torch.rad2deg(geodesic_distance((u @ v).expand_as(between), between))


def test_alignment_takes_pose_noise_away(clip) -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(40, 3, generator=generator) * 0.015
    slip = torch.randn(40, 3, generator=generator) * 0.002
    params = clip.params._replace(
        rotation=clip.params.rotation + noise, translation=clip.params.translation + slip
    )
    pictures = np.stack([compared_picture(p) for p in clip.images])
    masks = np.stack([compared_mask(m) for m in clip.head_masks])
    rotation, translation = refine_pose(ProceduralHead(), params, clip.camera, pictures, masks)
    truth = axis_angle_to_matrix(clip.params.rotation)
    before = relative_error(axis_angle_to_matrix(params.rotation), truth)
    after = relative_error(rotation, truth)
    assert before.mean() > 1.0
    # measured 0.82 of 1.34 degrees without masks: the actor's skin is smooth and its shading does not turn with it
    assert after.mean() < 0.7 * before.mean()
    shift = (translation - clip.params.translation)[:, :2]
    assert (shift - shift.mean(0)).norm(dim=1).mean() < (slip[:, :2] - slip[:, :2].mean(0)).norm(dim=1).mean()


def test_alignment_leaves_a_true_pose_where_it_is(clip) -> None:
    pictures = np.stack([compared_picture(p) for p in clip.images])
    rotation, _ = refine_pose(ProceduralHead(), clip.params, clip.camera, pictures)
    moved = relative_error(rotation, axis_angle_to_matrix(clip.params.rotation))
    assert moved.mean() < 0.5


def test_flat_pictures_keep_the_landmarks_pose(clip) -> None:
    flat = np.full((40, SIDE, SIDE), 128, np.uint8)
    rotation, translation = refine_pose(ProceduralHead(), clip.params, clip.camera, flat)
    assert torch.allclose(rotation, axis_angle_to_matrix(clip.params.rotation), atol=1e-4)
    assert torch.allclose(translation, clip.params.translation, atol=1e-4)
