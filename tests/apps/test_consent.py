"""A real person's avatar needs a statement that the person agreed; it travels with the checkpoint."""

from __future__ import annotations

import json
import sys
import types

import numpy as np
import pytest
import torch

from avatarzoo import cli
from avatarzoo.apps import consent
from avatarzoo.credentials import read_credentials
from avatarzoo.data import ProceduralActorDataModule, TrackedSequence
from avatarzoo.data.monocular import TrackedSequenceDataModule
from avatarzoo.errors import ConsentError
from avatarzoo.geometry.camera import look_at_face
from avatarzoo.heads import ProceduralHead
from avatarzoo.models import AvatarState, load_avatar
from avatarzoo.trackers import MonocularVideoDataModule

SIZE, COUNT = 48, 10


@pytest.fixture
def terminal(monkeypatch):
    """A person at the terminal who types this."""

    def typed(text):
        answers = iter([text])
        monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(isatty=lambda: True))
        monkeypatch.setattr("builtins.input", lambda question: next(answers))

    return typed


def test_a_statement(tmp_path, terminal):
    (tmp_path / "yes.txt").write_text("I am in the video.\n", encoding="utf-8")
    found = consent.consent(str(tmp_path / "yes.txt"), None)
    assert (found["statement"], found["from"]) == ("I am in the video.", "yes.txt")
    assert consent.consent(None, "It is me.")["statement"] == "It is me."
    terminal("My own face")
    assert consent.consent(None, None)["statement"] == "My own face"


@pytest.mark.parametrize(
    "words", [(None, None), (None, "  "), (None, "?!"), ("no.txt", None), ("picture.png", None)]
)
def test_none(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "picture.png").write_bytes(bytes(range(128, 256)))
    with pytest.raises(ConsentError, match="--consent"):
        consent.consent(*words)


def test_an_empty_answer_is_no(terminal):
    terminal("")
    with pytest.raises(ConsentError):
        consent.consent(None, None)


def test_who_is_asked():
    assert not consent.needed(ProceduralActorDataModule())
    assert consent.needed(MonocularVideoDataModule(video="a.mp4"))
    assert consent.needed(TrackedSequenceDataModule("a"))
    assert consent.needed(object())


@pytest.fixture
def real_fit(tmp_path, monkeypatch):
    """``fit`` on a tracked folder, of whose frames nobody says that they are made up."""
    monkeypatch.setenv("AVATARZOO_CONFIG", str(tmp_path / "settings"))
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, SIZE, SIZE, 3), np.uint8)
    flat = np.full((COUNT, SIZE, SIZE), 255, np.uint8)
    head, points = ProceduralHead(), np.zeros((COUNT, 478, 2), np.float32)
    TrackedSequence.create(
        tmp_path / "tracked",
        head,
        head.zeros(COUNT),
        look_at_face(size=SIZE),
        points,
        pixels,
        flat,
        flat // 255,
        fps=25,
    )
    config = tmp_path / "config.yaml"
    config.write_text(
        "model:\n  class_path: avatarzoo.models.GaussianDejaVu\n"
        "  init_args: {head: procedural, uv_size: 32, n_blendmaps: 2}\n"
        "data:\n  class_path: avatarzoo.trackers.MonocularVideoDataModule\n"
        f"  init_args: {{sequence: {tmp_path / 'tracked'}, batch_size: 1}}\n"
        "trainer: {max_steps: 1, enable_progress_bar: false, accelerator: cpu}\n"
        "evaluator: {baselines: false, lpips: none}\n"
    )
    root = ["--trainer.default_root_dir", str(tmp_path / "run")]
    return lambda *options: cli.main(["fit", "-c", str(config), *root, *options])


def test_fit_refuses_without(real_fit, tmp_path, capsys):
    assert real_fit() == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: Training on real people")
    assert "--consent-statement" in said
    assert not (tmp_path / "run" / "avatar.ckpt").exists()


def test_fit_keeps_the_statement_and_signs_the_preview(real_fit, tmp_path):
    (tmp_path / "yes.txt").write_text("Ada agreed on 3 May.")
    assert real_fit("--consent", str(tmp_path / "yes.txt")) == 0
    run = tmp_path / "run"
    stored = torch.load(run / "avatar.ckpt", weights_only=True)["avatarzoo_consent"]
    assert (stored["statement"], stored["from"]) == ("Ada agreed on 3 May.", "yes.txt")
    module = load_avatar(run / "avatar.ckpt")
    assert module.consent == stored
    assert AvatarState.load(run / "avatar.safetensors").meta["consent"] == stored
    found = read_credentials(run / "preview.mp4")
    assert (found.state, found.generated) == ("valid", True)
    assert found.facts == {"method": "GaussianDejaVu", "consent_statement_on_record": True}
    assert json.loads((run / "result.json").read_text())["content_credentials"] is True


def test_the_option_to_leave_credentials_out_is_recorded(real_fit, tmp_path, capsys):
    assert real_fit("--consent-statement", "It is me.", "--products.credentials", "false") == 0
    run = tmp_path / "run"
    assert read_credentials(run / "preview.mp4").state == "none"
    assert json.loads((run / "result.json").read_text())["content_credentials"] is False
    capsys.readouterr()
    assert cli.main(["verify", str(run / "preview.mp4")]) == 1
    assert "left out on purpose" in capsys.readouterr().out
