"""SSIM and MS-SSIM against scikit-image and a direct float64 computation with scipy, on noise and on real pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate
from skimage import data
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import structural_similarity_index_measure

from avatarzoo.metrics import MSSSIM, SSIM
from avatarzoo.metrics.ssim import PRESETS, SCALE_WEIGHTS, ms_ssim_per_image, ssim_per_image

WINDOW = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
WINDOW = np.outer(WINDOW, WINDOW) / WINDOW.sum() ** 2


def maps64(a: np.ndarray, b: np.ndarray, mode: str) -> tuple[np.ndarray, np.ndarray]:
    """Luminance and contrast map of one channel by the definition: one two-dimensional sum per pixel, float64."""

    def mean(x: np.ndarray) -> np.ndarray:
        full = correlate(x, WINDOW, mode="constant" if mode == "valid" else mode)
        return full[5:-5, 5:-5] if mode == "valid" else full

    mean_a, mean_b = mean(a), mean(b)
    variance_a, variance_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    covariance = mean(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
    return luminance, (2 * covariance + 9e-4) / (variance_a + variance_b + 9e-4)


def ssim64(a: np.ndarray, b: np.ndarray, mode: str) -> np.ndarray:
    return np.stack([np.multiply(*maps64(x, y, mode)) for x, y in zip(a, b)])


def ms_ssim64(a: np.ndarray, b: np.ndarray) -> float:
    values = []
    for x, y in zip(a, b):
        product = 1.0
        for scale, weight in enumerate(SCALE_WEIGHTS):
            luminance, contrast = maps64(x, y, "valid")
            product *= (contrast if scale < 4 else luminance * contrast).mean() ** weight
            x, y = (
                sum(
                    z[i : z.shape[0] // 2 * 2 : 2, j : z.shape[1] // 2 * 2 : 2]
                    for i in (0, 1)
                    for j in (0, 1)
                )
                / 4
                for z in (x, y)
            )
        values.append(product)
    return float(np.mean(values))


@pytest.fixture(scope="module", params=["noise", "portrait"])
def pair(request: pytest.FixtureRequest) -> tuple[torch.Tensor, torch.Tensor]:
    """Three damaged pictures and the originals, 190 x 203: odd sides do not divide by two."""
    generator = torch.Generator().manual_seed(0)
    if request.param == "noise":
        target = torch.rand(3, 3, 190, 203, generator=generator)
    else:
        portrait = torch.from_numpy(data.astronaut()[:190, 120:323].copy()).permute(2, 0, 1)[None] / 255
        target = portrait.expand(3, -1, -1, -1)
    strength = torch.tensor([0.01, 0.05, 0.2])[:, None, None, None]
    return (target + strength * torch.randn(target.shape, generator=generator)).clamp(0, 1), target


def arrays(pair: tuple[torch.Tensor, torch.Tensor]) -> list[list[np.ndarray]]:
    return [[x[i].double().numpy() for x in pair] for i in range(3)]


@pytest.mark.parametrize(
    ("preset", "options"),
    [
        ("valid", {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}),
        ("skimage_uniform", {}),
    ],
)
def test_presets_without_borders_equal_scikit_image(pair, preset: str, options: dict) -> None:
    values = ssim_per_image(*pair, preset=preset)
    expected = [structural_similarity(b, a, data_range=1, channel_axis=0, **options) for a, b in arrays(pair)]
    np.testing.assert_allclose(values.numpy(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("preset", "mode"), [("valid", "valid"), ("zero_padded", "constant"), ("torchmetrics", "mirror")]
)
def test_gaussian_presets_equal_the_definition_in_float64(pair, preset: str, mode: str) -> None:
    values = ssim_per_image(*pair, preset=preset)
    expected = [ssim64(a, b, mode).mean() for a, b in arrays(pair)]
    np.testing.assert_allclose(values.numpy(), expected, atol=1e-5, rtol=0)


def test_torchmetrics_preset_is_torchmetrics(pair) -> None:
    expected = structural_similarity_index_measure(
        *(x.double() for x in pair), data_range=1.0, reduction="none"
    )
    torch.testing.assert_close(
        ssim_per_image(*pair, preset="torchmetrics").double(), expected, atol=1e-5, rtol=0
    )


def test_presets_differ(pair) -> None:
    """A preset that silently did what another does would make two papers' numbers look comparable."""
    values = [ssim_per_image(*pair, preset=preset)[2].item() for preset in PRESETS]
    assert len({round(value, 6) for value in values}) == len(PRESETS)


@pytest.mark.parametrize(
    ("preset", "mode", "border"), [("valid", "valid", 5), ("zero_padded", "constant", 0)]
)
def test_masked_ssim_averages_the_map_over_the_mask(pair, preset: str, mode: str, border: int) -> None:
    mask = torch.zeros(3, 1, *pair[0].shape[-2:])
    mask[:, :, 3:80, 20:101] = 1
    mask[:, :, 80:90, 20:60] = 0.5
    cropped = mask[0, 0, border : 190 - border, border : 203 - border].double().numpy()
    expected = [(ssim64(a, b, mode).mean(0) * cropped).sum() / cropped.sum() for a, b in arrays(pair)]
    np.testing.assert_allclose(
        ssim_per_image(*pair, mask=mask, preset=preset).numpy(), expected, atol=1e-5, rtol=0
    )


def test_a_mask_that_lies_in_the_border_only_is_a_failure(pair) -> None:
    mask = torch.zeros(3, 1, *pair[0].shape[-2:])
    mask[..., :4, :] = 1
    metric = SSIM(region="masked")
    metric.update(*pair, mask)
    assert metric.failures == 3
    assert torch.isnan(metric.compute())


def test_ms_ssim_equals_the_definition_in_float64(pair) -> None:
    expected = [ms_ssim64(a, b) for a, b in arrays(pair)]
    np.testing.assert_allclose(ms_ssim_per_image(*pair).numpy(), expected, atol=1e-5, rtol=0)


def test_ms_ssim_of_opposite_pictures_is_zero() -> None:
    picture = torch.rand(1, 3, 176, 176, generator=torch.Generator().manual_seed(0))
    assert ms_ssim_per_image(1 - picture, picture).item() == 0


def test_small_pictures_and_unknown_presets_are_refused() -> None:
    tiny, small = torch.rand(1, 3, 10, 64), torch.rand(1, 3, 175, 512)
    with pytest.raises(ValueError, match="at least 11 pixels"):
        SSIM().update(tiny, tiny)
    with pytest.raises(ValueError, match="176x176"):
        MSSSIM().update(small, small)
    with pytest.raises(ValueError, match="zero_padded"):
        SSIM(preset="same")  # type: ignore[arg-type]
