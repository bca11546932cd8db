"""Inria's conventions, worked out by hand for one or a few Gaussians; the oracle and the CPU tiles must both follow them."""

import math

import pytest
import torch

from avatarzoo.geometry.camera import Camera
from avatarzoo.render import Gaussians, rasterize_gaussians

SIZE, FOCAL = 64, 100.0
BACKENDS = ["torch", "cpu"]


def camera(height: int = SIZE, width: int = SIZE, batch: int = 1) -> Camera:
    """At the origin, looking along +z, the optical axis through the picture's middle."""
    k = torch.tensor([[FOCAL, 0, width / 2], [0, FOCAL, height / 2], [0, 0, 1.0]])
    return Camera(torch.eye(4).expand(batch, 4, 4), k.expand(batch, 3, 3), (height, width))


def at_pixel(x: float, y: float, z: float = 1.0) -> list[float]:
    """The point at depth z whose image is the centre of pixel (x, y)."""
    return [(x + 0.5 - SIZE / 2) * z / FOCAL, (y + 0.5 - SIZE / 2) * z / FOCAL, z]


def balls(means: list, opacities: list, sigma: float = 0.0, colors: list | None = None) -> Gaussians:
    n = len(means)
    quaternions = torch.tensor([1.0, 0, 0, 0]).expand(1, n, 4)
    colors = [[1.0, 0.5, 0.25]] * n if colors is None else colors
    return Gaussians(
        torch.tensor([means]),
        quaternions,
        torch.full((1, n, 3), sigma),
        torch.tensor([opacities]),
        torch.tensor([colors]),
    )


