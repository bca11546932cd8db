"""The rasteriser against the brute-force oracle, and the rules it promises."""

import multiprocessing
import threading

import pytest
import torch

from avatarzoo.geometry import raster_torch
from avatarzoo.geometry.mesh import unit_sphere
from avatarzoo.geometry.raster import pick_projected, rasterize_projected

FAST = ["numba", "torch"]


def soup(seed: int, count: int, batch: int = 2, spread: float = 80.0, reach: float = 25.0):
    """Unconnected triangles of all sizes that stick out of a 64 x 48 picture and pass through each other."""
    g = torch.Generator().manual_seed(seed)
    middle = torch.rand(batch, count, 1, 3, generator=g) * torch.tensor([spread, spread, 1.0])
    middle = middle + torch.tensor([-10.0, -10.0, 1.0])
    size = reach * torch.rand(batch, count, 1, 1, generator=g) ** 3 * torch.tensor([1.0, 1.0, 0.02])
    corners = middle + size * torch.randn(batch, count, 3, 3, generator=g)
    return corners.flatten(1, 2), torch.arange(3 * count).view(count, 3)


def check_equal(drawn, expected):
    assert torch.equal(drawn.face_id, expected.face_id)
    assert torch.allclose(drawn.barycentrics, expected.barycentrics, atol=1e-6)
    assert torch.allclose(drawn.depth, expected.depth, atol=1e-6)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("perspective", [True, False])
@pytest.mark.parametrize("cull", [True, False])
def test_random_triangles_equal_brute_force(backend, perspective, cull):
    for seed in range(3):
        points, faces = soup(seed, 150)
        options = {"perspective": perspective, "cull_backfaces": cull}
        expected = rasterize_projected(points, faces, (48, 64), backend="reference", **options)
        assert 0.4 < expected.covered.float().mean() < 0.999
        check_equal(rasterize_projected(points, faces, (48, 64), backend=backend, **options), expected)


@pytest.mark.parametrize("backend", FAST)
def test_connected_mesh_equals_brute_force(backend):
    sphere = unit_sphere(12, 20)
    points = sphere.vertices[None] * torch.tensor([21.3, -19.1, -0.5]) + torch.tensor([30.2, 25.7, 2.0])
    expected = rasterize_projected(points, sphere.faces, (48, 64), backend="reference")
    drawn = rasterize_projected(points, sphere.faces, (48, 64), backend=backend)
    check_equal(drawn, expected)
    culled = rasterize_projected(points, sphere.faces, (48, 64), backend=backend, cull_backfaces=True)
    assert torch.equal(culled.face_id, drawn.face_id)  # of a closed mesh, front faces win anyway


@pytest.mark.parametrize("backend", [*FAST, "reference"])
def test_edges_through_pixel_centres_are_drawn_once(backend):
    """A grid whose corners and diagonals hit pixel centres exactly: every centre belongs to exactly one triangle."""
    y, x = torch.meshgrid(torch.arange(9) * 2 + 0.5, torch.arange(9) * 2 + 0.5, indexing="ij")
    points = torch.stack([x, y, torch.ones_like(x)], -1).reshape(-1, 3)
    a = torch.arange(81).view(9, 9)[:-1, :-1].flatten()
    faces = torch.cat([torch.stack([a, a + 1, a + 10], 1), torch.stack([a, a + 10, a + 9], 1)])
    layers = raster_torch.count_layers(points, faces, (18, 18))
    assert layers.max() == 1
    assert torch.equal(layers[:16, :16], torch.ones(16, 16, dtype=torch.int64))
    assert layers[16:].sum() == layers[:, 16:].sum() == 0  # bottom and right edges are not owned
    drawn = rasterize_projected(points[None], faces, (18, 18), backend=backend)
    assert torch.equal(drawn.covered[0], layers > 0)
    reversed_faces = rasterize_projected(points[None], faces.flip(1), (18, 18), backend=backend)
    assert torch.equal(reversed_faces.face_id, drawn.face_id)  # winding does not change coverage


@pytest.mark.parametrize("backend", FAST)
def test_slanted_shared_edges_leave_no_crack_and_no_overlap(backend):
    g = torch.Generator().manual_seed(5)
    y, x = torch.meshgrid(torch.arange(31) * 3.0, torch.arange(31) * 3.0, indexing="ij")
    points = torch.stack([x, y, torch.ones_like(x)], -1)
    points[1:-1, 1:-1, :2] += torch.rand(29, 29, 2, generator=g) * 1.4 - 0.7
    points = points.reshape(-1, 3)
    a = torch.arange(961).view(31, 31)[:-1, :-1].flatten()
    faces = torch.cat([torch.stack([a, a + 1, a + 32], 1), torch.stack([a, a + 32, a + 31], 1)])
    assert rasterize_projected(points[None], faces, (90, 90), backend=backend).covered.all()
    assert raster_torch.count_layers(points, faces, (90, 90)).max() == 1


