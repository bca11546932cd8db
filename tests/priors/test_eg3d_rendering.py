"""The volume renderer on fields whose pictures are known."""

import math

import pytest
import torch

from avatarzoo.geometry.camera import from_eg3d, project
from avatarzoo.priors.cameras import frontal_label, sphere_label
from avatarzoo.priors.rays import Rays, camera_rays, depth_limits, importance_depths, stratified_depths
from avatarzoo.priors.triplanes import sample_planes
from avatarzoo.priors.volume import Sampling, draw, integrate, render_rays

RAW_ONE = 1 + math.log(math.e - 1)
"""Raw density that softplus(raw - 1) turns into 1."""


def constant(raw: float, colour: float = 0.25):
    return lambda points: (
        points.new_full(points.shape[:2], raw),
        points.new_full((*points.shape[:2], 3), colour),
    )


def test_rays_go_through_the_pixels_of_the_camera():
    label = sphere_label(torch.tensor([0.4]), torch.tensor([-0.3]))
    label[0, 16:] = torch.tensor([4.2, 0.03, 0.47, 0, 4.0, 0.52, 0, 0, 1])
    rays = camera_rays(label, 8)
    points = rays.origins[:, None] + 2.5 * rays.directions
    seen = project(points, from_eg3d(label, 8))[0, :, :2].reshape(8, 8, 2)
    v, u = torch.meshgrid(torch.arange(8) + 0.5, torch.arange(8) + 0.5, indexing="ij")
    torch.testing.assert_close(seen, torch.stack([u, v], -1), atol=1e-4, rtol=1e-4)


def test_constant_density_follows_beer_and_lambert():
    rays = camera_rays(frontal_label(), 2)
    sampling = Sampling(coarse=24, fine=24, depth_range=(2.0, 3.0))
    view = render_rays(constant(RAW_ONE), rays, sampling)
    # the first and last sample lie half a step inside and outside the range
    assert view.opacity.flatten().tolist() == pytest.approx([1 - math.exp(-1)] * 4, abs=0.01)
    torch.testing.assert_close(view.features, view.opacity.expand(-1, -1, 3) * 0.25 * 2 - 1)
    assert ((view.depth > 2) & (view.depth < 3)).all()


def test_empty_space_is_black_or_white_at_the_far_end():
    rays = camera_rays(frontal_label(), 2)
    for white, level in ((False, -1.0), (True, 1.0)):
        view = render_rays(constant(-200.0), rays, Sampling(white_background=white))
        assert view.opacity.abs().max() < 1e-6
        torch.testing.assert_close(view.features, torch.full_like(view.features, level))
        assert (view.depth > 3.3).all()  # the largest sample


def test_empty_rays_do_not_poison_gradients():
    raw = torch.full((1,), -200.0, requires_grad=True)
    field = lambda p: (raw.expand(p.shape[:2]), torch.zeros(*p.shape[:2], 3))  # noqa: E731
    view = render_rays(field, camera_rays(frontal_label(), 2), Sampling(coarse=4, fine=4))
    (slope,) = torch.autograd.grad(view.depth.sum() + view.opacity.sum(), raw)
    assert slope.isfinite().all()


def test_a_sheet_is_found_at_its_depth():
    sheet = lambda p: (300 * (1 - 40 * (p[..., 2] - 0.1).abs()), torch.ones(*p.shape[:2], 3))  # noqa: E731
    rays = Rays(torch.tensor([[0.0, 0, 2.7]]), torch.tensor([[[0.0, 0, -1.0]]]))
    view = render_rays(sheet, rays, Sampling())
    assert view.opacity.item() == pytest.approx(1, abs=1e-3)
    assert view.depth.item() == pytest.approx(2.6, abs=0.03)


