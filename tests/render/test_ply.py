"""The 62-property PLY, read back by another program's reader."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from plyfile import PlyData

from avatarzoo.errors import OutputError
from avatarzoo.render.gaussians import Gaussians
from avatarzoo.render.ply import PROPERTIES, ply_bytes, write_ply


@pytest.fixture
def gaussians() -> Gaussians:
    torch.manual_seed(0)
    quaternions = torch.nn.functional.normalize(torch.randn(2, 9, 4), dim=-1)
    return Gaussians(
        torch.randn(2, 9, 3),
        quaternions,
        torch.rand(2, 9, 3) * 0.01 + 1e-4,
        torch.rand(2, 9),
        torch.rand(2, 9, 3),
    )


def stack(table, *names):
    return np.stack([table[n] for n in names], -1)


def test_properties_in_order(gaussians, tmp_path):
    content = PlyData.read(write_ply(tmp_path / "new" / "a.ply", gaussians))["vertex"]
    names = [p.name for p in content.properties]
    wanted = ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"]
    wanted += [f"f_rest_{i}" for i in range(45)]
    wanted += ["opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    assert names == wanted == list(PROPERTIES)
    assert len(names) == 62
    assert all(p.val_dtype == "f4" for p in content.properties)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.ply"]


def test_values_invert_to_the_gaussians(gaussians, tmp_path):
    """What every viewer computes from the file: sigmoid, exp, 0.5 + 0.2821 f_dc, (w, x, y, z)."""
    table = PlyData.read(write_ply(tmp_path / "a.ply", gaussians))["vertex"].data
    assert len(table) == 9
    assert np.allclose(stack(table, "x", "y", "z"), gaussians.means[0])
    assert np.allclose(
        np.exp(stack(table, *(f"scale_{i}" for i in range(3)))), gaussians.scales[0], rtol=1e-5
    )
    assert np.allclose(1 / (1 + np.exp(-table["opacity"])), gaussians.opacities[0], atol=1e-5)
    assert np.allclose(stack(table, *(f"rot_{i}" for i in range(4))), gaussians.quaternions[0])
    color = 0.5 + 0.28209479177387814 * stack(table, *(f"f_dc_{i}" for i in range(3)))
    assert np.allclose(color, gaussians.colors[0], atol=1e-5)
    rest = stack(table, "nx", "ny", "nz", *(f"f_rest_{i}" for i in range(45)))
    assert (rest == 0).all()


def test_extremes_stay_finite_and_broken_rows_go(gaussians, tmp_path):
    gaussians.opacities[0, :2] = torch.tensor([0.0, 1.0])
    gaussians.scales[0, 2] = 0
    gaussians.means[0, 3] = torch.nan
    table = PlyData.read(write_ply(tmp_path / "a.ply", gaussians))["vertex"].data
    assert len(table) == 8
    assert all(np.isfinite(table[n]).all() for n in PROPERTIES)
    assert np.allclose(table["opacity"][:2], [-13.8, 13.8], atol=0.2)


def test_an_unwritable_place_is_one_sentence(gaussians, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        write_ply(tmp_path / "file" / "a.ply", gaussians)


def test_a_failed_write_keeps_the_old_file(gaussians, tmp_path, monkeypatch):
    from pathlib import Path

    path = write_ply(tmp_path / "a.ply", gaussians)
    old, write = path.read_bytes(), Path.write_bytes

    def full(self, data):
        write(self, data[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="No space left"):
        write_ply(path, gaussians)
    assert path.read_bytes() == old == ply_bytes(gaussians)
    assert [p.name for p in tmp_path.iterdir()] == ["a.ply"]
