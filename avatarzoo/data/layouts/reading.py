"""Small helpers of the readers: listing files, reading annotation files, EG3D labels."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from avatarzoo.data.layouts.base import Findings, Label
from avatarzoo.errors import BadDatasetError

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
VIDEOS = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm")
SOUNDS = (".wav", ".m4a", ".mp3", ".flac", ".aac")
LABEL_SIZE = 25
ORTHOGONAL = 1e-2
"""Largest deviation of a label's rotation from an orthogonal matrix."""


def entries(folder: Path) -> list[Path]:
    """Contents of a folder in name order without hidden files; [] where there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def folders(folder: Path) -> list[Path]:
    return [path for path in entries(folder) if path.is_dir()]


def files(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    """Files of a folder with one of the endings (case ignored), in name order."""
    return [path for path in entries(folder) if path.suffix.lower() in endings and path.is_file()]


def walk(root: Path, stops: Callable[[Path], bool] = lambda _: False) -> Iterator[Path]:
    """Files below a folder and folders at which ``stops`` (not entered), without hidden ones; links are followed once."""
    entered: set[Path] = set()
    for folder, below, names in os.walk(root, followlinks=True):
        here = Path(folder)
        if here.resolve() in entered:
            below.clear()
            continue
        entered.add(here.resolve())
        yield from (here / name for name in names if not name.startswith("."))
        below[:] = [name for name in below if not name.startswith(".")]
        ends = {name for name in below if stops(here / name)}
        yield from (here / name for name in ends)
        below[:] = [name for name in below if name not in ends]


def has_picture(folder: Path) -> bool:
    """Whether a folder holds a picture; reads no further than the first."""
    with os.scandir(folder) as listing:
        return any(
            entry.name.lower().endswith(PICTURES) and not entry.name.startswith(".") for entry in listing
        )


def beside(path: Path, endings: tuple[str, ...]) -> Path | None:
    """The file of the same stem with one of the endings, if there is one."""
    return next((other for ending in endings if (other := path.with_suffix(ending)).is_file()), None)


def read_json(path: Path) -> Any:
    """Contents of a JSON file.

    Raises:
        BadDatasetError: it cannot be read or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadDatasetError(
            f"{path} cannot be read as JSON ({error}); copy or download it again."
        ) from error


def read_lines(path: Path) -> list[list[str]]:
    """Words of every non-empty line of a text file.

    Raises:
        BadDatasetError: it cannot be read as text.
    """
    try:
        return [words for line in path.read_text(encoding="utf-8").splitlines() if (words := line.split())]
    except (OSError, ValueError) as error:
        raise BadDatasetError(
            f"{path} cannot be read as text ({error}); copy or download it again."
        ) from error


def read_label(values: Any, found: Findings, where: object) -> Label | None:
    """An EG3D label, or None and a finding when it is none (25 finite numbers, a rotation, a positive focal length)."""
    numbers = isinstance(values, list) and all(isinstance(v, int | float) for v in values)
    if not numbers or len(values) != LABEL_SIZE or not all(map(math.isfinite, values)):
        found.add("camera labels are not 25 finite numbers", where)
        return None
    columns = [[values[4 * row + column] for row in range(3)] for column in range(3)]
    products = [
        sum(a * b for a, b in zip(columns[i], columns[j])) - (i == j) for i in range(3) for j in range(3)
    ]
    if max(map(abs, products)) > ORTHOGONAL or values[16] <= 0:
        found.add("camera labels hold no rotation or no focal length", where)
        return None
    return tuple(map(float, values))


def mirrored_label(label: Label) -> Label:
    """The label of the picture flipped left to right: entries that mix x with y or z, and the x position, change sign."""
    return tuple(-value if index in (1, 2, 3, 4, 8) else value for index, value in enumerate(label))
