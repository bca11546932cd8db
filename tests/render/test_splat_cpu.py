"""The numba tiles against the oracle in float64, and their manners with threads, forks and imports."""

import multiprocessing
import subprocess
import sys
import threading

import pytest
import torch

from avatarzoo.geometry.camera import Camera, look_at_face
from avatarzoo.render import Gaussians, rasterize_gaussians


def scene(seed: int, count: int = 300, sets: int = 1, opacity: float = 1.0) -> Gaussians:
    """Random ellipsoids of sigma 1 to 60 mm within 20 cm of the origin."""
    r = torch.Generator().manual_seed(seed)
    means = 0.06 * torch.randn(sets, count, 3, generator=r)
    quaternions = torch.randn(sets, count, 4, generator=r)
    scales = 0.006 * torch.exp(0.8 * torch.randn(sets, count, 3, generator=r))
    return Gaussians(
        means,
        quaternions,
        scales,
        opacity * torch.rand(sets, count, generator=r),
        torch.rand(sets, count, 3, generator=r),
    )


def cameras(batch: int, height: int, width: int) -> Camera:
    view = look_at_face(
        size=128, yaw=torch.linspace(-0.5, 0.4, batch), pitch=torch.linspace(0.2, -0.1, batch)
    )
    k = torch.tensor(
        [[290.0, 0, width / 2 + 1.3], [0, 400.0, height / 2 - 0.7], [0, 0, 1]]
    )  # not square either
    return Camera(view.world_to_camera, k.expand(batch, 3, 3), (height, width))


def gradients(gaussians: Gaussians, view: Camera, backend: str, dtype: torch.dtype):
    """Picture (colour and alpha) and the gradients of a random linear function of it."""
    leaves = Gaussians(*(x.to(dtype).detach().requires_grad_() for x in gaussians))
    out = rasterize_gaussians(leaves, view, torch.tensor([0.2, 0.9, 0.4]), backend)
    picture = torch.cat([out.rgb, out.alpha], 1)
    weight = torch.randn(picture.shape, generator=torch.Generator().manual_seed(9)).to(dtype)
    (picture * weight).sum().backward()
    return picture.detach(), [x.grad for x in leaves]


@pytest.mark.parametrize(
    ("sets", "batch", "height", "width", "opacity"),
    [(1, 1, 64, 64, 1.0), (1, 1, 75, 101, 0.3), (1, 3, 33, 130, 1.0), (2, 2, 61, 64, 1.0), (1, 1, 5, 3, 1.0)],
)
def test_equals_the_oracle(sets, batch, height, width, opacity):
    g, view = scene(batch + height, sets=sets, opacity=opacity), cameras(batch, height, width)
    picture, grads = gradients(g, view, "cpu", torch.float32)
    expected, expected_grads = gradients(g, view, "torch", torch.float64)
    assert expected[:, 3].max() > 0.5
    torch.testing.assert_close(picture.double(), expected, atol=1e-5, rtol=0)
    for name, x, y in zip(Gaussians._fields, grads, expected_grads):
        assert x.shape == y.shape, name
        assert (x - y).norm() < 1e-4 * y.norm(), name
        assert (x - y).abs().max() < 1e-3 * y.abs().max(), name


def test_small_dense_gaussians_and_early_stop():
    """Enough opaque layers that whole tiles finish before their lists end."""
    g = scene(1, count=6000)
    g = g._replace(scales=g.scales * 0.3, opacities=0.6 + 0.4 * g.opacities)
    view = cameras(1, 64, 64)
    picture, grads = gradients(g, view, "cpu", torch.float32)
    expected, expected_grads = gradients(g, view, "torch", torch.float64)
    assert (expected[:, 3] > 0.9995).float().mean() > 0.1
    assert (
        (picture - expected).abs() > 1e-4
    ).float().mean() < 1e-3  # a test against 1/255 or 1e-4 may fall either way
    for name, x, y in zip(Gaussians._fields, grads, expected_grads):
        assert (x - y).norm() < 1e-3 * y.norm(), name


