"""Targets driven by their sound."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from avatarzoo.data.speech_pairs import Voices
from avatarzoo.errors import BadDatasetError
from avatarzoo.heads import load_head


class Loud:
    """Says the loudness of each frame, in every coefficient."""

    def speak(self, samples: torch.Tensor, rate: int, fps: float, frames: int) -> torch.Tensor:
        step = round(rate / fps)
        return samples[: frames * step].reshape(frames, step).abs().mean(1)[:, None].expand(frames, 50)


class Clips:
    def __init__(self, root: Path) -> None:
        self.folders = [root / "anna" / "a", root / "bob" / "b"]

    def open(self, folder: Path) -> SimpleNamespace:
        return SimpleNamespace(fps=25.0)

    def numbers(self, clip: int) -> np.ndarray:
        return np.array([0, 3, 7, 9])


def test_only_targets_speak_and_each_with_its_own_sound(tmp_path: Path) -> None:
    sounds, root = tmp_path / "sounds", tmp_path / "tracked"
    (sounds / "anna").mkdir(parents=True)
    for path, value in ((sounds / "anna" / "a.wav", 8000), (sounds / "b.wav", 16000)):
        ramp = np.repeat(np.arange(10), 640) * value // 10
        wavfile.write(path, 16000, ramp.astype(np.int16))
    voices = Voices(Clips(root), root, sounds, Loud())  # type: ignore[arg-type]
    head = load_head("procedural")
    batch = {
        "source": {"params": head.zeros(2)},
        "target": {"params": head.zeros(2), "video": torch.tensor([0, 1]), "index": torch.tensor([7, 9])},
    }
    spoken = voices.over(batch)
    assert spoken["source"]["params"].expression.abs().max() == 0
    said = spoken["target"]["params"].expression
    torch.testing.assert_close(said[:, 0], torch.tensor([0.7 * 8000, 0.9 * 16000]) / 32768, atol=1e-3, rtol=0)
    assert batch["target"]["params"].expression.abs().max() == 0
    (sounds / "b.wav").unlink()
    with pytest.raises(BadDatasetError, match=r"b\.wav"):
        Voices(Clips(root), root, sounds, Loud())  # type: ignore[arg-type]


def test_a_jaw_that_is_a_joint_is_driven_too() -> None:
    head = load_head("procedural")
    said = torch.rand(2, head.n_expression + 3)
    heads = head.zeros(2).spoken(said)
    assert torch.equal(heads.expression, said[:, :-3])
    assert torch.equal(heads.jaw, said[:, -3:])
    assert torch.equal(head.zeros(2).spoken(said[:, :-3]).jaw, torch.zeros(2, 3))
