"""The mel front end against a second computation in numpy and scipy, and its windows against the published formula."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.signal import get_window, lfilter

from avatarzoo.data.sound import RATE, decode_samples
from avatarzoo.errors import BadCheckpointError, MissingAssetError, UnsafeCheckpointError, UsageError
from avatarzoo.networks.audio_encoder import ExpNet, SpeechExpression
from avatarzoo.perception import audio


def by_hand(samples: np.ndarray) -> np.ndarray:
    """The published definition, one column and one triangle at a time, in double precision."""
    sharp = np.pad(lfilter([1, -0.97], [1], samples.astype(np.float64)), 400)
    window = get_window("hann", 800)
    columns = [np.abs(np.fft.rfft(sharp[k : k + 800] * window)) for k in range(0, len(samples) + 1, 200)]
    magnitudes = np.stack(columns, 1)

    knee, step = 1000.0, np.log(6.4) / 27
    top = 15 + np.log(7600 / knee) / step
    mels = np.linspace(55 / (200 / 3), top, 82)
    points = np.where(mels < 15, mels * 200 / 3, knee * np.exp(step * (mels - 15)))
    frequencies = np.fft.rfftfreq(800, 1 / 16000)
    rows = [
        np.interp(frequencies, points[k : k + 3], [0, 2 / (points[k + 2] - points[k]), 0]) @ magnitudes
        for k in range(80)
    ]
    decibels = 20 * np.log10(np.maximum(1e-5, np.stack(rows))) - 20
    return np.clip(8 * (decibels + 100) / 100 - 4, -4, 4)


def tone(hertz: float, seconds: float = 0.5, amplitude: float = 0.5) -> torch.Tensor:
    return amplitude * torch.sin(2 * np.pi * hertz * torch.arange(round(seconds * 16000)) / 16000)


@pytest.mark.parametrize("length", [8000, 8001, 8199, 150, 1])
def test_mel_is_the_published_one(length):
    samples = 0.3 * torch.randn(length, generator=torch.Generator().manual_seed(length))
    mel = audio.mel_spectrogram(samples)
    assert mel.shape == (80, 1 + length // 200)
    np.testing.assert_allclose(mel, by_hand(samples.numpy()), atol=2e-3)


@pytest.mark.parametrize("hertz", [100, 440, 1000, 3000, 7000])
def test_a_tone_is_seen_at_its_frequency(hertz):
    mel = audio.mel_spectrogram(tone(hertz))
    np.testing.assert_allclose(mel, by_hand(tone(hertz).numpy()), atol=2e-2)  # far bins are all but silent
    low, high = audio.hertz_to_mel(audio.LOWEST), audio.hertz_to_mel(audio.HIGHEST)
    expected = (audio.hertz_to_mel(hertz) - low) / (high - low) * 81 - 1
    assert abs(int(mel[:, 20].argmax()) - expected) <= 1


def test_silence_is_the_lowest_value_and_batches_are_independent():
    mel = audio.mel_spectrogram(torch.stack([torch.zeros(8000), tone(440)]))
    assert (mel[0] == -4).all()
    torch.testing.assert_close(mel[1], audio.mel_spectrogram(tone(440)))
    half = audio.mel_spectrogram(tone(440, amplitude=0.25))
    loud = mel[1, :, 10:30].amax()
    assert float(loud - half[:, 10:30].amax()) == pytest.approx(8 * 20 * np.log10(2) / 100, abs=1e-3)


def test_windows_start_where_published():
    """Values are column numbers, so that a window tells where it lies."""
    mel = torch.arange(400.0).expand(80, -1)
    windows = audio.mel_windows(mel, 25, 130)
    assert windows.shape == (130, 80, 16)
    for i in range(130):
        start = int(80 * (i - 2) / 25)
        expected = [min(max(start + k, 0), 399) for k in range(16)]
        assert windows[i, 7].tolist() == expected
    assert windows[0, 0].tolist() == [0] * 7 + list(range(1, 10))  # int(-6.4) is -6


def test_windows_of_other_rates_are_at_the_same_time():
    mel = torch.arange(800.0).expand(2, 80, -1)
    slow, fast = audio.mel_windows(mel, 25, 200), audio.mel_windows(mel, 50, 400)
    assert slow.shape == (2, 200, 80, 16)
    torch.testing.assert_close(fast[:, ::2], slow)
    odd = audio.mel_windows(mel, 29.97, 240)[0, :, 0, 0]
    assert (odd - 80 * (torch.arange(240) / 29.97 - 0.08)).abs()[10:].max() < 1 + 1e-3


@pytest.mark.parametrize("samples", [torch.zeros(0), torch.tensor([0.0, float("nan")])])
def test_no_sound_is_refused(samples):
    with pytest.raises(UsageError, match="mono samples"):
        audio.mel_spectrogram(samples)


def test_no_frame_rate_is_refused():
    with pytest.raises(UsageError, match="frame rate"):
        audio.mel_windows(torch.zeros(80, 10), 0, 3)


def test_expnet_loads_from_both_layouts(tmp_path):
    torch.manual_seed(0)
    state = ExpNet().state_dict()
    bundle = {f"audio2exp.{k}": v for k, v in state.items()} | {"audio2pose.netG.x": torch.zeros(2)}
    save_file(bundle, tmp_path / "bundle.safetensors")
    torch.save({"model": state, "epoch": 3}, tmp_path / "old.pth")
    for name in ("bundle.safetensors", "old.pth"):
        network = audio.load_expnet(tmp_path / name)
        assert not network.training
        assert not any(p.requires_grad for p in network.parameters())
        torch.testing.assert_close(dict(network.state_dict()), dict(state))


def test_other_files_are_refused(tmp_path):
    with pytest.raises(MissingAssetError):
        audio.load_expnet(tmp_path / "none.pth")
    (tmp_path / "noise.safetensors").write_bytes(b"no weights")
    (tmp_path / "noise.pth").write_bytes(b"")
    save_file({"audio2exp.other": torch.zeros(2)}, tmp_path / "other.safetensors")
    torch.save({"state": {}}, tmp_path / "other.pth")
    for name in ("noise.safetensors", "noise.pth", "other.safetensors", "other.pth"):
        with pytest.raises(BadCheckpointError, match="from its authors"):
            audio.load_expnet(tmp_path / name)
    torch.save({"model": Path("/")}, tmp_path / "object.pth")
    with pytest.raises(UnsafeCheckpointError):
        audio.load_expnet(tmp_path / "object.pth")


@pytest.mark.media
@pytest.mark.skipif("AVATARZOO_MEDIA" not in os.environ, reason="AVATARZOO_MEDIA is not set")
def test_a_real_speech():
    path = Path(os.environ["AVATARZOO_MEDIA"]) / "audio" / "obama_weekly_30s.wav"
    samples = decode_samples(path, 0, 10)
    assert RATE == audio.SAMPLE_RATE
    mel = audio.mel_spectrogram(torch.from_numpy(samples))
    np.testing.assert_allclose(mel, by_hand(samples), atol=1e-2)
    gate = SpeechExpression(4).gate(audio.mel_windows(mel, 25, 250)[None]).flatten()
    assert (gate == 1).float().mean() > 0.4
    assert (gate < 0.1).any()
