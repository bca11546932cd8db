"""Frames of thousands of tracked clips, in folders or shards, as training data: shuffled, split over processes, resumed exactly."""

from __future__ import annotations

import gc
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from avatarzoo.data.batch import AvatarBatch
from avatarzoo.data.frames import to_float_batch
from avatarzoo.data.multiview import resized
from avatarzoo.data.sequence import TrackedSequence, describe
from avatarzoo.data.shards import ClipEntry, tracked_clips
from avatarzoo.data.window_shuffle import WindowShuffle
from avatarzoo.errors import BadDatasetError, BadSequenceError, UsageError
from avatarzoo.geometry.camera import Camera
from avatarzoo.heads.base import HeadParams

OPEN = 32
"""Clips whose parameters are kept in memory by each worker."""
TRIES = 20
"""Other samples that are tried for one that cannot be read."""
OnDamage = Literal["skip", "stop"]


class Frame(NamedTuple):
    """One frame in bytes; pictures are ``(1, C, s, s)``, camera and params have one row; its number in the video."""

    image: Tensor
    mask: Tensor
    features: Tensor
    params: HeadParams
    camera: Camera
    number: int


class FrameBatches(Dataset):
    """Batches by number; number k of process r of W holds places r, r + W, ... of the k-th ``batch_size * W`` places of the order.

    A sample that cannot be read is replaced by one drawn at random (a function of seed and place), and named in ``"damaged"``;
    or the batch is ``{"stopped": sentence}``.

    Args:
        clips: what there is. size: side of the pictures. offset: place at which number 0 begins.
    """

    def __init__(
        self,
        clips: list[ClipEntry],
        batch_size: int,
        size: int,
        window: int,
        seed: int,
        damaged: OnDamage = "skip",
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.clips, self.batch_size, self.size, self.damaged = clips, batch_size, size, damaged
        self.seed, self.rank, self.world, self.offset = seed, rank, world, 0
        self.order = WindowShuffle([c.valid for c in clips], [c.group for c in clips], window, seed)
        self.head = TrackedSequence.open(readable(clips)).info["head"]

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "open"}

    def places(self, number: int) -> range:
        """Of this process's samples."""
        whole = self.batch_size * self.world
        first = self.offset + number * whole
        return range(first + self.rank, first + whole, self.world)

    def __getitem__(self, number: int) -> dict[str, Any]:
        try:
            drawn = [self.sample(place) for place in self.places(number)]
        except (BadSequenceError, BadDatasetError) as error:
            return {"stopped": str(error)}
        frames = [frame for frame, _, _ in drawn]
        joined = {k: torch.cat([getattr(f, k) for f in frames]) for k in ("image", "mask", "features")}
        poses, lenses = (torch.cat([f.camera[i] for f in frames]) for i in range(2))  # type: ignore[misc]
        return {
            **joined,
            "params": HeadParams(*(torch.cat(x) for x in zip(*(f.params for f in frames)))),
            "camera": Camera(poses, lenses, (self.size, self.size)),
            "index": torch.tensor([f.number for f in frames]),
            "video": torch.tensor([clip for _, clip, _ in drawn]),
            "damaged": [name for _, _, names in drawn for name in names],
        }

    def sample(self, place: int) -> tuple[Frame, int, list[str]]:
        """The frame of a place, its clip, and what could not be read instead.

        Raises:
            BadSequenceError: a file is damaged, and that should stop the training.
            BadDatasetError: nothing can be read.
        """
        names: list[str] = []
        rng = np.random.default_rng([self.seed, 2, place])
        for _ in range(TRIES):
            clip, number = self.order(place)
            try:
                return self.read(clip, number), clip, names
            except BadSequenceError:
                if self.damaged == "stop":
                    raise
                names.append(self.clips[clip].group)
                place = int(rng.integers(self.order.total))
        raise BadDatasetError(
            f"{TRIES} samples after each other cannot be read, such as of {names[-1]}; copy the data again."
        )

    def read(self, clip: int, number: int) -> Frame:
        """Valid frame ``number`` of a clip."""
        if not hasattr(self, "open"):
            self.open = lru_cache(OPEN)(opened)
        sequence = self.open(self.clips[clip].path)
        if sequence.info["head"] != self.head:
            raise BadSequenceError(
                f"{sequence.path} was tracked with the head {describe(sequence.info['head'])}, other clips with "
                f"{describe(self.head)}; track all with one."
            )
        rows = np.flatnonzero(sequence.valid)[number : number + 1]
        if not len(rows):
            raise BadSequenceError(f"{sequence.path} has fewer frames than it says; copy it again.")
        image, mask, features = (
            resized(x, self.size)
            for x in (sequence.images(rows), sequence.masks(rows)[:, None], sequence.features(rows)[:, None])
        )
        camera = sequence.camera.resized(self.size, self.size)
        frame = int(sequence.frame_numbers[rows[0]])
        return Frame(image, mask[:, 0], features[:, 0], sequence.params.rows(rows.tolist()), camera, frame)


def opened(path: Path) -> TrackedSequence:
    """Without the landmarks, which are nearly all that it keeps in memory."""
    sequence = TrackedSequence.open(path)
    sequence.landmarks = sequence.landmarks[:0].copy()
    return sequence


