"""Frames of one person held in memory as bytes, and batches of them that are the same after a resumed run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import lightning as L
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from avatarzoo.data.batch import AvatarBatch
from avatarzoo.errors import UsageError
from avatarzoo.geometry.camera import Camera
from avatarzoo.heads.base import HeadParams

T = TypeVar("T")


@dataclass
class FrameStore:
    """Decoded once, kept as uint8, turned into floats on the device that trains.

    Attributes:
        images: ``(T, 3, H, W)``; masks, features: ``(T, H, W)``.
        params: T rows; camera: batch 1, or T where clips were joined.
        index: ``(T,)`` frame numbers in the source.
    """

    images: UInt8[Tensor, "t 3 h w"]
    masks: UInt8[Tensor, "t h w"]
    features: UInt8[Tensor, "t h w"]
    params: HeadParams
    camera: Camera
    index: Int[Tensor, "t"]

    def __len__(self) -> int:
        return len(self.images)

    def cameras(self, rows: Tensor) -> Camera:
        """Those of these rows; the one camera where all share it."""
        return self.camera if self.camera.batch == 1 else self.camera.rows(rows)

    def rows(self, rows: Tensor) -> FrameStore:
        return FrameStore(
            self.images[rows],
            self.masks[rows],
            self.features[rows],
            self.params.rows(rows),
            self.cameras(rows),
            self.index[rows],
        )

    def batch(self, rows: Tensor) -> dict[str, Any]:
        """Bytes of these rows; :func:`to_float_batch` makes the :class:`AvatarBatch`."""
        count = len(rows)
        camera = self.cameras(rows)
        camera = Camera(
            camera.world_to_camera.expand(count, 4, 4), camera.intrinsics.expand(count, 3, 3), camera.size
        )
        return {
            "image": self.images[rows],
            "mask": self.masks[rows],
            "features": self.features[rows],
            "params": self.params.rows(rows),
            "camera": camera,
            "index": self.index[rows],
        }


def to_float_batch(batch: dict[str, Any], background: float | None) -> AvatarBatch:
    """Bytes to floats in [0, 1], the head composited on a plain grey level (paper: white); ``None`` leaves what was filmed."""
    mask = batch["mask"].unsqueeze(1).float().div_(255)
    image = batch["image"].float().div_(255)
    if background is not None:
        image = torch.lerp(torch.full_like(image, background), image, mask)
    features = batch["features"].unsqueeze(1).float().div_(255)
    rest = {k: batch[k] for k in ("params", "camera", "index", "video") if k in batch}
    return AvatarBatch(image=image, mask=mask, features=features, **rest)  # type: ignore[typeddict-item]


def read_ahead(batch: Callable[[int], T], steps: range) -> Iterator[T]:
    """``batch(step)`` of all steps in order; the next one is read on a thread of its own while this one trains."""
    with ThreadPoolExecutor(1) as ahead:
        upcoming = None
        for step in steps:
            current = upcoming or ahead.submit(batch, step)
            upcoming = ahead.submit(batch, step + 1) if step + 1 in steps else None
            yield current.result()


def shuffled(count: int, first: int, number: int, seed: int) -> Int[Tensor, " n"]:
    """Places ``first``, ``first + 1``, ... of an endless row of passes over ``count`` things, each in an order of its own."""
    place = torch.arange(first, first + number)
    passes = place // count
    orders = {
        p: torch.randperm(count, generator=torch.Generator().manual_seed(seed * 1_000_003 + p))
        for p in passes.unique().tolist()
    }
    return torch.stack([orders[p][i % count] for p, i in zip(passes.tolist(), place)])


class StepLoader:
    """Random batches whose content is a function of (seed, step) alone, so that a resumed run sees what it would have seen.

    Of W processes that train together, number r gets rows r, r + W, ... of a batch of W times ``batch_size``.

    Args:
        steps: batches in all; one pass is the whole training.
        first: called when iteration starts; the step to go on from.
    """

    def __init__(
        self,
        store: FrameStore,
        batch_size: int,
        steps: int,
        seed: int,
        first: Callable[[], int],
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.store, self.batch_size, self.steps, self.seed, self.first = store, batch_size, steps, seed, first
        self.rank, self.world = rank, world

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for step in range(self.first(), self.steps):
            yield self.store.batch(self.rows(step))

    def rows(self, step: int) -> Tensor:
        """Rows of batch ``step``: every frame once per pass, in an order drawn anew for each pass."""
        whole = self.batch_size * self.world
        return shuffled(len(self.store), step * whole, whole, self.seed)[self.rank :: self.world]

    def state_dict(self) -> dict[str, int]:
        """Tells Lightning that this loader resumes by itself (from the step the trainer restores)."""
        return {"seed": self.seed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.seed = state["seed"]


class SequenceLoader:
    """All frames in order, in batches."""

    def __init__(self, store: FrameStore, batch_size: int) -> None:
        self.store, self.batch_size = store, batch_size

    def __len__(self) -> int:
        return -(-len(self.store) // self.batch_size)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for rows in torch.arange(len(self.store)).split(self.batch_size):
            yield self.store.batch(rows)


class FrameDataModule(L.LightningDataModule):
    """One person's frames: the first part trains, the rest is held out (paper section 4.1: first 90 %, last 10 %).

    Subclasses fill ``self.frames`` and ``self.head_signature`` in :meth:`setup`.

    Raises:
        UsageError: no frame would train, or none would be held out.
    """

    frames: FrameStore
    head_signature: dict[str, str]
    fps: float = 25.0
    is_procedural: bool = False

    def __init__(self, batch_size: int, train_fraction: float, background: float | None, seed: int) -> None:
        super().__init__()
        if not 0 < train_fraction < 1 or batch_size < 1:
            raise UsageError(
                f"--data.train_fraction must lie between 0 and 1 and --data.batch_size be at least 1, not {train_fraction} "
                f"and {batch_size}; without held-out frames nothing can be scored."
            )
        self.batch_size, self.train_fraction, self.background, self.seed = (
            batch_size,
            train_fraction,
            background,
            seed,
        )

    @property
    def n_train(self) -> int:
        return max(1, int(self.train_fraction * len(self.frames)))

    def describe(self) -> dict[str, Any]:
        """What a result file says of the data."""
        raise NotImplementedError

    def training_frames(self) -> FrameStore:
        return self.frames.rows(torch.arange(self.n_train))

    def held_out_frames(self) -> FrameStore:
        return self.frames.rows(torch.arange(self.n_train, len(self.frames)))

    def training_params(self) -> HeadParams:
        return self.frames.params.rows(slice(0, self.n_train))

    def spread_batch(self, count: int) -> AvatarBatch:
        """At most ``count`` training frames spread evenly over the video."""
        rows = torch.linspace(0, self.n_train - 1, min(count, self.n_train)).round().long()
        return to_float_batch(self.frames.batch(rows), self.background)

    def train_dataloader(self) -> StepLoader:
        trainer = self.trainer
        assert trainer is not None
        return StepLoader(
            self.training_frames(), self.batch_size, trainer.max_steps, self.seed, lambda: trainer.global_step,
            trainer.global_rank, trainer.world_size,
        )  # fmt: skip

    def test_dataloader(self) -> SequenceLoader:
        return SequenceLoader(self.held_out_frames(), 4)

    def predict_dataloader(self) -> SequenceLoader:
        return SequenceLoader(self.frames, 4)

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> AvatarBatch:
        return to_float_batch(batch, self.background)
