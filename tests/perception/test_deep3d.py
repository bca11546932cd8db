"""Deep3D coefficients on files that the tests make themselves: no weights of the authors are here."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
import torchvision
from scipy.io import savemat

from avatarzoo import assets
from avatarzoo.errors import MissingAssetError, UnsafeCheckpointError
from avatarzoo.perception import deep3d


@pytest.fixture(scope="module")
def parts() -> tuple[torch.nn.Module, list[torch.nn.Conv2d]]:
    torch.manual_seed(0)
    trunk = torchvision.models.resnet50()
    return trunk, [torch.nn.Conv2d(2048, width, 1) for width in (80, 64, 80, 3, 27, 2, 1)]


@pytest.fixture
def checkpoint(parts, tmp_path, monkeypatch):
    """``epoch_20.pth`` with random weights, as its authors lay it out."""
    trunk, layers = parts
    state = {f"backbone.{k}": v for k, v in trunk.state_dict().items() if not k.startswith("fc.")}
    for n, layer in enumerate(layers):
        state |= {f"final_layers.{n}.{k}": v for k, v in layer.state_dict().items()}
    torch.save({"net_recon": state, "opt_00": {"state": {}, "param_groups": []}}, tmp_path / "epoch_20.pth")
    monkeypatch.setenv("AVATARZOO_ASSETS", str(tmp_path))
    monkeypatch.setenv("AVATARZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "epoch_20.pth"


@pytest.fixture
def standard() -> np.ndarray:
    return np.array(
        [[-0.31, 0.29, 0.13], [0.31, 0.29, 0.13], [0.0, 0.0, 0.4], [-0.26, -0.33, 0.2], [0.26, -0.33, 0.2]]
    )


def test_the_network_is_torchvisions_trunk_and_seven_heads(parts, checkpoint) -> None:
    trunk, layers = parts
    crops = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    got = deep3d.load_deep3d()(crops)
    with torch.no_grad():
        seen = {}
        trunk.eval().avgpool.register_forward_hook(lambda *a: seen.update(x=a[2]))
        trunk(crops)
        expected = torch.cat([layer(seen["x"])[:, :, 0, 0] for layer in layers], 1)
    assert torch.allclose(got, expected, atol=1e-5)
    named = deep3d.split(got)
    assert [x.shape[1] for x in named] == [80, 64, 80, 3, 27, 3]
    assert torch.equal(named.expression, got[:, 80:144])
    assert torch.equal(named.angles, got[:, 224:227])
    assert torch.equal(named.translation, got[:, 254:257])


def test_alignment_undoes_a_known_orthographic_camera(standard) -> None:
    """80 pixels a unit, the origin at (150.5, 90.25): 102 / 80 of zoom, the origin in the middle of the crop."""
    seen = np.stack([150.5 + 80 * standard[:, 0], 90.25 - 80 * standard[:, 1]], 1)[None]
    crop = deep3d.alignment(seen, standard)
    assert crop.matrix[0].numpy() == pytest.approx(
        np.array([[1.275, 0, 112 - 1.275 * 150.5], [0, 1.275, 112 - 1.275 * 90.25]]), abs=1e-9
    )
    middle = crop.points(torch.tensor([[[150.5, 90.25]]], dtype=torch.float64))
    assert middle.flatten().tolist() == pytest.approx([112, 112])


def test_standard_landmarks_come_from_the_68(tmp_path, monkeypatch) -> None:
    points = np.arange(204.0).reshape(68, 3) ** 1.5
    savemat(tmp_path / "similarity_Lm3D_all.mat", {"lm": points})
    monkeypatch.setenv("AVATARZOO_ASSETS", str(tmp_path))
    got = deep3d.standard_landmarks()
    assert np.allclose(got[0], (points[36] + points[39]) / 2)
    assert np.allclose(got[2:], points[[30, 48, 54]])
    savemat(tmp_path / "similarity_Lm3D_all.mat", {"lm": points[:5]})
    with pytest.raises(MissingAssetError, match="68 landmarks"):
        deep3d.standard_landmarks()


def test_estimate_looks_at_the_aligned_crop_and_leaves_lost_faces_nan(standard) -> None:
    class Means(torch.nn.Linear):
        def forward(self, crops):
            assert crops.shape[1:] == (3, 224, 224)
            self.crops = crops
            return crops.mean((2, 3)).repeat(1, 86)[:, :257]

    network = Means(1, 1)
    pictures = torch.zeros(3, 3, 300, 300)
    pictures[0, 0], pictures[1, 1] = 0.2, 0.6
    pictures[0, :, 148:153, 98:103] = 1.0  # a mark round the origin's place
    points = np.stack([100.5 + 100 * standard[:, 0], 150.5 - 100 * standard[:, 1]], 1)[None].repeat(3, 0)
    points[1] = np.nan
    got = deep3d.estimate(network, pictures, points, standard)
    assert torch.isnan(got[1]).all()
    assert got[0, 0] > 0.15
    assert got[2].abs().max() == 0
    assert network.crops[0, 1].nonzero().float().add(0.5).mean(0).tolist() == pytest.approx(
        [112, 112], abs=0.6
    )


def test_what_is_missing_damaged_or_strange_is_one_sentence(checkpoint, tmp_path, monkeypatch) -> None:
    with pytest.raises(MissingAssetError, match="similarity_Lm3D_all"):
        deep3d.standard_landmarks()
    torch.save({"net_recon": {"other.weight": torch.zeros(1)}}, checkpoint)
    with pytest.raises(MissingAssetError, match="net_recon"):
        deep3d.load_deep3d()
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MissingAssetError, match="damaged"):
        deep3d.load_deep3d()
    checkpoint.write_bytes(pickle.dumps(torch.nn.Identity))
    with pytest.raises(UnsafeCheckpointError):
        deep3d.load_deep3d()
    checkpoint.unlink()
    with pytest.raises(MissingAssetError, match=r"epoch_20\.pth"):
        deep3d.load_deep3d()


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


def test_code_in_the_file_is_not_executed(checkpoint, capsys) -> None:
    torch.save({"net_recon": Evil()}, checkpoint)
    with pytest.raises(UnsafeCheckpointError, match="not loaded"):
        deep3d.load_deep3d()
    assert "executed" not in capsys.readouterr().out


def test_the_assets_say_how_to_obtain_them() -> None:
    for name in ("deep3d", "deep3d-landmarks"):
        assert "Deep3DFaceRecon" in (assets.describe(name).obtain or "")