def readable(clips: list[ClipEntry]) -> Any:
    """The first clip that opens.

    Raises:
        BadDatasetError: none of the first.
    """
    for clip in clips[:TRIES]:
        try:
            return TrackedSequence.open(clip.path).path
        except BadSequenceError as error:
            said = error
    raise BadDatasetError(f"None of the first {min(TRIES, len(clips))} clips can be read: {said}")


class FrameLoader:
    """The batches of a training, made by worker processes, in order.

    Args:
        count: batches in all. done: called for how many the trainer has used; iteration goes on from there.
        workers: processes; 0: none.
    """

    def __init__(self, batches: FrameBatches, count: int, done: Callable[[], int], workers: int) -> None:
        self.batches, self.count, self.done, self.workers = batches, count, done, workers

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[dict[str, Any]]:
        loader = DataLoader(
            self.batches,
            batch_size=None,
            sampler=range(self.done(), self.count),
            num_workers=self.workers,
            worker_init_fn=one_thread,
            prefetch_factor=4 if self.workers else None,
        )
        for batch in started(loader):
            if "stopped" in batch:
                raise BadSequenceError(f"{batch['stopped']} (--data.damaged skip leaves such samples out.)")
            yield batch

    def state_dict(self) -> dict[str, int]:
        """How many samples all processes have used; another number of processes or batch size goes on from the same place."""
        whole, done = self.batches.batch_size * self.batches.world, self.done()
        return {"place": self.batches.offset + done * whole, "batches": done, "seed": self.batches.seed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Raises UsageError: the order was drawn with another seed."""
        if state["seed"] != self.batches.seed:
            raise UsageError(
                f"The checkpoint's data was shuffled with seed {state['seed']}; go on with --data.seed {state['seed']}."
            )
        self.batches.offset = state["place"] - state["batches"] * self.batches.batch_size * self.batches.world


def started(loader: DataLoader) -> Iterator[dict[str, Any]]:
    """The iterator, whose workers share this process's memory: garbage collection in them does not touch, and so copy, it."""
    gc.collect()
    gc.freeze()
    try:
        return iter(loader)
    finally:
        gc.unfreeze()


def one_thread(worker: int) -> None:
    """There are as many workers as one wants busy cores."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


class TrackedFramesDataModule(L.LightningDataModule):
    """Random frames of many people's clips, for stages that learn from single frames of anybody.

    Args:
        root: what ``avatarzoo track VIDEOS root`` wrote, shards or folders.
        size: side of the pictures; others are resized.
        batch_size: frames a step and process.
        window: successive samples that are shuffled; larger mixes better and reads from more files at a time.
        workers: processes that read, for each process that trains; 0: none.
        damaged: ``skip`` replaces samples that cannot be read and counts them by file, ``stop`` makes them an error.
        background: grey level behind the head.
        seed: of the order.

    Attributes:
        lost: how many samples each damaged file has cost.

    Raises:
        UsageError: an option has a value it cannot take. BadDatasetError: ``root`` holds no clips.
    """

    is_procedural = False

    def __init__(
        self,
        root: str,
        size: int = 256,
        batch_size: int = 8,
        window: int = 2000,
        workers: int = 2,
        damaged: OnDamage = "skip",
        background: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)  # names may repeat those of the method
        if min(size, batch_size, window) < 1 or workers < 0:
            raise UsageError(
                "--data.size, --data.batch_size and --data.window must be at least 1, --data.workers not negative."
            )
        self.background, self.lost = background, Counter[str]()
        self.clips: list[ClipEntry] = []

    def setup(self, stage: str) -> None:
        if not self.clips:
            self.clips = [clip for clip in tracked_clips(self.hparams["root"]) if clip.valid > 0]
        self.head_signature = TrackedSequence.open(readable(self.clips)).info["head"]

    def describe(self) -> dict[str, Any]:
        """What a result file says of the data."""
        frames = sum(clip.valid for clip in self.clips)
        return {
            "kind": "frames of tracked clips",
            "clips": len(self.clips),
            "frames": frames,
            "damaged": dict(self.lost),
        }

    def train_dataloader(self) -> FrameLoader:
        trainer, hp = self.trainer, self.hparams
        assert trainer is not None
        if trainer.max_steps < 1:
            raise UsageError("--trainer.max_steps must say how many steps to train.")
        each = trainer.accumulate_grad_batches
        batches = FrameBatches(
            self.clips, hp["batch_size"], hp["size"], hp["window"], hp["seed"], hp["damaged"],
            trainer.global_rank, trainer.world_size,
        )  # fmt: skip
        return FrameLoader(
            batches, trainer.max_steps * each, lambda: trainer.global_step * each, hp["workers"]
        )

    def on_before_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Count what could not be read; each file is named once."""
        for name in batch.pop("damaged", []):
            if name not in self.lost:
                warnings.warn(
                    f"{name} is damaged; other samples are taken instead of what it lacks.", stacklevel=2
                )
            self.lost[name] += 1
        return batch

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> AvatarBatch:
        return to_float_batch(batch, self.background)
