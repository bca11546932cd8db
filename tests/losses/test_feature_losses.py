"""The VGG19 feature loss and its stand-in."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from avatarzoo.assets import locate
from avatarzoo.errors import MissingAssetError
from avatarzoo.losses.multiscale import multiscale_loss
from avatarzoo.losses.vgg19 import SLICES, VGG19Loss, slices_of


def test_missing_weights_are_an_error_that_names_the_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    monkeypatch.delenv("AVATARZOO_ASSETS", raising=False)
    monkeypatch.setenv("AVATARZOO_CACHE", str(tmp_path))
    with pytest.raises(MissingAssetError, match="fetch vgg19"):
        VGG19Loss()


def test_slices_end_at_the_first_rectifier_of_each_block() -> None:
    """relu1_1 ... relu5_1 see pictures of side 1, 1/2, ... 1/16 with 64, 128, 256, 512, 512 channels."""
    from torchvision.models import vgg19

    with torch.device("meta"):
        features = vgg19(weights=None).features
    parts = slices_of(features)
    assert [len(part) for part in parts] == [b - a for a, b in zip((0, *SLICES), SLICES)]
    assert all(isinstance(part[-1], nn.ReLU) for part in parts)
    x, sides, widths = torch.zeros(1, 3, 32, 32, device="meta"), [], []
    for part in parts:
        x = part(x)
        sides.append(x.shape[-1])
        widths.append(x.shape[1])
    assert sides == [32, 16, 8, 4, 2]
    assert widths == [64, 128, 256, 512, 512]


@pytest.mark.assets
def test_vgg_loss_prefers_the_picture_to_its_noise() -> None:
    if locate("vgg19") is None:
        pytest.skip("the weights are not on this machine")
    loss, picture = VGG19Loss(), torch.rand(1, 3, 32, 32)
    assert loss(picture, picture) == 0
    near, far = loss(picture * 0.95, picture), loss(torch.rand_like(picture), picture)
    assert 0 < near < far


def test_multiscale_loss_by_hand() -> None:
    """A constant error c has no slope: c at each of the smaller scales, none at the largest."""
    target = torch.rand(2, 3, 64, 64)
    assert multiscale_loss(target, target) == 0
    assert multiscale_loss(target + 0.1, target).item() == pytest.approx(0.1 * 3 / 4, abs=1e-6)
    assert multiscale_loss(target + 0.1, target, scales=1).item() == pytest.approx(0, abs=1e-6)
    step = torch.zeros(1, 3, 8, 8)
    step[..., 4:] = 0.8  # one of the seven differences of a row
    assert multiscale_loss(step, torch.zeros_like(step)).item() == pytest.approx(0.8 / 7, abs=1e-6)


def test_multiscale_loss_forgives_small_shifts_more_than_wrong_shapes() -> None:
    target = torch.zeros(1, 3, 64, 64)
    target[..., 20:40, 20:40] = 1
    assert multiscale_loss(target.roll(1, -1), target) < 0.5 * multiscale_loss(target.roll(8, -1), target)
    assert multiscale_loss(target.roll(1, -1), target) < 0.3 * multiscale_loss(0 * target, target)
    small = torch.rand(1, 3, 8, 8)
    assert torch.isfinite(multiscale_loss(small, small.flip(-1)))
