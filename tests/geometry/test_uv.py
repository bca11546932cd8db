"""Texture space: the texel convention, the linear operator, baking, overlaps."""

import pytest
import torch

from avatarzoo.geometry.camera import look_at_face
from avatarzoo.geometry.mesh import unit_sphere
from avatarzoo.geometry.uv import UVAtlas, extend_texture, unwrap, uv_atlas, uv_overlap

SIZE = 48


@pytest.fixture
def sphere():
    return unit_sphere(16, 24)


@pytest.fixture
def atlas(sphere) -> UVAtlas:
    return uv_atlas(sphere.uv, sphere.uv_faces, sphere.faces, SIZE)


def test_texel_centres_follow_the_convention(sphere):
    """Interpolating the texture coordinates themselves must give each texel its own centre, row 0 on top."""
    atlas = uv_atlas(sphere.uv, sphere.uv_faces, sphere.uv_faces, SIZE)
    image = atlas.image(atlas.points(sphere.uv[None]))[0]
    centres = (torch.arange(SIZE) + 0.5) / SIZE
    expected = torch.stack([centres.expand(SIZE, -1), 1 - centres[:, None].expand(-1, SIZE)])
    missing = ~atlas.mask  # the pole triangles leave notches between them
    assert missing[2:-2].sum() == 0
    assert torch.allclose(image[:, atlas.mask], expected[:, atlas.mask], atol=1e-6)


def test_points_lie_on_the_surface(sphere, atlas):
    points = atlas.points(torch.stack([sphere.vertices, 2 * sphere.vertices]))
    assert points.shape == (2, len(atlas.pixels), 3)
    assert (points[0].norm(dim=-1) > 0.96).all()
    assert torch.allclose(points[1], 2 * points[0], atol=1e-6)
    image = atlas.image(points, fill=-7.0)
    assert (image[0, 1, :10][atlas.mask[:10]] > 0).all()  # v near 1 is the top of the head
    assert image[0, :, SIZE // 2, SIZE // 2][2] > 0.9  # the middle faces +z
    assert (image[:, :, ~atlas.mask] == -7).all()
    assert torch.equal(atlas.gather(image), points)


def test_matrix_is_the_same_map_and_gradients_are_its_transpose(sphere, atlas):
    vertices = sphere.vertices[None].repeat(3, 1, 1).requires_grad_()
    points = atlas.points(vertices)
    matrix = atlas.matrix(len(sphere.vertices))
    assert torch.allclose(matrix @ sphere.vertices, points[1], atol=1e-6)
    upstream = torch.randn(points.shape, generator=torch.Generator().manual_seed(0))
    points.backward(upstream)
    assert torch.allclose(vertices.grad, matrix.to_dense().T @ upstream, atol=1e-5)


def test_kept_faces_keep_their_numbers(sphere, atlas):
    keep = torch.arange(100, 300)
    part = uv_atlas(sphere.uv, sphere.uv_faces, sphere.faces, SIZE, keep=keep)
    assert torch.equal(part.mask, (atlas.face_id >= 100) & (atlas.face_id < 300))
    assert torch.equal(part.face_id[part.mask], atlas.face_id[part.mask])
    assert torch.equal(part.corners, sphere.faces[part.face_id[part.mask]])


def test_overlap_counts_layers(sphere, atlas):
    single = uv_overlap(sphere.uv, sphere.uv_faces, SIZE)
    assert single.max() == 1
    assert torch.equal(single > 0, atlas.mask)
    double = uv_overlap(sphere.uv, torch.cat([sphere.uv_faces, sphere.uv_faces[:50]]), SIZE)
    assert torch.equal(double.max(), torch.tensor(2))


def test_unwrap_recovers_a_painted_surface(sphere, atlas):
    """Colour = position: baked from two views, every visible texel must show its own position, hidden ones nothing."""
    from avatarzoo.render.mesh import interpolate, rasterize_mesh

    yaw = torch.tensor([0.0, 1.2])
    camera = look_at_face(1.0, 24.0, 256, yaw=yaw)
    vertices = (0.15 * sphere.vertices)[None]
    image = interpolate(rasterize_mesh(vertices, sphere.faces, camera), sphere.faces, vertices)
    texture, weight = unwrap(image, vertices.expand(2, -1, -1), sphere.faces, camera, atlas)
    points = atlas.image(atlas.points(vertices))
    towards = torch.stack([yaw.sin(), torch.zeros(2), yaw.cos()], 1)
    facing = (torch.nn.functional.normalize(points, dim=1) * towards[:, :, None, None]).sum(1, keepdim=True)
    assert (weight[facing > 0.4] > 0).all()
    assert (weight[(facing < 0) & atlas.mask] == 0).all()
    clear = facing > 0.4
    error = (texture - points).abs().amax(1, keepdim=True)
    assert error[clear].max() < 2e-3
    assert not texture[(weight == 0).expand_as(texture)].any()


def test_unwrap_hides_what_is_behind_something(sphere, atlas):
    camera = look_at_face(1.0, 24.0, 128)
    screen = torch.tensor([[-1.0, -1, 0.3], [1, -1, 0.3], [0, 1, 0.3]])  # a triangle in front of all
    vertices = torch.cat([0.15 * sphere.vertices, screen])[None]
    count = len(sphere.vertices)
    faces = torch.cat([sphere.faces, torch.tensor([[count, count + 1, count + 2]])])
    _, weight = unwrap(torch.ones(1, 3, 128, 128), vertices, faces, camera, atlas)
    assert not weight.any()


def test_extend_texture_keeps_the_known_and_fills_around():
    texture, mask = torch.zeros(1, 3, 9, 9), torch.zeros(1, 1, 9, 9)
    texture[..., 4, 4], mask[..., 4, 4] = 0.7, 1
    texture[..., 0, 0] = 99.0  # unknown: must not leak
    grown = extend_texture(texture, mask, steps=2)
    assert torch.allclose(grown[..., 2:7, 2:7], torch.tensor(0.7))
    assert grown[..., :2, :].abs().max() == 0


def test_unpaired_faces_are_refused(sphere):
    with pytest.raises(ValueError, match="same triangles"):
        uv_atlas(sphere.uv, sphere.uv_faces[:-1], sphere.faces, SIZE)
