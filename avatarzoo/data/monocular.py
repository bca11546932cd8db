"""One person's tracked frames as training data."""

from __future__ import annotations

from typing import Any

import torch

from avatarzoo.data.frames import FrameDataModule, FrameStore
from avatarzoo.data.sequence import TrackedSequence
from avatarzoo.errors import BadSequenceError, UsageError

FEWEST_FRAMES = 10


class TrackedSequenceDataModule(FrameDataModule):
    """Frames of a folder written by ``avatarzoo track``.

    Args:
        sequence: the folder.
        batch_size: views per step.
        train_fraction: the first part of the frames trains, the rest is held out.
        max_frames: use only so many frames from the start (0: all).
        background: grey level behind the head (paper: white).
        seed: order of the batches.
    """

    def __init__(
        self,
        sequence: str,
        batch_size: int = 2,
        train_fraction: float = 0.9,
        max_frames: int = 0,
        background: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, train_fraction, background, seed)
        self.save_hyperparameters(logger=False)  # names may repeat those of the method
        self.tracked: TrackedSequence | None = None

    def open(self) -> TrackedSequence:
        """The tracked frames, made first where a subclass knows how."""
        return TrackedSequence.open(self.hparams["sequence"])

    def setup(self, stage: str) -> None:
        if self.tracked is not None:
            return
        self.tracked = self.open()
        if not self.tracked.has_masks:
            raise BadSequenceError(f"{self.tracked.path} has no masks; track it again without --no-matting.")
        self.frames = load_frames(self.tracked, self.hparams["max_frames"])
        self.head_signature = self.tracked.info["head"]
        self.fps = self.tracked.fps

    def describe(self) -> dict[str, Any]:
        assert self.tracked is not None
        info = self.tracked.info
        return {
            "kind": "monocular video",
            "source": info["source"].get("name"),
            "source_sha256": info["source"].get("sha256"),
            "frames": len(self.frames),
            "lost_frames": len(info["lost_frames"]),
            "train_frames": self.n_train,
            "held_out": f"last {len(self.frames) - self.n_train} frames",
            "size": self.frames.camera.size[0],
            "background": self.background,
            "region": "head (face, hair, ears) composited on the background, whole picture measured",
            "mask": info["mask"],
            "tracking": info.get("tracker"),
        }


def load_frames(sequence: TrackedSequence, max_frames: int = 0) -> FrameStore:
    """All frames with a face, decoded into memory.

    Raises:
        BadSequenceError: fewer than ten frames show the face.
        UsageError: ``max_frames`` is smaller than that.
    """
    rows = torch.from_numpy(sequence.valid).nonzero()[:, 0]
    if len(rows) < FEWEST_FRAMES:
        raise BadSequenceError(
            f"{sequence.path} shows the face in {len(rows)} frames, at least {FEWEST_FRAMES} are needed; use a longer video."
        )
    if max_frames and max_frames < FEWEST_FRAMES:
        raise UsageError(f"--data.max_frames must be 0 (all) or at least {FEWEST_FRAMES}, not {max_frames}.")
    rows = rows[:max_frames] if max_frames else rows
    return FrameStore(
        sequence.images(rows),
        sequence.masks(rows),
        sequence.features(rows),
        sequence.params.rows(rows),
        sequence.camera,
        torch.from_numpy(sequence.frame_numbers)[rows],
    )
