"""Every converter against its inverse and against scipy."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from avatarzoo.geometry.rotations import (
    axis_angle_to_matrix,
    euler_to_matrix,
    geodesic_distance,
    matrix_to_axis_angle,
    matrix_to_euler,
    matrix_to_quaternion,
    quaternion_to_matrix,
    skew,
)


@pytest.fixture
def axis_angles() -> torch.Tensor:
    """Random ones, tiny ones, zero, and half turns about the axes and beside them."""
    g = torch.Generator().manual_seed(0)
    v = torch.randn(200, 3, generator=g, dtype=torch.float64)
    v = v / v.norm(dim=1, keepdim=True) * torch.rand(200, 1, generator=g, dtype=torch.float64) * np.pi
    near_half = torch.eye(3, dtype=torch.float64) * (np.pi - 1e-4)
    return torch.cat([v, v[:10] * 1e-6, torch.zeros(1, 3, dtype=torch.float64), near_half, -near_half])


def test_matrices_equal_scipy(axis_angles):
    expected = torch.from_numpy(Rotation.from_rotvec(axis_angles.numpy()).as_matrix())
    assert torch.allclose(axis_angle_to_matrix(axis_angles), expected, atol=1e-9)


def test_axis_angle_round_trip(axis_angles):
    back = matrix_to_axis_angle(axis_angle_to_matrix(axis_angles))
    assert torch.allclose(back, axis_angles, atol=1e-7)


def test_quaternions_equal_scipy_and_round_trip(axis_angles):
    matrices = axis_angle_to_matrix(axis_angles)
    q = matrix_to_quaternion(matrices)
    xyzw = Rotation.from_matrix(matrices.numpy()).as_quat(canonical=True)
    assert torch.allclose(q, torch.from_numpy(np.roll(xyzw, 1, axis=1)), atol=1e-7)
    assert torch.allclose(quaternion_to_matrix(q), matrices, atol=1e-9)
    assert torch.allclose(quaternion_to_matrix(-3 * q), matrices, atol=1e-9)  # sign and length do not count


@pytest.mark.parametrize("axis", range(3))
def test_half_turn_quaternion(axis):
    v = torch.zeros(1, 3, dtype=torch.float64)
    v[0, axis] = np.pi
    matrix = axis_angle_to_matrix(v)
    assert torch.allclose(quaternion_to_matrix(matrix_to_quaternion(matrix)), matrix, atol=1e-9)


def test_euler_equals_scipy_and_round_trips():
    g = torch.Generator().manual_seed(1)
    yaw, pitch, roll = (torch.rand(3, 50, generator=g, dtype=torch.float64) - 0.5) * torch.tensor(
        [[3.0], [6.0], [6.0]], dtype=torch.float64
    )
    matrix = euler_to_matrix(yaw, pitch, roll)
    expected = Rotation.from_euler("xyz", torch.stack([pitch, yaw, roll], 1).numpy()).as_matrix()
    assert torch.allclose(matrix, torch.from_numpy(expected), atol=1e-9)
    for a, b in zip(matrix_to_euler(matrix), (yaw, pitch, roll), strict=True):
        assert torch.allclose(a, b, atol=1e-8)


def test_skew_is_the_cross_product():
    g = torch.Generator().manual_seed(2)
    a, b = torch.randn(2, 7, 3, generator=g)
    assert torch.allclose((skew(a) @ b[..., None])[..., 0], torch.linalg.cross(a, b), atol=1e-6)


def test_gradients_are_finite_at_zero_and_correct():
    v = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(axis_angle_to_matrix, v)
    v = torch.tensor([[0.3, -1.0, 0.5]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(axis_angle_to_matrix, v)
    assert torch.autograd.gradcheck(lambda x: matrix_to_axis_angle(axis_angle_to_matrix(x)), v)


def test_leading_dimensions_and_distance():
    v = torch.zeros(2, 3, 4, 3)
    v[..., 1] = 0.25
    matrix = axis_angle_to_matrix(v)
    assert matrix.shape == (2, 3, 4, 3, 3)
    assert matrix_to_quaternion(matrix).shape == (2, 3, 4, 4)
    distance = geodesic_distance(matrix, torch.eye(3).expand_as(matrix))
    assert torch.allclose(distance, torch.full((2, 3, 4), 0.25), atol=1e-6)
