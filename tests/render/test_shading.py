"""Light on meshes against closed forms."""

import math

import pytest
import torch

from avatarzoo.geometry.camera import look_at_face
from avatarzoo.geometry.mesh import unit_sphere
from avatarzoo.geometry.spherical_harmonics import ambient_light
from avatarzoo.render.shading import DirectionalLight, headlight, lambert, shade, shade_mesh

LAMP = DirectionalLight(torch.tensor([[2.0, 0, 0]]), torch.tensor([[1.0, 0.5, 0.0]]), torch.full((1, 3), 0.1))


@pytest.fixture
def ball():
    sphere = unit_sphere(40, 60)
    return 0.1 * sphere.vertices[None], sphere


def test_lambert_is_a_clamped_cosine():
    angles = torch.tensor([0.0, 0.5, math.pi / 2, 2.0])
    normals = torch.stack([angles.cos(), angles.sin(), torch.zeros(4)], 1)[None]
    lit = lambert(normals, LAMP)
    assert torch.allclose(lit[0, :, 0], 0.1 + angles.cos().clamp_min(0), atol=1e-6)
    assert torch.allclose(lit[0, :, 1], 0.1 + 0.5 * angles.cos().clamp_min(0), atol=1e-6)
    assert torch.allclose(lit[0, :, 2], torch.tensor(0.1))


def test_headlight_follows_the_camera():
    camera = look_at_face(1.0, yaw=torch.tensor([0.0, math.pi / 2]))
    normals = torch.tensor([[[0.0, 0, 1], [1.0, 0, 0]]]).expand(2, 2, 3)
    lit = headlight(normals, camera, ambient=0.2)[..., 0]
    assert torch.allclose(lit, torch.tensor([[1.0, 0.2], [0.2, 1.0]]), atol=1e-5)
    assert torch.equal(shade(normals, camera, None)[..., 0] > 0.5, lit > 0.5)


def test_side_light_reaches_the_side(ball):
    vertices, sphere = ball
    drawn = shade_mesh(vertices, sphere.faces, look_at_face(1.0, 20.0, 64), light=LAMP, background=0.0)
    assert drawn.rgb[0, 0, 32, 44] > drawn.rgb[0, 0, 32, 36] > drawn.rgb[0, 0, 32, 20]
    assert drawn.rgb[0, 0, 32, 18] == pytest.approx(0.08, abs=1e-4)  # ambient times the grey
    assert drawn.rgb[0, :, 0, 0].tolist() == [0, 0, 0]


def test_colours_under_even_light_come_back(ball):
    vertices, sphere = ball
    colors = torch.rand(1, len(sphere.vertices), 3, generator=torch.Generator().manual_seed(0))
    light = ambient_light(torch.ones(1, 3))
    camera = look_at_face(1.0, 20.0, 64, yaw=torch.tensor([0.0, 1.0]))
    flat = colors * 0 + torch.tensor([0.2, 0.6, 0.9])
    drawn = shade_mesh(vertices, sphere.faces, camera, colors=flat, light=light)
    inside = drawn.mask[:, 0] > 0
    assert torch.allclose(drawn.rgb.permute(0, 2, 3, 1)[inside], torch.tensor([0.2, 0.6, 0.9]), atol=1e-5)
    assert (drawn.rgb.permute(0, 2, 3, 1)[~inside] == 1).all()
    texture = torch.tensor([0.2, 0.6, 0.9])[None, :, None, None].expand(1, 3, 8, 8)
    textured = shade_mesh(
        vertices, sphere.faces, camera, texture=texture, uv=sphere.uv, uv_faces=sphere.uv_faces, light=light
    )
    assert torch.allclose(textured.rgb, drawn.rgb, atol=1e-5)


def test_supersampling_softens_only_the_edge(ball):
    vertices, sphere = ball
    camera = look_at_face(1.0, 20.0, 64)
    hard = shade_mesh(vertices, sphere.faces, camera)
    soft = shade_mesh(vertices, sphere.faces, camera, supersampling=2)
    assert soft.rgb.shape == hard.rgb.shape
    assert set(hard.mask.unique().tolist()) == {0.0, 1.0}
    between = (soft.mask > 0) & (soft.mask < 1)
    assert 20 < between.sum() < 400
    solid = soft.mask == 1
    assert (soft.rgb - hard.rgb).abs()[solid.expand(-1, 3, -1, -1)].mean() < 0.01


def test_gradients_reach_colours_and_light(ball):
    vertices, sphere = ball
    colors = torch.full((1, len(sphere.vertices), 3), 0.5, requires_grad=True)
    light = ambient_light(torch.full((1, 3), 0.7)).requires_grad_()
    drawn = shade_mesh(vertices, sphere.faces, look_at_face(1.0, 13.0, 128), colors=colors, light=light)
    drawn.rgb.sum().backward()
    seen = colors.grad[0, :, 0] != 0
    assert 0.3 < seen.float().mean() < 0.6  # the front half
    assert light.grad[0, 0].abs().min() > 1
    assert light.grad[0, 2, 0] > 0  # more light from +z brightens the front


def test_misuse(ball):
    vertices, sphere = ball
    camera = look_at_face(1.0, 20.0, 16)
    with pytest.raises(ValueError, match="not both"):
        shade_mesh(vertices, sphere.faces, camera, colors=vertices, texture=torch.ones(1, 3, 4, 4))
    with pytest.raises(ValueError, match="needs uv"):
        shade_mesh(vertices, sphere.faces, camera, texture=torch.ones(1, 3, 4, 4))
