"""What a benchmark is made of: footage of people, and cases that show some of it to a method and ask for the rest.

A *case* shows source pictures and asks for *shots*: batches of pictures under given parameters and cameras, together with what each
is compared with. Tasks (:mod:`avatarzoo.evaluation.tasks`) turn footage into cases; a method, a baseline or a folder of finished
pictures (:mod:`avatarzoo.evaluation.contenders`) answers them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from avatarzoo.data.batch import AvatarBatch
from avatarzoo.data.frames import FrameStore, to_float_batch
from avatarzoo.geometry.camera import Camera
from avatarzoo.heads.base import HeadModel, HeadParams


class Sound(NamedTuple):
    """Audio: ``samples`` mono float32 ``(N,)`` in [-1, 1], ``rate`` in hertz."""

    samples: np.ndarray
    rate: int


@dataclass
class Footage:
    """Tracked pictures of one person: a clip, one portrait, or several views.

    Attributes:
        name: unique in its set; identity: who it is.
        frames: pictures, head masks, parameters, cameras (T rows).
        facial: ``(T, H, W)`` uint8, the face without hair, ears and neck.
        head: the model the parameters belong to.
        fps: of a clip. sound: its audio, where a task wants it.
        ground: grey level behind the head, ``None`` where the background stays.
        procedural: made-up person. source: what a result says of where it comes from. lost: frames without a face, left out.
    """

    name: str
    identity: str
    frames: FrameStore
    facial: UInt8[Tensor, "t h w"]
    head: HeadModel
    fps: float = 25.0
    sound: Sound | None = None
    ground: float | None = 1.0
    procedural: bool = False
    source: dict[str, Any] = field(default_factory=dict)
    lost: int = 0

    def __len__(self) -> int:
        return len(self.frames)

    def batch(self, rows: Int[Tensor, "b"]) -> AvatarBatch:
        """Float pictures on the protocol's background."""
        batch = self.frames.batch(rows)
        if self.ground is not None:
            return to_float_batch(batch, self.ground)
        kept = to_float_batch({**batch, "mask": torch.full_like(batch["mask"], 255)}, 0.0)
        return AvatarBatch(**{**kept, "mask": batch["mask"].unsqueeze(1).float().div_(255)})  # type: ignore[typeddict-item]

    def regions(self, rows: Int[Tensor, "b"]) -> dict[str, Float[Tensor, "b 1 h w"]]:
        """Masks of the regions a column may look at."""
        return {
            "head": self.frames.masks[rows].unsqueeze(1).float().div_(255),
            "facial": self.facial[rows].unsqueeze(1).float().div_(255),
        }


class Shot(NamedTuple):
    """Pictures that are asked for, and what they are compared with.

    Attributes:
        rows: ``(B,)`` numbers within the case, from 0.
        params: what the head shall do, B rows (identity is the driver's; a method keeps its person's). camera: B.
        target: ``(B, 3, H, W)`` the truth, ``None`` where there is none (cross-reenactment).
        driver: ``(B, 3, H, W)`` pictures with the wanted expression and pose, ``None`` where there are none.
        source: ``(B, 3, H, W)`` a picture of the person, ``None`` for people who do not exist.
        regions: masks of the target's regions.
    """

    rows: Int[Tensor, "b"]
    params: HeadParams
    camera: Camera
    target: Float[Tensor, "b 3 h w"] | None
    driver: Float[Tensor, "b 3 h w"] | None
    source: Float[Tensor, "b 3 h w"] | None
    regions: dict[str, Float[Tensor, "b 1 h w"]]


@dataclass
class Case:
    """One question to a method.

    Attributes:
        name: unique in its part, safe as a folder name. group: printed before the columns (see ``Part.group``).
        sources: what the method may see; ``None`` where it makes a person up from ``seed``.
        training: the same pictures as data to train on, for methods that are trained on each person.
        shots: an iterable that can be gone through more than once. count: pictures in all.
        head: the model of all parameters. sound: what is heard, for audio-driven tasks. fps: of the driving clip.
        procedural: made-up people. facts: what a result says of this case.
    """

    name: str
    group: str
    sources: AvatarBatch | None
    shots: Shots
    count: int
    head: HeadModel
    training: Footage | None = None
    seed: int = 0
    sound: Sound | None = None
    fps: float = 25.0
    procedural: bool = False
    facts: dict[str, Any] = field(default_factory=dict)


class Shots:
    """Re-iterable shots: rows of driving footage against one source, a few at a time.

    Args:
        driver: footage whose parameters drive. rows: which of its frames.
        truth: whether the driver shows the same person, so that its pictures are the truth.
        source: ``(1, 3, H, W)``, or ``None``.
        params: replaces the driver's parameters (mean-expression transfer, yaw sweeps), as many rows as ``rows``. camera: likewise.
    """

    def __init__(
        self,
        driver: Footage,
        rows: Int[Tensor, "n"],
        truth: bool,
        source: Float[Tensor, "1 3 h w"] | None,
        params: HeadParams | None = None,
        camera: Camera | None = None,
        batch: int = 4,
    ) -> None:
        self.driver, self.rows, self.truth, self.source = driver, rows, truth, source
        self.params, self.camera, self.size = params, camera, batch

    def __iter__(self) -> Iterator[Shot]:
        for here in torch.arange(len(self.rows)).split(self.size):
            rows = self.rows[here]
            batch = self.driver.batch(rows)
            picture = batch["image"]
            yield Shot(
                rows=here,
                params=batch["params"] if self.params is None else self.params.rows(here),
                camera=batch["camera"] if self.camera is None else self.camera.rows(here),
                target=picture if self.truth else None,
                driver=picture,
                source=None if self.source is None else self.source.expand_as(picture),
                regions=self.driver.regions(rows),
            )