@pytest.mark.parametrize("backend", [*FAST, "reference"])
def test_near_plane_degenerate_and_broken_triangles(backend):
    square = torch.tensor([[1.0, 1, 1], [15, 1, 1], [1, 15, 1], [15, 15, 1], [8, 8, 1e-4], [8, 8, -1]])
    nan = torch.tensor([[float("nan"), 3, 1], [5, float("inf"), 1]])
    points = torch.cat([square, nan])[None]
    faces = torch.tensor([[0, 1, 4], [0, 1, 5], [0, 3, 0], [0, 1, 6], [0, 1, 7], [0, 1, 2]])
    drawn = rasterize_projected(points, faces, (16, 16), backend=backend)
    assert drawn.face_id.unique().tolist() == [-1, 5]
    assert not drawn.barycentrics[drawn.face_id < 0].any()
    assert not drawn.depth[drawn.face_id < 0].any()


@pytest.mark.parametrize("backend", [*FAST, "reference"])
def test_lower_face_wins_ties(backend):
    points = torch.tensor([[[0.0, 0, 1], [9, 0, 1], [0, 9, 1]]])
    faces = torch.tensor([[0, 1, 2], [0, 1, 2]])
    assert rasterize_projected(points, faces, (8, 8), backend=backend).face_id.max() == 0


@pytest.mark.parametrize("backend", FAST)
def test_coordinates_far_outside_every_integer(backend):
    points = torch.tensor(
        [[[1e30, 3, 1], [2e30, 3, 1], [1e30, 9e29, 1], [-1e25, 4, 1], [1e25, 4, 1], [0, 1e25, 1]]]
    )
    faces = torch.tensor([[0, 1, 2], [3, 4, 5]])
    drawn = rasterize_projected(points, faces, (8, 8), backend=backend)
    assert set(drawn.face_id.unique().tolist()) == {-1, 1}
    assert drawn.face_id[0, :4].max() == -1


@pytest.mark.parametrize("backend", FAST)
def test_no_faces_draw_nothing(backend):
    assert not rasterize_projected(
        torch.ones(2, 3, 3), torch.zeros(0, 3).long(), (8, 8), backend=backend
    ).covered.any()


def test_torch_blocks_do_not_change_the_picture(monkeypatch):
    points, faces = soup(9, 150)
    whole = rasterize_projected(points, faces, (48, 64), backend="torch")
    monkeypatch.setattr(raster_torch, "BLOCK", 700)
    check_equal(rasterize_projected(points, faces, (48, 64), backend="torch"), whole)


def test_pick_agrees_with_pixels_and_interpolates_between_them():
    points, faces = soup(3, 80, batch=1)
    drawn = rasterize_projected(points, faces, (48, 64))
    y, x = torch.meshgrid(torch.arange(48) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    face, weights = pick_projected(points[0], faces, torch.stack([x, y], -1).reshape(-1, 2))
    assert torch.equal(face, drawn.face_id.flatten())
    assert torch.allclose(weights, drawn.barycentrics.flatten(0, 2), atol=1e-6)
    between = torch.rand(500, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([64.0, 48.0])
    face, weights = pick_projected(points[0], faces, between, perspective=False)
    hit = face >= 0
    again = (points[0, faces[face[hit]], :2] * weights[hit][..., None]).sum(1)
    assert torch.allclose(again, between[hit], atol=1e-4)


def _child(queue, points, faces):
    queue.put(rasterize_projected(points, faces, (48, 64), backend="numba").face_id.numpy())


def test_numba_works_from_threads_and_after_a_fork():
    points, faces = soup(4, 100)
    expected = rasterize_projected(points, faces, (48, 64), backend="numba").face_id
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(rasterize_projected(points, faces, (48, 64)).face_id))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all(torch.equal(result, expected) for result in results)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_child, args=(queue, points, faces), daemon=True)
    child.start()
    assert torch.equal(torch.from_numpy(queue.get(timeout=60)), expected)
    child.join(60)
    assert child.exitcode == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu():
    points, faces = soup(6, 150)
    drawn = rasterize_projected(points.cuda(), faces.cuda(), (48, 64))
    check_equal(type(drawn)(*(x.cpu() for x in drawn)), rasterize_projected(points, faces, (48, 64)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": torch.zeros(3, 3)}, "points must be"),
        ({"faces": torch.tensor([[0, 1, 3]])}, "outside 0..2"),
        ({"backend": "opengl"}, "unknown mesh backend"),
        ({"near": -1.0}, "near >= 0"),
    ],
)
def test_misuse_is_one_sentence(change, message):
    arguments = {"points": torch.ones(1, 3, 3), "faces": torch.tensor([[0, 1, 2]]), "size": (8, 8)} | change
    with pytest.raises(ValueError, match=message):
        rasterize_projected(**arguments)
