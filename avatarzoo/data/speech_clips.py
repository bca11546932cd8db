"""People who speak: mel windows with the tracked driving numbers, some seconds for training and some held out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avatarzoo.data.sequence import TrackedSequence, describe
from avatarzoo.data.sound import RATE, decode_samples
from avatarzoo.errors import BadSequenceError, HeadModelMismatchError, UsageError
from avatarzoo.heads import load_head
from avatarzoo.perception.audio import COLUMNS, HOP, SAMPLE_RATE, mel_windows
from avatarzoo.perception.landmarks import face_height
from avatarzoo.perception.speech import FPS, driving_width, speech_mel

UPPER_LIP, LOWER_LIP = 13, 14
"""Landmarks in the middle of the inner lips."""
COLUMN_RATE = SAMPLE_RATE / HOP
MARGIN = 0.3
"""Seconds between training and held-out frames, so that no sound of one is heard with the other."""
SILENT = -4.0
USUAL_LAG, FARTHEST_LAG = 0.1, 0.4
"""Seconds by which loudness follows the opening of the mouth in a clip in sync (lips open first); how far off is looked for."""


NOISE_ONLY, NOISY, SLOWEST = 0.08, 0.5, 0.15
"""Shares of training pieces that are nothing but noise, and that have noise added; how much slower a piece may be played."""
AHEAD = 5
"""Frames by which a piece of sound begins before its first picture; windows cut at its very start would be clamped."""
LOG_POWER = 100 / 8 * math.log(10) / 10
"""Natural logarithm of power per normalised mel value."""


class SpokenClip(NamedTuple):
    """One tracked video with its sound.

    Attributes:
        name: of the video. fps: of its frames.
        samples: sound at 16 kHz; its first sample belongs to the first frame, up to :attr:`delay`.
        mel: of the levelled sound, 80 columns a second, shifted by ``delay`` so that it is in sync.
        numbers: driving numbers of each frame: expression, and the jaw where it is a joint.
        opening: distance of the inner lips in the picture, in face heights.
        held: frames held out; training frames (``train``) keep a margin to them.
        delay: seconds by which the sound is late in the file.
    """

    name: str
    fps: float
    samples: Float[Tensor, " n"]
    mel: Float[Tensor, "80 m"]
    numbers: Float[Tensor, "t e"]
    opening: Float[Tensor, " t"]
    held: Bool[Tensor, " t"]
    train: Bool[Tensor, " t"]
    delay: float


def spoken_clip(
    tracked: TrackedSequence, sound: str | Path, width: int, folds: int = 5, fold: int = -1, sync: bool = True
) -> SpokenClip:
    """Frames and sound of one video.

    Args:
        width: driving numbers, see :func:`avatarzoo.perception.speech.driving_width`.
        folds, fold: the clip is cut into ``folds`` equal parts, of which number ``fold`` is held out (-1: the last).
        sync: shift the sound so that loudness follows the mouth as it does in a clip in sync, judged by training frames.

    Raises:
        BadVideoError: the sound cannot be read. BadSequenceError: too short to hold out seconds.
    """
    samples, fps, count = torch.from_numpy(decode_samples(sound)), tracked.fps, len(tracked)
    samples = torch.cat([samples, samples.new_zeros(max(0, round(count / fps * RATE) - len(samples)))])
    valid = torch.from_numpy(tracked.valid)
    fold %= folds
    place = torch.arange(count)
    first, last = fold * count // folds, (fold + 1) * count // folds
    held = (place >= first) & (place < last)
    margin = round(MARGIN * fps)
    train = (place < first - margin) | (place >= last + margin)
    if min(int((train & valid).sum()), int((held & valid).sum())) < fps:
        raise BadSequenceError(
            f"{tracked.path} leaves less than a second to train on or to hold out; use a longer video or other --data.folds."
        )
    opening = lip_opening(tracked.landmarks)
    mel = speech_mel(samples, RATE)
    delay = sound_delay(mel, opening, train & valid, fps) if sync else 0.0
    numbers = torch.cat([tracked.params.expression, tracked.params.jaw], 1)[:, :width]
    name = str(tracked.info["source"].get("name"))
    return SpokenClip(
        name, fps, samples, shifted(mel, delay), numbers, opening, held & valid, train & valid, delay
    )


def lip_opening(landmarks: np.ndarray) -> Float[Tensor, " t"]:
    """Distance of the inner lips over the face height, NaN where no face was seen."""
    gap = np.linalg.norm(landmarks[:, UPPER_LIP] - landmarks[:, LOWER_LIP], axis=-1)
    return torch.from_numpy(gap / face_height(landmarks)).float()


def shifted(mel: Float[Tensor, "80 m"], delay: float) -> Float[Tensor, "80 m"]:
    """The spectrogram ``delay`` seconds earlier, silence where nothing is known."""
    columns = torch.arange(mel.shape[1]) + round(delay * COLUMN_RATE)
    known = (columns >= 0) & (columns < mel.shape[1])
    return torch.where(known, mel[:, columns.clamp(0, mel.shape[1] - 1)], SILENT)


def sound_delay(
    mel: Float[Tensor, "80 m"], opening: Float[Tensor, " t"], rows: Bool[Tensor, " t"], fps: float
) -> float:
    """Seconds by which the sound comes later than usual after the mouth: where loudness correlates best with its opening."""
    frames = rows.nonzero()[:, 0]
    loudness = torch.conv1d(mel.mean(0)[None, None], torch.full((1, 1, 9), 1 / 9), padding=4)[0, 0]
    steps = torch.arange(-round(FARTHEST_LAG * COLUMN_RATE), round(FARTHEST_LAG * COLUMN_RATE) + 1)
    columns = (frames / fps * COLUMN_RATE).round().long()[None] + (
        steps[:, None] + round(USUAL_LAG * COLUMN_RATE)
    )
    heard = loudness[columns.clamp(0, len(loudness) - 1)]
    heard = heard - heard.mean(1, keepdim=True)
    seen = opening[frames] - opening[frames].mean()
    match = (heard * seen).sum(1) / heard.norm(dim=1).clamp_min(1e-6)
    return float(steps[match.argmax()] / COLUMN_RATE)


class SpeechLoader:
    """Augmented pieces of the training seconds; batch k is a function of (seed, k) alone, so that a run can be resumed.

    Each of several processes that train together draws its own.

    Args:
        clips: what to draw from, by their training seconds. rest: driving numbers of silence.
        steps: batches in all. first: the step to go on from. frames: of a piece, at :data:`FPS` a second.
        augment: level, noise, pitch, tempo and pieces of pure noise, whose target is rest.
    """

    def __init__(
        self, clips: list[SpokenClip], rest: Float[Tensor, " e"], batch_size: int, frames: int, steps: int, seed: int,
        first: Callable[[], int], augment: bool = True, rank: int = 0, world: int = 1,
    ) -> None:  # fmt: skip
        self.clips, self.rest, self.batch_size, self.frames = clips, rest, batch_size, frames
        self.steps, self.seed, self.first, self.augment = steps, seed, first, augment
        self.rank, self.world = rank, world
        self.starts = [piece_starts(clip.train, round(frames * clip.fps / FPS) + 1) for clip in clips]
        self.shares = torch.tensor([float(len(s)) / c.fps for s, c in zip(self.starts, clips)])
        if not self.shares.sum():
            raise UsageError(
                f"No {frames / FPS:g} seconds in a row train; use longer videos or fewer --data.frames."
            )

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for step in range(self.first(), self.steps):
            yield self.batch(step)

    def batch(self, step: int) -> dict[str, Tensor]:
        """``windows (b, t, 80, 16)`` and ``target (b, t, e)``."""
        random = torch.Generator().manual_seed(self.seed * 1_000_003 + step * self.world + self.rank)
        pieces = [self.piece(random) for _ in range(self.batch_size)]
        return {name: torch.stack([piece[name] for piece in pieces]) for name in ("windows", "target")}

    def piece(self, random: torch.Generator) -> dict[str, Tensor]:
        number = int(torch.multinomial(self.shares, 1, generator=random))
        clip, starts = self.clips[number], self.starts[number]
        uniform = torch.rand(3, generator=random).tolist()
        start = (int(starts[torch.randint(len(starts), (), generator=random)]) + uniform[0]) / clip.fps
        tempo = 1 - SLOWEST * uniform[1] if self.augment else 1.0
        target = at_seconds(clip.numbers, clip.fps, start + torch.arange(self.frames) * (tempo / FPS))
        mel = mel_piece(clip.mel, start, self.frames, tempo)
        if self.augment:
            only_noise = uniform[2] < NOISE_ONLY
            mel = disturbed(mel, random, only_noise)
            target = self.rest.expand_as(target) if only_noise else target
        # the first window of mel_windows begins LEAD seconds before the sound, where the piece begins
        return {"windows": mel_windows(mel, FPS, self.frames + AHEAD)[AHEAD:], "target": target}

    def state_dict(self) -> dict[str, int]:
        """Tells Lightning that this loader resumes by itself (from the step the trainer restores)."""
        return {"seed": self.seed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.seed = state["seed"]


def piece_starts(rows: Bool[Tensor, " t"], length: int) -> Tensor:
    """First rows of all runs of ``length`` true rows."""
    if len(rows) < length:
        return torch.zeros(0, dtype=torch.long)
    return rows.unfold(0, length, 1).all(1).nonzero()[:, 0]


def at_seconds(
    values: Float[Tensor, "t e"], fps: float, seconds: Float[Tensor, " f"]
) -> Float[Tensor, "f e"]:
    """Rows between frames, linearly."""
    place = (seconds * fps).clamp(0, len(values) - 1)
    before = place.long().clamp_max(max(len(values) - 2, 0))
    return torch.lerp(
        values[before], values[(before + 1).clamp_max(len(values) - 1)], (place - before)[:, None]
    )


def mel_piece(mel: Float[Tensor, "80 m"], start: float, frames: int, tempo: float) -> Float[Tensor, "80 n"]:
    """Columns from :data:`AHEAD` frames before second ``start``, at ``tempo`` of their speed; silence where nothing is known."""
    count = round((frames + AHEAD) / FPS * COLUMN_RATE) + COLUMNS
    seconds = start + (torch.arange(count) / COLUMN_RATE - AHEAD / FPS) * tempo
    columns = (seconds * COLUMN_RATE).round().long()
    known = (columns >= 0) & (columns < mel.shape[1])
    return torch.where(known, mel[:, columns.clamp(0, mel.shape[1] - 1)], SILENT)


def disturbed(mel: Float[Tensor, "80 n"], random: torch.Generator, only_noise: bool) -> Float[Tensor, "80 n"]:
    """Louder or fainter by up to 6 dB, higher or lower by up to 3 mel bands, with noise of any colour on top.

    Decibels are ``8 / 100`` of the normalised values, see :func:`avatarzoo.perception.audio.mel_spectrogram`.
    """
    louder, noisy, level, tilt = torch.rand(4, generator=random).tolist()
    bands = torch.arange(len(mel))
    moved = (bands + torch.randint(-3, 4, (), generator=random)).clamp(0, len(mel) - 1)
    mel = mel[moved] + 0.08 * 12 * (louder - 0.5) if not only_noise else torch.full_like(mel, SILENT)
    if only_noise or noisy < NOISY:
        # -4 to -1 under speech, up to 1.5 alone; tilted by up to 12 dB either way from the lowest band to the highest
        middle = SILENT + level * (5.5 if only_noise else 3.0)
        colour = middle + 0.08 * 24 * (tilt - 0.5) * (bands / len(mel) - 0.5)
        noise = colour[:, None] + 0.08 * 4 * torch.randn(mel.shape, generator=random)
        mel = torch.logaddexp(mel * LOG_POWER, noise * LOG_POWER) / LOG_POWER
    return mel.clamp(SILENT, -SILENT)


class WholeClips:
    """All clips, one at a time."""

    def __init__(self, clips: list[SpokenClip]) -> None:
        self.clips = clips

    def __len__(self) -> int:
        return len(self.clips)

    def __iter__(self) -> Iterator[SpokenClip]:
        return iter(self.clips)


class SpokenClipsDataModule(L.LightningDataModule):
    """Tracked videos with sound for a speech network: batches of :class:`SpeechLoader`, whole clips for validation.

    Args:
        sequences: folders written by ``avatarzoo track``. sounds: a sound file for each.
        head: head model they were tracked with; the command line sets it to the model's own. head_file: the user's file of it.
        folds, fold: every clip is cut into ``folds`` equal parts, of which number ``fold`` is held out (-1: the last).
        sync: correct clips whose sound is late or early.
        batch_size: pieces of a step. frames: of a piece, at 25 a second.
        augment: disturb the sound of training pieces.
        seed: order of the batches.

    Raises:
        UsageError: no sequence, another number of sounds, or no such fold.
    """

    is_procedural = False
    clips: list[SpokenClip]

    def __init__(
        self,
        sequences: list[str] | None = None,
        sounds: list[str] | None = None,
        head: str = "procedural",
        head_file: str | None = None,
        folds: int = 5,
        fold: int = -1,
        sync: bool = True,
        batch_size: int = 8,
        frames: int = 32,
        augment: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if folds < 2 or not -folds <= fold < folds or batch_size < 1 or frames < 2:
            raise UsageError(
                f"--data.folds must be at least 2 and --data.fold below it, not {folds} and {fold}; batches need at least one "
                "piece of two frames."
            )
        self.save_hyperparameters(logger=False)  # names may repeat those of the method

    def open(self) -> list[tuple[TrackedSequence, Path]]:
        """Tracked videos and the files of their sounds."""
        folders, sounds = self.hparams["sequences"] or [], self.hparams["sounds"] or []
        if not folders or len(folders) != len(sounds):
            raise UsageError("Give as many --data.sounds as --data.sequences, at least one.")
        return [(TrackedSequence.open(a), Path(b)) for a, b in zip(folders, sounds)]

    def setup(self, stage: str) -> None:
        if hasattr(self, "clips"):
            return
        hp = self.hparams
        opened = self.open()
        head = load_head(hp["head"], hp["head_file"])
        for tracked, _ in opened:
            if tracked.info["head"] != head.signature:
                raise HeadModelMismatchError(
                    f"{tracked.path} was tracked with the head {describe(tracked.info['head'])}, not {head.name}; track the video "
                    f"again with --head {head.name}."
                )
        self.head_signature = head.signature
        width = driving_width(head)
        self.clips = [spoken_clip(*pair, width, hp["folds"], hp["fold"], hp["sync"]) for pair in opened]

    def train_dataloader(self) -> SpeechLoader:
        trainer, hp = self.trainer, self.hparams
        assert trainer is not None
        module: Any = trainer.lightning_module
        return SpeechLoader(
            self.clips, module.speech.rest.cpu(), hp["batch_size"], hp["frames"], trainer.max_steps, hp["seed"],
            lambda: trainer.global_step, hp["augment"], trainer.global_rank, trainer.world_size,
        )  # fmt: skip

    def val_dataloader(self) -> WholeClips:
        return WholeClips(self.clips)

    def describe(self) -> dict[str, Any]:
        """What the data are, for a result file."""
        return {
            clip.name: {"frames": len(clip.held), "held_out": int(clip.held.sum()), "sound_delay": clip.delay}
            for clip in self.clips
        }
