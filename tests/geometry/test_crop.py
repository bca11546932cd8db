"""Crops: points, pictures and cameras must agree with each other; boxes must follow the face."""

import math

import cv2
import numpy as np
import pytest
import torch

from avatarzoo.errors import NoFaceError
from avatarzoo.geometry.camera import Camera, look_at_face, project
from avatarzoo.geometry.crop import EYE_LEFT, EYE_RIGHT, Crop, clip_crop, ffhq_crop, square_crop


def rotated_crop(angle: float, scale: float, size: int = 128) -> Crop:
    c, s = scale * math.cos(angle), scale * math.sin(angle)
    linear = torch.tensor([[[c, -s], [s, c]]])
    return Crop(
        torch.cat(
            [
                linear,
                torch.tensor([size / 2, size / 2])[None, :, None]
                - linear @ torch.tensor([[[200.0], [150.0]]]),
            ],
            2,
        ),
        size,
    )


def face_points(eye_right, eye_left, mouth) -> torch.Tensor:
    """478 points of which only those that the crop rule reads matter."""
    points = torch.zeros(1, 478, 2)
    points[:, EYE_RIGHT], points[:, EYE_LEFT] = torch.tensor(eye_right), torch.tensor(eye_left)
    points[:, (61, 291)] = torch.tensor(mouth)
    return points


@pytest.mark.parametrize("crop", [rotated_crop(0.0, 0.8), rotated_crop(0.5, 0.9), rotated_crop(-1.0, 2.0)])
def test_picture_and_points_agree(crop):
    """A blurred dot at a known place must be found where ``points`` says, to a twentieth of a pixel."""
    place = torch.tensor([[[210.3, 141.8]]])
    y, x = np.mgrid[0:300, 0:400] + 0.5
    dot = np.exp(-((x - 210.3) ** 2 + (y - 141.8) ** 2) / 18) * 255
    cut = crop.picture(np.repeat(dot[..., None], 3, 2).round().astype(np.uint8), border="black")
    assert cut.shape == (128, 128, 3)
    mass = cut[..., 0].astype(np.float64)
    v, u = np.mgrid[0:128, 0:128] + 0.5
    found = np.array([(mass * u).sum(), (mass * v).sum()]) / mass.sum()
    assert np.allclose(found, crop.points(place)[0, 0].numpy(), atol=0.05)
    assert torch.allclose(Crop(crop.inverse(), 0).points(crop.points(place)), place, atol=1e-3)


def test_identity_crop_copies_pixels():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    crop = square_crop(torch.tensor([[32.0, 32.0]]), torch.tensor([64.0]), 64)
    assert np.array_equal(crop.picture(image), image)
    gray = crop.picture(image[..., :1])
    assert gray.shape == (64, 64, 1)
    assert np.array_equal(gray, image[..., :1])


def test_shrinking_averages_instead_of_skipping():
    checker = ((np.indices((512, 512)).sum(0) % 2) * 255).astype(np.uint8)[..., None]
    crop = square_crop(torch.tensor([[256.0, 256.0]]), torch.tensor([512.0]), 64)
    cut = crop.picture(checker).astype(float)
    assert cut.std() < 8
    assert abs(cut.mean() - 127.5) < 2


@pytest.mark.parametrize(("border", "value"), [("white", 255), ("black", 0), ("edge", 77)])
def test_borders(border, value):
    image = np.full((40, 40, 3), 77, np.uint8)
    crop = square_crop(torch.tensor([[0.0, 20.0]]), torch.tensor([40.0]), 40)
    cut = crop.picture(image, border=border)
    assert (cut[:, :18] == value).all()
    assert (cut[:, 22:] == 77).all()


