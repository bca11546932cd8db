"""Stages: what learns in each, that it learns, losses by their equations, hand-over."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import pytest
import torch

from avatarzoo.data.person_frames import ProceduralPersonFramesDataModule
from avatarzoo.errors import BadCheckpointError, MissingAssetError, UsageError
from avatarzoo.models.invertavatar import learning as lessons_of
from avatarzoo.models.invertavatar.inversion import Drawn
from avatarzoo.models.invertavatar.latent_discriminator import LatentDiscriminator, codes_penalty
from avatarzoo.models.invertavatar.objective import WEIGHTS, InversionLoss


@pytest.fixture(scope="module")
def data():
    module = ProceduralPersonFramesDataModule(
        frames=3, fewest=1, targets=2, people=2, held_out=1, length=4, size=32, batch_size=2
    )
    module.setup("fit")
    return module


def fit(module, data, steps: int, folder: Path) -> L.Trainer:
    trainer = L.Trainer(
        max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder, num_sanity_val_steps=0, limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    return trainer


def copied(module) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in module.state_dict().items()}


@pytest.mark.parametrize(
    ("options", "learning"),
    [
        ({"stage": "latent", "lambda_code": 1.0}, "encoders.latent."),
        ({"stage": "latent", "lambda_l1": 1.0, "lambda_code": 1.0}, "encoders.latent."),
        ({"stage": "image", "adversarial": True, "lambda_adv": 0.1}, "encoders.t"),
        ({"stage": "recurrent", "chunk": 2}, "encoders.t"),
        ({"stage": "recurrent", "aggregation": "conv", "synthetic": False}, "encoders.t"),
    ],
)
def test_a_stage_changes_its_own_networks_alone(build, data, tmp_path, options, learning):
    module = build(**options)
    before = copied(module)
    fit(module, data, 2, tmp_path)
    moved = {k for k, v in module.state_dict().items() if not torch.equal(v, before[k])}
    networks = {k for k in moved if k.startswith("networks.")}
    assert networks
    assert all(k.startswith(f"networks.{learning}") for k in networks)
    assert any(k.startswith("discriminator.") for k in moved) == (module.discriminator is not None)
    if options["stage"] == "recurrent":  # bodies are fixed, statistics included
        assert not any(".unet.body." in k for k in networks)
        assert any(".unet.memories." in k for k in networks) or options.get("aggregation") == "conv"


@pytest.mark.slow
def test_latent_stage_learns_codes(build, data, tmp_path):
    """A few steps bring the codes of made-up people nearer."""
    module = build(stage="latent", lr=2e-3)
    batch = data.on_after_batch_transfer(next(_batches(data)), 0)

    def error():
        module.eval()
        with torch.no_grad():
            draws = torch.Generator().manual_seed(9)
            return float(module.lessons.coded(module.lesson(batch), draws).terms["codes"])

    fit(module, data, 1, tmp_path)  # makes the error's people
    before = error()
    fit(module, data, 12, tmp_path)
    assert error() < 0.9 * before


def test_made_up_people_come_again(build, data, tmp_path):
    """A number's picture is drawn once; other numbers show other people."""
    module = build(stage="latent").eval()
    module.code_error = lambda found, true: (found - true).square().mean()
    lesson = module.lesson(data.on_after_batch_transfer(next(_batches(data)), 0))
    lessons = module.lessons
    assert lessons.codes_alone
    assert lesson.numbers.unique().numel() == lesson.people == 2
    first = lessons.coded(lesson, torch.Generator().manual_seed(0))
    kept = dict(module.kept.pictures)
    again = lessons.coded(lesson, torch.Generator().manual_seed(0))
    assert torch.equal(first.terms["codes"], again.terms["codes"])
    assert module.kept.pictures == kept
    assert all(n // lessons_of.VARIANTS in lesson.numbers.tolist() for n in kept)
    pictures = list(kept.values())
    assert (pictures[0].float() - pictures[1].float()).abs().mean() > 1
    assert first.made is first.psnr is None


def _batches(data):
    from avatarzoo.data.person_frames import PersonFramesDrawer

    drawer = PersonFramesDrawer(data.source, 2, 2, 2, 2, 0)
    return (drawer(step) for step in range(3))


def test_the_mean_code_is_the_start(build, data):
    module = build(stage="latent").eval()
    batch = data.on_after_batch_transfer(next(_batches(data)), 0)
    measured = module.lessons.held_out(module.lesson(batch))
    assert measured["psnr_latent"] == pytest.approx(float(measured["psnr_mean_code"]), abs=1e-3)


def test_a_later_stage_takes_the_earlier_ones_networks(build, data, tmp_path):
    first = build(stage="image", seed=5)
    with torch.no_grad():
        first.networks.encoders.texture.heads[0].weight.add_(1)
    first.trainer = fit(first, data, 1, tmp_path)
    first.trainer.save_checkpoint(tmp_path / "avatar.ckpt", weights_only=True)
    second = build(stage="recurrent", start=str(tmp_path / "avatar.ckpt"))
    said: list[str] = []
    second.adapt(said.append)
    assert "memories are new" in said[0]
    name = "networks.encoders.texture.heads.0.weight"
    assert torch.equal(second.state_dict()[name], first.state_dict()[name])
    (tmp_path / "bad.ckpt").write_bytes(b"nothing")
    with pytest.raises(BadCheckpointError, match="cannot be read"):
        build(start=str(tmp_path / "bad.ckpt")).adapt()


def test_a_checkpoint_brings_its_prior(build, prior_file, tmp_path):
    module = build()
    trainer = L.Trainer(accelerator="cpu", logger=False, default_root_dir=tmp_path)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(tmp_path / "avatar.ckpt", weights_only=True)
    again = type(module).load_from_checkpoint(tmp_path / "avatar.ckpt", weights_only=True)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in module.state_dict().items())


