"""The Inception network of FID: what it loads, and what it does to pictures before the first layer.

The published weights are not in the repository; the tests write a file of the same layout with random numbers.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from avatarzoo import assets
from avatarzoo.errors import MissingAssetError
from avatarzoo.perception.inception import InceptionFeatures, load_inception


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain state dict in the published file's layout."""
    from torch_fidelity import feature_extractor_inceptionv3 as library

    with pytest.MonkeyPatch.context() as patch:  # an empty network: nothing to load, nothing to download
        patch.setattr(library, "load_state_dict_from_url", lambda *a, **k: {})
        patch.setattr(library.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        network = library.FeatureExtractorInceptionV3("inception", ["2048"])
    generator = torch.Generator().manual_seed(0)
    state = network.state_dict()
    for key, value in state.items():
        if key.endswith("conv.weight"):
            value.copy_(torch.randn(value.shape, generator=generator) * (2 / value[0].numel()) ** 0.5)
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(state, path)
    return path


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch, weights: Path) -> Path:
    monkeypatch.setattr(assets, "find", lambda name: {"inception": weights}[name])
    return weights


def test_features_equal_the_library(published: Path) -> None:
    """torch-fidelity itself on the same weights and 8-bit pictures: bit for bit."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    pictures = torch.rand(2, 3, 140, 120, generator=torch.Generator().manual_seed(1))
    library = FeatureExtractorInceptionV3(
        "inception", ["2048"], feature_extractor_weights_path=str(published)
    )
    expected = library((255 * pictures).round().to(torch.uint8))[0]
    network = load_inception()
    features = network(pictures)
    assert features.shape == (2, 2048)
    assert features.std() > 0.01
    torch.testing.assert_close(features, expected, atol=1e-6, rtol=1e-6)
    network.quantise = False
    assert not torch.allclose(network(pictures), expected, atol=1e-6, rtol=1e-6)
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())


def test_missing_weights_are_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AVATARZOO_ASSETS", str(tmp_path))
    monkeypatch.setenv("AVATARZOO_CACHE", str(tmp_path))
    with pytest.raises(MissingAssetError, match="avatarzoo assets fetch inception"):
        load_inception()


class _Trap:
    def __reduce__(self):
        return (io.open, ("trapped", "w"))


def test_a_file_with_code_in_it_is_not_executed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The library unpickles without restrictions; it must never see the file itself."""
    monkeypatch.chdir(tmp_path)
    torch.save({"Conv2d_1a_3x3.conv.weight": torch.zeros(1), "x": _Trap()}, tmp_path / "weights.pth")
    monkeypatch.setattr(assets, "find", lambda name: tmp_path / "weights.pth")
    with pytest.raises(Exception, match=r"(?i)weights.only"):
        load_inception()
    assert not (tmp_path / "trapped").exists()


def test_default_resize_is_tensorflow_one_without_antialias() -> None:
    """Output pixel i reads at i * size / 299 (first pixels aligned, no filter); written out for one picture."""
    picture = torch.rand(1, 3, 450, 600, generator=torch.Generator().manual_seed(2))
    levels = (255 * picture).round()[0].double().numpy()
    expected = levels
    for axis in (1, 2):
        size = expected.shape[axis]
        position = np.arange(299) * (size / 299)
        low = np.floor(position).astype(int)
        weight = (position - low).reshape((-1, 1) if axis == 1 else (1, -1))
        high = np.minimum(low + 1, size - 1)
        expected = expected.take(low, axis) * (1 - weight) + expected.take(high, axis) * weight
    result = InceptionFeatures(nn.Identity())(picture)[0].double().numpy()
    # TensorFlow keeps positions in float32: 600 * 2^-24 pixels off, times the step between neighbours
    np.testing.assert_allclose(result, (expected - 128) / 128, atol=3e-4)


def test_antialias_is_the_filter_of_pillow() -> None:
    picture = torch.rand(1, 3, 600, 450, generator=torch.Generator().manual_seed(3))
    levels = (255 * picture).round()[0].numpy()
    expected = [
        np.asarray(Image.fromarray(x, mode="F").resize((299, 299), Image.Resampling.BICUBIC)) for x in levels
    ]
    result = InceptionFeatures(nn.Identity(), antialias=True)(picture)[0].numpy()
    np.testing.assert_allclose(result, (np.stack(expected) - 128) / 128, atol=1e-4)


def test_pictures_are_rounded_to_eight_bits_unless_told_otherwise() -> None:
    picture = torch.full((1, 3, 299, 299), 100.4 / 255)
    assert InceptionFeatures(nn.Identity())(picture).unique().tolist() == [(100 - 128) / 128]
    exact = InceptionFeatures(nn.Identity(), quantise=False)(picture)
    assert exact.mean().item() == pytest.approx((100.4 - 128) / 128, abs=1e-6)
    over = InceptionFeatures(nn.Identity(), quantise=False)(torch.full((1, 3, 299, 299), 1.0009))
    assert over.max().item() == (255 - 128) / 128, "a renderer's overshoot is no colour"
