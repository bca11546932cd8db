"""A random order of very many samples that never lies in memory: shuffled files, and shuffled samples within a window."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Int

FILES, WINDOWS = 0, 1


class WindowShuffle:
    """Which sample stands at a place of an endless row of passes, each in an order of its own.

    Groups (shards) come in random order, the parts of a group (clips) in random order, one part after the other; then each window of
    ``window`` successive samples is shuffled. Reading therefore stays within few files at a time, however many there are, and what
    stands at a place is a function of (seed, place) alone: any place can be asked for first, which is what resuming needs. Memory
    grows with the number of parts, not of samples.

    Args:
        counts: samples of each part; groups: which parts lie together.
    """

    def __init__(self, counts: Sequence[int], groups: Sequence[str], window: int, seed: int) -> None:
        self.counts, self.window, self.seed = np.asarray(counts, np.int64), window, seed
        _, self.groups = np.unique(np.asarray(groups), return_inverse=True)
        self.total = int(self.counts.sum())
        self.parts = lru_cache(2)(self._parts)
        self.order = lru_cache(8)(self._order)

    def __call__(self, place: int) -> tuple[int, int]:
        """Part, and number of the sample in it."""
        epoch, place = divmod(place, self.total)
        number, inside = divmod(place, self.window)
        place = number * self.window + int(self.order(epoch, number)[inside])
        parts, ends = self.parts(epoch)
        at = int(np.searchsorted(ends, place, side="right"))
        part = int(parts[at])
        return part, place - int(ends[at] - self.counts[part])

    def _parts(self, epoch: int) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
        """Parts in the order of a pass, and where each ends."""
        rng = np.random.default_rng([self.seed, FILES, epoch])
        groups = rng.permutation(self.groups.max() + 1)[self.groups]
        parts = np.lexsort((rng.random(len(self.counts)), groups))
        return parts, self.counts[parts].cumsum()

    def _order(self, epoch: int, number: int) -> Int[np.ndarray, " n"]:
        """The order within a window."""
        size = min(self.window, self.total - number * self.window)
        return np.random.default_rng([self.seed, WINDOWS, epoch, number]).permutation(size)