def alpha_of(gaussians: Gaussians, backend: str) -> torch.Tensor:
    return rasterize_gaussians(gaussians, camera(), backend=backend).alpha[0, 0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_single_gaussian_at_several_depths(backend):
    """On the axis the 2D variance is (f sigma / z)^2 + 0.3, and the peak is the opacity."""
    for z in (0.5, 1.0, 3.0):
        sigma = 0.02
        alpha = alpha_of(balls([at_pixel(20, 30, z)], [0.8], sigma), backend)
        (y, x) = divmod(int(alpha.argmax()), SIZE)
        assert (x, y) == (20, 30)
        assert alpha[30, 20] == pytest.approx(0.8, abs=1e-5)
        # off the axis the Jacobian adds (x / z)^2 along x: the point lies at x / z = -0.115
        variance = (FOCAL * sigma / z) ** 2 * (1 + ((20.5 - 32) / FOCAL) ** 2) + 0.3
        assert alpha[30, 21] == pytest.approx(0.8 * math.exp(-0.5 / variance), rel=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_low_pass_and_pixel_centre(backend):
    """A point keeps a variance of 0.3 px^2; half a pixel to the right, two pixels share it evenly."""
    alpha = alpha_of(balls([at_pixel(20.5, 30)], [0.9]), backend)
    peak = 0.9 * math.exp(-0.125 / 0.3)
    assert alpha[30, 20] == pytest.approx(peak, rel=1e-4)
    assert alpha[30, 21] == pytest.approx(peak, rel=1e-4)
    assert alpha[31, 20] == pytest.approx(peak * math.exp(-0.5 / 0.3), rel=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_alpha_cap(backend):
    alpha = alpha_of(balls([at_pixel(20, 30)], [1.0]), backend)
    assert alpha.max() == pytest.approx(0.99, abs=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_alpha_under_one_in_255_is_dropped(backend):
    image = alpha_of(balls([at_pixel(20, 30), at_pixel(40, 30)], [0.99 / 255, 1.01 / 255]), backend)
    assert image[30, 20] == 0
    assert image[30, 40] == pytest.approx(1.01 / 255, rel=1e-4)
    # a wide one ends where o exp(-d^2 / 2 v) falls under 1/255, not later
    sigma, o = 0.03, 0.5
    row = alpha_of(balls([at_pixel(32, 32)], [o], sigma), backend)[32]
    reach = math.sqrt(2 * math.log(255 * o) * ((FOCAL * sigma) ** 2 + 0.3))
    assert (row > 0).nonzero().flatten().tolist() == list(
        range(math.ceil(32 - reach), math.floor(32 + reach) + 1)
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_drawn_only_in_tiles_that_the_three_sigma_square_touches(backend):
    """At x = 28 with o = 1 the 1/255 edge lies 3.33 sigma away, beyond 3 sigma: the next 16-pixel tile is not reached."""
    sigma = math.sqrt(1 - 0.3 + 1e-4) / FOCAL  # 2D sigma just over 1: radius ceil(3.x) = 4 with the 0.1 floor
    variance = 1 + 1e-4
    radius = math.ceil(3 * math.sqrt(variance + math.sqrt(0.1)))
    wide = balls([at_pixel(32, 32)], [1.0], 0.1)
    assert alpha_of(wide, backend)[32, 63] > 0  # the picture itself reaches there
    stretched = wide._replace(
        means=torch.tensor([at_pixel(16 + 15 - radius - 0.2, 32)]), scales=torch.full((1, 1, 3), sigma)
    )
    stretched = stretched._replace(means=stretched.means[None])
    row = alpha_of(stretched, backend)[32]
    assert (row[:32] > 0).sum() > 5
    assert row[32:].max() == 0
    big = balls(
        [at_pixel(20, 20)], [1.0], 0.0295
    )  # sigma 3 px, radius 10: square ends at 30; 3.33 sigma is 30.0
    assert alpha_of(big, backend)[20, 32:].max() == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_stops_before_transmittance_falls_under_1e_4(backend):
    """0.99, then 0.98 (T = 2e-4), then 0.6 would leave 8e-5: it is not added, and nothing behind it either."""
    means = [at_pixel(20, 30, z) for z in (1.0, 1.1, 1.2, 1.3)]
    colors = [[0.0, 0, 0], [0.0, 0, 0], [1.0, 0, 0], [0, 1.0, 0]]
    out = rasterize_gaussians(
        balls(means, [0.99, 0.98, 0.6, 0.1], 0.0, colors),
        camera(),
        backend=backend,
        background=torch.zeros(3),
    )
    assert out.rgb[0, :, 30, 20].abs().max() == 0
    assert 1 - out.alpha[0, 0, 30, 20] == pytest.approx(2e-4, rel=1e-2)
    # 0.4 leaves 1.2e-4: it is added
    out = rasterize_gaussians(
        balls(means, [0.99, 0.98, 0.4, 0.1], 0.0, colors),
        camera(),
        backend=backend,
        background=torch.zeros(3),
    )
    assert out.rgb[0, 0, 30, 20] == pytest.approx(0.4 * 2e-4, rel=1e-2)


@pytest.mark.parametrize("backend", BACKENDS)
def test_near_plane(backend):
    assert alpha_of(balls([at_pixel(20, 30, 0.2)], [0.9], 0.001), backend).max() == 0
    assert alpha_of(balls([at_pixel(20, 30, 0.2001)], [0.9], 0.001), backend).max() > 0.8
    assert alpha_of(balls([at_pixel(20, 30, -1.0)], [0.9], 0.001), backend).max() == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_jacobian_is_clamped_far_outside_the_picture(backend):
    """At x / z = 1 (limit 1.3 * 0.32) the footprint is that of the limit; without the clamp it would reach further in."""
    sigma, limit = 0.25, 1.3 * SIZE / 2 / FOCAL
    alpha = alpha_of(balls([[1.0, 0.005, 1.0]], [1.0], sigma), backend)
    centre = FOCAL + SIZE / 2 - 0.5
    variance = (FOCAL * sigma) ** 2 * (1 + limit**2) + 0.3
    assert alpha[32, 63] == pytest.approx(math.exp(-0.5 * (centre - 63) ** 2 / variance), rel=1e-3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_order_is_by_view_depth_and_background_shows_through(backend):
    means = [at_pixel(20, 30, 1.5), at_pixel(20, 30, 1.0)]
    g = balls(means, [0.5, 0.25], colors=[[1.0, 0, 0], [0, 1.0, 0]])
    background = torch.tensor([0.0, 0.0, 0.8])
    out = rasterize_gaussians(g, camera(), background=background, backend=backend)
    expected = torch.tensor([0.75 * 0.5, 0.25, 0.75 * 0.5 * 0.8])
    torch.testing.assert_close(out.rgb[0, :, 30, 20], expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(out.rgb[0, :, 0, 0], background)
    white = rasterize_gaussians(g, camera(), backend=backend)
    torch.testing.assert_close(white.rgb[0, :, 0, 0], torch.ones(3))
    two = rasterize_gaussians(g, camera(batch=2), background=torch.eye(3)[:2], backend=backend)
    torch.testing.assert_close(two.rgb[:, :, 0, 0], torch.eye(3)[:2])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("field", Gaussians._fields)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_gaussian_that_is_not_finite_is_skipped(backend, field, bad):
    good = balls([at_pixel(20, 30)], [0.5], 0.01)
    both = Gaussians(*(torch.cat([x, x], 1).contiguous() for x in good))
    spoiled = both._replace(**{field: getattr(both, field).clone()})
    getattr(spoiled, field)[0, 0] = bad
    leaves = Gaussians(*(x.requires_grad_() for x in spoiled))
    out = rasterize_gaussians(leaves, camera(), backend=backend)
    torch.testing.assert_close(out.rgb, rasterize_gaussians(good, camera(), backend=backend).rgb)
    (out.rgb**2).sum().backward()
    for x in leaves:
        assert torch.isfinite(x.grad).all()
        assert x.grad[0, 0].abs().max() == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_visible(backend):
    g = Gaussians(*(x.requires_grad_() for x in balls([[0.0, 0.0, -1.0]], [0.5], 0.01)))
    out = rasterize_gaussians(g, camera(), backend=backend)
    assert out.rgb.min() == 1
    assert out.alpha.max() == 0
    if out.rgb.requires_grad:
        out.rgb.sum().backward()
        assert g.means.grad.abs().max() == 0
    none = Gaussians(*(x[:, :0].detach() for x in g))
    assert rasterize_gaussians(none, camera(), backend=backend).alpha.max() == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_principal_point_moves_the_picture(backend):
    g = balls([at_pixel(20, 30)], [0.5])
    moved = camera()._replace(
        intrinsics=camera().intrinsics + torch.tensor([[0, 0, 3.0], [0, 0, -2.0], [0, 0, 0]])
    )
    assert rasterize_gaussians(g, moved, backend=backend).alpha[0, 0, 28, 23] == pytest.approx(0.5, abs=1e-5)


def test_oracle_gradients_in_float64():
    torch.manual_seed(3)
    n = 3
    means = torch.stack([torch.tensor(at_pixel(*p)) for p in torch.rand(n, 2) * 10 + 27]) + 0.1 * torch.rand(
        n, 1
    )
    quaternions = torch.randn(n, 4)
    values = (means, quaternions, 0.01 + 0.02 * torch.rand(n, 3), 0.3 + 0.5 * torch.rand(n), torch.rand(n, 3))
    leaves = [x.double()[None].requires_grad_() for x in values]
    view = camera(20, 18)
    background = torch.rand(3, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(5, 4, 20, 18, dtype=torch.float64)

    def picture(background, *leaves):
        out = rasterize_gaussians(Gaussians(*leaves), view, background, backend="torch")
        return (torch.cat([out.rgb, out.alpha], 1) * weights).sum((1, 2, 3))

    assert torch.autograd.gradcheck(picture, (background, *leaves), eps=1e-7, atol=1e-5, nondet_tol=1e-12)


def test_wrong_arguments_are_named():
    g, view = balls([at_pixel(20, 30)], [0.5]), camera()
    with pytest.raises(ValueError, match=r"Gaussians\.scales must have shape \(1, 1, 3\)"):
        rasterize_gaussians(g._replace(scales=torch.ones(1, 2, 3)), view)
    with pytest.raises(ValueError, match="2 sets of Gaussians do not fit 3 cameras"):
        rasterize_gaussians(Gaussians(*(torch.cat([x, x]) for x in g)), camera(batch=3))
    with pytest.raises(ValueError, match='Unknown splatting backend "cuda"'):
        rasterize_gaussians(g, view, backend="cuda")
    with pytest.raises(ValueError, match='Backend "gsplat" renders cuda tensors'):
        rasterize_gaussians(g, view, backend="gsplat")
