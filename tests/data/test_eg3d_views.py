"""Tracked pictures as EG3D sees heads: labels and crops agree with each other, with the pictures and with EG3D's own cameras."""

from __future__ import annotations

import pytest
import torch

from avatarzoo.data.eg3d_views import eg3d_camera, eg3d_crop, eg3d_labels
from avatarzoo.data.procedural import ProceduralActor
from avatarzoo.data.procedural_people import (
    HEAD_CENTRE,
    UNITS_PER_METRE,
    neutral,
    portrait_camera,
    portrait_cameras,
    portrait_labels,
)
from avatarzoo.errors import UsageError
from avatarzoo.geometry.camera import Camera, from_eg3d, look_at_face, project
from avatarzoo.geometry.rotations import axis_angle_to_matrix
from avatarzoo.heads.base import HeadParams
from avatarzoo.priors.eg3d_config import FFHQ_FOCAL

SIDE = 64


@pytest.fixture(scope="module")
def actor() -> ProceduralActor:
    return ProceduralActor(5, 128, background=1.0)


def moved(actor: ProceduralActor, rows: int) -> HeadParams:
    """Heads with expressions that turn, roll and leave the picture's middle."""
    generator = torch.Generator().manual_seed(1)
    params = actor.motion(60).rows(torch.linspace(30, 59, rows).long())
    rotation = (torch.rand(rows, 3, generator=generator) - 0.5) * torch.tensor([0.5, 1.0, 0.5])
    shift = (torch.rand(rows, 3, generator=generator) - 0.5) * 0.16
    return params._replace(rotation=rotation, translation=shift)


def odd_camera(size: int = 256) -> Camera:
    """Off-centre, rolled, of oblong pixels."""
    camera = look_at_face(0.9, 38.0, size, torch.tensor([0.2]), torch.tensor([-0.1]))
    lens = camera.intrinsics.clone()
    lens[:, 0, 2], lens[:, 1, 2], lens[:, 1, 1] = size * 0.58, size * 0.45, lens[:, 1, 1] * 1.04
    roll = torch.eye(4)[None].clone()
    roll[:, :2, :2] = torch.tensor([[0.98, -0.199], [0.199, 0.98]])
    return Camera(roll @ camera.world_to_camera, lens, camera.size)


def test_labels_are_those_of_portraits(actor: ProceduralActor) -> None:
    camera = portrait_cameras(torch.tensor([0.3, -0.5, 0.0]), torch.tensor([0.2, 0.0, -0.1]), SIDE)
    params = neutral(actor, 3)
    labels = portrait_labels(camera)
    assert torch.allclose(eg3d_labels(params, camera), labels, atol=1e-5)
    assert torch.allclose(eg3d_labels(params, portrait_camera(labels, SIDE)), labels, atol=1e-5)
    assert torch.allclose(labels[:, 16], torch.full((3,), FFHQ_FOCAL))


def test_a_label_sees_the_head_frame_where_the_camera_saw_the_head(actor: ProceduralActor) -> None:
    """Exact at one metre; elsewhere the head's centre stays and sizes stay."""
    for distance, tolerance in ((0.0, 2e-3), (1.0, 0.5)):
        params, camera = moved(actor, 4), odd_camera()
        sight = centre(params, camera)
        further = sight * (1 + distance) / sight.norm(dim=1, keepdim=True) - sight
        to_world = camera.world_to_camera[:, :3, :3].transpose(1, 2)
        params = params._replace(translation=params.translation + (to_world @ further[..., None])[..., 0])
        points = actor.head.landmark_points(actor.head(params))
        flat = actor.head.landmark_points(actor.head(params.in_head_frame()))
        world = (flat - torch.tensor(HEAD_CENTRE)) * UNITS_PER_METRE
        label = eg3d_labels(params, camera)
        there = project(world, from_eg3d(label, 256))[..., :2]
        assert torch.allclose(label.view(4, 25)[:, [3, 7, 11]].norm(dim=1), torch.full((4,), 2.7), atol=1e-4)
        assert (there - project(points, camera)[..., :2]).abs().mean() < tolerance


def centre(params: HeadParams, camera: Camera) -> torch.Tensor:
    """``(b, 3)`` of the head in camera axes."""
    place = axis_angle_to_matrix(params.rotation) @ torch.tensor(HEAD_CENTRE) + params.translation
    pose = camera.world_to_camera
    return (pose[:, :3, :3] @ place[..., None])[..., 0] + pose[:, :3, 3]


def test_a_crop_is_what_its_camera_sees(actor: ProceduralActor) -> None:
    """Of heads anywhere in an off-centre, rolled picture: the crop equals a rendering by the returned camera."""
    params, camera = moved(actor, 4), odd_camera()
    image, mask, _ = actor.render(params, camera)
    crop = eg3d_crop(image, mask, params, camera, SIDE, 1.0)
    direct, cover, _ = actor.render(params, crop["camera"])
    assert (crop["image"] - direct).abs().mean() < 0.012
    assert (crop["mask"] - cover).abs().mean() < 0.01
    shift = [_shift(a, b) for a, b in zip(crop["image"].mean(1), direct.mean(1))]
    assert max(max(abs(x), abs(y)) for x, y in shift) < 0.1
    labels = eg3d_labels(crop["params"], crop["camera"])
    assert torch.allclose(labels[:, [16, 20]], torch.full((4, 2), FFHQ_FOCAL), atol=1e-4)
    assert torch.allclose(labels[:, [18, 21]], torch.full((4, 2), 0.5), atol=1e-5)