@pytest.mark.parametrize("angle", [0.0, 0.6, -2.0])
def test_camera_sees_the_crop(angle):
    camera = look_at_face(1.0, 25.0, 512, yaw=torch.tensor([0.0, 0.3]))
    g = torch.Generator().manual_seed(0)
    points = torch.randn(2, 9, 3, generator=g) * 0.1
    crop = rotated_crop(angle, 0.7)
    through = project(points, crop.camera(camera))
    expected = crop.points(project(points, camera)[..., :2])
    assert torch.allclose(through[..., :2], expected, atol=1e-3)
    assert torch.allclose(through[..., 2], project(points, camera)[..., 2])
    assert crop.camera(camera).size == (128, 128)
    assert crop.camera(camera).intrinsics[0, 0, 1] == 0  # a plain pinhole


def test_rotated_crop_of_non_square_pixels_is_refused():
    camera = look_at_face(1.0)
    stretched = Camera(
        camera.world_to_camera, camera.intrinsics * torch.tensor([[1.1], [1.0], [1.0]]), camera.size
    )
    with pytest.raises(ValueError, match="square pixels"):
        rotated_crop(0.3, 1.0).camera(stretched)
    assert rotated_crop(0.0, 1.0).camera(stretched).batch == 1


def test_ffhq_crop_of_an_upright_face():
    crop = ffhq_crop(face_points([80.0, 100.0], [120.0, 100.0], [100.0, 145.0]), 512, scale=1.0)
    half = max(2 * 40, 1.8 * 45)  # 81
    corners = Crop(crop.inverse(), 0).points(torch.tensor([[[0.0, 0.0], [512.0, 512.0]]]))[0]
    centre = torch.tensor([100.0, 104.5])
    assert torch.allclose(corners, torch.stack([centre - half, centre + half]), atol=1e-3)
    wide = ffhq_crop(face_points([80.0, 100.0], [120.0, 100.0], [100.0, 145.0]), 512, scale=1.2)
    assert torch.allclose(wide.matrix[:, :, :2] * 1.2, crop.matrix[:, :, :2])


@pytest.mark.parametrize("angle", [0.4, -1.2, 3.0])
def test_ffhq_crop_turns_with_the_face(angle):
    """Turning and shifting the face in the source must not change the crop's content."""
    upright = face_points([80.0, 100.0], [120.0, 98.0], [101.0, 145.0])
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    turned = upright @ turn.T + torch.tensor([300.0, 200.0])
    a, b = ffhq_crop(upright, 256), ffhq_crop(turned, 256)
    assert torch.allclose(a.points(upright), b.points(turned), atol=1e-2)
    eyes = b.points(turned)[0]
    assert eyes[EYE_LEFT[0], 0] > eyes[EYE_RIGHT[0], 0]  # the subject's left eye is on the right
    assert eyes[61, 1] > eyes[EYE_LEFT[0], 1] + 20  # mouth below


def test_clip_crop_holds_every_frame_and_skips_lost_ones():
    g = torch.Generator().manual_seed(0)
    shape = torch.rand(478, 2, generator=g) * torch.tensor([80.0, 110.0])
    shift = torch.tensor([[100.0, 80.0], [140.0, 90.0], [120.0, 60.0], [0.0, 0.0]])
    landmarks = shape + shift[:, None]
    landmarks[3] = torch.nan
    crop = clip_crop(landmarks, 256)
    inside = crop.points(landmarks[:3].reshape(1, -1, 2))
    assert inside.min() > 20
    assert inside.max() < 236
    top = inside[..., 1].min()
    assert top > 256 - inside[..., 1].max()  # more room above, for the hair
    assert torch.allclose(crop.matrix[0, 0, 0], crop.matrix[0, 1, 1])
    with pytest.raises(NoFaceError, match="no frame"):
        clip_crop(landmarks[3:], 256)


def test_crop_matches_opencv_for_a_plain_resize():
    image = cv2.GaussianBlur(
        np.random.default_rng(1).integers(0, 256, (90, 90, 3), dtype=np.uint8), (0, 0), 2
    )
    crop = square_crop(torch.tensor([[45.0, 45.0]]), torch.tensor([90.0]), 180)
    expected = cv2.resize(image, (180, 180), interpolation=cv2.INTER_LINEAR)
    inner = np.s_[2:-2, 2:-2]
    assert np.abs(crop.picture(image, border="edge")[inner].astype(int) - expected[inner]).max() <= 2
