"""Pairs of frames of one clip, source and target of a reenactment (NOFA++, stages 2 to 4): their sources, and how pairs are drawn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from avatarzoo.data.batch import AvatarBatch
from avatarzoo.data.frames import StepLoader
from avatarzoo.geometry.camera import Camera
from avatarzoo.heads.base import HeadParams


class Frames(NamedTuple):
    """Frames of a clip as EG3D sees heads, on the plain background.

    Attributes:
        images: RGB bytes; masks: what was not replaced by background, 0 to 255.
        params: n rows, world frame; camera: n cameras.
    """

    images: UInt8[Tensor, "n 3 s s"]
    masks: UInt8[Tensor, "n s s"]
    params: HeadParams
    camera: Camera

    def pick(self, rows: Tensor) -> Frames:
        return Frames(self.images[rows], self.masks[rows], self.params.rows(rows), self.camera.rows(rows))


class ClipSource(Protocol):
    """Clips that can be read in any order.

    Attributes:
        head_signature: head model of the parameters.
        described: what a result file says of them.
    """

    head_signature: dict[str, str]
    described: dict[str, Any]

    def __len__(self) -> int: ...

    def numbers(self, clip: int) -> Int[np.ndarray, " n"]:
        """Ascending numbers of a clip's frames in its video; distances between frames are counted with them."""
        ...

    def frames(self, clip: int, rows: Int[Tensor, " n"]) -> Frames:
        """These frames of a clip; ``rows`` count in :meth:`numbers`."""
        ...


def draw_pair(numbers: Int[np.ndarray, " n"], distance: int, rng: np.random.Generator) -> tuple[int, int]:
    """Rows of source and target, at least ``distance`` frames apart; every frame that has a partner is as likely a source."""
    sources = np.flatnonzero((numbers - numbers[0] >= distance) | (numbers[-1] - numbers >= distance))
    source = int(rng.choice(sources))
    return source, int(rng.choice(np.flatnonzero(np.abs(numbers - numbers[source]) >= distance)))


class PairDrawer:
    """Batches of random pairs; what a row shows is a function of (seed, step, row).

    Of W processes that train together, number r gets rows r, r + W, ... of a batch of W times ``batch_size``.

    Args:
        distance: frames between source and target at least.
    """

    def __init__(
        self, source: ClipSource, batch_size: int, distance: int, seed: int, rank: int = 0, world: int = 1
    ) -> None:
        self.source, self.distance, self.seed = source, distance, seed
        self.mine = range(rank, batch_size * world, world)
        self.order = StepLoader(source, batch_size * world, 0, seed, lambda: 0)  # type: ignore[arg-type]

    def __call__(self, step: int) -> dict[str, Any]:
        """``{"source": ..., "target": ...}`` in bytes; every clip comes once per pass through them."""
        clips = self.order.rows(step)
        pairs = []
        for row in self.mine:
            clip = int(clips[row])
            rng = np.random.default_rng([self.seed, step, row])
            pairs.append((clip, *draw_pair(self.source.numbers(clip), self.distance, rng)))
        return pair_bytes(self.source, pairs)


class HeldOutPairs:
    """The protocol of self-reenactment: each clip's first frame is the source, its other frames are the targets.

    Args:
        frames: most targets of a clip, spread evenly (0: all).
    """

    def __init__(self, source: ClipSource, batch_size: int, frames: int = 0) -> None:
        self.source = source
        self.batches: list[list[tuple[int, int, int]]] = []
        for clip in range(len(source)):
            count = len(source.numbers(clip)) - 1
            targets = np.linspace(1, count, min(frames or count, count)).round().astype(int).tolist()
            for start in range(0, len(targets), batch_size):
                self.batches.append([(clip, 0, row) for row in targets[start : start + batch_size]])

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for pairs in self.batches:
            yield pair_bytes(self.source, pairs)


def pair_bytes(source: ClipSource, pairs: list[tuple[int, int, int]]) -> dict[str, Any]:
    """Batches of sources and targets from ``(clip, source row, target row)``."""
    read = [source.frames(clip, torch.tensor([a, b])) for clip, a, b in pairs]
    clips = torch.tensor([clip for clip, _, _ in pairs])
    batch = {}
    for place, name in enumerate(("source", "target")):
        frames = joined([one.pick(torch.tensor([place])) for one in read])
        index = torch.tensor([int(source.numbers(pair[0])[pair[1 + place]]) for pair in pairs])
        named = zip(("image", "mask", "params", "camera"), frames)
        batch[name] = dict(named) | {"index": index, "video": clips}
    return batch


def joined(parts: list[Frames]) -> Frames:
    """All frames in order; they are of one size."""
    images, masks = (torch.cat([part[i] for part in parts]) for i in range(2))  # type: ignore[misc]
    params = HeadParams(*(torch.cat(x) for x in zip(*(part.params for part in parts))))
    poses, lenses = (torch.cat([part.camera[i] for part in parts]) for i in range(2))  # type: ignore[misc]
    return Frames(images, masks, params, Camera(poses, lenses, parts[0].camera.size))


def to_floats(batch: dict[str, Any]) -> AvatarBatch:
    """Bytes to floats in [0, 1]."""
    image, mask = batch["image"].float().div(255), batch["mask"].unsqueeze(1).float().div(255)
    return AvatarBatch(**{**batch, "image": image, "mask": mask})  # type: ignore[typeddict-item]
