"""Geometry of the sliding windows."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from avatarzoo.models.styleavatar.windows import (
    centre,
    centred,
    crop_background,
    crop_condition,
    crop_wide,
    draw_offsets,
    reach,
)


def sampled_cells(grid: int, offset: torch.Tensor) -> torch.Tensor:
    """Columns and rows ``(2, G)`` of a map of side 2 G that the window of a background feature shows."""
    number = torch.arange(grid).float()
    axes = torch.stack([number.expand(grid, grid), number[:, None].expand(grid, grid)])
    shown = crop_background(axes[None], offset[None])[0]
    # cell k of the enlarged map lies at (k + 0.5) / 2 - 0.5 of the small one
    return torch.stack([shown[0, 0], shown[1, :, 0]]) * 2 + 0.5


@pytest.mark.golden
@pytest.mark.parametrize("case", [0, 1])
def test_windows_show_the_published_cells(primitives, case: int) -> None:
    offset = primitives[f"window.d{case}"]
    cells = sampled_cells(128, offset)
    published = torch.stack([primitives[f"window.d{case}.{axis}"] for axis in "xy"])
    # the official grid puts an end sample on a rounding tie, which may move it by one cell
    assert torch.equal(cells[:, 1:-1].round().short(), published[:, 1:-1])
    assert (cells - published).abs().max() <= 1


def test_published_numbers() -> None:
    assert (centre(128), reach(128)) == (32, 22)
    drawn = draw_offsets(400_000, 128, 0, torch.Generator().manual_seed(0))
    assert drawn.min() == 10
    assert drawn.max() == 54
    # the floor takes half a cell; the clamp is at four deviations
    assert float(drawn.double().mean()) == pytest.approx(31.5, abs=0.02)
    assert float(drawn.double().std()) == pytest.approx(128 / 24, rel=0.01)


@pytest.mark.parametrize("grid", [16, 32, 64, 256])
def test_windows_scale_with_the_grid_and_stay_inside(grid: int) -> None:
    drawn = draw_offsets(2000, grid, 2, torch.Generator().manual_seed(0))
    assert drawn.min() >= 0
    assert drawn.max() <= grid // 2
    assert abs(reach(grid) / grid - 22 / 128) < 0.5 / grid + 1e-9


def test_every_sample_has_its_own_window_in_even_steps() -> None:
    generator = torch.Generator().manual_seed(3)
    assert torch.equal(draw_offsets(5, 128, 7, generator), centred(5, 128))
    assert len(draw_offsets(5, 128, 8, generator).unique(dim=0)) > 1


@pytest.mark.parametrize(("grid", "size"), [(16, 16), (16, 64), (64, 256)])
def test_picture_condition_and_background_show_the_same_place(grid: int, size: int) -> None:
    """A bright square at one place of the world is found at one place of the window in all three."""
    offset = torch.tensor([[grid // 4 + 2, grid // 4 - 1], [grid // 4, grid // 4 + 3]])
    cell = size // grid
    place = slice(grid // 2, grid // 2 + 4)  # cells of the wide picture
    wide = torch.zeros(2, 1, 3 * size // 2, 3 * size // 2)
    wide[:, :, place.start * cell : place.stop * cell, place.start * cell : place.stop * cell] = 1
    seen = F.avg_pool2d(crop_wide(wide, offset, grid), cell)
    condition = torch.full((2, 1, 2 * grid, 2 * grid), -1.0)
    inner = slice(2 * (place.start - grid // 4), 2 * (place.stop - grid // 4))
    condition[:, :, inner, inner] = 1
    rendered = F.avg_pool2d(crop_condition(condition, offset), 2) / 2 + 0.5
    assert seen.sum() == 2 * 16
    assert torch.equal(seen, rendered)
    features = torch.zeros(2, 1, grid, grid)
    outer = slice((place.start + grid // 4) // 2, (place.stop + grid // 4) // 2)
    features[:, :, outer, outer] = 1
    background = crop_background(features, offset)
    assert ((background > 0.5) == (seen > 0.5)).all()


def test_centred_windows_leave_a_condition_as_it_is() -> None:
    condition = torch.randn(2, 3, 64, 64)
    assert torch.equal(crop_condition(condition, centred(2, 32)), condition)
    away = crop_condition(condition, torch.tensor([[0, 0], [16, 16]]))
    assert (away[0, :, :16] == -1).all()
    assert (away[1, :, :, -16:] == -1).all()
    assert torch.equal(away[0, :, 16:, 16:], condition[0, :, :48, :48])


def test_windows_pass_gradients_on() -> None:
    features = torch.randn(1, 2, 16, 16, requires_grad=True)
    crop_background(features, centred(1, 16)).sum().backward()
    assert features.grad is not None
    assert float(features.grad.sum()) == pytest.approx(2 * 16 * 16)
