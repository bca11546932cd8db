"""Metrics against independent references and against silent failures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from avatarzoo.errors import MissingAssetError
from avatarzoo.metrics import L1, LPIPS, PSNR, SSIM
from avatarzoo.metrics.image import psnr_per_image, ssim_per_image


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = torch.nn.functional.interpolate(
        torch.rand(3, 3, 12, 12, generator=generator), 64, mode="bicubic"
    ).clamp(0, 1)
    noise = (
        torch.randn(target.shape, generator=generator) * torch.tensor([0.01, 0.05, 0.2])[:, None, None, None]
    )
    return (target + noise).clamp(0, 1), target


def test_psnr_and_ssim_equal_scikit_image(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    prediction, target = pair
    for i in range(3):
        a, b = (x[i].permute(1, 2, 0).double().numpy() for x in (prediction, target))
        assert psnr_per_image(prediction, target)[i].item() == pytest.approx(
            peak_signal_noise_ratio(b, a, data_range=1), abs=1e-4
        )
        reference = structural_similarity(
            b, a, data_range=1, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        # scikit-image crops a border of 5 pixels, torchmetrics does the same before averaging
        assert ssim_per_image(prediction, target)[i].item() == pytest.approx(reference, abs=1e-4)


def test_metrics_average_pictures_not_pixels(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    metric = PSNR()
    metric.update(*(x[:2] for x in pair))
    metric.update(*(x[2:] for x in pair))
    assert metric.compute().item() == pytest.approx(psnr_per_image(*pair).mean().item(), abs=1e-5)
    assert metric.per_image().shape == (3,)


def test_l1_is_the_mean_absolute_error() -> None:
    metric = L1()
    metric.update(torch.full((1, 3, 4, 4), 0.25), torch.zeros(1, 3, 4, 4))
    assert metric.compute().item() == pytest.approx(0.25)


def test_broken_pictures_are_counted_not_scored(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    prediction, target = pair
    prediction[1, 0, 0, 0] = torch.nan
    metric = SSIM()
    metric.update(prediction, target)
    assert metric.failures == 1
    assert np.isfinite(metric.compute().item())


@pytest.mark.parametrize("scale", [255.0, -1.0])
def test_wrong_range_is_refused(pair: tuple[torch.Tensor, torch.Tensor], scale: float) -> None:
    with pytest.raises(ValueError, match="0, 1"):
        PSNR().update(pair[0], pair[1] * scale)


def test_lpips_never_uses_random_weights(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("AVATARZOO_ASSETS", str(tmp_path))
    monkeypatch.setenv("AVATARZOO_CACHE", str(tmp_path))
    with pytest.raises(MissingAssetError, match="alexnet"):
        LPIPS("alex")


def test_lpips_loads_real_weight_files(monkeypatch: pytest.MonkeyPatch, tmp_path, pair) -> None:
    """With a file in torchvision's layout the network runs, and its value is the lpips package's for the same weights."""
    import lpips
    import torchvision

    from avatarzoo import assets

    torch.manual_seed(0)
    backbone = torchvision.models.alexnet()
    torch.save(backbone.state_dict(), tmp_path / "weights.pth")
    monkeypatch.setattr(assets, "find", lambda name: tmp_path / "weights.pth")
    metric = LPIPS("alex")
    metric.update(*pair)
    reference = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
    for key, value in reference.net.state_dict().items():
        value.copy_(backbone.features.state_dict()[key.split(".", 1)[1]])
    with torch.no_grad():
        expected = reference(*pair, normalize=True).mean()
    assert metric.compute().item() == pytest.approx(expected.item(), abs=1e-6)
