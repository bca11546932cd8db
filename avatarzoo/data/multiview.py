"""People seen from several sides at once, the training data of single-picture reconstruction (Deja-vu sections 3.3 and 4.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor

from avatarzoo.data.frames import StepLoader, read_ahead
from avatarzoo.data.sequence import INFO, TrackedSequence
from avatarzoo.errors import BadDatasetError, HeadModelMismatchError
from avatarzoo.geometry.camera import Camera
from avatarzoo.heads.base import HeadParams
from avatarzoo.perception.regions import FEATURES, Region

FACIAL = (Region.SKIN, *FEATURES)
"""The facial region of Tables 2 and 3, as avatarzoo's protocols read it: no ears, no hair."""


class Views(NamedTuple):
    """V pictures of one person, or of several people after :func:`joined`.

    Attributes:
        images: RGB bytes; masks: the head without neck; faces: the facial region; both 0 to 255.
        params: V rows, world frame; camera: V cameras.
    """

    images: UInt8[Tensor, "v 3 h w"]
    masks: UInt8[Tensor, "v h w"]
    faces: UInt8[Tensor, "v h w"]
    params: HeadParams
    camera: Camera

    def pick(self, rows: Tensor) -> Views:
        return Views(
            self.images[rows],
            self.masks[rows],
            self.faces[rows],
            self.params.rows(rows),
            self.camera.rows(rows),
        )


class PeopleSource(Protocol):
    """People that can be looked at in any order.

    Attributes:
        head_signature: head model of the parameters.
        described: what a result file says of them.
    """

    head_signature: dict[str, str]
    described: dict[str, Any]

    def __len__(self) -> int: ...

    def count(self, person: int) -> int:
        """How many views there are of a person."""
        ...

    def views(self, person: int, rows: Tensor | None = None) -> Views:
        """These views of a person, or all."""
        ...


class TrackedPeople:
    """A folder with a folder for each person: renderings of a 3D-aware generator (PanoHead) after tracking, or portraits.

        ROOT/0001/sequence.json ...              one tracked sequence with a frame for each view, or
        ROOT/0001/00/sequence.json 01/ ...       a tracked picture for each view (a generator's fixed cameras), or
        ROOT/photo-of-someone/sequence.json      one picture of a person (real portraits)

    Pictures are decoded when asked for, several at a time, and resized. Frames without a face are left out.

    Args:
        root: the folder.
        size: side of the pictures in pixels.
        first, count: use only these people, in the order of the folders' names (``None``: to the end).
        threads: pictures decoded at a time.

    Raises:
        BadDatasetError: no tracked person in the folder.
        HeadModelMismatchError: people tracked with different head models.
    """

    def __init__(
        self, root: str | Path, size: int, first: int = 0, count: int | None = None, threads: int = 8
    ) -> None:
        self.size, self.threads = size, ThreadPoolExecutor(threads)
        self.known: dict[int, list[tuple[Path, int]]] = {}
        people = [found for folder in _folders(Path(root)) if (found := _sequences(folder))]
        self.people = people[first : None if count is None else first + count]
        if not self.people:
            raise BadDatasetError(
                f"{root} holds {len(people)} tracked people, from number {first} on none; track pictures into "
                f"{root}/PERSON/VIEW with avatarzoo track."
            )
        self.head_signature = TrackedSequence.open(self.people[0][0]).info["head"]
        self.described = {"kind": "tracked people", "people": len(self.people)}

    def __len__(self) -> int:
        return len(self.people)

    def count(self, person: int) -> int:
        return len(self._frames(person))

    def views(self, person: int, rows: Tensor | None = None) -> Views:
        """See :class:`PeopleSource`.

        Raises:
            BadSequenceError: damaged, or tracked without matting.
            BadDatasetError: no view shows the face.
        """
        frames = self._frames(person)
        chosen = frames if rows is None else [frames[row] for row in rows.tolist()]
        return joined(list(self.threads.map(self._read, chosen)))

    def _frames(self, person: int) -> list[tuple[Path, int]]:
        """Sequence and row of each view; known after the first look."""
        if person not in self.known:
            paths = self.people[person]
            found = [(p, int(r)) for p in paths for r in TrackedSequence.open(p).valid.nonzero()[0]]
            if not found:
                raise BadDatasetError(f"{paths[0]} and its neighbours show no face; remove them.")
            self.known[person] = found
        return self.known[person]

    def _read(self, frame: tuple[Path, int]) -> Views:
        path, row = frame
        sequence, rows = TrackedSequence.open(path), torch.tensor([row])
        if sequence.info["head"] != self.head_signature:
            raise HeadModelMismatchError(
                f"{path} was tracked with another head model than {self.people[0][0]}; track all with one."
            )
        facial = torch.isin(sequence.parsing(rows), torch.tensor(FACIAL, dtype=torch.uint8)).byte() * 255
        pictures = sequence.images(rows), sequence.masks(rows)[:, None], facial[:, None]
        images, masks, faces = (resized(x, self.size) for x in pictures)
        camera = sequence.camera.resized(self.size, self.size)
        return Views(images, masks[:, 0], faces[:, 0], sequence.params.rows(rows), camera)


