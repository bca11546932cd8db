"""Training of the speech network: it learns which sound opens the mouth, keeps it shut in silence, and its file speaks."""

from __future__ import annotations

import warnings
from pathlib import Path

import lightning as L
import pytest
import torch

from avatarzoo.data.speech_clips import SpokenClip, SpokenClipsDataModule, shifted
from avatarzoo.errors import HeadModelMismatchError, UsageError
from avatarzoo.heads import load_head
from avatarzoo.models.nofaplusplus.speech import SpeechTraining, correlation, mouth_basis
from avatarzoo.perception.speech import load_speech, speech_mel

RATE, FPS, SECONDS = 16000, 25.0, 16


def babble(jaw: int, width: int) -> SpokenClip:
    """Band noise that opens the jaw while it swells, other noise that does not."""
    draw = torch.Generator().manual_seed(0)
    time = torch.arange(SECONDS * RATE) / RATE
    noise = torch.randn(len(time), generator=draw)
    low = torch.nn.functional.avg_pool1d(noise[None], 9, 1, 4)[0]
    frames = torch.arange(SECONDS * int(FPS)) / FPS

    def vowel(t: torch.Tensor) -> torch.Tensor:
        return 0.5 + 0.5 * torch.sin(2 * torch.pi * (1.1 * t + 0.4 * torch.sin(1.7 * t)))

    hiss = 0.5 + 0.5 * torch.sin(2 * torch.pi * 1.9 * time)
    samples = 0.5 * low * vowel(time) + 0.1 * hiss * (noise - low)
    numbers = torch.zeros(len(frames), width)
    numbers[:, jaw] = vowel(frames)
    held = frames >= 12
    mel = shifted(speech_mel(samples, RATE), 0.0)
    return SpokenClip("babble", FPS, samples, mel, numbers, 0.08 * vowel(frames), held, frames < 11.7, 0.0)


class Babble(SpokenClipsDataModule):
    """One made-up clip."""

    def setup(self, stage: str) -> None:
        head = load_head("procedural")
        self.head_signature = head.signature
        self.clips = [babble(head.expression_names.index("jawOpen"), head.n_expression)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[SpeechTraining, L.Trainer, Path]:
    folder = tmp_path_factory.mktemp("speech")
    module = SpeechTraining(features=256)
    trainer = L.Trainer(
        max_steps=30, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, default_root_dir=folder,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, Babble(frames=24, batch_size=4))
    trainer.save_checkpoint(folder / "avatar.ckpt", weights_only=True)
    return module.eval(), trainer, folder


def test_held_out_mouth_follows_the_sound(trained: tuple) -> None:
    module, trainer, _ = trained
    clip = trainer.datamodule.clips[0]
    scores = module.score(clip, module.hear(clip))
    assert scores["correlation"] > 0.6, scores
    assert float(trainer.callback_metrics["held_correlation"]) == pytest.approx(
        scores["correlation"], abs=1e-3
    )
    unlearnt = SpeechTraining(features=16).eval()
    assert unlearnt.score(clip, unlearnt.hear(clip))["correlation"] == 0


def test_only_the_mouth_moves(trained: tuple) -> None:
    module, trainer, _ = trained
    said = module.hear(trainer.datamodule.clips[0])
    names = module.head.expression_names
    moving = {names[k] for k in (said.std(0) > 1e-6).nonzero()[:, 0].tolist()}
    every = {names[k] for k in module.mouth.nonzero()[:, 0].tolist()}
    assert {"jawOpen", "mouthUpperUp_L", "mouthLowerDown_R", "mouthPress_L"} <= every
    assert moving == {"jawOpen"}  # all that the clip moves
    every -= {name for name in every if name.startswith(("mouth", "jaw", "cheekPuff"))}
    assert not every


def test_silence_shuts_the_mouth_and_steady_noise_barely_moves_it(trained: tuple) -> None:
    module, trainer, _ = trained
    clip = trainer.datamodule.clips[0]
    silent = module.speech.speak(torch.zeros(RATE), RATE, 30, 30)
    assert (silent == module.speech.rest).all()
    assert module.opening(silent)[0] < 0.01  # of the face height; speech opens it to 0.08
    talking = module.opening(module.hear(clip))
    assert talking.max() > 0.03
    draw = torch.Generator().manual_seed(1)
    noise = 0.1 * torch.randn(3 * RATE, generator=draw)
    steady = module.opening(module.speech.speak(noise, RATE, 30, 90))[15:75]  # without its beginning and end
    assert steady.max() < talking.mean()
    assert steady.std() < 0.2 * talking.std()


def test_the_file_speaks(trained: tuple) -> None:
    module, trainer, folder = trained
    sound = trainer.datamodule.clips[0].samples[: 2 * RATE]
    said = load_speech(folder / "avatar.ckpt", module.head).speak(sound, RATE, 30, 60)
    assert torch.equal(said, module.speech.speak(sound, RATE, 30, 60))
    again = SpeechTraining.load_from_checkpoint(folder / "avatar.ckpt", weights_only=True).eval()
    assert torch.equal(again.speech.speak(sound, RATE, 30, 60), said)


def test_the_picture_is_written(trained: tuple, capsys: pytest.CaptureFixture[str]) -> None:
    module, _, folder = trained
    assert module.export(folder).stat().st_size > 5000
    assert "babble, held-out seconds: correlation" in capsys.readouterr().out


def test_another_heads_clips_are_refused() -> None:
    module, data = SpeechTraining(features=16), Babble()
    data.setup("fit")
    data.head_signature = {"name": "ict", "version": "light", "hash": "0" * 64}
    module._trainer = type("Trainer", (), {"datamodule": data})()  # type: ignore[assignment]
    with pytest.raises(HeadModelMismatchError, match="ict"):
        module.setup("fit")


def test_pieces_shorter_than_what_a_frame_hears_are_refused() -> None:
    module, data = SpeechTraining(features=16), Babble(frames=9)
    data.setup("fit")
    module._trainer = type("Trainer", (), {"datamodule": data})()  # type: ignore[assignment]
    with pytest.raises(UsageError, match="at least 10"):
        module.setup("fit")


def test_basis_is_what_the_head_does() -> None:
    head = load_head("procedural")
    basis = mouth_basis(head)
    size = dict(zip(head.expression_names, basis.flatten(0, 1).norm(dim=0).tolist()))
    assert size["jawOpen"] > 0.02
    assert size["browInnerUp"] < 0.05 * size["jawOpen"]
    assert correlation(torch.arange(5.0), torch.arange(5.0) * 2 + 1) == pytest.approx(1)
    assert correlation(torch.arange(5.0), torch.zeros(5)) == 0
