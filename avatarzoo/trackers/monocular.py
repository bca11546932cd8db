"""A person's own video as training data: tracked when first asked for, found again by content afterwards."""

from __future__ import annotations

from pathlib import Path

from avatarzoo.assets import cache_folder
from avatarzoo.data.monocular import TrackedSequenceDataModule
from avatarzoo.data.sequence import TrackedSequence
from avatarzoo.errors import BadVideoError
from avatarzoo.trackers.pipeline import cached_track


class MonocularVideoDataModule(TrackedSequenceDataModule):
    """Frames of one video of one person, or of a folder that was tracked before.

    Args:
        video: any video file with one person in it.
        sequence: instead of a video, a folder written by ``avatarzoo track``.
        head: head model to track with; the command line sets it to the model's own.
        head_file: the user's file for head models that need one.
        cache: where tracked videos are kept (default: the user's cache folder).
        size: side of the square pictures in pixels.
        batch_size: views per step.
        train_fraction: the first part of the frames trains, the rest is held out.
        max_frames: use only so many frames from the start (0: all).
        background: grey level behind the head (paper: white).
        person: ``only`` refuses a video with two faces, ``largest`` follows the largest.
        consent: statement that the person agreed; stored with the sequence.
        seed: order of the batches.
    """

    def __init__(
        self,
        video: str | None = None,
        sequence: str | None = None,
        head: str = "ict",
        head_file: str | None = None,
        cache: str | None = None,
        size: int = 512,
        batch_size: int = 2,
        train_fraction: float = 0.9,
        max_frames: int = 0,
        background: float = 1.0,
        person: str = "only",
        consent: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(sequence or "", batch_size, train_fraction, max_frames, background, seed)
        self.save_hyperparameters(logger=False)  # names may repeat those of the method

    def prepare_data(self) -> None:
        self.open()

    def open(self) -> TrackedSequence:
        hp = self.hparams
        if hp["sequence"]:
            return TrackedSequence.open(hp["sequence"])
        if hp["video"] is None:
            raise BadVideoError("No video was given; add --data.video me.mp4 (or --data.sequence FOLDER).")
        return cached_track(
            Path(hp["video"]),
            cache=Path(hp["cache"]) if hp["cache"] else cache_folder() / "tracks",
            head=hp["head"],
            head_file=hp["head_file"],
            size=hp["size"],
            person=hp["person"],
            consent=hp["consent"],
        )
