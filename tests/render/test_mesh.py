"""Meshes through cameras: orientation, perspective, occlusion, attributes, textures."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from avatarzoo.geometry.camera import look_at_face, project
from avatarzoo.geometry.mesh import unit_sphere
from avatarzoo.geometry.raster import rasterize_projected
from avatarzoo.render.mesh import coverage, interpolate, pick_mesh, rasterize_mesh, texture_lookup

YAWS = torch.tensor([0.0, 0.8, -0.5])


@pytest.fixture
def sphere():
    return unit_sphere(24, 36)


@pytest.mark.parametrize("backend", ["numba", "torch", "reference"])
@pytest.mark.parametrize("orthographic", [False, True])
def test_interpolated_positions_project_to_their_pixels(sphere, backend, orthographic):
    """The mix of world corners that a pixel claims to see must lie on that pixel's ray, at the claimed depth."""
    camera = look_at_face(0.5, 40.0, 40, yaw=YAWS)
    if orthographic:
        camera = camera._replace(intrinsics=camera.intrinsics * torch.tensor([2.0, 2, 1])[:, None])
        camera.intrinsics[:, :2, 2] = 20
    vertices = 0.12 * sphere.vertices[None]
    drawn = rasterize_mesh(vertices, sphere.faces, camera, orthographic=orthographic, backend=backend)
    assert 0.15 < drawn.covered.float().mean() < 0.9
    world = interpolate(drawn, sphere.faces, vertices)
    y, x = torch.meshgrid(torch.arange(40) + 0.5, torch.arange(40) + 0.5, indexing="ij")
    for b in range(3):
        points = world[b].flatten(1).T[drawn.covered[b].flatten()][None]
        seen = project(points, camera[[b]])[0]
        if orthographic:
            w2c, k = camera.world_to_camera[b], camera.intrinsics[b]
            seen = torch.cat([seen[:, :2] * 0, seen[:, 2:]], 1)
            seen[:, :2] = (points[0] @ w2c[:3, :3].T + w2c[:3, 3])[:, :2] * k[0, 0] + k[:2, 2]
        hit = drawn.covered[b]
        assert torch.allclose(seen[:, 0], x[hit], atol=1e-3)
        assert torch.allclose(seen[:, 1], y[hit], atol=1e-3)
        assert torch.allclose(seen[:, 2], drawn.depth[b][hit], atol=1e-5)
        assert drawn.depth[b][hit].max() < 0.5  # the far half is hidden
    assert torch.allclose(drawn.barycentrics.sum(-1), drawn.covered.float(), atol=1e-5)


def test_subjects_left_is_on_the_right_and_up_is_up(sphere):
    camera = look_at_face(1.0, 20.0, 64)
    drawn = rasterize_mesh(0.1 * sphere.vertices[None], sphere.faces, camera)
    world = interpolate(drawn, sphere.faces, 0.1 * sphere.vertices[None])[0]
    assert world[0, 32, 48] > 0.05
    assert world[0, 32, 16] < -0.05
    assert world[1, 16, 32] > 0.05
    assert world[2, 32, 32] > 0.099  # the face, not the back of the head


def test_culling_keeps_the_outside_of_a_sphere_and_drops_the_inside(sphere):
    camera = look_at_face(1.0, 20.0, 64)
    vertices = 0.1 * sphere.vertices[None]
    plain = rasterize_mesh(vertices, sphere.faces, camera)
    assert torch.equal(
        rasterize_mesh(vertices, sphere.faces, camera, cull_backfaces=True).face_id, plain.face_id
    )
    inside_out = rasterize_mesh(vertices, sphere.faces.flip(1), camera, cull_backfaces=True)
    assert inside_out.depth[0, 32, 32] > 1.09


def test_shared_mesh_and_shared_camera_equal_single_calls(sphere):
    camera = look_at_face(1.0, 20.0, 48, yaw=YAWS)
    vertices = 0.1 * sphere.vertices[None] * torch.tensor([1.0, 0.7, 1.2])[:, None, None]
    shared_mesh = rasterize_mesh(vertices[:1], sphere.faces, camera)
    shared_camera = rasterize_mesh(vertices, sphere.faces, camera[:1])
    for b in range(3):
        single = rasterize_mesh(vertices[:1], sphere.faces, camera[b : b + 1])
        assert torch.equal(shared_mesh.face_id[b], single.face_id[0])
        single = rasterize_mesh(vertices[b : b + 1], sphere.faces, camera[:1])
        assert torch.equal(shared_camera.face_id[b], single.face_id[0])
    with pytest.raises(ValueError, match="2 meshes do not fit 3 cameras"):
        rasterize_mesh(vertices[:2], sphere.faces, camera)