def test_gaussian_larger_than_the_picture_and_outside_of_it():
    g = scene(2, count=40)
    g = g._replace(scales=g.scales * 12, means=g.means * 4)
    picture, grads = gradients(g, cameras(1, 50, 70), "cpu", torch.float32)
    expected, expected_grads = gradients(g, cameras(1, 50, 70), "torch", torch.float64)
    torch.testing.assert_close(picture.double(), expected, atol=1e-5, rtol=0)
    for name, x, y in zip(Gaussians._fields, grads, expected_grads):
        assert (x - y).norm() < 1e-4 * y.norm(), name


def test_same_bits_every_run_and_for_any_number_of_threads():
    g, view = scene(5, count=3000), cameras(2, 120, 120)
    before = torch.get_num_threads()
    try:
        runs = []
        for threads in (1, 2, 2, 3):
            torch.set_num_threads(threads)
            runs.append(gradients(g, view, "cpu", torch.float32))
    finally:
        torch.set_num_threads(before)
    for picture, grads in runs[1:]:
        assert torch.equal(picture, runs[0][0])
        assert all(torch.equal(x, y) for x, y in zip(grads, runs[0][1]))


def test_shared_set_equals_repeated_set():
    g, view = scene(6), cameras(3, 40, 40)
    picture, grads = gradients(g, view, "cpu", torch.float32)
    repeated, repeated_grads = gradients(
        Gaussians(*(x.expand(3, *x.shape[1:]) for x in g)), view, "cpu", torch.float32
    )
    assert torch.equal(picture, repeated)
    for x, y in zip(grads, repeated_grads):
        torch.testing.assert_close(x, y.sum(0, keepdim=True), atol=1e-4, rtol=1e-4)


def test_other_float_types_and_layouts_come_back_as_they_went():
    g, view = scene(7), cameras(1, 40, 40)
    strided = Gaussians(*(x.transpose(0, 1).contiguous().transpose(0, 1).double() for x in g))
    out = rasterize_gaussians(strided, view, backend="cpu")
    assert out.rgb.dtype == torch.float64
    torch.testing.assert_close(out.rgb.float(), rasterize_gaussians(g, view, backend="cpu").rgb)


def test_gradient_of_only_some_inputs():
    g, view = scene(8), cameras(1, 40, 40)
    colors = g.colors.requires_grad_()
    rasterize_gaussians(g._replace(colors=colors), view).rgb.sum().backward()
    assert colors.grad.abs().max() > 0


def test_from_several_python_threads_at_once():
    views = [cameras(1, 64 + 8 * i, 64) for i in range(4)]
    g = scene(10, count=2000)
    expected = [gradients(g, view, "cpu", torch.float32) for view in views]
    found: dict[int, tuple] = {}

    def work(i: int) -> None:
        for _ in range(5):
            found[i] = gradients(g, views[i], "cpu", torch.float32)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for i, (picture, grads) in enumerate(expected):
        assert torch.equal(found[i][0], picture)
        assert all(torch.equal(x, y) for x, y in zip(found[i][1], grads))


def _render_in_child(queue, g: Gaussians, view: Camera) -> None:
    torch.set_num_threads(2)
    queue.put(float(rasterize_gaussians(g, view, backend="cpu").rgb.double().sum()))


@pytest.mark.skipif(sys.platform != "linux", reason="fork is Linux's way of starting data-loader workers")
def test_in_a_forked_child_after_use_in_the_parent():
    g, view = scene(11, count=2000), cameras(1, 64, 64)
    expected = float(rasterize_gaussians(g, view, backend="cpu").rgb.double().sum())
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_render_in_child, args=(queue, g, view))
    child.start()
    assert queue.get(timeout=60) == expected
    child.join(30)
    assert child.exitcode == 0


def test_importing_the_package_does_not_import_numba():
    code = (
        "import sys, avatarzoo.render.splatting, avatarzoo.render.splat_cpu; sys.exit('numba' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0
