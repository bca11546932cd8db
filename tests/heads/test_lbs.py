"""Skinning against homogeneous matrices built one by one."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from avatarzoo.heads.lbs import PARENTS, joint_transforms, lbs, pose_correctives


def reference(vertices, joints, angles, weights):
    """Li et al. 2017, Eq. 2-3, with 4x4 matrices: world transform of each joint times the inverse of its rest transform."""
    world = []
    for j, parent in enumerate(PARENTS):
        local = np.eye(4)
        local[:3, :3] = Rotation.from_rotvec(angles[j]).as_matrix()
        local[:3, 3] = joints[j] - (joints[parent] if parent >= 0 else 0)
        world.append(local if parent < 0 else world[parent] @ local)
    relative = []
    for matrix, joint in zip(world, joints):
        rest = np.eye(4)
        rest[:3, 3] = -joint
        relative.append(matrix @ rest)
    homogeneous = np.concatenate([vertices, np.ones((len(vertices), 1))], 1)
    return np.stack(
        [(sum(w * m for w, m in zip(row, relative)) @ v)[:3] for row, v in zip(weights, homogeneous)]
    )


def test_lbs_equals_homogeneous_matrices():
    rng = np.random.default_rng(0)
    vertices, joints, angles = (
        rng.normal(size=(3, 20, 3)),
        rng.normal(size=(3, 5, 3)),
        rng.normal(size=(3, 5, 3)),
    )
    weights = rng.random((20, 5))
    weights /= weights.sum(1, keepdims=True)
    rotations = torch.from_numpy(Rotation.from_rotvec(angles.reshape(-1, 3)).as_matrix().reshape(3, 5, 3, 3))
    posed = lbs(*(torch.from_numpy(x) for x in (vertices, joints)), rotations, torch.from_numpy(weights))
    for b in range(3):
        np.testing.assert_allclose(
            posed[b], reference(vertices[b], joints[b], angles[b], weights), atol=1e-12
        )


def test_joints_at_rest_do_nothing():
    eye = torch.eye(3, dtype=torch.float64).expand(2, 5, 3, 3)
    turn, shift = joint_transforms(
        eye, torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.manual_seed(0))
    )
    assert torch.equal(turn, eye)
    assert shift.abs().max() == 0


def test_pose_correctives_are_linear_in_the_rotations_without_the_root():
    generator = torch.manual_seed(0)
    rotations = torch.randn(2, 5, 3, 3, generator=generator)
    basis = torch.randn(7, 3, 36, generator=generator)
    offsets = pose_correctives(rotations, basis.flatten(0, 1))
    features = (rotations - torch.eye(3))[:, 1:].reshape(2, 36)
    torch.testing.assert_close(offsets, torch.einsum("vkp,bp->bvk", basis, features))
