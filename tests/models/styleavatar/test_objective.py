"""Eq. 4 with the weights of each preset."""

from __future__ import annotations

import math

import pytest
import torch

from avatarzoo.errors import MissingAssetError
from avatarzoo.losses.multiscale import multiscale_loss
from avatarzoo.models.styleavatar.objective import PRESETS, PortraitLoss, background_target, psnr_of


def terms_of(loss: PortraitLoss) -> dict[str, float]:
    image, target = torch.full((2, 3, 16, 16), 0.5), torch.full((2, 3, 16, 16), 0.1)
    mask, background = torch.full((2, 1, 4, 4), 0.2), torch.zeros(2, 1, 4, 4)
    known = torch.ones(2, 1, 4, 4)
    known[..., :2] = 0
    features = torch.zeros(2, 1, 16, 16)
    features[:, :, :4] = 1
    return {k: float(v) for k, v in loss.supervised(image, mask, target, background, known, features).items()}


def test_released_objective_by_hand() -> None:
    """L1 0.4 x 1; mask |(0.2 + 1) / 2 - 0| = 0.6 over the known half, x 3; no perceptual term."""
    loss = PortraitLoss("official_release", {})
    assert terms_of(loss) == pytest.approx({"l1": 0.4, "mask": 0.9})
    assert loss.weights["gan"] == 1
    assert loss.weights["r1"] == 5
    assert not loss.fixed_background_noise


def test_own_objective_uses_the_stand_in() -> None:
    terms = terms_of(PortraitLoss("avatarzoo", {"lambda_perceptual": 2.0}))
    shown = torch.full((2, 3, 16, 16), 0.75), torch.full((2, 3, 16, 16), 0.55)
    assert terms["perceptual"] == pytest.approx(2 * float(multiscale_loss(*shown)))


def test_errors_in_facial_features_can_count_more() -> None:
    """A quarter of the picture counts 1 + 3 times: L1 0.4 x (0.75 + 0.25 x 4); the stand-in sees more there, too."""
    plain = terms_of(PortraitLoss("avatarzoo", {}))
    terms = terms_of(PortraitLoss("avatarzoo", {"lambda_features": 3.0}))
    assert terms["l1"] == pytest.approx(0.7)
    assert plain["l1"] == pytest.approx(0.4)
    assert terms["perceptual"] > 1.5 * plain["perceptual"]
    assert terms["mask"] == plain["mask"]


def test_overrides_and_no_adversary() -> None:
    loss = PortraitLoss("paper", {"lambda_gan": 0.0, "lambda_mask": None}, perceptual="none")
    assert not loss.adversarial
    assert loss.weights["mask"] == 1
    assert set(terms_of(loss)) == {"l1", "mask"}
    assert PortraitLoss("paper", {}).perceptual == "vgg19"
    assert all({"lambda_l1", "lambda_gan", "perceptual"} <= set(p) for p in PRESETS.values())


def test_missing_vgg_weights_name_the_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """Never silently: the paper's loss without its weights does not train; making the object does not need them."""
    monkeypatch.setenv("AVATARZOO_CACHE", str(tmp_path))
    monkeypatch.delenv("AVATARZOO_ASSETS", raising=False)
    loss = PortraitLoss("paper", {})
    with pytest.raises(MissingAssetError, match=r"fetch vgg19.*--model.perceptual multiscale"):
        loss.prepare(torch.device("cpu"))
    PortraitLoss("paper", {}, "multiscale").prepare(torch.device("cpu"))


def test_variants_without_a_mask_have_no_mask_term() -> None:
    picture = torch.zeros(1, 3, 16, 16)
    terms = PortraitLoss("official_release", {}).supervised(*[picture, None, *[picture] * 4])
    assert set(terms) == {"l1"}


def test_background_target_is_hard_and_small() -> None:
    matte = torch.zeros(1, 1, 8, 8)
    matte[..., 4:] = 0.7
    matte[..., 2:4] = 0.5
    target = background_target(matte, 4)
    assert target[0, 0, 0].tolist() == [1, 1, 0, 0]


def test_psnr_of_pictures_in_minus_one_to_one() -> None:
    a = torch.zeros(1, 3, 4, 4)
    assert psnr_of(a + 0.2, a).item() == pytest.approx(-20 * math.log10(0.1), abs=1e-4)