def test_interpolate_per_picture_attributes_and_gradients(sphere):
    camera = look_at_face(1.0, 20.0, 24, yaw=YAWS)
    drawn = rasterize_mesh(0.1 * sphere.vertices[None], sphere.faces, camera)
    g = torch.Generator().manual_seed(0)
    attributes = torch.randn(3, len(sphere.vertices), 5, generator=g, dtype=torch.float64, requires_grad=True)
    image = interpolate(drawn, sphere.faces, attributes)
    expected = torch.zeros(3, 24, 24, 5, dtype=torch.float64)
    for b in range(3):
        hit = drawn.covered[b]
        corners = attributes[b][sphere.faces[drawn.face_id[b][hit]]]
        expected[b][hit] = (corners * drawn.barycentrics[b][hit][..., None]).sum(1)
    assert torch.allclose(image, expected.permute(0, 3, 1, 2))
    upstream = torch.randn(image.shape, generator=g, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(image, attributes, upstream)
    (slow,) = torch.autograd.grad(expected.permute(0, 3, 1, 2), attributes, upstream)
    assert torch.allclose(gradient, slow)
    one = interpolate(drawn, sphere.faces, attributes[:1])
    assert torch.allclose(one[0], image[0])
    with pytest.raises(ValueError, match="give 1 or 3"):
        interpolate(drawn, sphere.faces, attributes[:2])


def test_texture_coordinates_cross_the_seam_and_v_is_up(sphere):
    camera = look_at_face(1.0, 13.0, 64, yaw=torch.tensor([0.0, np.pi]))
    drawn = rasterize_mesh(0.1 * sphere.vertices[None], sphere.faces, camera)
    uv = interpolate(drawn, sphere.faces, sphere.uv[None], sphere.uv_faces)
    assert uv[0, 1, 10, 32] > uv[0, 1, 54, 32]
    assert uv[0, 0, 32, 50] > 0.5 > uv[0, 0, 32, 14]  # not mirrored
    assert uv[1, 0, 32, 20] > 0.7  # the back: both ends of the seam
    assert uv[1, 0, 32, 44] < 0.3
    ramp = (1 - (torch.arange(200) + 0.5) / 200)[None, None, :, None].expand(1, 1, 200, 200)
    mask = coverage(drawn)
    rows = texture_lookup(ramp, uv, mask)
    inside = (uv[:, 1:] > 0.01) & (uv[:, 1:] < 0.99)
    assert torch.allclose(rows[inside], uv[:, 1:][inside], atol=1e-4)
    assert not rows[mask == 0].any()


def test_soft_coverage_is_the_covered_share(sphere):
    camera = look_at_face(1.0, 20.0, 32)
    drawn = rasterize_mesh(0.1 * sphere.vertices[None], sphere.faces, camera.resized(128, 128))
    soft = coverage(drawn, 4)
    assert soft.shape == (1, 1, 32, 32)
    assert soft.sum() * 16 == drawn.covered.sum()
    assert ((soft > 0) & (soft < 1)).any()


def test_pick_mesh_back_projects(sphere):
    camera = look_at_face(1.0, 20.0, 64, yaw=torch.tensor([0.4]))
    places = torch.tensor([[32.2, 30.9], [40.7, 25.1], [1.0, 1.0]])
    face, weights = pick_mesh(0.1 * sphere.vertices[None], sphere.faces, camera, places)
    assert face[2] == -1
    points = (0.1 * sphere.vertices[sphere.faces[face[:2]]] * weights[:2, :, None]).sum(1)[None]
    assert torch.allclose(project(points, camera)[0, :, :2], places[:2], atol=1e-3)


@pytest.mark.assets
@pytest.mark.skipif("AVATARZOO_ASSETS" not in os.environ, reason="AVATARZOO_ASSETS is not set")
def test_ict_head_agrees_between_backends():
    path = Path(os.environ["AVATARZOO_ASSETS"]) / "ict_facekit_light.npz"
    if not path.exists():
        pytest.skip(f"{path.name} is not among the assets")
    with np.load(path, allow_pickle=False) as data:
        vertices, faces = torch.from_numpy(data["v_template"]) * 0.01, torch.from_numpy(data["faces"]).long()
    camera = look_at_face(1.2, 20.0, 256, yaw=torch.tensor([0.0, 1.0]))
    first = rasterize_mesh(vertices[None], faces, camera, backend="numba")
    second = rasterize_mesh(vertices[None], faces, camera, backend="torch")
    assert torch.equal(first.face_id, second.face_id)
    assert torch.allclose(first.barycentrics, second.barycentrics, atol=1e-6)
    crop = rasterize_projected(
        project(vertices[None], camera[:1]) - torch.tensor([100.0, 90.0, 0]), faces, (24, 24)
    )
    assert torch.equal(crop.face_id[0], first.face_id[0, 90:114, 100:124])
