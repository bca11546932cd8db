"""Every configuration parses; tests/test_methods.py trains the smoke configurations."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from avatarzoo.apps.training import AvatarCLI
from avatarzoo.models import METHODS
from tests.conftest import smoke_config

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = sorted(p.relative_to(ROOT) for p in (ROOT / "configs").rglob("*.yaml"))
SMOKE = [p for p in CONFIGS if p.name == "smoke.yaml"]


def test_there_are_configs() -> None:
    assert len(CONFIGS) >= 5
    trained = {smoke_config(method).relative_to(ROOT) for method in METHODS}
    assert set(SMOKE) == trained | {
        Path("configs/eg3d/smoke.yaml")
    }  # the prior's: tests/models/test_eg3d_smoke.py


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
