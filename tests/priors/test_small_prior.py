"""The prior that ships: it is small, its views belong together, its people differ."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from avatarzoo.priors import small_prior
from avatarzoo.priors.small_prior import SMALL_PRIOR

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def sheet():
    """The script that made the contact sheet; its numbers are tested here on fewer people."""
    sys.path.insert(0, str(ROOT / "benchmarks" / "small_prior"))
    try:
        import sheet

        yield sheet
    finally:
        sys.path.pop(0)


@pytest.fixture(scope="module")
def views(sheet) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return sheet.views(small_prior(), 4, seed=0)


def test_it_is_small() -> None:
    generator = small_prior()
    assert sum(p.numel() for p in generator.parameters()) <= 4_000_000
    assert SMALL_PRIOR.stat().st_size <= 8_000_000
    assert generator.config.resolution == 128


def test_the_same_code_gives_the_same_picture() -> None:
    """No noise, no jitter: what was drawn once can be drawn again."""
    generator = small_prior()
    latent, label = torch.zeros(1, 48), torch.zeros(1, 25)
    with torch.no_grad():
        codes = generator.codes(latent, label)
        assert torch.equal(generator.planes(codes), generator.planes(codes, noise="random"))


@pytest.mark.slow
def test_landmarks_move_as_the_camera_says(sheet, views) -> None:
    numbers = sheet.agreement(*views)
    assert numbers["faces_found"] >= 0.9
    assert numbers["landmark_movement_px"] > 4
    assert numbers["landmark_error_px"] < 0.4 * numbers["landmark_movement_px"]


@pytest.mark.slow
def test_people_differ(sheet, views) -> None:
    """Five grey levels over the whole picture, most of which is background and hair."""
    assert sheet.differences(views[0]) > 5
