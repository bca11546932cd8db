"""Next3D at a small size: views of a ball, the mouth, blending. There are no reference tensors of the released network."""

import math

import pytest
import torch

from avatarzoo.priors import Next3DConfig, Next3DGenerator
from avatarzoo.priors.cameras import frontal_label, sphere_label
from avatarzoo.priors.next3d_views import TexturedTopology, crop, driving_views, mouth_box, paste

SMALL = Next3DConfig(
    latent_dim=16,
    code_dim=16,
    plane_resolution=64,
    channel_base=256,
    channel_max=8,
    superresolution="2X",
    neural_resolution=16,
    coarse_samples=6,
    fine_samples=6,
)
RADIUS = 0.1
FRONT, LEFT, RIGHT, TOP = range(4)


def ball(rings: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    """Vertices on a sphere (metres) and faces, counter-clockwise seen from outside."""
    latitude = torch.linspace(0, math.pi, rings)
    longitude = torch.linspace(0, 2 * math.pi, 2 * rings)
    a, b = torch.meshgrid(latitude, longitude, indexing="ij")
    vertices = RADIUS * torch.stack([a.sin() * b.cos(), a.cos(), a.sin() * b.sin()], -1).flatten(0, 1)
    i, j = torch.meshgrid(torch.arange(rings - 1), torch.arange(2 * rings - 1), indexing="ij")
    corner = (i * 2 * rings + j).flatten()
    below, right, both = corner + 2 * rings, corner + 1, corner + 2 * rings + 1
    faces = torch.cat([torch.stack([corner, right, below], 1), torch.stack([right, both, below], 1)])
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    outwards = (torch.linalg.cross(b - a, c - a) * (a + b + c)).sum(1) > 0
    return vertices, torch.where(outwards[:, None], faces, faces.flip(1))


def topology(horizontal: int, vertical: int = 1) -> TexturedTopology:
    """A ball whose texture coordinates are two of its coordinates."""
    vertices, faces = ball()
    return TexturedTopology(faces, vertices[:, [horizontal, vertical]] / (2 * RADIUS) + 0.5, faces)


@pytest.mark.parametrize(("view", "near", "sign"), [(FRONT, 2, 1), (LEFT, 0, 1), (RIGHT, 0, -1), (TOP, 1, 1)])
def test_views_see_the_near_half(view, near, sign):
    maps = driving_views(ball()[0][None], topology(near), 64)[0, view]
    covered = maps[..., 2] > 0.5
    assert 0.15 < covered.float().mean() < 0.21  # a disc of half the side
    assert (sign * maps[..., 0][covered]).min() > -0.2


@pytest.mark.parametrize(("view", "axis", "sign"), [(FRONT, 0, 1), (LEFT, 2, -1), (RIGHT, 2, 1), (TOP, 0, 1)])
def test_columns_follow_their_axis(view, axis, sign):
    maps = driving_views(ball()[0][None], topology(axis), 64)[0, view]
    columns = (2 * torch.arange(64) + 1) / 64 - 1
    difference = (maps[..., 0] - sign * 2 * columns) * maps[
        ..., 2
    ]  # 5 half sides a metre, a tenth of a metre
    assert difference.abs().max() < 0.05


@pytest.mark.parametrize(
    ("view", "axis", "sign", "shift"), [(FRONT, 1, 1, 0.05), (LEFT, 1, 1, 0.05), (TOP, 2, -1, 0.05)]
)
def test_rows_follow_their_axis(view, axis, sign, shift):
    maps = driving_views(ball()[0][None], topology(0, axis), 64)[0, view]
    rows = ((2 * torch.arange(64) + 1) / 64 - 1)[:, None]
    # texture rows grow downwards, against v
    difference = (maps[..., 1] + sign * 2 * (rows - shift)) * maps[..., 2]
    assert difference.abs().max() < 0.05


def test_only_masked_texels_drive():
    head = topology(0)
    head.uv_mask[..., 128:] = 0
    maps = driving_views(ball()[0][None], head, 64)[0, FRONT]
    assert not maps[:, 34:, 2].any()
    assert maps[:, :30, 2].any()


def landmarks() -> torch.Tensor:
    places = torch.zeros(1, 68, 3)
    places[0, 48], places[0, 54] = torch.tensor([-0.02, -0.04, 0]), torch.tensor([0.03, -0.04, 0])
    places[0, 49:54], places[0, 55:60] = torch.tensor([0.0, -0.03, 0]), torch.tensor([0.0, -0.05, 0])
    return places


def test_the_mouth_is_cut_out_and_put_back():
    box = mouth_box(landmarks())
    torch.testing.assert_close(box, torch.tensor([[0.025, -0.15, 0.6 * 0.25]]))
    x = torch.rand(1, 2, 64, 64).cumsum(2).cumsum(3) / 1000
    again = paste(x, crop(x, box, 16), box)
    torch.testing.assert_close(again, x, atol=0.05, rtol=0)
    changed = (paste(x, crop(x, box, 16) + 1, box) != x).any(1)[0].nonzero()
    rows, columns = changed[:, 0], changed[:, 1]
    assert (rows.min(), rows.max()) == (22, 31)
    assert (columns.min(), columns.max()) == (28, 37)


@pytest.fixture(scope="module")
def generator():
    torch.manual_seed(0)
    network = Next3DGenerator(SMALL, topology(0)).eval()
    network.decoder.output.weight.data[0] *= 20
    return network


@torch.no_grad()
def test_a_head_drives_the_picture_and_not_its_neighbour(generator):
    vertices = torch.stack([ball()[0], 0.8 * ball()[0]])
    lips, label = landmarks().expand(2, -1, -1), sphere_label(torch.tensor([0.3, -0.4]), torch.zeros(2))
    codes = generator.codes(torch.randn(2, 16), frontal_label(2), 0.7)
    assert codes.shape == (2, 20, 16)
    person = generator.person(codes)
    planes = generator.animate(codes, person, vertices, lips)
    assert all((planes[:, i] != person.static[:, i]).any() for i in range(3))
    assert torch.equal(planes[..., 0], person.static[..., 0])  # outside the head
    view = generator(codes, label, planes)
    assert view.rgb.shape == (2, 3, 128, 128)
    one = codes[1:]
    alone = generator.animate(one, generator.person(one), vertices[1:], lips[1:])
    torch.testing.assert_close(alone, planes[1:], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(generator(one, label[1:], alone).rgb, view.rgb[1:], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_texture_and_static_codes_are_separate(generator):
    codes = generator.codes(torch.randn(1, 16), frontal_label(1))
    other = codes.clone()
    other[:, 10:] += 1
    a, b = generator.person(codes), generator.person(other)
    assert torch.equal(a.static, b.static)
    assert not torch.equal(a.texture, b.texture)


def test_gradients_reach_both_unets(generator):
    codes = generator.codes(torch.randn(1, 16), frontal_label(1))
    planes = generator.animate(codes, generator.person(codes), ball()[0][None], landmarks())
    planes.square().mean().backward()
    for unet in (generator.mouth_backbone, generator.neural_blending):
        for layer in (*unet.fusion, *(block.from_rgb for block in unet.encoder)):
            assert layer.weight.grad.abs().sum() > 0
    generator.zero_grad()