def test_mean_needs_single_pictures(build):
    with pytest.raises(UsageError, match="stage image"):
        build(stage="recurrent", aggregation="mean")


def test_missing_priors_are_one_sentence(build, tmp_path):
    with pytest.raises(MissingAssetError, match="There is no prior"):
        build(prior=str(tmp_path / "none.safetensors"))


def drawn(value: float) -> Drawn:
    image, features = torch.full((2, 3, 32, 32), value), torch.full((2, 8, 16, 16), value)
    return Drawn(image, features, torch.ones(2, 1, 16, 16), torch.full((2, 3, 8, 4, 4), value))


def test_terms_are_those_of_the_equations():
    loss = InversionLoss(WEIGHTS["avatarzoo"]["image"], "none", "none")
    terms = loss.pictures(drawn(0.25), torch.zeros(2, 3, 32, 32))
    assert {k: round(float(v), 6) for k, v in terms.items()} == {"l1": 0.25, "lpips": 0.0, "raw": 0.25}
    weights = {**WEIGHTS["paper"]["image"], "lpips": 0.0}
    assert (weights["tri"], weights["tex"], weights["raw"], weights["adv"]) == (0.001, 0.001, 1.0, 0.1)


def test_a_missing_perceptual_network_stops_the_run(monkeypatch):
    monkeypatch.setattr("avatarzoo.assets.locate", lambda name: None)
    loss = InversionLoss(WEIGHTS["paper"]["image"], "alex", "none")
    with pytest.raises(MissingAssetError, match="multiscale"):
        loss.prepare(torch.device("cpu"))


def test_penalty_is_the_slope():
    judge = LatentDiscriminator(4)
    codes = torch.randn(3, 4, requires_grad=True)
    value = codes_penalty(judge(codes), codes)
    step = 1e-3
    slopes = torch.stack([
        (judge(codes + step * d) - judge(codes - step * d))[:, 0] / (2 * step) for d in torch.eye(4)
    ], 1)  # fmt: skip
    assert float(value) == pytest.approx(float(slopes.square().sum(1).mean() / 2), rel=1e-2)
