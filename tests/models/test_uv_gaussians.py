"""The UV Gaussian map: activations, order, geometry and counts (fact sheet section 1)."""

from __future__ import annotations

import math
import os

import numpy as np
import pytest
import torch

from avatarzoo.errors import UsageError
from avatarzoo.models.gaussian_dejavu.mouth import mouth_patch, neck_row
from avatarzoo.models.gaussian_dejavu.uv_gaussians import UVGaussianMap

SIZE = 32


@pytest.fixture(scope="module")
def uv_map(head):
    return UVGaussianMap(head, SIZE, "paper")


def posed(head, batch=2):
    generator = torch.Generator().manual_seed(0)
    params = head.zeros(batch)
    return params._replace(
        expression=torch.rand(batch, head.n_expression, generator=generator) * 0.5,
        identity=torch.randn(batch, head.n_identity, generator=generator) * 0.5,
    )


def test_activations(uv_map):
    """Every formula of the fact sheet, written out once more for single numbers."""
    generator = torch.Generator().manual_seed(1)
    offsets = torch.randn(1, len(uv_map), 13, generator=generator)
    surface = torch.randn(1, len(uv_map), 3, generator=generator)
    g = uv_map.gaussians(surface, offsets)
    row = 5
    o = offsets[0, row].double()
    grown = -8.3533 + math.log(320 / SIZE)
    assert torch.allclose(g.means[0, row].double(), surface[0, row].double() + 0.01 * o[:3], atol=1e-6)
    assert torch.allclose(g.scales[0, row].double(), (grown + o[3:6]).exp(), rtol=1e-5)
    quaternion = torch.tensor([1.0, *o[6:9]], dtype=torch.float64)
    assert torch.allclose(g.quaternions[0, row].double(), quaternion / quaternion.norm(), atol=1e-6)
    assert float(g.opacities[0, row]) == pytest.approx(1 / (1 + math.exp(-(0.1 + float(o[9])))), abs=1e-6)
    color = (0.28209479177387814 * o[10:13] + 0.5).clamp_min(0)
    assert torch.allclose(g.colors[0, row].double(), color, atol=1e-6)


def test_color_is_cut_below_and_not_above(uv_map):
    offsets = torch.zeros(1, len(uv_map), 13)
    offsets[:, 0, 10:], offsets[:, 1, 10:] = -5.0, 5.0
    g = uv_map.gaussians(torch.zeros(1, len(uv_map), 3), offsets)
    assert (g.colors[0, 0] == 0).all()
    assert (g.colors[0, 1] > 1.5).all()


def test_initializations(head, uv_map):
    assert torch.equal(uv_map.initial[:, 6:9], torch.zeros(len(uv_map), 3))  # identity rotation
    assert (uv_map.initial[:, 9] == 0.1).all()
    assert (uv_map.initial[:, 10:] == 0).all()
    released = UVGaussianMap(head, SIZE, "official_release").initial
    assert torch.allclose(released[:, 10:], torch.tensor(-1.7725), atol=1e-4)
    assert set(released[:, 9].unique().tolist()) == {0.0, 1.0}
    surface = UVGaussianMap(head, SIZE, "surface").initial
    assert torch.allclose(surface[:, 9].sigmoid(), torch.tensor(0.9))
    assert ((surface[:, 3:6].exp() >= 0.99e-4) & (surface[:, 3:6].exp() <= 3.01e-3)).all()


@pytest.mark.parametrize("size", [32, 64])
def test_scales_grow_with_coarser_maps(head, size):
    initial = UVGaussianMap(head, size, "paper").initial
    assert torch.allclose(initial[:, 3:6], torch.tensor(-8.3533 + math.log(320 / size)))


