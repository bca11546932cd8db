"""Cameras. Convention: OpenCV axes (x right, y down, z forward), pixel centres at +0.5, metres.

The world frame is the head's neutral frame (y up, face towards +z), so a camera that looks at a face stands on +z.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from avatarzoo.geometry.rotations import euler_to_matrix, matrix_to_euler

OPENGL_TO_OPENCV = (1.0, -1.0, -1.0)
"""Signs of the camera axes x, y, z from OpenGL (y up, z backward) to OpenCV (y down, z forward)."""


class Camera(NamedTuple):
    """A batch of pinhole cameras of one picture size.

    Attributes:
        world_to_camera: ``(B, 4, 4)``, OpenCV axes.
        intrinsics: ``(B, 3, 3)`` in pixels; the centre of the top-left pixel is (0.5, 0.5).
        size: ``(height, width)``.
    """

    world_to_camera: Float[Tensor, "b 4 4"]
    intrinsics: Float[Tensor, "b 3 3"]
    size: tuple[int, int]

    @property
    def batch(self) -> int:
        return self.world_to_camera.shape[0]

    def to(self, device: torch.device | str) -> Camera:
        return Camera(self.world_to_camera.to(device), self.intrinsics.to(device), self.size)

    def __getitem__(self, index):  # type: ignore[override]
        """Cameras at ``index`` (slice, list or tensor) of the batch; plain ints keep tuple access."""
        if isinstance(index, int):
            return tuple.__getitem__(self, index)
        return self.rows(index)

    def rows(self, index) -> Camera:
        """Cameras at ``index`` (slice, list or tensor) of the batch."""
        return Camera(self.world_to_camera[index], self.intrinsics[index], self.size)

    def resized(self, height: int, width: int) -> Camera:
        """The same view on a raster of another size."""
        scale = self.intrinsics.new_tensor([width / self.size[1], height / self.size[0], 1.0])
        return Camera(self.world_to_camera, self.intrinsics * scale[:, None], (height, width))

    def after(self, rotation: Float[Tensor, "b 3 3"], translation: Float[Tensor, "b 3"]) -> Camera:
        """Absorb a rigid motion of the head: seeing ``R x + t`` from here equals seeing ``x`` from the returned camera."""
        motion = rigid(rotation, translation)
        return Camera(self.world_to_camera @ motion, self.intrinsics.expand(motion.shape[0], 3, 3), self.size)


def rigid(rotation: Float[Tensor, "*b 3 3"], translation: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 4 4"]:
    """Homogeneous matrix of ``x -> R x + t``."""
    top = torch.cat([rotation, translation[..., None]], -1)
    bottom = top.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*top.shape[:-2], 1, 4)
    return torch.cat([top, bottom], -2)


def look_at_face(
    distance: float = 1.0,
    fov: float = 20.0,
    size: int = 512,
    yaw: Tensor | None = None,
    pitch: Tensor | None = None,
) -> Camera:
    """Cameras on a sphere round the origin, looking at it, y up.

    Args:
        distance: metres from the origin.
        fov: vertical field of view in degrees.
        size: picture side in pixels.
        yaw, pitch: ``(B,)`` radians; yaw > 0 moves the camera to the subject's left (+x), pitch > 0 moves it up.
    """
    yaw = torch.zeros(1) if yaw is None else yaw
    pitch = torch.zeros_like(yaw) if pitch is None else pitch
    to_world = euler_to_matrix(yaw, -pitch, torch.zeros_like(yaw))
    # roll 0: Ry(yaw) Rx(-pitch); the camera's backward axis is the third column
    flip = to_world.new_tensor(OPENGL_TO_OPENCV)
    rotation = (to_world * flip).transpose(-1, -2)
    centre = to_world[..., :, 2] * distance
    translation = -(rotation @ centre[..., None])[..., 0]
    return Camera(
        rigid(rotation, translation), fov_intrinsics(fov, size).expand(len(yaw), 3, 3), (size, size)
    )


def fov_intrinsics(fov: float, size: int) -> Float[Tensor, "1 3 3"]:
    """Square pixels, principal point in the middle; ``fov`` in degrees (20 degrees at 512 px: f = 1451.85)."""
    focal = size / (2 * math.tan(math.radians(fov) / 2))
    return torch.tensor([[[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1.0]]])


def project(points: Float[Tensor, "b n 3"], camera: Camera) -> Float[Tensor, "b n 3"]:
    """World points to ``(x px, y px, depth m)``."""
    w2c = camera.world_to_camera
    seen = points @ w2c[:, :3, :3].transpose(1, 2) + w2c[:, None, :3, 3]
    image = seen @ camera.intrinsics.transpose(1, 2)
    return torch.cat([image[..., :2] / image[..., 2:], seen[..., 2:]], -1)


def from_opengl(
    camera_to_world: Float[Tensor, "b 4 4"], intrinsics: Float[Tensor, "b 3 3"], size: tuple[int, int]
) -> Camera:
    """From a camera-to-world matrix with OpenGL axes (y up, looking along -z)."""
    flip = camera_to_world.new_tensor([*OPENGL_TO_OPENCV, 1.0])
    return Camera(torch.linalg.inv(camera_to_world * flip), intrinsics, size)


def to_opengl(camera: Camera) -> Float[Tensor, "b 4 4"]:
    """Camera-to-world matrix with OpenGL axes; inverse of :func:`from_opengl`."""
    flip = camera.world_to_camera.new_tensor([*OPENGL_TO_OPENCV, 1.0])
    return torch.linalg.inv(camera.world_to_camera) * flip


def from_dejavu(vector: Float[Tensor, "b 6"], fov: float, size: int) -> Camera:
    """Deja-vu's ``[yaw, pitch, roll, tx, ty, tz]`` (radians, metres).

    The released code names it world-to-view; it is camera-to-world in OpenGL axes, R = Rz(roll) Ry(yaw) Rx(pitch)
    (fact sheet section 1, "Camera").
    """
    yaw, pitch, roll = vector[:, :3].unbind(-1)
    pose = rigid(euler_to_matrix(yaw, pitch, roll), vector[:, 3:])
    return from_opengl(pose, fov_intrinsics(fov, size).to(vector).expand(len(vector), 3, 3), (size, size))


def to_dejavu(camera: Camera) -> Float[Tensor, "b 6"]:
    """Inverse of :func:`from_dejavu`; the field of view is ``camera.intrinsics``' business."""
    pose = to_opengl(camera)
    angles = torch.stack(matrix_to_euler(pose[:, :3, :3]), -1)
    return torch.cat([angles, pose[:, :3, 3]], -1)


