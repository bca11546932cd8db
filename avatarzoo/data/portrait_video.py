"""One or several people's portrait videos as training data: head, whole person or the filmed picture, with the person's number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor

from avatarzoo.data.actor import head_regions
from avatarzoo.data.batch import AvatarBatch
from avatarzoo.data.frames import FrameDataModule, FrameStore, to_float_batch
from avatarzoo.data.mattes import person_mattes
from avatarzoo.data.monocular import load_frames
from avatarzoo.data.procedural import ProceduralActor
from avatarzoo.data.sequence import TrackedSequence, describe
from avatarzoo.errors import BadSequenceError, HeadModelMismatchError, UsageError
from avatarzoo.geometry.camera import Camera
from avatarzoo.heads import load_head
from avatarzoo.heads.base import HeadParams

Region = Literal["head", "person", "frame"]
REGIONS = {
    "head": "head (face, hair, ears) composited on the background, whole picture measured",
    "person": "person (selfie matte) composited on the background, whole picture measured",
    "frame": "the filmed picture as it is, whole picture measured",
}


@dataclass
class PortraitStore(FrameStore):
    """Frames of several videos, one after the other.

    Attributes:
        video: ``(T,)`` which video a frame belongs to: 0, 1, ...
    """

    video: Int[Tensor, " t"]

    def rows(self, rows: Tensor) -> PortraitStore:
        return PortraitStore(**_fields(super().rows(rows)), video=self.video[rows])

    def batch(self, rows: Tensor) -> dict[str, Any]:
        return super().batch(rows) | {"video": self.video[rows]}


def _fields(store: FrameStore) -> dict[str, Any]:
    return {field.name: getattr(store, field.name) for field in fields(FrameStore)}


def joined(stores: Sequence[FrameStore]) -> PortraitStore:
    """Stores of several videos as one, numbered in order; each frame keeps its camera.

    Raises:
        UsageError: their pictures differ in size.
    """
    sizes = sorted({store.camera.size[0] for store in stores})
    if len(sizes) > 1:
        raise UsageError(
            f"The videos were cut to different sizes ({sizes} px); track them with the same size."
        )
    cameras = [store.cameras(torch.zeros(len(store), dtype=torch.long)) for store in stores]
    cameras = [
        Camera(c.world_to_camera.expand(len(s), 4, 4), c.intrinsics.expand(len(s), 3, 3), c.size)
        for c, s in zip(cameras, stores)
    ]
    camera = Camera(
        torch.cat([c.world_to_camera for c in cameras]),
        torch.cat([c.intrinsics for c in cameras]),
        cameras[0].size,
    )
    params = HeadParams(*(torch.cat(x) for x in zip(*(s.params for s in stores))))
    parts = {
        name: torch.cat([getattr(s, name) for s in stores])
        for name in ("images", "masks", "features", "index")
    }
    video = torch.repeat_interleave(torch.tensor([len(s) for s in stores]))
    return PortraitStore(
        **parts, params=params, camera=camera if len(stores) > 1 else stores[0].camera, video=video
    )


class PortraitDataModule(FrameDataModule):
    """Frames of one or several people; of every video the first part trains and the rest is held out.

    Everything is kept as bytes; floats are made on the device. Batches have ``video``, the person's number, and ``mask``, which
    is the head's in region ``head`` and the whole person's otherwise. With region ``frame`` nothing is composited and
    :attr:`background` is ``None``. Subclasses answer :meth:`load`.

    Raises:
        UsageError: no such region, or what :class:`FrameDataModule` refuses.
    """

    frames: PortraitStore

    def __init__(
        self, region: Region, batch_size: int, train_fraction: float, background: float, seed: int
    ) -> None:
        if region not in REGIONS:
            raise UsageError(f"--data.region must be {', '.join(REGIONS)}, not {region}.")
        super().__init__(batch_size, train_fraction, None if region == "frame" else background, seed)
        self.region = region

    def load(self) -> list[FrameStore]:
        """The frames of each video, with the masks of :attr:`region`; also sets ``head_signature`` and ``fps``."""
        raise NotImplementedError

    def setup(self, stage: str) -> None:
        if not hasattr(self, "frames"):
            self.frames = joined(self.load())

    @property
    def training_rows(self) -> Int[Tensor, " n"]:
        counts = self.frames.video.bincount().tolist()
        starts = torch.tensor([0, *counts]).cumsum(0).tolist()
        train = (max(1, int(self.train_fraction * count)) for count in counts)
        return torch.cat([torch.arange(start, start + n) for start, n in zip(starts, train)])

    @property
    def n_train(self) -> int:
        return len(self.training_rows)

    def training_frames(self) -> PortraitStore:
        return self.frames.rows(self.training_rows)

    def held_out_frames(self) -> PortraitStore:
        held_out = torch.ones(len(self.frames), dtype=torch.bool)
        held_out[self.training_rows] = False
        return self.frames.rows(held_out.nonzero()[:, 0])

    def training_params(self) -> HeadParams:
        return self.frames.params.rows(self.training_rows)

    def spread_batch(self, count: int) -> AvatarBatch:
        rows = self.training_rows
        chosen = rows[torch.linspace(0, len(rows) - 1, min(count, len(rows))).round().long()]
        return to_float_batch(self.frames.batch(chosen), self.background)

    def describe(self) -> dict[str, Any]:
        return {
            "frames": len(self.frames),
            "videos": int(self.frames.video.max()) + 1,
            "train_frames": self.n_train,
            "held_out": f"last {1 - self.train_fraction:.0%} of every video, {len(self.frames) - self.n_train} frames",
            "size": self.frames.camera.size[0],
            "background": self.background,
            "region": REGIONS[self.region],
        }


class TrackedPortraitDataModule(PortraitDataModule):
    """Folders written by ``avatarzoo track``, one for each video.

    Args:
        sequences: the folders; their order is the numbering of the people.
        region: what is shown: the ``head`` or the whole ``person`` on the background, or the ``frame`` as it was filmed.
        batch_size: views per step.
        train_fraction: the first part of every video trains, the rest is held out (paper section 4.1: 80 %).
        max_frames: use only so many frames from the start of each (0: all).
        background: grey level behind head or person.
        seed: order of the batches.
    """

    def __init__(
        self,
        sequences: list[str],
        region: Region = "head",
        batch_size: int = 2,
        train_fraction: float = 0.8,
        max_frames: int = 0,
        background: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__(region, batch_size, train_fraction, background, seed)
        self.save_hyperparameters(logger=False)  # names may repeat those of the method
        self.tracked: list[TrackedSequence] = []

    def open(self) -> list[TrackedSequence]:
        """The tracked videos, made first where a subclass knows how."""
        return [TrackedSequence.open(path) for path in self.hparams["sequences"]]

    def load(self) -> list[FrameStore]:
        self.tracked = self.open()
        if not self.tracked:
            raise UsageError("No sequence was given; add --data.sequences [FOLDER, ...].")
        self.head_signature, self.fps = self.tracked[0].info["head"], self.tracked[0].fps
        for sequence in self.tracked:
            if sequence.info["head"] != self.head_signature:
                raise HeadModelMismatchError(
                    f"{sequence.path} was tracked with the head {describe(sequence.info['head'])}, {self.tracked[0].path} with "
                    f"{describe(self.head_signature)}; track both with the same head."
                )
        return [self.load_one(sequence) for sequence in self.tracked]

    def load_one(self, sequence: TrackedSequence) -> FrameStore:
        """Frames of one video.

        Raises:
            BadSequenceError: tracked without matting, or fewer than ten frames show the face.
        """
        if not sequence.has_masks:
            raise BadSequenceError(f"{sequence.path} has no masks; track it again without --no-matting.")
        store = load_frames(sequence, self.hparams["max_frames"])
        if self.region == "head":
            return store
        rows = torch.from_numpy(sequence.valid).nonzero()[: len(store), 0]
        return replace(store, masks=person_mattes(sequence, rows))

    def describe(self) -> dict[str, Any]:
        infos = [sequence.info for sequence in self.tracked]
        return {
            "kind": "monocular video" if len(infos) == 1 else "monocular videos",
            "source": [info["source"].get("name") for info in infos],
            "source_sha256": [info["source"].get("sha256") for info in infos],
            "lost_frames": sum(len(info["lost_frames"]) for info in infos),
            **super().describe(),
            "mask": infos[0]["mask"] if self.region == "head" else {"rule": "selfie matte of every frame"},
            "tracking": infos[0].get("tracker"),
        }


class ProceduralPortraitDataModule(PortraitDataModule):
    """Clips of procedural people with their shoulders, rendered when first asked for.

    Results on this data say nothing about real people and are labelled so.

    Args:
        head: must be ``procedural``; the command line sets it to the model's own.
        head_file: unused; the procedural head is made by code.
        actor: seed of the first person; people: how many, with successive seeds.
        n_frames: length of each clip.
        size: side of the pictures in pixels.
        The rest as in :class:`TrackedPortraitDataModule`.
    """

    is_procedural = True

    def __init__(
        self,
        head: str = "procedural",
        head_file: str | None = None,
        actor: int = 0,
        people: int = 1,
        n_frames: int = 100,
        size: int = 256,
        region: Region = "head",
        batch_size: int = 2,
        train_fraction: float = 0.8,
        background: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__(region, batch_size, train_fraction, background, seed)
        self.save_hyperparameters(logger=False)  # names may repeat those of the method

    def load(self) -> list[FrameStore]:
        self.head_signature = load_head("procedural").signature
        return [self.load_one(actor) for actor in self.actors]

    @property
    def actors(self) -> list[int]:
        return [self.hparams["actor"] + k for k in range(self.hparams["people"])]

    def load_one(self, actor: int) -> FrameStore:
        """Frames of one made-up person."""
        clip = ProceduralActor(seed=actor, size=self.hparams["size"]).sequence(self.hparams["n_frames"])
        images = torch.from_numpy(clip.images).permute(0, 3, 1, 2).contiguous()
        masks, features = head_regions(clip)
        if self.region != "head":
            masks = torch.from_numpy(clip.masks)
        return FrameStore(images, masks, features, clip.params, clip.camera, torch.arange(len(images)))

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "procedural actors (not real people)",
            "actors": self.actors,
            **super().describe(),
            "tracking": "exact ground truth",
        }
