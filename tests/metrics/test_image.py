"""Image metrics against independent references, region conventions, and silent failures."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from avatarzoo.errors import MissingAssetError
from avatarzoo.metrics import L1, LPIPS, MSSSIM, PSNR, SSIM, AvatarMetric, PerImageMetric
from avatarzoo.metrics.image import l1_per_image, psnr_per_image, ssim_per_image

Pair = tuple[torch.Tensor, torch.Tensor]
METRICS = [L1, PSNR, SSIM, MSSSIM]
PERFECT = {L1: 0.0, PSNR: 100.0, SSIM: 1.0, MSSSIM: 1.0}


@pytest.fixture
def pair() -> Pair:
    generator = torch.Generator().manual_seed(0)
    target = torch.nn.functional.interpolate(
        torch.rand(3, 3, 12, 12, generator=generator), 192, mode="bicubic"
    ).clamp(0, 1)
    noise = (
        torch.randn(target.shape, generator=generator) * torch.tensor([0.01, 0.05, 0.2])[:, None, None, None]
    )
    return (target + noise).clamp(0, 1), target


@pytest.fixture
def disc() -> torch.Tensor:
    """A round mask for each picture of the pair."""
    axis = torch.arange(192) - 95.5
    return (axis[:, None] ** 2 + axis**2 < 60**2).float().expand(3, 1, -1, -1)


def test_psnr_and_l1_equal_references(pair: Pair) -> None:
    prediction, target = (x.double().numpy() for x in pair)
    expected = [peak_signal_noise_ratio(b, a, data_range=1) for a, b in zip(prediction, target)]
    np.testing.assert_allclose(psnr_per_image(*pair).numpy(), expected, atol=1e-4)
    expected = np.abs(prediction - target).mean((1, 2, 3))
    np.testing.assert_allclose(l1_per_image(*pair).numpy(), expected, atol=1e-7)


@pytest.mark.parametrize(
    ("reduction", "value_range", "factor"),
    [("mean", "0..1", 1), ("channel_sum", "0..1", 3), ("mean", "-1..1", 2), ("channel_sum", "-1..1", 6)],
)
def test_l1_on_the_scales_papers_use(reduction, value_range, factor: int) -> None:
    metric = L1(reduction, value_range)
    metric.update(torch.full((1, 3, 4, 4), 0.25), torch.zeros(1, 3, 4, 4))
    assert metric.compute().item() == pytest.approx(0.25 * factor)
    assert (metric.label == "L1") == (factor == 1)


def test_masked_measures_only_the_mask(pair: Pair, disc: torch.Tensor) -> None:
    prediction, target = (x.double().permute(0, 2, 3, 1).numpy() for x in pair)
    inside = disc[0, 0].bool().numpy()
    pixels = [(a[inside], b[inside]) for a, b in zip(prediction, target)]
    for metric, reference in [
        (L1(region="masked"), [np.abs(a - b).mean() for a, b in pixels]),
        (PSNR(region="masked"), [10 * np.log10(1 / ((a - b) ** 2).mean()) for a, b in pixels]),
    ]:
        metric.update(*pair, disc)
        np.testing.assert_allclose(metric.per_image().numpy(), reference, atol=1e-4)


@pytest.mark.parametrize("background", [0.0, 1.0])
def test_composite_measures_the_whole_picture_on_one_grey_level(
    pair: Pair, disc: torch.Tensor, background: float
) -> None:
    prediction, target = (np.where(disc.numpy() > 0, x.double().numpy(), background) for x in pair)
    metric = SSIM(background=background)
    metric.update(*pair, disc)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = [
        structural_similarity(b, a, data_range=1, channel_axis=0, **options)
        for a, b in zip(prediction, target)
    ]
    np.testing.assert_allclose(metric.per_image().numpy(), expected, atol=1e-5)
    assert (metric.per_image() > ssim_per_image(*pair, mask=disc)).all(), (
        "constant surroundings count as similar"
    )


@pytest.mark.parametrize("kind", METRICS)
def test_what_lies_outside_a_mask_does_not_count(
    kind: type[PerImageMetric], pair: Pair, disc: torch.Tensor
) -> None:
    elsewhere = torch.where(disc > 0, pair[0], 1 - pair[0])
    values = []
    for prediction in (pair[0], elsewhere):
        metric = kind()
        metric.update(prediction, pair[1], disc)
        values.append(metric.per_image())
    assert torch.equal(*values)


@pytest.mark.parametrize("kind", METRICS)
@pytest.mark.parametrize("region", ["composite", "masked"])
def test_an_empty_mask_is_a_failure(kind, region: str, pair: Pair, disc: torch.Tensor) -> None:
    if kind is MSSSIM and region == "masked":
        with pytest.raises(ValueError, match="composite"):
            kind(region=region)
        return
    metric = kind(region=region)
    disc = disc.clone()
    disc[1] = 0
    metric.update(*pair, disc)
    assert metric.failures == 1
    assert torch.isfinite(metric.per_image()).tolist() == [True, False, True]


def test_metrics_average_pictures_not_pixels(pair: Pair) -> None:
    metric = PSNR()
    metric.update(*(x[:2] for x in pair))
    metric.update(*(x[2:] for x in pair))
    assert metric.compute().item() == pytest.approx(psnr_per_image(*pair).mean().item(), abs=1e-5)
    assert metric.per_image().shape == (3,)


@pytest.mark.parametrize("kind", METRICS)
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_broken_pictures_are_counted_not_scored(kind, side: int, value: float, pair: Pair) -> None:
    pair[side][1, 0, 0, 0] = value
    metric = kind()
    metric.update(*pair)
    assert metric.failures == 1
    assert torch.isfinite(metric.per_image()).tolist() == [True, False, True]
    assert math.isfinite(metric.compute().item())


@pytest.mark.parametrize("side", [0, 1])
def test_a_value_of_a_broken_picture_is_never_kept(side: int, pair: Pair) -> None:
    """Also where the measure itself does not notice, like a face found beside the broken pixel."""

    class Blind(AvatarMetric):
        def score(self, prediction, reference, mask):
            return torch.zeros(len(prediction))

    pair[side][1, 0, 0, 0] = math.nan
    metric = Blind()
    metric.update(*pair)
    assert metric.failures == 1


@pytest.mark.parametrize("kind", METRICS)
def test_a_black_video_is_finite_and_far_from_perfect(kind, pair: Pair) -> None:
    metric = kind()
    metric.update(torch.zeros_like(pair[1]), pair[1])
    assert metric.failures == 0
    assert metric.higher_is_better == (PERFECT[kind] > 0)
    limit = {L1: 0.3, PSNR: 12, SSIM: 0.3, MSSSIM: 0.3}[kind]
    assert (metric.compute().item() < limit) == metric.higher_is_better
    perfect = kind()
    perfect.update(pair[1], pair[1])
    assert perfect.compute().item() == pytest.approx(PERFECT[kind], abs=1e-5)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p, t, m: (p, t * 255, m), "0, 1"),
        (lambda p, t, m: (p * 2 - 1, t, m), "0, 1"),
        (lambda p, t, m: ((p * 255).to(torch.uint8), t, m), "floating point"),
        (lambda p, t, m: (p[..., :96], t, m), "differ in shape"),
        (lambda p, t, m: (p[:2], t, m), "differ in shape"),
        (lambda p, t, m: (p[:, :1], t[:, :1], m), "B, 3, H, W"),
        (lambda p, t, m: (p[0], t[0], m), "B, 3, H, W"),
        (lambda p, t, m: (p[:0], t[:0], m[:0]), "at least 1"),
        (lambda p, t, m: (p, t, m[:, 0]), "mask"),
        (lambda p, t, m: (p, t, m[..., :96]), "mask"),
        (lambda p, t, m: (p, t, m[:1]), "mask"),
        (lambda p, t, m: (p, t, 255 * m), "mask"),
        (lambda p, t, m: (p, t, m * math.nan), "mask"),
    ],
)
def test_wrong_range_and_shape_are_refused(spoil, message: str, pair: Pair, disc: torch.Tensor) -> None:
    metric = PSNR()
    with pytest.raises(ValueError, match=message):
        metric.update(*spoil(*pair, disc))
    assert not metric.per_image().numel()


def test_one_wrong_picture_of_a_batch_is_refused(pair: Pair) -> None:
    """Also beside a picture that is broken."""
    pair[0][0] = math.nan
    pair[0][2] *= 255
    with pytest.raises(ValueError, match="prediction must be in"):
        PSNR().update(*pair)


def test_boolean_masks_and_half_precision_are_fine(pair: Pair, disc: torch.Tensor) -> None:
    metric, expected = PSNR(), PSNR()
    metric.update(*(x.half() for x in pair), disc.bool())
    expected.update(*(x.half().float() for x in pair), disc)
    assert metric.compute() == expected.compute()


def test_unknown_variants_are_refused() -> None:
    for make in (
        lambda: L1("sum"),
        lambda: L1(value_range="0..255"),
        lambda: PSNR(region="crop"),
        lambda: LPIPS("squeeze"),
    ):
        with pytest.raises(ValueError, match="not '"):
            make()


def test_lpips_never_uses_random_weights(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("AVATARZOO_ASSETS", str(tmp_path))
    monkeypatch.setenv("AVATARZOO_CACHE", str(tmp_path))
    with pytest.raises(MissingAssetError, match="alexnet"):
        LPIPS("alex")


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_lpips_loads_real_weight_files(monkeypatch: pytest.MonkeyPatch, tmp_path, pair: Pair, net) -> None:
    """With a file in torchvision's layout the network runs, and its value is the lpips package's for the same weights."""
    import lpips
    import torchvision

    from avatarzoo import assets

    torch.manual_seed(0)
    names = {"alex": "alexnet", "vgg": "vgg16"}
    with torch.device("meta"):
        layers = getattr(torchvision.models, names[net])().features.state_dict()
    layers = {key: torch.randn(value.shape) / value[0].numel() ** 0.5 for key, value in layers.items()}
    torch.save({f"features.{key}": value for key, value in layers.items()}, tmp_path / "weights.pth")
    monkeypatch.setattr(assets, "find", lambda name: tmp_path / "weights.pth" if name == names[net] else None)
    pictures = [torch.cat((x, x.flip(3)))[..., :64, :64] for x in pair]  # more than one chunk
    metric = LPIPS(net)
    metric.update(*pictures)
    reference = lpips.LPIPS(net=net, pnet_rand=True, verbose=False).eval()
    for key, value in reference.net.state_dict().items():
        value.copy_(layers[key.split(".", 1)[1]])
    with torch.no_grad():
        expected = reference(*pictures, normalize=True).flatten()
    torch.testing.assert_close(metric.per_image(), expected, atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="composite"):
        LPIPS(net, region="masked")


@pytest.mark.media
def test_real_frames_equal_scikit_image() -> None:
    """A real face, 512 x 512, and the same one pixel to the side."""
    if "AVATARZOO_MEDIA" not in os.environ:
        pytest.skip("AVATARZOO_MEDIA does not name a folder of real clips")
    from torchvision.io import read_image

    picture = read_image(str(Path(os.environ["AVATARZOO_MEDIA"]) / "image" / "astronaut_512.png"))[:3]
    target = picture[None] / 255
    prediction = target.roll(1, -1)
    a, b = (x[0].double().numpy() for x in (prediction, target))
    assert psnr_per_image(prediction, target).item() == pytest.approx(
        peak_signal_noise_ratio(b, a, data_range=1), abs=1e-4
    )
    assert ssim_per_image(prediction, target, preset="skimage_uniform").item() == pytest.approx(
        structural_similarity(b, a, data_range=1, channel_axis=0), abs=1e-4
    )
