"""From sound to driving numbers: level, rates, silence, files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from avatarzoo.errors import (
    BadCheckpointError,
    HeadModelMismatchError,
    MissingAssetError,
    UnsafeCheckpointError,
    UsageError,
)
from avatarzoo.heads import HeadModel, load_head
from avatarzoo.networks.audio_encoder import ExpNet
from avatarzoo.perception.speech import (
    CONTENT,
    ExpNetSpeech,
    Speech,
    at_frames,
    common_level,
    driving_width,
    load_speech,
    speech_mel,
)

RATE = 16000


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return load_head("procedural")


def syllables(seconds: float, rate: int = RATE, seed: int = 0) -> torch.Tensor:
    """Noise that swells four times a second."""
    time = torch.arange(round(seconds * rate)) / rate
    noise = torch.randn(len(time), generator=torch.Generator().manual_seed(seed))
    return 0.1 * noise * torch.sin(4 * torch.pi * time) ** 2


def babbler(head: HeadModel) -> Speech:
    """Untrained, but with a weight that says something and a rest expression."""
    torch.manual_seed(0)
    speech = Speech(head.n_expression, head.signature, features=64)
    torch.nn.init.normal_(speech.network.weight, std=0.1)
    speech.rest += torch.rand(head.n_expression)
    return speech.eval()


def test_level_is_common_and_silence_stays_silent() -> None:
    loud = syllables(2)
    torch.testing.assert_close(common_level(0.1 * loud), common_level(loud), atol=1e-5, rtol=1e-4)
    hiss = 10 ** (-60 / 20) * torch.randn(RATE)
    assert common_level(hiss) is hiss
    assert common_level(torch.zeros(7)).abs().max() == 0


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_any_rate_is_heard_alike(rate: int) -> None:
    time = torch.arange(RATE) / RATE
    same = torch.sin(2 * torch.pi * 440 * time) * (0.1 + 0.1 * torch.sin(6 * torch.pi * time))
    time = torch.arange(rate) / rate
    other = torch.sin(2 * torch.pi * 440 * time) * (0.1 + 0.1 * torch.sin(6 * torch.pi * time))
    here, there = speech_mel(same, RATE)[:18, 4:76], speech_mel(other, rate)[:18, 4:76]
    assert (here - there).abs().mean() < 0.03


def test_silence_is_exactly_rest(head: HeadModel) -> None:
    speech = babbler(head)
    for quiet in (torch.zeros(2 * RATE), 10 ** (-75 / 20) * torch.randn(2 * RATE)):
        said = speech.speak(quiet, RATE, 30, 60)
        assert said.shape == (60, head.n_expression)
        assert (said == speech.rest).all()


def test_it_is_rest_after_the_sound_and_the_level_does_not_matter(head: HeadModel) -> None:
    speech = babbler(head)
    said = speech.speak(syllables(1), RATE, 25, 60)
    assert (said[:24] - speech.rest).abs().amax(1).min() > 1e-3
    assert (said[40:] == speech.rest).all()
    torch.testing.assert_close(speech.speak(0.05 * syllables(1), RATE, 25, 60), said, atol=2e-3, rtol=0)


def test_frame_rates_agree(head: HeadModel) -> None:
    speech, sound = babbler(head), syllables(2)
    at25, at50 = speech.speak(sound, RATE, 25, 50), speech.speak(sound, RATE, 50, 100)
    torch.testing.assert_close(at50[::2], at25)
    more = speech.speak(sound, RATE, 25, 30)[:20]
    torch.testing.assert_close(speech.speak(sound, RATE, 25, 20), more)  # the last pictures hear what follows
    ramp = torch.arange(10.0)[:, None]
    torch.testing.assert_close(at_frames(ramp, 30, 6)[:, 0], torch.arange(6) * 25 / 30)


def test_bad_sounds_are_refused(head: HeadModel) -> None:
    speech = babbler(head)
    for bad in (torch.zeros(0), torch.tensor([float("nan")] * 400)):
        with pytest.raises(UsageError, match="empty or not finite"):
            speech.speak(bad, RATE, 25, 5)
    for rate, fps in ((0, 25), (RATE, 0)):
        with pytest.raises(UsageError):
            speech.speak(torch.zeros(400), rate, fps, 5)


def test_files(head: HeadModel, tmp_path: Path) -> None:
    speech, path = babbler(head), tmp_path / "speech.ckpt"
    state = {f"speech.{k}": v for k, v in speech.state_dict().items()} | {"head.other": torch.zeros(1)}
    torch.save({CONTENT: speech.config, "state_dict": state}, path)
    loaded, sound = load_speech(path, head), syllables(1)
    assert isinstance(loaded, Speech)
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    assert torch.equal(loaded.speak(sound, RATE, 25, 25), speech.speak(sound, RATE, 25, 25))
    other = {**speech.config, "head": {"name": "ict", "version": "light", "hash": "0" * 64}}
    torch.save({CONTENT: other, "state_dict": state}, path)
    with pytest.raises(HeadModelMismatchError, match=r"ict .*--model\.head procedural"):
        load_speech(path, head)
    torch.save({CONTENT: speech.config, "state_dict": {}}, path)
    with pytest.raises(BadCheckpointError, match="damaged"):
        load_speech(path, head)
    path.write_bytes(b"no checkpoint")
    with pytest.raises((BadCheckpointError, UnsafeCheckpointError)):
        load_speech(path, head)
    with pytest.raises(MissingAssetError, match="trains one"):
        load_speech(tmp_path / "none.ckpt", head)


def test_sadtalkers_network_needs_its_own_head(head: HeadModel, tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "auido2exp.pth"
    torch.save({"model": ExpNet().state_dict()}, path)
    with pytest.raises(HeadModelMismatchError, match="Deep3DFaceRecon"):
        load_speech(path, head)

    class Deep3D(torch.nn.Module):
        name, n_expression = "bfm", 64

    network = load_speech(path, Deep3D())  # type: ignore[arg-type]
    assert isinstance(network, ExpNetSpeech)
    assert network.speak(syllables(1), RATE, 25, 25).shape == (25, 64)


def test_the_jaw_is_driven_where_it_is_a_joint(head: HeadModel) -> None:
    assert driving_width(head) == head.n_expression  # jawOpen

    class Jawless(torch.nn.Module):
        expression_names, n_expression = ("exp_000", "exp_001"), 2

        def __init__(self, turns: bool) -> None:
            super().__init__()
            self.turns = turns

        def zeros(self, batch: int):
            return head.zeros(batch)

        def forward(self, params):
            return params.jaw[:, None] * self.turns

    assert driving_width(Jawless(True)) == 5  # type: ignore[arg-type]
    assert driving_width(Jawless(False)) == 2  # type: ignore[arg-type]