def test_colours_are_averaged_between_neighbours():
    """The scattered coefficients equal the plain formula on sorted samples."""
    depths, order = torch.rand(2, 5, 7).sort(-1)
    density, colours = torch.randn(2, 5, 7), torch.randn(2, 5, 7, 3)
    view = integrate(depths, order, density, list(colours.split([3, 4], 2)), white_background=False)
    sorted_colours = colours.gather(2, order[..., None].expand_as(colours))
    step = depths.diff(dim=-1)
    sigma = torch.nn.functional.softplus((density[..., 1:] + density[..., :-1]) / 2 - 1)
    alpha = 1 - torch.exp(-sigma * step)
    weights = alpha * torch.cat([torch.ones(2, 5, 1), (1 - alpha).cumprod(-1)], -1)[..., :-1]
    middles = (sorted_colours[:, :, 1:] + sorted_colours[:, :, :-1]) / 2
    torch.testing.assert_close(view.features, 2 * (weights[..., None] * middles).sum(2) - 1)


def test_stratified_samples_only_move_forward():
    near, far = torch.full((1, 1, 1), 2.0), torch.full((1, 1, 1), 3.0)
    assert stratified_depths(near, far, 5, 0.0)[0, 0].tolist() == pytest.approx([2, 2.25, 2.5, 2.75, 3])
    assert stratified_depths(near, far, 5, 1.0)[0, 0, -1].item() == pytest.approx(3.25)


def test_importance_samples_gather_at_the_heavy_interval_and_never_in_the_last():
    depths = torch.arange(10.0).expand(1, 1, -1)
    weights = torch.zeros(1, 1, 9)
    weights[..., 4] = 1  # between samples 4 and 5
    positions = ((torch.arange(200) + 0.5) / 200).expand(1, 1, -1)
    drawn = importance_depths(depths, weights, positions)[0, 0]
    # weight i + 1 fills the bin between middles i and i + 1, so the mass sits half an interval early
    assert ((drawn > 2.4) & (drawn < 5.6)).float().mean() > 0.9
    assert drawn.max() <= 7.5 + 1e-5  # the bins end at 8.5
    assert drawn.min() >= 0.5
    assert (drawn.diff() >= 0).all()


def test_auto_range_is_the_way_through_the_box():
    origins = torch.tensor([[0.0, 0, 2.0]])
    directions = torch.tensor([[[0.0, 0, -1], [0, 1, 0], [0, 0.6, -0.8], [0.1, 0, -0.995]]])
    near, far = (edge[0, :, 0] for edge in depth_limits(Rays(origins, directions), "auto", 1.0))
    assert near[0].item() == pytest.approx(1.5)
    assert far[0].item() == pytest.approx(2.5)
    missed = [1, 2]
    assert near[missed].tolist() == pytest.approx([near[[0, 3]].min().item()] * 2)
    assert far[missed].tolist() == pytest.approx([near[[0, 3]].max().item()] * 2)
    nothing = depth_limits(Rays(origins, directions[:, 1:2]), "auto", 1.0)
    assert all(edge.item() == 0 for edge in nothing)


@pytest.mark.parametrize(
    ("axes", "seen"), [("eg3d", [(0, 1), (0, 2), (2, 0)]), ("fixed", [(0, 1), (0, 2), (2, 1)])]
)
def test_planes_look_along_their_axes(axes, seen):
    """Every plane holds 1000 * column + row, so a sample tells which coordinates went where."""
    size = 16
    ramp = 1000.0 * torch.arange(size) + torch.arange(size)[:, None]
    point = torch.tensor([[[0.1, -0.2, 0.3]]])
    for plane, (column, row) in enumerate(seen):
        planes = torch.zeros(1, 3, 1, size, size)
        planes[0, plane, 0] = ramp
        pixel = (point[0, 0] / 2 + 0.5) * size - 0.5  # box of side 2
        expected = (1000 * pixel[column] + pixel[row]) / 3
        torch.testing.assert_close(
            sample_planes(planes, point, 2.0, axes)[0, 0, 0], expected, rtol=1e-4, atol=1e-3
        )
    outside = sample_planes(torch.ones(1, 3, 1, size, size), torch.tensor([[[1.2, 1.2, 1.2]]]), 2.0, axes)
    assert outside.item() == 0


def test_numbers_are_drawn_coarse_first():
    sampling = Sampling(coarse=3, fine=2)
    draws = draw((1, 4), sampling, torch.Generator().manual_seed(7), torch.zeros(1))
    again = torch.Generator().manual_seed(7)
    assert torch.equal(draws.coarse.flatten(), torch.rand(12, generator=again))
    assert torch.equal(draws.fine.flatten(), torch.rand(8, generator=again))
