"""The smoke configuration, through the command line: pictures move towards the real set (issue bar 4)."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

from avatarzoo.apps.training import AvatarCLI
from avatarzoo.data import ProceduralPortraits
from avatarzoo.metrics.random_features import random_feature_distance
from avatarzoo.models import EG3DTraining
from avatarzoo.priors.generator_file import load_generator

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "eg3d" / "smoke.yaml"


@torch.no_grad()
def distance(module: EG3DTraining, data: ProceduralPortraits) -> float:
    """Of as many generated pictures as there are real ones, at the same cameras."""
    metric, store = random_feature_distance(), data.store
    latents = torch.randn(
        len(store.labels), module.average.config.latent_dim, generator=torch.Generator().manual_seed(0)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few pictures
        for rows in torch.arange(len(latents)).split(8):
            made = module(latents[rows], store.labels[rows]).rgb.clamp(0, 1)
            metric.update(made, store.pictures(rows).float() / 255)
        return float(metric.compute())


@pytest.mark.slow
def test_smoke_config_halves_the_distance(tmp_path: Path) -> None:
    options = ["--trainer.default_root_dir", str(tmp_path / "run"), "--trainer.accelerator", "cpu"]
    cli = AvatarCLI.launch("fit", ["-c", str(CONFIG), *options])
    module, data = cli.model, cli.datamodule
    before = distance(EG3DTraining(**module.hparams).eval(), data)
    after = distance(module.eval(), data)
    print(f"distance {before:.3f} before, {after:.3f} after {int(module.iteration)} iterations")
    assert after < before / 2
    written = {p.name for p in (tmp_path / "run").iterdir()}
    assert {"generator.safetensors", "avatar.ckpt", "last.ckpt"} <= written
    assert load_generator(tmp_path / "run" / "generator.safetensors").config == module.generator.config
    state = torch.load(tmp_path / "run" / "avatar.ckpt", weights_only=True)
    assert "optimizer_states" not in state
    again = EG3DTraining.load_from_checkpoint(tmp_path / "run" / "avatar.ckpt", weights_only=True)
    assert int(again.seen) == int(module.seen)
