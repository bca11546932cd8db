"""Frechet distance against a direct float64 computation, and the ways in which FID could lie."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from skimage import data
from torch import nn

from avatarzoo.errors import MissingAssetError
from avatarzoo.metrics import FID, FrechetDistance
from avatarzoo.metrics.distribution import frechet_distance
from avatarzoo.perception.inception import InceptionFeatures


class Patches(nn.Module):
    """Features of a picture: random projections of it, 8x8, squashed."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        weight = torch.randn(width, 192, generator=torch.Generator().manual_seed(0))
        self.register_buffer("weight", weight / 8)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return (nn.functional.adaptive_avg_pool2d(pictures, 8).flatten(1) @ self.weight.T).tanh()


def direct(a: np.ndarray, b: np.ndarray) -> float:
    """The definition, with a matrix square root."""
    root = sqrtm(np.cov(a, rowvar=False) @ np.cov(b, rowvar=False)).real
    traces = np.trace(np.cov(a, rowvar=False)) + np.trace(np.cov(b, rowvar=False))
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + traces - 2 * np.trace(root))


def features(pictures: torch.Tensor) -> np.ndarray:
    return Patches()(pictures).double().numpy()


def distance() -> FrechetDistance:
    return FrechetDistance(Patches(), 16, "Frechet distance of patches")


@pytest.fixture(params=["noise", "portrait"])
def sets(request: pytest.FixtureRequest) -> tuple[torch.Tensor, torch.Tensor]:
    """Two sets of 64 pictures."""
    generator = torch.Generator().manual_seed(1)
    if request.param == "noise":
        a = torch.rand(64, 3, 16, 16, generator=generator)
        return a, torch.rand(64, 3, 16, 16, generator=generator) ** 1.5
    face = torch.from_numpy(data.astronaut()).permute(2, 0, 1) / 255
    corners = torch.randint(0, 440, (2, 64, 2), generator=generator).tolist()
    a, b = (torch.stack([face[:, y : y + 64, x : x + 64] for y, x in side]) for side in corners)
    return a * 0.8, b


def test_distance_equals_the_definition(sets: tuple[torch.Tensor, torch.Tensor]) -> None:
    metric = distance()
    for start in (0, 10, 40):  # batches of any size
        stop = {0: 10, 10: 40, 40: 64}[start]
        metric.update(*(x[start:stop] for x in sets))
    expected = direct(*map(features, sets))
    assert metric.compute().item() == pytest.approx(expected, rel=1e-6)
    assert metric.failures == 0
    assert not metric.per_image().numel()


def test_distance_without_full_rank_equals_the_definition() -> None:
    """Fewer samples than features: the root of the product is taken on the span only."""
    generator = torch.Generator().manual_seed(2)
    a, b = torch.randn(2, 40, 128, generator=generator, dtype=torch.float64) * 3 + 5
    b = b + 0.5
    # trace of (A B)^(1/2) is the sum of the singular values of the product of the centred samples
    x, y = ((z - z.mean(0)).numpy() / math.sqrt(39) for z in (a, b))
    spread = (x**2).sum() + (y**2).sum() - 2 * np.linalg.svd(x @ y.T, compute_uv=False).sum()
    expected = ((a - b).mean(0) ** 2).sum().item() + spread
    result = frechet_distance(a.mean(0), a.T.cov(), b.mean(0), b.T.cov())
    assert result.item() == pytest.approx(expected, rel=1e-6)


def test_distance_of_gaussians_known_in_closed_form() -> None:
    mean, variances = torch.tensor([3.0, 4.0]), torch.tensor([4.0, 9.0]).diag()
    value = frechet_distance(mean, variances, torch.zeros(2), torch.eye(2))
    assert value.item() == pytest.approx(25 + (2 - 1) ** 2 + (3 - 1) ** 2)


def test_a_set_has_no_distance_to_itself(sets: tuple[torch.Tensor, torch.Tensor]) -> None:
    metric = distance()
    metric.update(sets[1], sets[1].flip(0))
    assert metric.compute().item() == pytest.approx(0, abs=1e-6)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")  # that of torchmetrics, beside our error
def test_sets_of_different_size() -> None:
    generator = torch.Generator().manual_seed(3)
    a, b = torch.rand(50, 3, 8, 8, generator=generator), torch.rand(33, 3, 8, 8, generator=generator)
    metric = distance()
    metric.add_reference(b)
    metric.add_prediction(a[:20])
    metric.add_prediction(a[20:])
    first = metric.compute().item()
    assert first == pytest.approx(direct(features(a), features(b)), rel=1e-6)
    metric.add_prediction(1 - a)  # a value computed before is not kept
    assert metric.compute().item() != first
    metric.reset()
    with pytest.raises(ValueError, match="0 predictions and 0 references"):
        metric.compute()


