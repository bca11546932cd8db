"""The smoke configuration of reconstruction, through the command line: held-out people get better (issue bar 5)."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

from avatarzoo.apps.training import AvatarCLI
from avatarzoo.geometry.camera import look_at_face
from avatarzoo.models.gaussian_dejavu.reconstruction_files import load_reconstruction

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "gaussian_dejavu" / "reconstruct_smoke.yaml"


@pytest.mark.slow
def test_smoke_config_learns(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    options = ["--trainer.default_root_dir", str(folder), "--trainer.accelerator", "cpu"]
    cli = AvatarCLI.launch("fit", ["-c", str(CONFIG), *options])
    scores = {k.removeprefix("held_out/"): float(v) for k, v in cli.trainer.callback_metrics.items()}
    print({k: round(v, 2) for k, v in scores.items()})
    assert scores["psnr"] > scores["psnr_before"] + 1
    assert scores["psnr_facial"] > scores["psnr_facial_before"] + 3
    written = {p.name for p in folder.iterdir()}
    assert {"avatar.ckpt", "last.ckpt", "reconstruction.safetensors"} <= written
    state = torch.load(folder / "avatar.ckpt", weights_only=True)
    assert "optimizer_states" not in state
    again = load_reconstruction(folder / "reconstruction.safetensors")
    seen = torch.rand(1, 3, 64, 64), again.head.zeros(1), look_at_face(size=64)
    with torch.no_grad():
        assert torch.equal(again.offsets(*seen), cli.model.eval().offsets(*seen))


@pytest.mark.slow
def test_ablations_train_and_measure_all_rows_alike(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(CONFIG.parents[2] / "benchmarks" / "small_reconstruction"))
    ablations = importlib.import_module("ablations")
    sizes = ["--steps", "2", "--identities", "1", "--held-out", "1", "--size", "32"]
    monkeypatch.setattr(
        sys, "argv", ["ablations", str(tmp_path), *sizes, "--rows", "full", "uniform position weights"]
    )
    ablations.main()
    facts = json.loads((tmp_path / "ablations.json").read_text())
    assert "not real" in facts["measured_on"]
    full, uniform = facts["rows"].values()
    assert uniform["differs"] == {"uniform_weights": True}
    assert full["facial_before"] == uniform["facial_before"] < full["facial"]
    assert full["spread"] > 0
    assert (tmp_path / "ablations.png").stat().st_size > 1000
