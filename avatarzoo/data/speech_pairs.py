"""Pairs of frames whose target is driven by the sound under it (NOFA++, stage 4: alpha and camera of the video, beta of the audio)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from avatarzoo.data.clip_pairs import HeldOutPairs
from avatarzoo.data.clip_pairs_modules import TrackedClipPairsDataModule
from avatarzoo.data.clip_pairs_tracked import TrackedClips
from avatarzoo.data.portrait_video import Region
from avatarzoo.data.sound import RATE, decode_samples
from avatarzoo.errors import BadDatasetError, HeadModelMismatchError
from avatarzoo.heads import load_head
from avatarzoo.perception.speech import ExpNetSpeech, Speech, load_speech

SUFFIXES = (".wav", ".flac", ".m4a", ".mp3", ".mp4", ".mov", ".mkv", ".webm")


class Voices:
    """What a speech network says to the sound of each clip; computed when first asked for.

    Args:
        clips: tracked clips. root: the folder above them.
        sounds: folder of their sounds (or of the videos, if they have it): ``PERSON/CLIP.wav`` or ``CLIP.wav``, as the clips' folders.
        speech: a speech network.

    Raises:
        BadDatasetError: a clip's sound is not there.
    """

    def __init__(self, clips: TrackedClips, root: Path, sounds: Path, speech: Speech | ExpNetSpeech) -> None:
        self.clips, self.speech = clips, speech
        self.files = [sound_file(folder, root, sounds) for folder in clips.folders]
        self.known: dict[int, Tensor] = {}

    def __call__(self, clip: int) -> Float[Tensor, "t e"]:
        """Driving numbers of the frames 0, 1, ... of the clip's video.

        Raises:
            BadVideoError: its sound cannot be read.
        """
        if clip not in self.known:
            fps, last = self.clips.open(self.clips.folders[clip]).fps, int(self.clips.numbers(clip)[-1])
            samples = torch.from_numpy(decode_samples(self.files[clip]))
            self.known[clip] = self.speech.speak(samples, RATE, fps, last + 1)
        return self.known[clip]

    def over(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The batch with the targets' expressions replaced."""
        target = batch["target"]
        pairs = zip(target["video"].tolist(), target["index"].tolist())
        said = torch.stack([self(clip)[frame] for clip, frame in pairs])
        return {**batch, "target": {**target, "params": target["params"].spoken(said)}}


class SpokenHeldOutPairs:
    """:class:`HeldOutPairs` that speak."""

    def __init__(self, pairs: HeldOutPairs, voices: Voices) -> None:
        self.pairs, self.voices = pairs, voices

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return map(self.voices.over, self.pairs)


class SpokenClipPairsDataModule(TrackedClipPairsDataModule):
    """:class:`TrackedClipPairsDataModule` whose targets are driven by their sound.

    Args:
        sounds: folder of the clips' sounds, see :class:`Voices`.
        speech: checkpoint of a speech network, see :func:`avatarzoo.perception.speech.load_speech`.
        root, videos, layout, head, head_file, held_out, size, region, background, batch_size, distance, held_out_frames, seed: see
            :class:`TrackedClipPairsDataModule`.
    """

    def __init__(
        self,
        root: str,
        sounds: str,
        speech: str,
        videos: str | None = None,
        layout: str = "clips",
        head: str = "ict",
        head_file: str | None = None,
        held_out: int = 8,
        size: int = 512,
        region: Region = "frame",
        background: float = 1.0,
        batch_size: int = 4,
        distance: int = 10,
        held_out_frames: int = 16,
        seed: int = 0,
    ) -> None:
        super().__init__(
            root, videos, layout, head, head_file, held_out, size, region, background, batch_size, distance,
            held_out_frames, seed,
        )  # fmt: skip
        self.save_hyperparameters(logger=False)  # names may repeat those of the method

    def setup(self, stage: str) -> None:
        """See the class.

        Raises:
            HeadModelMismatchError: clips and speech network belong to different head models.
        """
        if hasattr(self, "voices"):
            return
        super().setup(stage)
        hp = self.hparams
        head = load_head(hp["head"], hp["head_file"])
        speech = load_speech(hp["speech"], head)
        if self.source.head_signature != head.signature:
            raise HeadModelMismatchError(
                f"The clips of {hp['root']} were tracked with the head model {self.source.head_signature['name']}, {hp['speech']} "
                f"speaks for {head.name}; track them again with --head {head.name}."
            )
        self.voices, self.held_out_voices = (
            Voices(clips, Path(hp["root"]), Path(hp["sounds"]), speech)  # type: ignore[arg-type]
            for clips in (self.source, self.held_out)
        )

    def drawer(self, rank: int = 0, world: int = 1) -> Callable[[int], dict[str, Any]]:  # type: ignore[override]
        draw = super().drawer(rank, world)
        return lambda step: self.voices.over(draw(step))

    def val_dataloader(self) -> SpokenHeldOutPairs:  # type: ignore[override]
        return SpokenHeldOutPairs(super().val_dataloader(), self.held_out_voices)


def sound_file(clip: Path, root: Path, sounds: Path) -> Path:
    """The sound of a clip's folder."""
    for stem in (clip.relative_to(root), Path(clip.name)):
        for suffix in SUFFIXES:
            if (path := sounds / stem.parent / f"{stem.name}{suffix}").is_file():
                return path
    raise BadDatasetError(f"{sounds} has no sound of the clip {clip.name}; put it there as {clip.name}.wav.")
