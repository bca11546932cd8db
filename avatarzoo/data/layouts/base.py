"""What a reader of a public data set is: a folder in, items out, and a report of what is missing.

A reader looks at names and small text files only; no picture or video is decoded by :meth:`Layout.items`. Order and names depend on
the files alone, never on the order in which a file system lists them.
"""

from __future__ import annotations

import re
import warnings
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from avatarzoo.errors import BadDatasetError, UsageError

Kind = Literal["image", "video", "frames", "views"]
Label = tuple[float, ...]
"""EG3D camera label: 16 numbers camera-to-world, row-major, OpenCV axes; 9 numbers intrinsics divided by the picture's side."""

UNSAFE = re.compile(r"[^\w.+@#=-]|^\.")


class Item(NamedTuple):
    """One picture, clip or multi-view identity.

    Attributes:
        name: unique in the set, safe as a folder name.
        kind: what ``path`` is: a picture, a video file, a folder of frames, a folder of views.
        path: picture, video file, or folder of frames or views.
        identity: who it shows; equal names mean the same person. Where a set does not say who its people are, every picture or
            source video is a person of its own.
        split: "train", "test", "val", or "" where the set has none; "mirror" for the mirrored copies of EG3D's sets.
        start, stop: first frame used and one past the last (None: to the end).
        audio: sound file, or the video itself where the set is published with sound. Whether a file really carries sound is
            only known when it is opened; :meth:`Layout.check` counts silent ones.
        camera: EG3D 25-number label of a picture, where the set has one.
        views: of a multi-view identity: picture and 25-number label.
        masks: folder of the masks that belong to ``path``, where the set has them.
    """

    name: str
    kind: Kind
    path: Path
    identity: str
    split: str = ""
    start: int = 0
    stop: int | None = None
    audio: Path | None = None
    camera: Label | None = None
    views: tuple[tuple[Path, Label], ...] = ()
    masks: Path | None = None


class Findings:
    """Problems by kind, each with its count and its first example (in name order), and notes that are no problem.

    Example:
        ``add("videos of the list are missing", "a.mp4")`` twelve times reads "12 videos of the list are missing, first: a.mp4".
    """

    def __init__(self) -> None:
        self.examples: dict[str, list[str]] = {}
        self.notes: list[str] = []

    def add(self, what: str, example: object) -> None:
        self.examples.setdefault(what, []).append(str(example))

    def lines(self) -> list[str]:
        return [f"{len(found)} {what}, first: {min(found)}" for what, found in self.examples.items()]


class Report(NamedTuple):
    """What :meth:`Layout.check` found.

    Attributes:
        items: number of items by (kind, split).
        identities: number of different people.
        problems: one sentence each, with counts.
        notes: facts worth knowing that are no problem.
    """

    items: dict[tuple[str, str], int]
    identities: int
    problems: list[str]
    notes: list[str]

    @property
    def complete(self) -> bool:
        return not self.problems


class Layout(ABC):
    """Reader of one public on-disk layout.

    Attributes:
        name: what ``--layout`` takes.
        title: the set's name.
        licence: one line: terms, and where to get it.
        tree: the expected tree, printed in messages.
        hidden_splits: left out of :meth:`items` unless asked for by name.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    licence: ClassVar[str]
    tree: ClassVar[str]
    hidden_splits: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def scan(self, root: Path, found: Findings) -> Iterable[Item]:
        """Items of a folder in any order; what is missing or odd goes into ``found``.

        Raises:
            BadDatasetError: something without which nothing can be read is not there (made with :meth:`missing`).
        """

    @abstractmethod
    def recognises(self, root: Path) -> bool:
        """Whether a folder bears this layout's marks, for the hint in messages; cheap."""

    def items(self, root: str | Path, split: str = "") -> list[Item]:
        """All items, or those of one split, sorted by name. Warns when the set is incomplete.

        Raises:
            BadDatasetError: the set is not there, or two items share a name. UsageError: it has no such split.
        """
        found = Findings()
        items = self._scanned(Path(root), found)
        if problems := found.lines():
            more = f" and {len(problems) - 1} more problems" if len(problems) > 1 else ""
            warnings.warn(
                f"{root}: {problems[0]}{more}; avatarzoo data check says what is there.", stacklevel=2
            )
        if not split:
            return [item for item in items if item.split not in self.hidden_splits]
        if chosen := [item for item in items if item.split == split]:
            return chosen
        known = ", ".join(sorted({item.split for item in items} - {""})) or "none"
        raise UsageError(f"{root} has no split {split!r}; splits there: {known}.")

    def check(self, root: str | Path, sample: int = 20, progress: bool = False) -> Report:
        """Everything that is there and missing; looks into ``sample`` videos and ten times as many pictures.

        Raises:
            BadDatasetError: the set is not there at all.
        """
        from avatarzoo.data.layouts.inspection import inspect  # opens files

        found = Findings()
        items = self._scanned(Path(root), found)
        inspect(items, found, sample, progress)
        counts = Counter((item.kind, item.split) for item in items)
        people = len({item.identity for item in items})
        return Report(dict(sorted(counts.items())), people, found.lines(), found.notes)

    def missing(self, root: Path, what: str) -> BadDatasetError:
        """The error that says what is not there, which layout it may be instead, and the expected tree."""
        from avatarzoo.data.layouts import hint  # knows all layouts

        return BadDatasetError(
            f"{root} is not {self.title} as layout {self.name} reads it: {what}.{hint(root, self)} "
            f"Expected:\n{self.tree}"
        )

    def _scanned(self, root: Path, found: Findings) -> list[Item]:
        if root.is_file():
            way = f"unpack it and give the folder (unzip {root} -d {root.with_suffix('')})"
            raise self.missing(root, f"it is a file, and archives are not read in place: {way}")
        if not root.is_dir():
            raise self.missing(root, "there is no such folder")
        items = sorted(self.scan(root, found), key=lambda item: (item.name, str(item.path)))
        if not items:
            first = "; ".join(found.lines()) or "nothing of it was found"
            raise self.missing(root, first)
        for one, other in pairwise(items):
            if one.name == other.name:
                raise BadDatasetError(
                    f"{one.path} and {other.path} are both called {one.name!r}; rename one, or give a folder that holds only one."
                )
        return items


def safe_name(*parts: object) -> str:
    """Parts joined by "_", with everything that is awkward in a folder name replaced by "_"."""
    return UNSAFE.sub("_", "_".join(str(part) for part in parts).replace("/", "_"))