def _shift(a: torch.Tensor, b: torch.Tensor) -> tuple[float, float]:
    """Movement from b to a in pixels, by least squares on b's gradients."""
    gy, gx = torch.gradient(b)
    design = torch.stack([gx.flatten(), gy.flatten()], 1)
    x, y = torch.linalg.lstsq(design, -(a - b).flatten()[:, None]).solution[:, 0].tolist()
    return x, y


def test_landmarks_lie_where_the_crop_shows_them(actor: ProceduralActor) -> None:
    """Spots painted on the source picture at the landmarks are found at the projections by the crop's camera."""
    params, camera = moved(actor, 2), odd_camera(512)
    points = actor.head.landmark_points(actor.head(params))[:, [1, 33, 61, 263, 10]]
    at = project(points, camera)[..., :2]
    wanted = project(points, eg3d_camera(params, camera, 128))[..., :2]
    y, x = torch.meshgrid(torch.arange(512) + 0.5, torch.arange(512) + 0.5, indexing="ij")
    for k in range(points.shape[1]):
        spot = torch.exp(-((x - at[:, k, 0, None, None]) ** 2 + (y - at[:, k, 1, None, None]) ** 2) / 50)
        cut = eg3d_crop(spot[:, None].expand(-1, 3, -1, -1), None, params, camera, 128, 0.0)["image"][:, 0]
        total = cut.sum((1, 2))
        px = (cut.sum(1) * (torch.arange(128) + 0.5)).sum(1) / total
        py = (cut.sum(2) * (torch.arange(128) + 0.5)).sum(1) / total
        assert (torch.stack([px, py], 1) - wanted[:, k]).norm(dim=1).max() < 0.2


def test_the_head_has_its_place_and_is_upright(actor: ProceduralActor) -> None:
    params, camera = moved(actor, 4), odd_camera()
    crop = eg3d_camera(params, camera, SIDE)
    place = centre(params, crop)
    assert torch.allclose(place[:, :2], torch.zeros(4, 2), atol=1e-5)
    assert torch.allclose(crop.intrinsics[:, 0, 0] / place[:, 2], torch.full((4,), FFHQ_FOCAL * SIDE))
    assert torch.allclose(place[:, 2], centre(params, camera).norm(dim=1))
    up = (crop.world_to_camera[:, :3, :3] @ axis_angle_to_matrix(params.rotation))[:, :, 1]
    assert torch.allclose(up[:, 0], torch.zeros(4), atol=1e-5)
    assert (up[:, 1] < 0).all()


def test_a_picture_by_an_eg3d_camera_crops_to_itself(actor: ProceduralActor) -> None:
    camera = portrait_cameras(torch.tensor([0.4, -0.2]), torch.tensor([0.1, -0.2]), SIDE)
    params = neutral(actor, 2)
    image, mask, _ = actor.render(params, camera)
    crop = eg3d_crop(image, mask, params, camera, SIDE, 1.0)
    assert torch.allclose(crop["image"], torch.lerp(torch.ones_like(image), image, mask), atol=2e-3)
    assert torch.allclose(crop["camera"].intrinsics, camera.intrinsics, rtol=1e-4)
    assert torch.allclose(crop["camera"].world_to_camera, camera.world_to_camera, atol=1e-5)
    large = eg3d_crop(image, None, params, camera, 2 * SIDE, 1.0)
    assert large["image"].shape == (2, 3, 2 * SIDE, 2 * SIDE)


def test_beyond_the_rim_there_is_background(actor: ProceduralActor) -> None:
    params = neutral(actor, 1)._replace(translation=torch.tensor([[0.12, 0.0, 0.0]]))
    camera = look_at_face(1.0, 20.0, 128)
    crop = eg3d_crop(torch.zeros(1, 3, 128, 128), None, params, camera, SIDE, 0.25)
    assert crop["image"][0, :, :, -1].eq(0.25).all()
    assert crop["mask"][0, 0, :, -1].eq(0).all()
    assert crop["image"][0, :, SIDE // 2, SIDE // 4].eq(0).all()


def test_nonsense_is_one_sentence(actor: ProceduralActor) -> None:
    params, camera = neutral(actor, 2), look_at_face(1.0, 20.0, 32)
    picture = torch.zeros(2, 3, 32, 32)
    with pytest.raises(UsageError, match="behind its camera"):
        eg3d_labels(params._replace(translation=torch.tensor([[0.0, 0.0, 3.0]]).expand(2, 3)), camera)
    with pytest.raises(UsageError, match="give each picture its own"):
        eg3d_crop(picture, None, params.rows([0]), camera, SIDE, 1.0)
    with pytest.raises(UsageError, match="resized"):
        eg3d_crop(picture, None, params, look_at_face(1.0, 20.0, 64), SIDE, 1.0)
