"""Data modules of reenactment: pairs of frames of made-up or tracked people, alone or alternating with samples of the prior."""

from __future__ import annotations

from itertools import chain
from typing import Any

import lightning as L

from avatarzoo.data.clip_pairs import ClipSource, HeldOutPairs, PairDrawer, to_floats
from avatarzoo.data.portrait_video import REGIONS, Region
from avatarzoo.data.prior_samples import PriorSamplesDataModule
from avatarzoo.data.step_batches import StepBatches, training_batches
from avatarzoo.errors import UsageError

HELD_OUT_FIRST = 10_000
"""Seed of the first held-out made-up person; the small prior has not seen these either."""
CYCLE, SYNTHETIC_TURN = 3, 2
"""Hybrid training: two steps of video, then one of synthetic data (paper section 3.3)."""


class ClipPairsDataModule(L.LightningDataModule):
    """Batches ``{"source": AvatarBatch, "target": AvatarBatch}``; row i of both shows one person, as EG3D sees heads.

    Subclasses set ``source`` and ``held_out`` in :meth:`setup`. Validation is self-reenactment: every held-out clip's first frame is
    the source of its other frames; ``video`` numbers the clips.

    Args:
        batch_size: pairs per step and process (paper: 4 on 4 GPUs).
        distance: frames between source and target at least.
        held_out_frames: most targets of a held-out clip (0: all).
        size, background: see the subclasses.
        seed: of the pairs.

    Raises:
        UsageError: an empty batch, no distance, or no picture.
    """

    source: ClipSource
    held_out: ClipSource
    is_procedural = False

    def __init__(
        self, batch_size: int, distance: int, held_out_frames: int, size: int, background: float, seed: int
    ) -> None:
        super().__init__()
        if min(batch_size, distance) < 1 or held_out_frames < 0 or size < 8:
            raise UsageError(
                f"--data.batch_size and --data.distance must be at least 1, --data.size 8 and --data.held_out_frames 0, not "
                f"{batch_size}, {distance}, {size} and {held_out_frames}."
            )
        self.batch_size, self.distance, self.held_out_frames = batch_size, distance, held_out_frames
        self.size, self.background, self.seed = size, background, seed

    @property
    def head_signature(self) -> dict[str, str]:
        return self.source.head_signature

    def describe(self) -> dict[str, Any]:
        """What a result file says of the data."""
        held_out = {"held_out_clips": len(self.held_out), "held_out_frames": self.held_out_frames or "all"}
        return {**self.source.described, **held_out, "size": self.size, "background": self.background}

    def drawer(self, rank: int = 0, world: int = 1) -> PairDrawer:
        """Makes the training batches of process ``rank`` of ``world``."""
        return PairDrawer(self.source, self.batch_size, self.distance, self.seed, rank, world)

    def train_dataloader(self) -> StepBatches:
        trainer = self.trainer
        assert trainer is not None
        return training_batches(trainer, self.drawer(trainer.global_rank, trainer.world_size))

    def val_dataloader(self) -> HeldOutPairs:
        return HeldOutPairs(self.held_out, self.batch_size, self.held_out_frames)

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        return {name: to_floats(part) for name, part in batch.items()}


class ProceduralClipPairsDataModule(ClipPairsDataModule):
    """Made-up people with clearly different expressions, drawn when training starts (about a second each).

    Results on this data say nothing about real people and are labelled so.

    Args:
        head: must be ``procedural``; the command line sets it to the model's own.
        head_file: unused; the procedural head is made by code.
        people: people to train on; held_out: other people to measure on.
        first: seed of the first person to train on (the small prior knows those of seed 0 to 399).
        length: frames of a person.
        size: side of the pictures in pixels.
        background: grey level behind the person.
        cache: folder in which drawn people are kept for other runs; none: in memory.
        batch_size, distance, held_out_frames, seed: see :class:`ClipPairsDataModule`.

    Raises:
        UsageError: fewer than two frames, nobody to train on or nobody held out, or people that are both.
    """

    is_procedural = True

    def __init__(
        self,
        head: str = "procedural",
        head_file: str | None = None,
        people: int = 60,
        held_out: int = 8,
        first: int = 0,
        length: int = 12,
        size: int = 128,
        background: float = 1.0,
        cache: str | None = None,
        batch_size: int = 4,
        distance: int = 1,
        held_out_frames: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, distance, held_out_frames, size, background, seed)
        if min(people, held_out) < 1 or first < 0 or first + people > HELD_OUT_FIRST:
            raise UsageError(
                f"--data.people and --data.held_out must be at least 1, and people have seeds from 0 to {HELD_OUT_FIRST - 1}, not "
                f"{people}, {held_out} and seeds from {first}; without held-out people nothing can be measured."
            )
        if length <= distance:
            raise UsageError(
                f"--data.length must be greater than --data.distance ({distance}), not {length}; a pair needs two frames."
            )
        self.save_hyperparameters(logger=False)  # names may repeat those of the method

    def setup(self, stage: str) -> None:
        if hasattr(self, "source"):
            return
        from avatarzoo.data.clip_pairs_procedural import ProceduralClips

        hp = self.hparams
        drawing = (hp["length"], hp["size"], hp["background"], hp["cache"])
        self.source = ProceduralClips(hp["first"], hp["people"], *drawing)
        self.held_out = ProceduralClips(HELD_OUT_FIRST, hp["held_out"], *drawing)
        parts = [self.held_out] if stage == "validate" else [self.source, self.held_out]
        for part in parts:
            part.draw_all()


