"""Rotations: axis-angle, matrices, quaternions (w, x, y, z) and Euler angles. All functions are batched over leading dims."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def axis_angle_to_matrix(v: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """Rodrigues' formula, smooth at zero.

    Args:
        v: axis times angle in radians.
    """
    square = (v * v).sum(-1, keepdim=True)
    small = square < 1e-8
    safe = torch.where(small, torch.ones_like(square), square)
    angle = safe.sqrt()
    a = torch.where(small, 1 - square / 6, angle.sin() / angle)[..., None]
    b = torch.where(small, 0.5 - square / 24, (1 - angle.cos()) / safe)[..., None]
    k = skew(v)
    eye = torch.eye(3, dtype=v.dtype, device=v.device)
    return eye + a * k + b * (k @ k)


def skew(v: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """Cross-product matrix: ``skew(v) @ w == v x w``."""
    x, y, z = v.unbind(-1)
    o = torch.zeros_like(x)
    return torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).reshape(*v.shape[:-1], 3, 3)


def matrix_to_quaternion(m: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 4"]:
    """Unit quaternion (w, x, y, z) with w >= 0, by the largest of the four candidate components."""
    m00, m11, m22 = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    q2 = torch.stack([1 + m00 + m11 + m22, 1 + m00 - m11 - m22, 1 - m00 + m11 - m22, 1 - m00 - m11 + m22], -1)
    a, b, c = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    d, e, f = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2]
    rows = torch.stack(
        [
            torch.stack([q2[..., 0], a, b, c], -1),
            torch.stack([a, q2[..., 1], d, e], -1),
            torch.stack([b, d, q2[..., 2], f], -1),
            torch.stack([c, e, f, q2[..., 3]], -1),
        ],
        -2,
    )
    best = q2.argmax(-1)[..., None, None].expand(*q2.shape[:-1], 1, 4)
    q = torch.nn.functional.normalize(rows.gather(-2, best).squeeze(-2), dim=-1)
    return torch.where(q[..., :1] < 0, -q, q)


def quaternion_to_matrix(q: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 3 3"]:
    """Rotation matrix of a quaternion (w, x, y, z); the quaternion is normalised first."""
    w, x, y, z = torch.nn.functional.normalize(q, dim=-1).unbind(-1)
    m = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(m, -1).reshape(*q.shape[:-1], 3, 3)


def matrix_to_axis_angle(m: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 3"]:
    """Inverse of :func:`axis_angle_to_matrix`, angle in [0, pi]."""
    q = matrix_to_quaternion(m)
    sine = q[..., 1:].norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(sine, q[..., :1])
    factor = torch.where(sine < 1e-6, torch.full_like(sine, 2.0), angle / sine.clamp_min(1e-12))
    return q[..., 1:] * factor


def euler_to_matrix(yaw: Tensor, pitch: Tensor, roll: Tensor) -> Tensor:
    """``Rz(roll) @ Ry(yaw) @ Rx(pitch)``, radians, any leading shape."""
    zero, one = torch.zeros_like(yaw), torch.ones_like(yaw)

    def build(*entries: Tensor) -> Tensor:
        return torch.stack(entries, -1).reshape(*yaw.shape, 3, 3)

    cy, sy, cx, sx, cz, sz = yaw.cos(), yaw.sin(), pitch.cos(), pitch.sin(), roll.cos(), roll.sin()
    rx = build(one, zero, zero, zero, cx, -sx, zero, sx, cx)
    ry = build(cy, zero, sy, zero, one, zero, -sy, zero, cy)
    rz = build(cz, -sz, zero, sz, cz, zero, zero, zero, one)
    return rz @ ry @ rx


def matrix_to_euler(m: Float[Tensor, "*b 3 3"]) -> tuple[Tensor, Tensor, Tensor]:
    """``(yaw, pitch, roll)`` with ``m = Rz(roll) @ Ry(yaw) @ Rx(pitch)``; yaw in [-pi/2, pi/2]."""
    yaw = torch.asin((-m[..., 2, 0]).clamp(-1, 1))
    pitch = torch.atan2(m[..., 2, 1], m[..., 2, 2])
    roll = torch.atan2(m[..., 1, 0], m[..., 0, 0])
    return yaw, pitch, roll


def geodesic_distance(a: Float[Tensor, "*b 3 3"], b: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b"]:
    """Angle in radians of the rotation from ``a`` to ``b``."""
    return matrix_to_axis_angle(a.transpose(-1, -2) @ b).norm(dim=-1)
