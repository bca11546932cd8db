"""Several frames of each person, to reconstruct from, and others to compare with (InvertAvatar, section 3.4 and appendix A.2.3)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from avatarzoo.data.clip_pairs import ClipSource, joined, to_floats
from avatarzoo.data.clip_pairs_modules import (
    ClipPairsDataModule,
    ProceduralClipPairsDataModule,
    TrackedClipPairsDataModule,
)
from avatarzoo.data.frames import StepLoader
from avatarzoo.data.step_batches import StepBatches, training_batches
from avatarzoo.errors import UsageError

Rows = Int[np.ndarray, " n"]


class PersonFramesDrawer:
    """Batches of ``{"source", "target", "people"}``; what a row shows is a function of (seed, step, row).

    Rows are grouped by person. Source frames are drawn in any order; the first target is the first source frame (paper: it gives the
    latent code), the others are any frames. Of W processes that train together, number r gets people r, r + W, ...

    Args:
        people: of a batch. frames: most source frames of a person, fewest: fewest; all people of a step have equally many.
        targets: frames of a person to compare with.
    """

    def __init__(
        self, source: ClipSource, people: int, frames: int, fewest: int, targets: int, seed: int, rank: int = 0, world: int = 1
    ) -> None:  # fmt: skip
        self.source, self.counts, self.targets, self.seed = source, (fewest, frames), targets, seed
        self.mine = range(rank, people * world, world)
        self.order = StepLoader(source, people * world, 0, seed, lambda: 0)  # type: ignore[arg-type]

    def __call__(self, step: int) -> dict[str, Any]:
        """A batch in bytes; every clip comes once per pass through them."""
        clips = self.order.rows(step)
        count = int(np.random.default_rng([self.seed, step]).integers(self.counts[0], self.counts[1] + 1))
        drawn = []
        for row in self.mine:
            clip = int(clips[row])
            rng = np.random.default_rng([self.seed, step, row])
            drawn.append((clip, *self.draw(len(self.source.numbers(clip)), count, rng)))
        return person_bytes(self.source, drawn)

    def draw(self, length: int, count: int, rng: np.random.Generator) -> tuple[Rows, Rows]:
        """Rows of sources and targets of a clip; frames come twice only where a clip is too short."""
        sources = rng.choice(length, count, replace=count > length)
        others = rng.choice(length, self.targets - 1, replace=self.targets - 1 > length)
        return sources, np.concatenate([sources[:1], others])


class HeldOutPeople:
    """Every held-out clip: ``frames`` sources spread evenly over its first two thirds, the rest as targets."""

    def __init__(self, source: ClipSource, frames: int, targets: int) -> None:
        self.source, self.frames, self.targets = source, frames, targets

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for clip in range(len(self.source)):
            length = len(self.source.numbers(clip))
            seen = max(1, 2 * length // 3)
            sources = np.linspace(0, seen - 1, min(self.frames, seen)).round().astype(int)
            targets = np.linspace(min(seen, length - 1), length - 1, self.targets).round().astype(int)
            yield person_bytes(self.source, [(clip, sources, np.unique(targets))])


def person_bytes(source: ClipSource, people: list[tuple[int, Rows, Rows]]) -> dict[str, Any]:
    """Batches of sources and targets from ``(clip, source rows, target rows)``; all people have equally many of each."""
    batch: dict[str, Any] = {"people": len(people)}
    read = [source.frames(clip, torch.from_numpy(np.concatenate([a, b]))) for clip, a, b in people]
    count = len(people[0][1])
    for name, part in (("source", slice(0, count)), ("target", slice(count, None))):
        every = torch.arange(count + len(people[0][2]))[part]
        frames = joined([one.pick(every) for one in read])
        named = dict(zip(("image", "mask", "params", "camera"), frames))
        clips = torch.tensor([clip for clip, _, _ in people]).repeat_interleave(len(every))
        numbers = [source.numbers(clip)[np.concatenate([a, b])[part]] for clip, a, b in people]
        batch[name] = named | {"index": torch.from_numpy(np.concatenate(numbers)), "video": clips}
    return batch


def checked(frames: int, fewest: int, targets: int) -> tuple[int, int, int]:
    """The numbers of frames, if they make sense.

    Raises:
        UsageError: no source frame, no target, or a range that is none.
    """
    if not 1 <= fewest <= frames or targets < 1:
        raise UsageError(
            f"--data.fewest must lie between 1 and --data.frames, and --data.targets be at least 1, not {fewest}, {frames} and "
            f"{targets}."
        )
    return frames, fewest, targets


class PersonFrames(ClipPairsDataModule):
    """What both data modules share: batches of people instead of pairs.

    Attributes:
        numbers: most and fewest source frames, and targets of a person.
    """

    numbers: tuple[int, int, int]

    def train_dataloader(self) -> StepBatches:
        trainer = self.trainer
        assert trainer is not None
        frames, fewest, targets = self.numbers
        place = trainer.global_rank, trainer.world_size
        drawer = PersonFramesDrawer(self.source, self.batch_size, frames, fewest, targets, self.seed, *place)
        return training_batches(trainer, drawer)

    def val_dataloader(self) -> HeldOutPeople:  # type: ignore[override]
        return HeldOutPeople(self.held_out, self.numbers[0], self.held_out_frames or 4)

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        return {name: part if name == "people" else to_floats(part) for name, part in batch.items()}


class ProceduralPersonFramesDataModule(PersonFrames, ProceduralClipPairsDataModule):
    """Made-up people, some frames of each to reconstruct from and some to compare with.

    Results on this data say nothing about real people and are labelled so.

    Args:
        frames, fewest, targets: see :class:`PersonFramesDrawer`; ``fewest`` none: as ``frames``.
        options: of :class:`ProceduralClipPairsDataModule`; its ``batch_size`` counts people, ``held_out_frames`` the targets of each
            held-out person (0: 4).

    Raises:
        UsageError: see :func:`checked`, and the base class.
    """

    def __init__(self, frames: int = 1, fewest: int | None = None, targets: int = 2, **options: Any) -> None:
        super().__init__(**options)
        self.numbers = checked(frames, fewest or frames, targets)


class TrackedPersonFramesDataModule(PersonFrames, TrackedClipPairsDataModule):
    """Clips of real people after ``avatarzoo track`` (paper: VFHQ), as :class:`ProceduralPersonFramesDataModule` has made-up ones.

    Args:
        frames, fewest, targets: see :class:`PersonFramesDrawer`.
        options: of :class:`TrackedClipPairsDataModule`.

    Raises:
        UsageError: see :func:`checked`, and the base class.
    """

    def __init__(self, frames: int = 1, fewest: int | None = None, targets: int = 2, **options: Any) -> None:
        super().__init__(**options)
        self.numbers = checked(frames, fewest or frames, targets)