def _folders(root: Path) -> list[Path]:
    return sorted(p for p in root.iterdir() if p.is_dir()) if root.is_dir() else []


def _sequences(folder: Path) -> list[Path]:
    """A person's tracked sequences: the folder itself, or the folders in it."""
    return [path for path in (folder, *_folders(folder)) if (path / INFO).is_file()]


def resized(pictures: UInt8[Tensor, "b c h w"], size: int) -> UInt8[Tensor, "b c s s"]:
    """Bytes resized with antialiasing; the same where the size fits."""
    if pictures.shape[-1] == size:
        return pictures
    small = F.interpolate(
        pictures.float(), (size, size), mode="bilinear", align_corners=False, antialias=True
    )
    return (small + 0.5).clamp(0, 255).byte()


def joined(parts: list[Views]) -> Views:
    """The views of all parts, in order; their pictures are of one size."""
    images, masks, faces = (torch.cat([part[i] for part in parts]) for i in range(3))  # type: ignore[misc]
    params = HeadParams(*(torch.cat(x) for x in zip(*(part.params for part in parts))))
    poses, lenses = (torch.cat([part.camera[i] for part in parts]) for i in range(2))  # type: ignore[misc]
    return Views(images, masks, faces, params, Camera(poses, lenses, parts[0].camera.size))


def batch_of(views: Views, people: Tensor) -> dict[str, Any]:
    """Bytes as :func:`avatarzoo.data.frames.to_float_batch` wants them; ``index`` says who each picture shows."""
    names = ("image", "mask", "features", "params", "camera")
    return dict(zip(names, views)) | {"index": people}


class MultiViewLoader:
    """Endless random batches: some people with several views each, and beside them real portraits where there are any.

    What a batch holds is a function of (seed, step) alone, so that a resumed run sees what it would have seen. Of W processes that
    train together, number r gets people r, r + W, ... of a batch of W times as many.

    Args:
        source: who has several views; portraits: who has one, or none.
        people: of ``source`` in a batch; views: of each; a batch has ``people * views`` pictures, and as many portraits.
        steps: batches in all; first: called when iteration starts; the step to go on from.
    """

    def __init__(
        self,
        source: PeopleSource,
        portraits: PeopleSource | None,
        people: int,
        views: int,
        steps: int,
        seed: int,
        first: Callable[[], int],
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.source, self.portraits, self.views = source, portraits, views
        self.steps, self.seed, self.first, self.rank, self.world = steps, seed, first, rank, world
        self.order = StepLoader(source, people * world, steps, 2 * seed, first)  # type: ignore[arg-type]
        if portraits is not None:
            whole = people * views * world
            self.portrait_order = StepLoader(portraits, whole, steps, 2 * seed + 1, first)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[dict[str, Any]]:
        yield from read_ahead(self.batch, range(self.first(), self.steps))

    def batch(self, step: int) -> dict[str, Any]:
        """``views``, one of the ``people`` after the other; ``portraits`` where there are any."""
        mine = slice(self.rank, None, self.world)
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + step) * self.world + self.rank)
        chosen = self.order.rows(step)[mine]
        batch = {
            "views": gather(self.source, chosen, self.views, generator),
            "people": len(chosen),
        }
        if self.portraits is not None:
            batch["portraits"] = gather(self.portraits, self.portrait_order.rows(step)[mine], 1, generator)
        return batch

    def state_dict(self) -> dict[str, int]:
        """Tells Lightning that this loader resumes by itself (from the step the trainer restores)."""
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Nothing to restore."""


def gather(source: PeopleSource, people: Tensor, views: int, generator: torch.Generator) -> dict[str, Any]:
    """``views`` different views of each person in random order; one with fewer is seen again."""
    parts = []
    for person in people.tolist():
        order = torch.randperm(source.count(person), generator=generator)
        parts.append(source.views(person, order[torch.arange(views) % len(order)]))
    return batch_of(joined(parts), people.repeat_interleave(views))


class WholePeople:
    """All views of one person after the other."""

    def __init__(self, source: PeopleSource) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for person in range(len(self.source)):
            views = self.source.views(person)
            yield {"views": batch_of(views, torch.full((len(views.images),), person))}
