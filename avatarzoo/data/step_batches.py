"""Batches that are functions of their number, cut to the length of a training and taken up where it was left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import lightning as L

from avatarzoo.data.frames import read_ahead
from avatarzoo.errors import UsageError


class StepBatches:
    """Batches ``first()``, ``first() + 1``, ..., ``count - 1``; the next one is made while this one trains.

    Args:
        batch: makes a batch from its number.
        count: batches in all.
        first: called when iteration starts.
    """

    def __init__(self, batch: Callable[[int], Any], count: int, first: Callable[[], int]) -> None:
        self.batch, self.count, self.first = batch, count, first

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Any]:
        yield from read_ahead(self.batch, range(self.first(), self.count))

    def state_dict(self) -> dict[str, int]:
        """Tells Lightning that this loader resumes by itself (from the step the trainer restores)."""
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Nothing to restore."""


def training_batches(trainer: L.Trainer | None, batch: Callable[[int], Any]) -> StepBatches:
    """The batches of a training: one a step, or as many as are accumulated for a step.

    Raises:
        UsageError: the trainer's number of steps is open.
    """
    assert trainer is not None
    each = trainer.accumulate_grad_batches
    if trainer.max_steps < 1:
        raise UsageError("--trainer.max_steps must say how many steps to train.")
    return StepBatches(batch, trainer.max_steps * each, lambda: trainer.global_step * each)