class TrackedClipPairsDataModule(ClipPairsDataModule):
    """Clips of real people after ``avatarzoo track`` (paper: CelebV-HQ).

    Args:
        root: folder of the tracked clips, ``ROOT/PERSON/CLIP`` or ``ROOT/CLIP``; with ``videos``: ``ROOT/NAME`` with the names of
            ``avatarzoo data list``.
        videos: folder of the published set, which says who is seen in a clip; layout: its layout (``celebv-hq``, ``voxceleb``,
            ``hdtf``, ``vfhq``, ``clips``).
        head, head_file: the model's own; what the clips were tracked with is compared when training starts.
        held_out: so many people, the first by name, are measured on; the others train.
        size: side of the crops in pixels.
        region: ``person`` or ``head`` on the background (small prior), or ``frame`` as it was filmed (EG3D's FFHQ).
        background: grey level behind it, and beyond the filmed picture.
        batch_size, distance, held_out_frames, seed: see :class:`ClipPairsDataModule`.

    Raises:
        UsageError: no such region, nobody held out, or (in :meth:`setup`) nobody left to train on.
    """

    def __init__(
        self,
        root: str,
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
        super().__init__(batch_size, distance, held_out_frames, size, background, seed)
        if region not in REGIONS:
            raise UsageError(f"--data.region must be {', '.join(REGIONS)}, not {region}.")
        if held_out < 1:
            raise UsageError(
                f"--data.held_out must be at least 1, not {held_out}; nothing could be measured."
            )
        self.save_hyperparameters(logger=False)  # names may repeat those of the method

    def setup(self, stage: str) -> None:
        if hasattr(self, "source"):
            return
        from avatarzoo.data.clip_pairs_tracked import TrackedClips, clip_folders, set_folders

        hp = self.hparams
        published = hp["videos"] is not None
        people = (
            set_folders(hp["root"], hp["videos"], hp["layout"]) if published else clip_folders(hp["root"])
        )
        if len(people) <= hp["held_out"]:
            raise UsageError(
                f"{hp['root']} holds {len(people)} people, and --data.held_out {hp['held_out']} leaves none to train on; hold out "
                "fewer or track more."
            )
        clips = list(people.values())
        parts = clips[: hp["held_out"]], clips[hp["held_out"] :]
        self.held_out, self.source = (
            TrackedClips([*chain(*part)], hp["distance"], hp["size"], hp["region"], hp["background"])
            for part in parts
        )


class HybridDataModule(L.LightningDataModule):
    """Two steps of video, then one of synthetic data, exactly (paper section 3.3, hybrid training).

    Batches are those of the two parts: ``{"source", "target"}`` or ``{"latent", "labels"}``. Validation is the video's.

    Args:
        video: pairs of frames of clips.
        synthetic: samples of the prior.
    """

    def __init__(self, video: ClipPairsDataModule, synthetic: PriorSamplesDataModule) -> None:
        super().__init__()
        self.video, self.synthetic = video, synthetic
        self.is_procedural = video.is_procedural

    @property
    def head_signature(self) -> dict[str, str]:
        return self.video.head_signature

    def setup(self, stage: str) -> None:
        self.video.setup(stage)
        self.synthetic.setup(stage)

    def describe(self) -> dict[str, Any]:
        """What a result file says of the data."""
        return {**self.video.describe(), "synthetic": self.synthetic.describe()}

    def train_dataloader(self) -> StepBatches:
        trainer = self.trainer
        assert trainer is not None
        each, rank, world = trainer.accumulate_grad_batches, trainer.global_rank, trainer.world_size
        drawer = self.video.drawer(rank, world)

        def batch(number: int) -> dict[str, Any]:
            """All batches that are accumulated for a step are of one kind."""
            return (
                self.synthetic.batch(number, rank, world) if is_synthetic(number // each) else drawer(number)
            )

        return training_batches(trainer, batch)

    def val_dataloader(self) -> HeldOutPairs:
        return self.video.val_dataloader()

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        return batch if "latent" in batch else self.video.on_after_batch_transfer(batch, dataloader_idx)


def is_synthetic(step: int) -> bool:
    """Whether a step of hybrid training is one of synthetic data."""
    return step % CYCLE == SYNTHETIC_TURN
