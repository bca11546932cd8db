"""Loss presets: the published numbers, what overrides do, and when terms join."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from avatarzoo.errors import MissingAssetError
from avatarzoo.losses.photometric import huber, l1, ms_ssim_loss
from avatarzoo.models.gaussian_dejavu import objective
from avatarzoo.models.gaussian_dejavu.objective import PRESETS, PersonalizationLoss, psnr_of


class FakePerceptual(nn.Module):
    def __init__(self, backbone: str) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, rendered, target):
        assert 0 <= rendered.min() <= rendered.max() <= 1
        return (rendered - target).abs().mean()


@pytest.fixture
def vgg(monkeypatch):
    """VGG is not needed to know when it is asked."""
    monkeypatch.setattr(objective, "PerceptualLoss", FakePerceptual)


@pytest.fixture
def pictures():
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(2, 3, 48, 48, generator=generator)
    rendered = (target + 0.3 * torch.randn(target.shape, generator=generator)).requires_grad_()
    features = torch.zeros(2, 1, 48, 48)
    features[:, :, 10:20, 10:30] = 1
    return rendered, target, features


def test_presets_carry_the_published_numbers():
    paper = PRESETS["paper"]  # section 4.2
    assert paper["rgb"] == "l1"
    assert (paper["lambda_rgb"], paper["lambda_lpips"], paper["lambda_ssim"]) == (1.0, 0.5, 0.05)
    assert (paper["lambda_position"], paper["lambda_scale"]) == (0.5, 5e-5)
    released = PRESETS["official_release"]  # fact sheet section 4
    assert released["rgb"] == "huber"
    assert (released["lambda_rgb"], released["lambda_features"], released["lambda_lpips"]) == (
        1.0,
        10.0,
        0.05,
    )
    assert (released["lambda_position"], released["lambda_scale"], released["lambda_ssim"]) == (
        0.5,
        1e-5,
        0.0,
    )
    assert all(p["lambda_blend"] == 0 for p in (paper, released))  # ours alone


def test_overrides_win_and_leave_the_preset_alone():
    before = dict(PRESETS["paper"])
    loss = PersonalizationLoss("paper", {"lambda_lpips": 0.0, "lambda_ssim": 0.7, "lambda_rgb": None})
    assert loss.weights["ssim"] == 0.7
    assert loss.weights["rgb"] == 1.0
    assert loss.perceptual is None
    assert PRESETS["paper"] == before


@pytest.mark.parametrize("preset", ["paper", "official_release"])
def test_missing_vgg_weights_are_an_error(preset):
    with pytest.raises(MissingAssetError, match="vgg16"):
        PersonalizationLoss(preset, {})


def test_paper_terms(vgg, pictures):
    rendered, target, features = pictures
    loss = PersonalizationLoss("paper", {})
    assert loss.perceptual.backbone == "vgg"
    terms = loss.photometric(rendered, target, features, stage=1, step=0)
    assert set(terms) == {"rgb", "ssim", "lpips"}
    assert torch.isclose(terms["rgb"], l1(rendered, target))
    assert torch.isclose(terms["ssim"], 0.05 * ms_ssim_loss(rendered, target))
    assert torch.isclose(terms["lpips"], 0.5 * l1(rendered.clamp(0, 1), target))
    sum(terms.values()).backward()
    assert rendered.grad.abs().sum() > 0


def test_release_terms_and_timing(vgg, pictures):
    """Facial features count in stage 2 only; LPIPS joins stage 1 after step 50 and is there throughout stage 2."""
    loss = PersonalizationLoss("official_release", {})

    def names(stage, step):
        return set(loss.photometric(*pictures, stage, step))

    assert names(1, 0) == names(1, 50) == {"rgb"}
    assert names(1, 51) == {"rgb", "lpips"}
    assert names(2, 0) == {"rgb", "lpips", "features"}
    rendered, target, features = pictures
    terms = loss.photometric(*pictures, 2, 0)
    assert torch.isclose(terms["rgb"], huber(rendered, target))
    assert torch.isclose(terms["features"], 10 * huber(rendered * features, target * features))


def test_own_preset_needs_no_weights_and_weighs_features_when_told(pictures):
    loss = PersonalizationLoss("avatarzoo", {"lambda_features": 2.0})
    assert loss.perceptual is None
    assert set(loss.photometric(*pictures, 1, 0)) == {"rgb", "features"}


def test_regularizers():
    """Eq. 5-6: channel norm per pixel times the map, mean over all S^2 pixels; the blended delta, averaged over views."""
    loss = PersonalizationLoss(
        "avatarzoo", {"lambda_position": 0.5, "lambda_scale": 0.25, "lambda_blend": 2.0}
    )
    torch.manual_seed(0)
    delta, residual, weights = (
        torch.randn(3, 5, 13),
        torch.randn(3, 5, 13),
        torch.tensor([10, 10, 0.1, 0.1, 10]),
    )
    pairs = torch.tensor([[0, 1], [3, 4]])
    uv_map = SimpleNamespace(position_weight=weights, size=4, neighbours=pairs)
    terms = loss.regularizers(delta, residual, uv_map)
    mean = delta.mean(0)
    assert torch.isclose(terms["position"], 0.5 * (mean[:, :3].norm(dim=-1) * weights).sum() / 16)
    assert torch.isclose(terms["scale"], 0.25 * (mean[:, 3:6].norm(dim=-1) * weights).sum() / 16)
    assert torch.isclose(terms["blend"], 2 * residual.square().sum(-1).mean())
    steps = (mean[[0, 3], :3] - mean[[1, 4], :3]).square().sum(-1)
    assert torch.isclose(terms["rough"], loss.weights["rough"] * steps.mean())
    assert set(loss.regularizers(delta[:1], None, uv_map)) == {"position", "scale", "rough"}


def test_psnr_of():
    assert float(psnr_of(torch.full((1, 3, 4, 4), 0.6), torch.full((1, 3, 4, 4), 0.5))) == pytest.approx(
        20, abs=1e-3
    )
