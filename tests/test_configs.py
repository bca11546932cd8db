"""Every configuration parses; every smoke configuration trains and ends with the promised files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from avatarzoo.apps.training import AvatarCLI

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = sorted(p.relative_to(ROOT) for p in (ROOT / "configs").rglob("*.yaml"))
SMOKE = [p for p in CONFIGS if p.name == "smoke.yaml" and p.parent.name != "eg3d"]
"""Of methods; the smoke configuration of the prior is trained in tests/models/test_eg3d_smoke.py."""


def test_there_are_configs() -> None:
    assert len(CONFIGS) >= 5
    assert SMOKE


@pytest.mark.parametrize("path", CONFIGS, ids=str)
def test_every_config_parses(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real parser reads it, with links and types, without building a head (some need files of the user's)."""
    monkeypatch.setattr(AvatarCLI, "instantiate_classes", lambda self: None)
    monkeypatch.setattr(AvatarCLI, "_run_subcommand", lambda self, subcommand: None)
    config = AvatarCLI.launch("fit", ["-c", str(ROOT / path)]).config.fit
    text = yaml.safe_load((ROOT / path).read_text())
    assert config.model.class_path == text["model"]["class_path"]
    if "head" in config.data.init_args:  # samples of a prior have no head model
        assert config.data.init_args.head == config.model.init_args.get("head")
    assert config.trainer.max_steps == text["trainer"]["max_steps"]


def test_a_misspelt_option_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from avatarzoo.errors import UsageError

    with pytest.raises(UsageError, match="uv_sise"):
        AvatarCLI.launch("fit", ["-c", str(ROOT / SMOKE[0]), "--model.uv_sise", "3"])


@pytest.mark.parametrize("path", SMOKE, ids=str)
def test_every_smoke_config_trains(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = [
        "-c",
        str(ROOT / path),
        "--trainer.default_root_dir",
        str(tmp_path / "run"),
        "--trainer.accelerator",
        "cpu",
    ]
    module = AvatarCLI.launch("fit", args).model
    written = {p.name for p in (tmp_path / "run").iterdir()}
    assert {
        "avatar.ckpt",
        "last.ckpt",
        "result.json",
        "preview.mp4",
        "avatar.safetensors",
    } <= written
    made_of_gaussians = module.gaussians_at(module.head.zeros(1)) is not None
    assert ("avatar.ply" in written) == made_of_gaussians
    shown = capsys.readouterr().out
    assert "| avatar " in shown
    assert "nearest training frame" in shown
    assert "Procedural data" in shown
    content = torch.load(tmp_path / "run" / "avatar.ckpt", weights_only=True)
    assert content["avatarzoo_method"]
    assert "optimizer_states" not in content
