"""Sound as speech networks see it: the mel spectrogram of Wav2Lip and SadTalker, cut into one window a video frame."""

from __future__ import annotations

import math
import pickle
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from avatarzoo.errors import BadCheckpointError, MissingAssetError, UnsafeCheckpointError, UsageError
from avatarzoo.networks.audio_encoder import ExpNet

SAMPLE_RATE = 16000
BINS = 80
N_FFT = 800
"""Samples of a spectrum, which is also the length of its window."""
HOP = 200
"""Samples between columns: 80 columns a second."""
PREEMPHASIS = 0.97
LOWEST, HIGHEST = (
    55.0,
    7600.0,
)  # hertz; the fact sheet gives 55 only, 7600 is what Wav2Lip's description states
REFERENCE_DB, RANGE_DB = 20.0, 100.0  # the fact sheet gives only the +-4; these are of the same description
LIMIT = 4.0
COLUMNS = 16
LEAD = 2 / 25
"""Seconds from the first column of a window to its video frame: two frames at 25 a second."""


def hertz_to_mel(hertz: float) -> float:
    """Slaney's scale: 3/200 a hertz up to 1000 Hz, then 27 steps for each factor of 6.4."""
    return 15 + 27 * math.log(hertz / 1000) / math.log(6.4) if hertz >= 1000 else hertz * 3 / 200


def mel_to_hertz(mel: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Inverse of :func:`hertz_to_mel`."""
    return torch.where(mel >= 15, 1000 * 6.4 ** ((mel - 15) / 27), mel * 200 / 3)


@cache
def mel_filters() -> Float[Tensor, "80 401"]:
    """Triangles of unit area between neighbouring mel frequencies, over the frequencies of the spectrum (in hertz)."""
    low, high = hertz_to_mel(LOWEST), hertz_to_mel(HIGHEST)
    edges = mel_to_hertz(torch.linspace(low, high, BINS + 2, dtype=torch.float64))
    frequencies = torch.linspace(0, SAMPLE_RATE / 2, N_FFT // 2 + 1, dtype=torch.float64)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (frequencies - left) / (centre - left), (right - frequencies) / (right - centre)
    return (torch.minimum(rising, falling).clamp_min(0) * 2 / (right - left)).float()


def mel_spectrogram(samples: Float[Tensor, "*b n"]) -> Float[Tensor, "*b 80 t"]:
    """Normalised mel spectrogram, 80 columns a second: ``t = 1 + n // 200``, column k centred on second k / 80.

    Pre-emphasis, magnitudes under a Hann window, mel filters, decibels (-115 to -15 below full scale become -4 to 4).
    The sound is continued by zeros at both ends, the default of librosa since 0.9 (Wav2Lip's older one mirrors it there).

    Args:
        samples: mono at 16 kHz, in [-1, 1].

    Raises:
        UsageError: there is no sound, or it is not finite.
    """
    if samples.shape[-1] == 0 or not torch.isfinite(samples).all():
        raise UsageError("The sound is empty or not finite; give mono samples between -1 and 1.")
    sharpened = samples - PREEMPHASIS * F.pad(samples, (1, 0))[..., :-1]
    window = torch.hann_window(N_FFT, dtype=samples.dtype, device=samples.device)
    spectrum = torch.stft(
        sharpened.reshape(-1, samples.shape[-1]), N_FFT, HOP, window=window, center=True,
        pad_mode="constant", return_complex=True,
    ).abs()  # fmt: skip
    mel = mel_filters().to(samples) @ spectrum
    decibels = 20 * mel.clamp_min(10 ** (-RANGE_DB / 20)).log10() - REFERENCE_DB
    normalised = (2 * LIMIT * (decibels + RANGE_DB) / RANGE_DB - LIMIT).clamp(-LIMIT, LIMIT)
    return normalised.reshape(*samples.shape[:-1], *normalised.shape[1:])


def mel_windows(mel: Float[Tensor, "*b 80 t"], fps: float, frames: int) -> Float[Tensor, "*b frames 80 16"]:
    """The 16 columns around each of ``frames`` video frames; beyond the ends, the first and last column repeat.

    Frame i's window starts at column ``int(80 * (i - 2) / 25)`` at 25 frames a second, truncated towards zero as published.
    Other rates keep the lead of 0.08 seconds, for which published networks were trained.

    Raises:
        UsageError: ``fps`` is not positive.
    """
    if not fps > 0:
        raise UsageError(f"A video of {fps:g} frames a second has no frames; give its frame rate.")
    frame = torch.arange(frames, dtype=torch.float64)
    # 80 * (i / fps - 0.08) over a common denominator, so that whole columns come out whole
    start = (SAMPLE_RATE / HOP * (25 * frame - LEAD * 25 * fps) / (25 * fps)).trunc().long()
    columns = (start[:, None] + torch.arange(COLUMNS)).clamp(0, mel.shape[-1] - 1)
    return mel[..., columns.to(mel.device)].movedim(-2, -3)


def load_expnet(path: str | Path) -> ExpNet:
    """SadTalker's expression network, frozen, from a file that the user has from its authors.

    Either the bundle in safetensors, where its keys begin with ``audio2exp.``, or the older checkpoint of ``torch.save``,
    where they lie under ``model``. Key names are from descriptions, no file could be seen here: others are refused.

    Raises:
        MissingAssetError: no such file.
        UnsafeCheckpointError: it holds more than tensors and plain values.
        BadCheckpointError: it is damaged, or is not this network.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingAssetError(f"{path} is not a file; give the path of SadTalker's checkpoint.")
    try:
        if path.suffix == ".safetensors":
            prefix = "audio2exp."
            state = {k.removeprefix(prefix): v for k, v in load_file(path).items() if k.startswith(prefix)}
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)["model"]
        network = ExpNet()
        network.load_state_dict(state)
    except pickle.UnpicklingError as error:
        raise UnsafeCheckpointError(
            f"{path} holds objects besides tensors, and they were not loaded; take the bundle in safetensors."
        ) from error
    except (SafetensorError, KeyError, TypeError, AttributeError, RuntimeError, EOFError) as error:
        reason = (str(error).splitlines() or [""])[0][:200]
        raise BadCheckpointError(
            f"{path} is not SadTalker's expression network ({type(error).__name__}: {reason}); "
            "take its safetensors bundle or audio2exp checkpoint from its authors."
        ) from error
    return network.eval().requires_grad_(False)
