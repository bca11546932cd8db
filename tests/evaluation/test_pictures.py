"""Predictions on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from avatarzoo.errors import BadSequenceError
from avatarzoo.evaluation.pictures import read_manifest, read_pictures, write_pictures


def test_pictures_come_back_in_8_bits(tmp_path: Path) -> None:
    pictures = torch.rand(5, 3, 8, 8)
    manifest = write_pictures(tmp_path / "case", [pictures[:2], pictures[2:]], lambda: {"key": "k"})
    assert manifest == read_manifest(tmp_path / "case")
    assert manifest["count"] == 5
    back = read_pictures(tmp_path / "case", torch.arange(5), (8, 8))
    assert (back - pictures).abs().max() <= 0.5 / 255 + 1e-6


def test_a_broken_picture_stays_broken(tmp_path: Path) -> None:
    pictures = torch.rand(3, 3, 8, 8)
    pictures[1, 0, 0, 0] = torch.nan
    manifest = write_pictures(tmp_path / "case", [pictures], dict)
    assert manifest["broken"] == [1]
    back = read_pictures(tmp_path / "case", torch.arange(3), (8, 8), manifest["broken"])
    assert torch.isnan(back[1]).all()
    assert torch.isfinite(back[[0, 2]]).all()


def test_a_crash_leaves_no_half_case(tmp_path: Path) -> None:
    def breaks():
        yield torch.rand(2, 3, 8, 8)
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        write_pictures(tmp_path / "case", breaks(), dict)
    assert read_manifest(tmp_path / "case") is None
    assert not (tmp_path / "case").exists()


@pytest.mark.parametrize(("size", "row", "words"), [((9, 8), 0, "asks for 8x9"), ((8, 8), 7, "missing")])
def test_pictures_that_do_not_fit_are_refused(
    tmp_path: Path, size: tuple[int, int], row: int, words: str
) -> None:
    write_pictures(tmp_path / "case", [torch.rand(2, 3, 8, 8)], dict)
    with pytest.raises(BadSequenceError, match=words):
        read_pictures(tmp_path / "case", torch.tensor([row]), size)
