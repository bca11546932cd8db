"""Data modules of single-picture reconstruction: people with several views, beside them real portraits."""

from __future__ import annotations

from typing import Any

import lightning as L

from avatarzoo.data.frames import to_float_batch
from avatarzoo.data.multiview import MultiViewLoader, PeopleSource, TrackedPeople, WholePeople
from avatarzoo.errors import UsageError

HELD_OUT_FIRST = 900_000
"""Seed of the first held-out made-up person, the same for all runs."""


class MultiViewDataModule(L.LightningDataModule):
    """Batches of ``{"views": AvatarBatch, "people": int, "portraits": AvatarBatch}``, floats in [0, 1] on a plain background.

    A person's views follow each other in a batch; portraits are there only where a folder of them was given. Subclasses set
    ``source`` and ``held_out`` in :meth:`setup`.

    Args:
        people, views: of a batch (paper: 16 views of one person).
        portraits: folder of tracked real portraits, see :class:`avatarzoo.data.multiview.TrackedPeople`.
        portraits_first: portraits before this one are left for tests (paper: 1000).
        size: side of the pictures in pixels.
        background: grey level behind the head.
        seed: order of the batches.

    Raises:
        UsageError: an empty batch.
    """

    source: PeopleSource
    held_out: PeopleSource
    portraits: PeopleSource | None = None
    is_procedural = False

    def __init__(
        self,
        people: int,
        views: int,
        portraits: str | None,
        portraits_first: int,
        size: int,
        background: float,
        seed: int,
    ) -> None:
        super().__init__()
        if people < 1 or views < 1:
            raise UsageError(
                f"--data.people and --data.views must be at least 1, not {people} and {views}; a batch needs a picture."
            )
        self.people, self.views, self.background, self.seed = people, views, background, seed
        if portraits is not None:
            self.portraits = TrackedPeople(portraits, size, portraits_first)

    @property
    def head_signature(self) -> dict[str, str]:
        return self.source.head_signature

    def describe(self) -> dict[str, Any]:
        """What a result file says of the data."""
        described = {**self.source.described, "background": self.background}
        if self.portraits is not None:
            described["portraits"] = len(self.portraits)
        return described

    def train_dataloader(self) -> MultiViewLoader:
        trainer = self.trainer
        assert trainer is not None
        return MultiViewLoader(
            self.source, self.portraits, self.people, self.views, trainer.max_steps, self.seed,
            lambda: trainer.global_step, trainer.global_rank, trainer.world_size,
        )  # fmt: skip

    def val_dataloader(self) -> WholePeople:
        return WholePeople(self.held_out)

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        floats = {k: to_float_batch(v, self.background) for k, v in batch.items() if k != "people"}
        return {**batch, **floats}


class ProceduralPeopleDataModule(MultiViewDataModule):
    """Made-up people with hair seen by ``yaws * pitches`` cameras, drawn when first asked for.

    Results on this data say nothing about real people and are labelled so.

    Args:
        head: must be ``procedural``; the command line sets it to the model's own.
        head_file: unused; the procedural head is made by code.
        identities: people to train on; held_out: other people to measure on.
        yaws, pitches: cameras across and up (paper: 25 in all).
        cache: folder in which drawn people are kept for other runs; none: in memory.
        people, views, portraits, portraits_first, size, background, seed: see :class:`MultiViewDataModule`.
    """

    is_procedural = True

    def __init__(
        self,
        head: str = "procedural",
        head_file: str | None = None,
        identities: int = 200,
        held_out: int = 8,
        yaws: int = 5,
        pitches: int = 5,
        cache: str | None = None,
        people: int = 1,
        views: int = 16,
        portraits: str | None = None,
        portraits_first: int = 0,
        size: int = 128,
        background: float = 1.0,
        seed: int = 0,
    ) -> None:
        if not 1 <= identities <= HELD_OUT_FIRST or held_out < 1:
            raise UsageError(
                f"--data.identities must be between 1 and {HELD_OUT_FIRST} and --data.held_out at least 1, not {identities} and "
                f"{held_out}; without held-out people nothing can be measured."
            )
        super().__init__(people, views, portraits, portraits_first, size, background, seed)
        self.save_hyperparameters(logger=False)  # names may repeat those of the method

    def setup(self, stage: str) -> None:
        if hasattr(self, "source"):
            return
        from avatarzoo.data.multiview_procedural import ProceduralPeople

        hp = self.hparams
        cameras = (hp["yaws"], hp["pitches"], hp["size"], hp["cache"])
        self.source = ProceduralPeople(0, hp["identities"], *cameras)
        self.held_out = ProceduralPeople(HELD_OUT_FIRST, hp["held_out"], *cameras)


class TrackedPeopleDataModule(MultiViewDataModule):
    """People of a folder, such as a generator's renderings from fixed cameras after tracking.

    Args:
        root: the folder, see :class:`avatarzoo.data.multiview.TrackedPeople`.
        head, head_file: the model's own; what the people were tracked with is compared when training starts.
        held_out: so many people of the folder, the first ones, are measured on; the others train.
        people, views, portraits, portraits_first, size, background, seed: see :class:`MultiViewDataModule`.
    """

    def __init__(
        self,
        root: str,
        head: str = "flame",
        head_file: str | None = None,
        held_out: int = 16,
        people: int = 1,
        views: int = 16,
        portraits: str | None = None,
        portraits_first: int = 1000,
        size: int = 512,
        background: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__(people, views, portraits, portraits_first, size, background, seed)
        self.save_hyperparameters(logger=False)  # names may repeat those of the method

    def setup(self, stage: str) -> None:
        if hasattr(self, "source"):
            return
        hp = self.hparams
        self.held_out = TrackedPeople(hp["root"], hp["size"], 0, hp["held_out"])
        self.source = TrackedPeople(hp["root"], hp["size"], hp["held_out"])