def test_broken_pictures_are_left_out_and_counted(sets: tuple[torch.Tensor, torch.Tensor]) -> None:
    a, b = (x.clone() for x in sets)
    a[3, 0, 0, 0], b[5, 1, 2, 2] = math.nan, math.inf
    metric = distance()
    metric.update(a, b)
    assert metric.failures == 2
    expected = direct(features(sets[0])[np.arange(64) != 3], features(sets[1])[np.arange(64) != 5])
    assert metric.compute().item() == pytest.approx(expected, rel=1e-6)
    nothing = distance()
    nothing.update(a[3:4], b[5:6])
    assert nothing.failures == 2


def test_pictures_without_features_are_left_out_and_counted(sets: tuple[torch.Tensor, torch.Tensor]) -> None:
    class NoFace(Patches):
        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            found = super().forward(pictures)
            found[0] = math.nan
            return found

    metric = FrechetDistance(NoFace(), 16, "Frechet distance of faces")
    metric.update(*sets)
    assert metric.failures == 2
    expected = direct(*(features(x)[1:] for x in sets))
    assert metric.compute().item() == pytest.approx(expected, rel=1e-6)


def test_an_empty_mask_is_counted_and_a_mask_composited(sets: tuple[torch.Tensor, torch.Tensor]) -> None:
    mask = torch.zeros(64, 1, *sets[0].shape[-2:])
    mask[:-1, :, : mask.shape[-2] // 2] = 1
    metric = distance()
    metric.update(*sets, mask)
    assert metric.failures == 2
    expected = direct(*(features((x * mask + 1 - mask)[:-1]) for x in sets))
    assert metric.compute().item() == pytest.approx(expected, rel=1e-6)


def test_a_black_video_is_far_away(sets: tuple[torch.Tensor, torch.Tensor]) -> None:
    values = []
    for prediction in (sets[0], torch.zeros_like(sets[0])):
        metric = distance()
        metric.update(prediction, sets[1])
        values.append(metric.compute().item())
    assert math.isfinite(values[1])
    assert values[1] > 2 * values[0]


def test_too_few_pictures_are_an_error() -> None:
    metric = distance()
    metric.update(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8))
    with pytest.raises(ValueError, match="at least 2"):
        metric.compute()


def test_fewer_pictures_than_features_are_said() -> None:
    metric = distance()
    metric.update(torch.rand(16, 3, 8, 8), torch.rand(16, 3, 8, 8))
    assert metric.note
    with pytest.warns(UserWarning, match="16 pictures and 16 features"):
        metric.compute()
    metric.update(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metric.compute()
    assert metric.note is None


def test_wrong_input_is_refused() -> None:
    picture = torch.rand(2, 3, 8, 8)
    metric = distance()
    for arguments in [
        (255 * picture, picture),
        (picture, picture[:1]),
        (picture, picture, torch.ones(2, 8, 8)),
    ]:
        with pytest.raises(ValueError, match=r"0, 1|differ|mask"):
            metric.update(*arguments)
    with pytest.raises(ValueError, match="prediction must be in"):
        metric.add_prediction(2 * picture + 1)
    with pytest.raises(ValueError, match="state its width"):
        FrechetDistance(Patches(), 8, "Frechet distance of patches").add_reference(picture)


def test_fid_is_inception_only(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("AVATARZOO_ASSETS", str(tmp_path))
    monkeypatch.setenv("AVATARZOO_CACHE", str(tmp_path))
    with pytest.raises(MissingAssetError, match="inception"):
        FID()
    with pytest.raises(ValueError, match="FrechetDistance"):
        FID(Patches())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "label"),
    [({}, "FID"), ({"antialias": True, "quantise": False}, "FID (antialiased, not quantised)")],
)
def test_fid_says_how_pictures_are_prepared(options: dict, label: str) -> None:
    trunk = nn.Sequential(nn.AdaptiveAvgPool2d(8), nn.Flatten(), nn.Linear(192, 2048))
    metric = FID(InceptionFeatures(trunk, **options))
    assert metric.label == label
    metric.update(torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64))
    assert metric.prediction_products.dtype == torch.float64
    assert int(metric.prediction_count) == 2