def test_row_major_order_and_maps(uv_map):
    assert (uv_map.pixels.diff() > 0).all()
    values = torch.randn(len(uv_map), 13)
    picture = uv_map.to_map(values)
    assert picture.shape == (SIZE, SIZE, 13)
    first = int(uv_map.pixels[0])
    assert torch.equal(picture[first // SIZE, first % SIZE], values[0])
    assert int((picture != 0).any(-1).sum()) == len(uv_map)
    assert torch.equal(uv_map.from_map(picture), values)


def test_a_map_of_another_size_is_resampled(uv_map):
    v, u = torch.meshgrid((torch.arange(80) + 0.5) / 80, (torch.arange(80) + 0.5) / 80, indexing="ij")
    read = uv_map.from_map(torch.stack([u, v], -1))
    column, row = uv_map.pixels % SIZE, uv_map.pixels // SIZE
    assert torch.allclose(read[:, 0], (column + 0.5) / SIZE, atol=2e-3)
    assert torch.allclose(read[:, 1], (row + 0.5) / SIZE, atol=2e-3)


def test_positions_are_barycentric_mixes(head, uv_map):
    """Against a search of all triangles in float64: pixel (i, j) is u = (j + 0.5) / S, v = 1 - (i + 0.5) / S."""
    vertices = head(posed(head))
    corners = head.uv.double().numpy()[head.uv_faces.numpy()]
    pixels = uv_map.pixels.numpy()
    points = np.stack([(pixels % SIZE + 0.5) / SIZE, 1 - (pixels // SIZE + 0.5) / SIZE], -1)
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]

    def cross(x, y):
        return x[..., 0] * y[..., 1] - x[..., 1] * y[..., 0]

    area = cross(b - a, c - a)
    p = points[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        weights = (
            np.stack([cross(c - b, p - b), cross(a - c, p - c), cross(b - a, p - a)], -1) / area[:, None]
        )
    face = np.nanargmax(weights.min(-1), 1)
    weights = weights[np.arange(len(pixels)), face]
    assert weights.min() > -1e-4
    expected = (vertices.double().numpy()[:, head.faces.numpy()[face]] * weights[None, ..., None]).sum(2)
    got = uv_map.positions(vertices)
    assert got.shape == (2, len(uv_map), 3)
    assert np.abs(got.numpy() - expected).max() < 2e-5
    assert (got[0] - got[1]).abs().max() > 1e-3


def test_a_batch_is_its_rows(head, uv_map):
    vertices = head(posed(head, 3))
    together = uv_map.positions(vertices)
    for i in range(3):
        assert torch.allclose(uv_map.positions(vertices[i : i + 1])[0], together[i], atol=1e-7)
    offsets = torch.randn(1, len(uv_map), 13)
    shared = uv_map.gaussians(together, offsets)
    assert all(len(x) == 3 for x in shared)
    single = uv_map.gaussians(together, offsets.expand(3, -1, -1))
    assert all(torch.equal(x, y) for x, y in zip(shared, single))


def test_gradients_reach_vertices_and_offsets(head, uv_map):
    vertices = head(head.zeros(1)).requires_grad_()
    offsets = torch.zeros(1, len(uv_map), 13, requires_grad=True)
    g = uv_map.gaussians(uv_map.positions(vertices), offsets)
    generator = torch.Generator().manual_seed(2)
    sum((x * torch.randn(x.shape, generator=generator)).sum() for x in g).backward()
    assert (offsets.grad.abs().amax(1) > 0).all()  # all 13 channels
    used = torch.zeros(len(vertices[0]), dtype=torch.bool)
    used[uv_map.corners[uv_map.barycentrics > 1e-6]] = True
    assert torch.equal(
        (vertices.grad[0].abs().sum(-1) > 0)[used], torch.ones(int(used.sum()), dtype=torch.bool)
    )


def test_position_weights_tell_face_from_scalp(uv_map, head):
    """M_mu of Eq. 5: 10 or 0.1; the nose is face, the crown and the back are not."""
    rest = uv_map.positions(head.v_template[None])[0]
    assert sorted(set(uv_map.position_weight.tolist())) == pytest.approx([0.1, 10.0])
    assert uv_map.position_weight[rest[:, 2].argmax()] == 10
    assert uv_map.position_weight[rest[:, 1].argmax()] < 1
    assert uv_map.position_weight[rest[:, 2].argmin()] < 1
    assert 0.25 < (uv_map.position_weight == 10).float().mean() < 0.8


def test_nothing_of_the_head_enters_a_checkpoint(uv_map):
    assert uv_map.state_dict() == {}


def test_the_procedural_head_has_no_patch_and_no_neck(head, uv_map):
    assert uv_map.patch is None
    assert (uv_map.free_position == 1).all()
    neck = torch.zeros(len(head.faces), dtype=torch.bool)
    neck[head.face_regions["neck"]] = True
    keys = {tuple(sorted(f)) for f in head.faces[neck].tolist()}
    assert not keys & {tuple(sorted(c)) for c in uv_map.corners.tolist()}


# ---- FLAME's layout --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "cut", "patch"), [(320, 250, 3000), (180, 140, 1500), (120, 93, 800)])
def test_flame_rows_and_patch_counts(sheet, size, cut, patch):
    """The sheet fills the whole square, so every row above the cut is valid."""
    assert neck_row(size) == cut
    assert len(mouth_patch(sheet, size).pixels) == patch
    assert len(UVGaussianMap(sheet, size, "paper")) == cut * size + patch


def test_flame_mouth_rectangle(sheet):
    uv_map = UVGaussianMap(sheet, 320, "official_release")
    row, column = uv_map.pixels // 320, uv_map.pixels % 320
    low = row >= 250
    assert (int(row[low].min()), int(row[low].max())) == (255, 314)
    assert (int(column[low].min()), int(column[low].max())) == (135, 184)
    assert int(low.sum()) == 3000
    assert torch.equal(uv_map.free_position[:, 0], (~low).float())
    assert (uv_map.position_weight[low] == 10).all()
    assert (uv_map.initial[low, 9:] == 0).all()  # grey and half opaque where there is no mesh


def test_flame_mouth_positions_do_not_move(sheet):
    uv_map = UVGaussianMap(sheet, 64, "paper")
    surface = uv_map.positions(sheet(sheet.zeros(2)))
    offsets = torch.ones(1, len(uv_map), 13, requires_grad=True)
    g = uv_map.gaussians(surface, offsets)
    moved = (g.means - surface).detach()
    patch = uv_map.free_position[:, 0] == 0
    assert (moved[:, patch] == 0).all()
    assert torch.allclose(moved[:, ~patch], torch.tensor(0.01), atol=1e-6)
    assert (g.scales[:, patch] > uv_map.initial[patch, 3:6].exp()).all()  # the other channels are free
    g.means.sum().backward()
    assert (offsets.grad[0, patch, :3] == 0).all()


def test_funnel_behind_the_lips(sheet):
    """Figure 7: lip line at t = 0, end line 2 cm behind the corners at t = 1, and back to the lower lip."""
    upper, lower = sheet.mouth_loop()
    params = sheet.zeros(2)
    params.expression[1, 0] = 2.0
    vertices = sheet(params)
    patch = mouth_patch(sheet, 320)
    funnel = patch.points(vertices).view(2, 60, 50, 3)

    def resample(ids, b):
        at = np.linspace(0, len(ids) - 1, 50)
        line = vertices[b, ids].numpy()
        return torch.from_numpy(np.stack([np.interp(at, np.arange(len(ids)), x) for x in line.T], -1)).float()

    for b in (0, 1):
        top, bottom = resample(upper, b), resample(lower, b)
        end = resample(upper[[0, -1]], b) + torch.tensor([0, 0, -0.02])
        assert torch.allclose(funnel[b, 0], top, atol=1e-6)
        assert torch.allclose(funnel[b, 29], end, atol=1e-6)
        assert torch.allclose(funnel[b, 30], end, atol=1e-6)
        assert torch.allclose(funnel[b, 59], bottom, atol=1e-6)
        assert torch.allclose(funnel[b, 10], torch.lerp(top, end, 10 / 29), atol=1e-6)
        assert torch.allclose(funnel[b, 50], torch.lerp(end, bottom, 20 / 29), atol=1e-6)
    assert torch.allclose(patch.weights.sum(1), torch.ones(3000), atol=1e-6)
    uv_map = UVGaussianMap(sheet, 320, "paper")
    inside = uv_map.positions(vertices)[:, uv_map.free_position[:, 0] == 0]
    assert torch.allclose(inside.view(2, 60, 50, 3), funnel, atol=1e-6)


def test_a_map_too_small_for_the_mouth_is_one_sentence(sheet):
    for size in (32, 50):
        with pytest.raises(UsageError, match="uv_size"):
            UVGaussianMap(sheet, size)
    assert len(mouth_patch(sheet, 51).pixels) == 100


@pytest.mark.assets
def test_counts_on_the_real_flame():
    """74,083 with the layout of the released code, 74,070 with the stock one (fact sheet section 1)."""
    if not os.environ.get("AVATARZOO_ASSETS"):
        pytest.skip("AVATARZOO_ASSETS is not set")
    from avatarzoo import assets
    from avatarzoo.heads import load_head

    if not (
        assets.locate("flame2020") and (assets.locate("flame-template") or assets.locate("flame-texture"))
    ):
        pytest.skip(
            "FLAME 2020 with its texture layout is not on this machine (licensed; flame.is.tue.mpg.de)"
        )
    flame = load_head("flame")
    count = len(UVGaussianMap(flame, 320, "paper"))
    assert count in (74_083, 74_070)
    if count == 74_083:
        assert len(UVGaussianMap(flame, 180, "paper")) == 23_873
        assert len(UVGaussianMap(flame, 120, "paper")) == 10_694


def test_neighbours_are_near_and_cross_seams():
    """Pairs join nearest points on the head, also where the map is cut."""
    from avatarzoo.heads import ProceduralHead

    head = ProceduralHead()
    uv_map = UVGaussianMap(head, 64)
    pairs = uv_map.neighbours
    rest = uv_map.positions(head.v_template[None])[0]
    length = (rest[pairs[:, 0]] - rest[pairs[:, 1]]).norm(dim=1)
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert len(pairs.unique(dim=0)) == len(pairs) > len(uv_map)
    assert length.max() < 0.03
    step = (uv_map.pixels[pairs[:, 0]] - uv_map.pixels[pairs[:, 1]]).abs()
    apart = (step % 64 > 3) & (step % 64 < 61)
    assert apart.any()
