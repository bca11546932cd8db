"""Crops back in the picture they were cut from: in place, on their ground, without the frame that networks draw round them."""

from __future__ import annotations

import pytest
import torch

from avatarzoo.geometry.camera import Camera, look_at_face
from avatarzoo.models.base import AvatarImage
from avatarzoo.models.placing import on_ground, placed

SIDE = 32


@pytest.fixture(scope="module")
def crop() -> Camera:
    return look_at_face(size=SIDE)


@pytest.fixture(scope="module")
def drawn() -> AvatarImage:
    """A smooth picture, opaque in its middle, on white."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, SIDE), torch.linspace(-1, 1, SIDE), indexing="ij")
    alpha = (-4 * (x**2 + y**2)).exp()[None, None]
    colour = torch.stack([0.2 + 0.1 * x, 0.4 + 0.1 * y, 0.5 + 0 * x])[None]
    return AvatarImage(alpha * colour + (1 - alpha), alpha)


def test_the_same_camera_shows_the_same_picture(drawn: AvatarImage, crop: Camera) -> None:
    shown = placed(drawn, crop, crop, ground=1.0)
    assert torch.allclose(shown.rgb[..., 1:-1, 1:-1], drawn.rgb[..., 1:-1, 1:-1], atol=1e-5)
    assert torch.allclose(shown.alpha[..., 1:-1, 1:-1], drawn.alpha[..., 1:-1, 1:-1], atol=1e-5)


def test_a_wider_camera_has_it_in_the_middle_on_ground(drawn: AvatarImage, crop: Camera) -> None:
    intrinsics = crop.intrinsics.clone()
    intrinsics[:, :2, :2] /= 2
    shown = placed(drawn, crop, Camera(crop.world_to_camera, intrinsics, crop.size), ground=1.0)
    half = torch.nn.functional.avg_pool2d(drawn.rgb, 2)
    quarter = SIDE // 4
    middle = shown.rgb[..., quarter + 1 : -quarter - 1, quarter + 1 : -quarter - 1]
    assert torch.allclose(middle, half[..., 1:-1, 1:-1], atol=1e-3)
    assert torch.equal(shown.rgb[..., : quarter - 1, :], torch.ones_like(shown.rgb[..., : quarter - 1, :]))


def test_the_frame_that_networks_draw_is_not_shown(drawn: AvatarImage, crop: Camera) -> None:
    framed = drawn.rgb.clone()
    framed[..., [0, -1], :] = framed[..., [0, -1]] = 0.8
    shown = placed(drawn._replace(rgb=framed), crop, crop, ground=1.0)
    assert (shown.rgb - drawn.rgb).abs().max() < 0.02


def test_the_ground_is_exchanged_behind_the_head_alone(drawn: AvatarImage) -> None:
    black = on_ground(drawn.rgb, drawn.alpha, drawn_on=1.0, ground=0.0)
    assert torch.allclose(black.rgb, drawn.rgb - (1 - drawn.alpha), atol=1e-6)
    assert black.rgb[..., 0, 0].abs().max() < 0.01
