"""Speaking people as data: held-out seconds, sync, augmented pieces."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from avatarzoo.data.speech_clips import (
    AHEAD,
    SILENT,
    SpeechLoader,
    SpokenClip,
    SpokenClipsDataModule,
    disturbed,
    mel_piece,
    spoken_clip,
)
from avatarzoo.errors import BadSequenceError, UsageError
from avatarzoo.perception.audio import mel_windows
from avatarzoo.perception.speech import FPS, speech_mel

RATE = 16000


class Tracked(SimpleNamespace):
    """What is read of a TrackedSequence."""

    def __len__(self) -> int:
        return len(self.valid)


def talking(
    tmp_path: Path, seconds: float = 6.0, fps: float = 25.0, late: float = 0.0
) -> tuple[Tracked, Path]:
    """A tracked sequence whose lips open as the sound, ``late`` seconds after them, grows loud."""
    rng = np.random.default_rng(0)
    beats = np.repeat(rng.random(round(seconds * 5)) > 0.5, RATE // 5).astype(float)
    beats = np.convolve(beats, np.hanning(1600) / 800, "same")
    sound = 0.1 * rng.standard_normal(len(beats)) * beats
    path = tmp_path / f"voice{late:g}.wav"
    delayed = np.roll(sound, round((0.1 + late) * RATE))
    wavfile.write(path, RATE, (32767 * delayed.clip(-1, 1)).astype(np.int16))
    count = round(seconds * fps)
    opening = beats[(np.arange(count) / fps * RATE).astype(int)]
    landmarks = np.zeros((count, 478, 2), np.float32)
    landmarks[:, 152, 1], landmarks[:, 14, 1] = 200.0, 10 * opening
    expression = torch.from_numpy(np.stack([opening, 1 - opening], 1)).float()
    params = SimpleNamespace(expression=expression, jaw=torch.zeros(count, 3))
    tracked = Tracked(
        fps=fps, landmarks=landmarks, valid=np.ones(count, bool), params=params, path=tmp_path,
        info={"source": {"name": "voice"}},
    )  # fmt: skip
    return tracked, path


@pytest.fixture
def clip(tmp_path: Path) -> SpokenClip:
    return spoken_clip(*talking(tmp_path), 2)


def test_the_last_fifth_is_held_out_with_a_margin(clip: SpokenClip, tmp_path: Path) -> None:
    assert len(clip.held) == 150
    assert clip.held.nonzero()[:, 0].tolist() == list(range(120, 150))
    assert clip.train.nonzero()[-1].item() == 120 - 1 - round(0.3 * 25)
    middle = spoken_clip(*talking(tmp_path), 2, folds=3, fold=1)
    assert middle.held.nonzero()[:, 0].tolist() == list(range(50, 100))
    assert not (middle.train[50 - 8 : 100 + 8]).any()
    assert middle.train[:42].all()
    assert middle.train[108:].all()
    assert clip.opening.max() <= 10 / 200 + 1e-6
    with pytest.raises(BadSequenceError, match="less than a second"):
        spoken_clip(*talking(tmp_path, seconds=2), 2)


@pytest.mark.parametrize("late", [-0.2, 0.0, 0.15, 0.25])
def test_sound_that_is_late_is_found_and_moved(late: float, tmp_path: Path) -> None:
    here = spoken_clip(*talking(tmp_path, 8, late=late), 2)
    assert here.delay == pytest.approx(late, abs=0.03)
    there = spoken_clip(*talking(tmp_path, 8, late=0.0), 2, sync=False)
    assert there.delay == 0
    middle = slice(100, 500)
    assert (here.mel[:, middle] - there.mel[:, middle]).abs().mean() < 0.6


def test_a_piece_is_what_the_network_will_hear(clip: SpokenClip) -> None:
    """Undisturbed, a window is that of the whole sound, or one column (12.5 ms) beside it: frames are no whole columns apart."""
    mel = speech_mel(clip.samples, RATE)
    whole = mel_windows(mel, FPS, 150)
    for start in (5, 25, 70):
        cut = mel_windows(mel_piece(mel, start / FPS, 20, 1.0), FPS, 20 + AHEAD)[AHEAD:, :, 1:-1]
        there = [whole[start : start + 20, :, 1 + k : 15 + k] for k in (-1, 0, 1)]
        nearest = torch.stack([(cut - near).abs().flatten(1).amax(1) for near in there]).amin(0)
        assert nearest.max() < 1e-6


def test_batches_depend_on_seed_and_step_alone(clip: SpokenClip) -> None:
    rest = torch.full((2,), 0.5)
    loader = SpeechLoader([clip], rest, 4, 16, 5, 0, lambda: 0)
    again = SpeechLoader([clip], rest, 4, 16, 5, 0, lambda: 3)
    batches = list(loader)
    assert len(batches) == len(loader) == 5
    resumed = list(again)
    assert len(resumed) == 2
    assert torch.equal(batches[3]["windows"], resumed[0]["windows"])
    assert not torch.equal(batches[3]["windows"], batches[4]["windows"])
    assert batches[0]["windows"].shape == (4, 16, 80, 16)
    assert batches[0]["target"].shape == (4, 16, 2)


def test_held_out_seconds_never_train(clip: SpokenClip) -> None:
    marked = clip._replace(numbers=torch.where(clip.train[:, None], clip.numbers, 99.0))
    for batch in SpeechLoader([marked], torch.zeros(2), 8, 16, 20, 0, lambda: 0):
        assert batch["target"].max() <= 1


def test_noise_alone_means_rest(clip: SpokenClip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avatarzoo.data.speech_clips.NOISE_ONLY", 1.0)
    batch = SpeechLoader([clip], torch.tensor([0.3, 0.7]), 3, 16, 1, 0, lambda: 0).batch(0)
    assert (batch["target"] == torch.tensor([0.3, 0.7])).all()


def test_disturbance_keeps_the_range_and_adds_a_floor() -> None:
    random = torch.Generator().manual_seed(0)
    floors = [disturbed(torch.full((80, 60), SILENT), random, False).mean() for _ in range(40)]
    assert min(floors) >= SILENT
    assert max(floors) > -3
    noise = torch.stack([disturbed(torch.zeros(80, 60), random, True) for _ in range(40)])
    assert noise.abs().max() <= 4
    assert noise.mean((1, 2)).std() > 0.5


def test_bad_options(clip: SpokenClip) -> None:
    for wrong in ({"folds": 1}, {"folds": 5, "fold": 5}, {"frames": 1}, {"batch_size": 0}):
        with pytest.raises(UsageError):
            SpokenClipsDataModule(["a"], ["b"], **wrong)
    with pytest.raises(UsageError, match="as many"):
        SpokenClipsDataModule(["a"], []).open()
    with pytest.raises(UsageError, match="in a row"):
        SpeechLoader([clip], torch.zeros(2), 1, 999, 1, 0, lambda: 0)
