"""Sound to what drives a head: expression coefficients, and the jaw's turn where the head's jaw is a joint."""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avatarzoo.errors import BadCheckpointError, HeadModelMismatchError, MissingAssetError, UsageError
from avatarzoo.heads.base import HeadModel
from avatarzoo.networks.audio_encoder import AFTER, ExpNet, SpeechExpression
from avatarzoo.perception.audio import SAMPLE_RATE, load_expnet, mel_spectrogram, mel_windows

FPS = 25.0
"""Frames a second at which speech networks work; other rates are interpolated from it."""
CONTENT = "avatarzoo_speech"
"""Entry of a checkpoint that says how its speech network is built and which head model it drives."""
PREFIX = "speech."
LOUD_DB, LOUD_SHARE = -17.0, 0.95
"""Every sound is scaled so that the RMS of 25 ms reaches this in its loudest twentieth (decibels below full scale)."""
FAINTEST_DB = -50.0
"""A sound whose loudest twentieth lies below is a silent room, which is not amplified."""
DEEP3D_NAMES, DEEP3D_EXPRESSIONS = ("bfm", "deep3d"), 64


def common_level(samples: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """The sound at the loudness that networks are trained for; silence stays what it is."""
    step = SAMPLE_RATE // 40
    parts = samples[: max(len(samples) // step, 1) * step].unfold(0, min(step, len(samples)), step)
    loud = float(parts.double().square().mean(1).sqrt().quantile(LOUD_SHARE))
    if loud < 10 ** (FAINTEST_DB / 20):
        return samples
    return samples * (10 ** (LOUD_DB / 20) / loud)


def speech_mel(samples: Float[Tensor, " n"], rate: int) -> Float[Tensor, "80 t"]:
    """Normalised mel spectrogram of a sound at any rate and level, see :func:`.audio.mel_spectrogram`.

    Raises:
        UsageError: there is no sound, or it is not finite, or the rate is not positive.
    """
    samples = torch.as_tensor(samples).flatten().float().cpu()
    if rate < 1 or len(samples) == 0 or not torch.isfinite(samples).all():
        raise UsageError(
            "The sound is empty or not finite; give mono samples between -1 and 1 and their rate."
        )
    if rate != SAMPLE_RATE:
        from scipy.signal import resample_poly

        common = math.gcd(SAMPLE_RATE, rate)
        changed = resample_poly(samples.numpy(), SAMPLE_RATE // common, rate // common)
        samples = torch.from_numpy(changed).float()
    return mel_spectrogram(common_level(samples))


def speech_windows(
    samples: Float[Tensor, " n"], rate: int, fps: float, frames: int
) -> Float[Tensor, "t 80 16"]:
    """Mel windows at :data:`FPS` frames a second that cover ``frames`` pictures; silence after the end of the sound."""
    if not fps > 0:
        raise UsageError(f"A video of {fps:g} frames a second has no frames; give its frame rate.")
    count = int(frames / fps * FPS) + 2
    missing = int((count + 8) / FPS * rate) - len(samples)
    samples = torch.cat([samples, samples.new_zeros(max(missing, 0))]) if len(samples) else samples
    return mel_windows(speech_mel(samples, rate), FPS, count)


def at_frames(values: Float[Tensor, "t e"], fps: float, frames: int) -> Float[Tensor, "f e"]:
    """Rows at :data:`FPS` frames a second, read at ``fps``; equal neighbours give exactly their value."""
    place = torch.arange(frames, dtype=torch.float64, device=values.device) * (FPS / fps)
    before = place.long().clamp_max(len(values) - 2)
    share = (place - before).to(values)[:, None]
    return torch.lerp(values[before], values[before + 1], share)


class Speech(nn.Module):
    """What a head does to speak: its expression at rest, and what :class:`SpeechExpression` adds to it.

    Args:
        numbers: how many drive the head, see :func:`driving_width`.
        head: signature of the head model.
        features, bandwidth: see :class:`SpeechExpression`.
    """

    rest: Float[Tensor, " e"]

    def __init__(
        self, numbers: int, head: Mapping[str, str], features: int = 1024, bandwidth: float = 1.8
    ) -> None:
        super().__init__()
        self.config = {
            "numbers": numbers,
            "head": dict(head),
            "features": features,
            "bandwidth": bandwidth,
        }
        self.network = SpeechExpression(numbers, features, bandwidth)
        self.register_buffer("rest", torch.zeros(numbers))

    def forward(self, windows: Float[Tensor, "b t 80 16"]) -> Float[Tensor, "b t e"]:
        """Driving numbers at :data:`FPS` frames a second."""
        return self.rest + self.network(windows)

    @torch.no_grad()
    def speak(self, samples: Float[Tensor, " n"], rate: int, fps: float, frames: int) -> Float[Tensor, "t e"]:
        """Driving numbers of ``frames`` pictures; in silence exactly :attr:`rest`.

        Raises:
            UsageError: there is no sound, or it is not finite, or a rate is not positive.
        """
        later = math.ceil(AFTER / FPS * fps)
        windows = speech_windows(samples, rate, fps, frames + later).to(self.rest)
        return at_frames(self(windows[None])[0], fps, frames)


class ExpNetSpeech(nn.Module):
    """SadTalker's expression network as a speech network: without a picture, the reference is neutral and the eyes are open."""

    def __init__(self, network: ExpNet) -> None:
        super().__init__()
        self.network = network

    @torch.no_grad()
    def speak(
        self, samples: Float[Tensor, " n"], rate: int, fps: float, frames: int
    ) -> Float[Tensor, "t 64"]:
        """See :meth:`Speech.speak`; in silence the mouth is as still as the network keeps it."""
        device = self.network.mapping1.weight.device
        windows = speech_windows(samples, rate, fps, frames).to(device)
        neutral = windows.new_zeros(DEEP3D_EXPRESSIONS)
        return at_frames(self.network(windows, neutral, windows.new_zeros(len(windows))), fps, frames)


def driving_width(head: HeadModel) -> int:
    """How many numbers move the mouth: the expression coefficients, and 3 of the jaw where no coefficient opens it."""
    if any("jaw" in name.lower() for name in head.expression_names):
        return head.n_expression
    rest = head.zeros(1)
    turned = rest._replace(jaw=rest.jaw + 0.1)
    with torch.no_grad():
        moves = float((head(turned) - head(rest)).abs().max()) > 1e-6
    return head.n_expression + 3 * moves


def load_speech(path: str | Path, head: HeadModel) -> Speech | ExpNetSpeech:
    """The frozen speech network of a checkpoint that ``avatarzoo fit -c configs/nofaplusplus/speech.yaml`` wrote, or SadTalker's.

    Raises:
        MissingAssetError: no such file.
        HeadModelMismatchError: it drives another head model.
        UnsafeCheckpointError, BadCheckpointError: see :func:`.audio.load_expnet`.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingAssetError(
            f"There is no speech network {path}; avatarzoo fit -c configs/nofaplusplus/speech.yaml trains one."
        )
    if (content := _own_content(path)) is None:
        return _sadtalker(path, head)
    config, state = content[CONTENT], content["state_dict"]
    if config["head"] != head.signature:
        raise HeadModelMismatchError(
            f"{path} speaks for the head model {config['head']['name']} ({config['head']['hash'][:8]}), this avatar has "
            f"{head.name} ({head.source_hash[:8]}); train one with configs/nofaplusplus/speech.yaml --model.head {head.name}."
        )
    try:
        speech = Speech(**config)
        speech.load_state_dict({k.removeprefix(PREFIX): v for k, v in state.items() if k.startswith(PREFIX)})
    except (TypeError, RuntimeError) as error:
        raise BadCheckpointError(f"{path} holds a damaged speech network; train it again.") from error
    return speech.eval().requires_grad_(False)


def _own_content(path: Path) -> dict[str, Any] | None:
    """A checkpoint of ours with a speech network; ``None`` for all other files."""
    if path.suffix == ".safetensors":
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError):
        return None  # the other reader says what is wrong
    return content if isinstance(content, dict) and CONTENT in content else None


def _sadtalker(path: Path, head: HeadModel) -> ExpNetSpeech:
    network = load_expnet(path)
    if head.name not in DEEP3D_NAMES or head.n_expression != DEEP3D_EXPRESSIONS:
        raise HeadModelMismatchError(
            f"{path} speaks in the {DEEP3D_EXPRESSIONS} expressions of Deep3DFaceRecon, which the head model {head.name} does "
            "not have; train a network for it with configs/nofaplusplus/speech.yaml."
        )
    return ExpNetSpeech(network)
