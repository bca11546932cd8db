"""Cameras: directions, batching, and round trips of every converter."""

import math

import pytest
import torch

from avatarzoo.geometry import camera as cameras
from avatarzoo.geometry.camera import Camera, look_at_face, project, rigid
from avatarzoo.geometry.rotations import axis_angle_to_matrix


@pytest.fixture
def views() -> Camera:
    g = torch.Generator().manual_seed(0)
    rotation = axis_angle_to_matrix(torch.randn(5, 3, generator=g, dtype=torch.float64) * 0.6)
    pose = rigid(rotation, torch.randn(5, 3, generator=g, dtype=torch.float64))
    k = torch.tensor([[700.0, 0, 300], [0, 650, 260], [0, 0, 1]], dtype=torch.float64).repeat(5, 1, 1)
    return Camera(pose, k, (512, 640))


def same(a: Camera, b: Camera) -> bool:
    return (
        torch.allclose(a.world_to_camera, b.world_to_camera, atol=1e-6)
        and torch.allclose(a.intrinsics, b.intrinsics, atol=1e-4)
        and a.size == b.size
    )


def test_frontal_view_is_upright_and_not_mirrored():
    view = look_at_face(1.0, 20.0, 512)
    points = torch.tensor([[[0.0, 0, 0], [0.05, 0, 0], [0, 0.05, 0], [0, 0, 0.1]]])
    centre, left, top, nose = project(points, view)[0]
    assert torch.allclose(centre, torch.tensor([256.0, 256.0, 1.0]), atol=1e-4)
    assert left[0] > 300  # the subject's left is on the right of the picture
    assert top[1] < 212  # up is up
    assert nose[2] == pytest.approx(0.9)  # the face looks into the camera
    assert view.intrinsics[0, 0, 0].item() == pytest.approx(1451.85, abs=0.01)


def test_yaw_goes_to_the_subjects_left_and_pitch_up():
    yaw, pitch = torch.tensor([0.5, 0.0]), torch.tensor([0.0, 0.4])
    view = look_at_face(1.2, yaw=yaw, pitch=pitch)
    w2c = view.world_to_camera
    eye = -(w2c[:, :3, :3].transpose(1, 2) @ w2c[:, :3, 3:])[..., 0]
    expected = [[1.2 * math.sin(0.5), 0, 1.2 * math.cos(0.5)], [0, 1.2 * math.sin(0.4), 1.2 * math.cos(0.4)]]
    assert torch.allclose(eye, torch.tensor(expected), atol=1e-6)
    above = project(torch.tensor([[[0.0, 0.05, 0.0]]]), view)
    assert (above[:, 0, 1] < 256).all()
    assert torch.allclose(torch.linalg.det(w2c[:, :3, :3]), torch.ones(2))


def test_after_absorbs_the_motion_of_the_head(views):
    g = torch.Generator().manual_seed(1)
    points = torch.randn(5, 11, 3, generator=g, dtype=torch.float64)
    rotation = axis_angle_to_matrix(torch.randn(5, 3, generator=g, dtype=torch.float64))
    shift = torch.randn(5, 3, generator=g, dtype=torch.float64)
    moved = points @ rotation.transpose(1, 2) + shift[:, None]
    assert torch.allclose(project(moved, views), project(points, views.after(rotation, shift)), atol=1e-6)
    one = Camera(views.world_to_camera[:1], views.intrinsics[:1], views.size).after(rotation, shift)
    assert one.batch == 5
    assert one.intrinsics.shape == (5, 3, 3)


def test_batch_indexing_keeps_tuple_access(views):
    assert same(views[[1, 3]], views[torch.tensor([1, 3])])
    assert same(views[1:2], Camera(views.world_to_camera[1:2], views.intrinsics[1:2], views.size))
    assert views[torch.tensor([True, False, True, False, False])].batch == 2
    world_to_camera, intrinsics, size = views
    assert views[0] is world_to_camera
    assert views[2] is size
    assert intrinsics is views.intrinsics


def test_resized_scales_the_projection(views):
    points = torch.tensor([[[0.1, 0.2, 3.0]]], dtype=torch.float64).expand(5, -1, -1)
    small = project(points, views.resized(256, 320))
    assert torch.allclose(small[..., :2] * 2, project(points, views)[..., :2])
    assert views.resized(100, 50).size == (100, 50)


def test_opengl_round_trip_and_axes(views):
    pose = cameras.to_opengl(views)
    assert same(cameras.from_opengl(pose, views.intrinsics, views.size), views)
    front = cameras.to_opengl(look_at_face(2.0))[0]
    assert torch.allclose(
        front, torch.eye(4) + torch.tensor([0.0, 0, 2, 0])[:, None] * torch.eye(4)[3], atol=1e-6
    )


def test_dejavu_round_trip():
    vector = torch.tensor([[0.2, -0.1, 0.05, 0.01, -0.02, 1.1], [-0.4, 0.3, -0.2, 0.0, 0.1, 0.9]])
    view = cameras.from_dejavu(vector, 20.0, 512)
    assert torch.allclose(cameras.to_dejavu(view), vector, atol=1e-5)
    straight = cameras.from_dejavu(torch.tensor([[0.0, 0, 0, 0, 0, 1.0]]), 20.0, 512)
    assert same(straight, look_at_face(1.0, 20.0, 512))
    turned = cameras.from_dejavu(torch.tensor([[0.5, 0, 0, math.sin(0.5), 0, math.cos(0.5)]]), 20.0, 512)
    assert same(turned, look_at_face(1.0, 20.0, 512, yaw=torch.tensor([0.5])))


def test_eg3d_round_trip():
    view = look_at_face(2.7, 18.8, 512, yaw=torch.tensor([0.3, -0.2]), pitch=torch.tensor([0.1, 0.0]))
    label = cameras.to_eg3d(view)
    assert label.shape == (2, 25)
    assert torch.allclose(label[:, [18, 21]], torch.full((2, 2), 0.5))  # principal point in the middle
    assert same(cameras.from_eg3d(label, 512), view)
    assert torch.allclose(cameras.to_eg3d(cameras.from_eg3d(label, 64)), label, atol=1e-5)


def test_faceverse_round_trip_and_direction():
    g = torch.Generator().manual_seed(3)
    rotation, translation = (
        axis_angle_to_matrix(torch.randn(3, 3, generator=g)),
        torch.randn(3, 3, generator=g),
    )
    view = cameras.from_faceverse(rotation, translation, 512)
    assert view.intrinsics[0, 0, 0] == 1315
    back = cameras.to_faceverse(view)
    assert torch.allclose(back[0], rotation, atol=1e-6)
    assert torch.allclose(back[1], translation, atol=1e-5)
    x = torch.randn(3, 4, 3, generator=g)
    flip = torch.tensor([1.0, -1.0, -1.0])
    seen = (x * flip) @ rotation + translation[:, None] + torch.tensor([0.0, 0.0, 10.0])
    expected = seen[..., :2] / seen[..., 2:] * 1315 + 256
    assert torch.allclose(project(x, view)[..., :2], expected, atol=1e-2)