def from_eg3d(label: Float[Tensor, "b 25"], size: int) -> Camera:
    """EG3D's label: 16 numbers camera-to-world (OpenCV axes, row-major), 9 numbers intrinsics normalised by the picture side."""
    world_to_camera = torch.linalg.inv(label[:, :16].reshape(-1, 4, 4))
    scale = label.new_tensor([size, size, 1.0])
    return Camera(world_to_camera, label[:, 16:].reshape(-1, 3, 3) * scale[:, None], (size, size))


def to_eg3d(camera: Camera) -> Float[Tensor, "b 25"]:
    """Inverse of :func:`from_eg3d`."""
    height, width = camera.size
    scale = camera.intrinsics.new_tensor([1 / width, 1 / height, 1.0])
    pose = torch.linalg.inv(camera.world_to_camera).flatten(1)
    return torch.cat([pose, (camera.intrinsics * scale[:, None]).flatten(1)], -1)


def from_faceverse(rotation: Float[Tensor, "b 3 3"], translation: Float[Tensor, "b 3"], size: int) -> Camera:
    """FaceVerse v3's public tracker: focal ``int(1315 / 512 * size)``, camera at z = 10, model y and z flipped.

    There a model point x (in its own units, y up) is seen at ``x F R + t`` from a camera at z = 10 that looks along -z
    after the flip F = diag(1, -1, -1), with R applied to row vectors. World units here stay FaceVerse's.
    """
    flip = rotation.new_tensor([1.0, -1.0, -1.0])
    focal = float(int(1315 / 512 * size))
    k = rotation.new_tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1.0]]).expand(
        len(rotation), 3, 3
    )
    to_camera = rotation.transpose(1, 2) * flip
    offset = translation + translation.new_tensor([0.0, 0.0, 10.0])
    return Camera(rigid(to_camera, offset), k, (size, size))


def to_faceverse(camera: Camera) -> tuple[Float[Tensor, "b 3 3"], Float[Tensor, "b 3"]]:
    """Inverse of :func:`from_faceverse`: ``(rotation for row vectors, translation)``."""
    flip = camera.world_to_camera.new_tensor([1.0, -1.0, -1.0])
    rotation = (camera.world_to_camera[:, :3, :3] * flip).transpose(1, 2)
    translation = camera.world_to_camera[:, :3, 3] - camera.world_to_camera.new_tensor([0.0, 0.0, 10.0])
    return rotation, translation
