"""Mesh tools against formulas on spheres and grids, and against brute force."""

import math

import pytest
import torch

from avatarzoo.geometry import mesh
from avatarzoo.geometry.mesh import unit_sphere


@pytest.fixture
def grid():
    """A flat 4 x 3 grid of squares in the xy plane with one square missing in the middle row."""
    y, x = torch.meshgrid(torch.arange(4.0), torch.arange(5.0), indexing="ij")
    vertices = torch.stack([x, y, torch.zeros_like(x)], -1).reshape(-1, 3)
    a = torch.arange(20).view(4, 5)[:-1, :-1].flatten()
    a = a[a != 6]
    faces = torch.cat([torch.stack([a, a + 1, a + 6], 1), torch.stack([a, a + 6, a + 5], 1)])
    return vertices, faces


def test_sphere_is_closed_outward_and_well_mapped():
    sphere = unit_sphere(20, 40)
    assert len(sphere.faces) == 2 * 40 * 19
    assert (mesh.mesh_edges(sphere.faces).counts == 2).all()
    middles = sphere.vertices[sphere.faces].mean(1)
    normals = mesh.face_normals(sphere.vertices[None], sphere.faces)[0]
    assert ((normals * middles).sum(-1) > 0.9).all()
    front = sphere.uv_faces[(sphere.vertices[sphere.faces][..., 2] > 0.95).all(1)].unique()
    assert (sphere.uv[front] - 0.5).abs().max() < 0.15
    assert mesh.triangle_areas(sphere.vertices[None], sphere.faces).sum() == pytest.approx(
        4 * math.pi, rel=0.02
    )


def test_vertex_normals_point_outwards_at_any_scale():
    sphere = unit_sphere(24, 48)
    both = torch.stack([sphere.vertices, sphere.vertices * 1e-4 + 3])
    normals = mesh.vertex_normals(both, sphere.faces)
    assert torch.allclose(normals[0], sphere.vertices, atol=0.05)
    assert torch.allclose(normals[1], normals[0], atol=0.05)
    assert torch.allclose(normals.norm(dim=-1), torch.ones(2, len(sphere.vertices)), atol=1e-5)


def test_vertex_normals_are_differentiable():
    sphere = unit_sphere(3, 4)
    vertices = sphere.vertices.double()[None].requires_grad_()
    assert torch.autograd.gradcheck(lambda v: mesh.vertex_normals(v, sphere.faces), vertices)


def test_edges_adjacency_and_euler_number(grid):
    _, faces = grid
    edges = mesh.mesh_edges(faces)
    assert 20 - len(edges.vertices) + len(faces) == 0  # an annulus
    assert (edges.vertices[:, 0] < edges.vertices[:, 1]).all()
    sides = torch.stack([faces, faces.roll(-1, 1)], -1).sort(-1).values
    assert torch.equal(edges.vertices[edges.of_faces], sides)
    pairs = mesh.face_adjacency(faces)
    assert len(pairs) == (edges.counts == 2).sum()
    shared = (faces[pairs[:, 0]][:, :, None] == faces[pairs[:, 1]][:, None]).sum((1, 2))
    assert (shared == 2).all()


def test_boundary_loops_are_ordered_along_the_rim(grid):
    vertices, faces = grid
    outer, inner = mesh.boundary_loops(faces)
    assert (len(outer), len(inner)) == (14, 4)
    assert set(inner.tolist()) == {6, 7, 11, 12}
    for loop, area in ((outer, 12.0), (inner, -1.0)):  # the surface lies on the left
        a, b = vertices[loop], vertices[loop.roll(-1)]
        assert torch.allclose((b - a).norm(dim=1), torch.ones(len(loop)))
        assert (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / 2 == area
    assert mesh.boundary_loops(unit_sphere(4, 6).faces) == []


def test_touching_loops_are_refused():
    faces = torch.tensor([[0, 1, 2], [0, 3, 4]])
    with pytest.raises(ValueError, match="touch"):
        mesh.boundary_loops(faces)


def test_connected_components(grid):
    _, faces = grid
    labels = mesh.connected_components(torch.cat([faces, faces + 20]), 41)
    assert labels[:20].unique().numel() == labels[20:40].unique().numel() == 1
    assert labels.unique().numel() == 3


def test_sampling_is_even_and_repeatable():
    corners = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 0, 0], [8, 0, 0], [5, 1, 0]])
    faces = torch.tensor([[0, 1, 2], [3, 4, 5]])
    draw = lambda: mesh.sample_surface(corners, faces, 20000, torch.Generator().manual_seed(0))  # noqa: E731
    points = draw()
    assert (points.faces == 1).float().mean() == pytest.approx(0.75, abs=0.02)
    assert torch.allclose(points.barycentrics.mean(0), torch.full((3,), 1 / 3), atol=0.01)
    assert points.barycentrics.var(0).tolist() == pytest.approx([1 / 18] * 3, rel=0.05)
    assert torch.equal(points.barycentrics, draw().barycentrics)
    positions = points.on(corners[None], faces)
    assert positions.shape == (1, 20000, 3)


def test_nearest_point_equals_brute_force():
    g = torch.Generator().manual_seed(0)
    sphere = unit_sphere(9, 14)
    vertices = sphere.vertices * torch.tensor([1.0, 1.4, 0.8])
    points = torch.randn(60, 3, generator=g)
    found, distance = mesh.nearest_on_mesh(points, vertices, sphere.faces)
    assert (found.barycentrics >= 0).all()
    assert torch.allclose(found.barycentrics.sum(1), torch.ones(60))
    here = found.on(vertices[None], sphere.faces)[0]
    assert torch.allclose((here - points).norm(dim=1), distance, atol=1e-5)
    dense = mesh.sample_surface(vertices, sphere.faces, 40000, g).on(vertices[None], sphere.faces)[0]
    sampled = torch.cdist(points, dense).amin(1)
    assert (distance <= sampled + 1e-5).all()
    assert (sampled - distance).max() < 0.03


def test_nearest_point_of_a_surface_point_is_itself():
    sphere = unit_sphere(9, 14)
    g = torch.Generator().manual_seed(1)
    points = mesh.sample_surface(sphere.vertices, sphere.faces, 100, g)
    found, distance = mesh.nearest_on_mesh(
        points.on(sphere.vertices[None], sphere.faces)[0], sphere.vertices, sphere.faces
    )
    assert distance.max() < 1e-6
    assert torch.equal(found.faces, points.faces)
