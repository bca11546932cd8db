"""Many tracked sequences in a few large files: tar archives in the convention of WebDataset.

    shard-000000.tar
        NAME/000000.frame.png     \\
        NAME/000000.mask.png       |  one sample for each frame of the clip NAME; masks and label maps where it has them
        NAME/000000.parsing.png    |
        NAME/000000.json          /   number, valid, head parameters, camera
        NAME/000000.clip.json         the clip's sequence.json and params.npz, with its first frame
        NAME/000000.clip.npz
    shard-000000.json                 what is in it: written last, so that a shard without it does not count

Members of one sample follow each other and share the name up to the first dot, which is all that WebDataset asks for. Here, shards
are read at any place: a :class:`TrackedSequence` opens as ``shard-000000.tar/NAME``.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from avatarzoo.data.sequence import FRAMES, INFO, MASKS, PARAMS, PARSING, TrackedSequence, decoded
from avatarzoo.errors import BadDatasetError, BadSequenceError
from avatarzoo.files import atomic_path, file_hash
from avatarzoo.heads.base import HeadParams

FORMAT, VERSION = "avatarzoo-shard", 1
MEMBERS = {FRAMES: "frame.png", MASKS: "mask.png", PARSING: "parsing.png"}
CLIP_INFO, CLIP_PARAMS = "000000.clip.json", "000000.clip.npz"
OPEN = 8
"""Shards whose tables of contents are kept in memory."""


class ClipEntry(NamedTuple):
    """A clip that can be opened.

    Attributes:
        path: for :meth:`TrackedSequence.open`. valid: frames that show the face. group: clips of one file share it.
        job: what it was tracked from and how.
    """

    name: str
    path: Path
    valid: int
    group: str
    job: dict[str, Any] | None = None


# ---- writing ------------------------------------------------------------------------------------------------------------------


class ShardWriter:
    """Adds clips to a folder of shards; each appears complete or not at all.

    Args:
        limit: a shard that is larger (in bytes) is closed; clips are never split.
    """

    def __init__(self, folder: str | Path, limit: int = 1 << 30) -> None:
        self.folder, self.limit = Path(folder), limit
        self.number = 1 + max(
            (int(p.stem.split("-")[1]) for p in self.folder.glob("shard-*.json")), default=-1
        )
        self.waiting: list[tuple[str, TrackedSequence]] = []
        self.bytes = 0

    def add(self, name: str, sequence: TrackedSequence) -> list[str]:
        """Take a clip, whose folder must stay until it is written; returns the clips that were written now.

        Raises:
            OutputError: the disk is full or cannot be written; finished shards stay.
        """
        self.waiting.append((name, sequence))
        self.bytes += sum(
            entry.stat().st_size for kind in MEMBERS for entry in os.scandir(sequence.path / kind)
        )
        return self.close() if self.bytes >= self.limit else []

    def close(self) -> list[str]:
        """Write the clips that wait; returns their names."""
        if not self.waiting:
            return []
        path = self.folder / f"shard-{self.number:06d}.tar"
        with atomic_path(path) as temporary, tarfile.open(temporary, "w", format=tarfile.GNU_FORMAT) as tar:
            for name, sequence in self.waiting:
                for member, data in members(sequence):
                    entry = tarfile.TarInfo(f"{name}/{member}")
                    entry.size = len(data)
                    tar.addfile(entry, io.BytesIO(data))
        clips = [
            {"name": n, "frames": len(s), "lost": s.info["lost_frames"], "job": s.info.get("job")}
            for n, s in self.waiting
        ]
        about = {"format": FORMAT, "version": VERSION, "sha256": file_hash(path), "clips": clips}
        with atomic_path(path.with_suffix(".json")) as temporary:
            temporary.write_text(json.dumps(about) + "\n")
        written = [name for name, _ in self.waiting]
        self.waiting, self.bytes, self.number = [], 0, self.number + 1
        return written


def members(sequence: TrackedSequence) -> Iterator[tuple[str, bytes]]:
    """Names and contents of a clip's files."""
    kinds = MEMBERS if sequence.has_masks else {FRAMES: MEMBERS[FRAMES]}
    for row in range(len(sequence)):
        for kind, ending in kinds.items():
            yield f"{row:06d}.{ending}", (sequence.path / kind / f"{row:06d}.png").read_bytes()
        yield f"{row:06d}.json", json.dumps(plain_row(sequence, row)).encode()
        if row == 0:
            yield CLIP_INFO, (sequence.path / INFO).read_bytes()
            yield CLIP_PARAMS, (sequence.path / PARAMS).read_bytes()


def plain_row(sequence: TrackedSequence, row: int) -> dict[str, Any]:
    """What is known of a frame, as lists of numbers."""
    params = sequence.params.rows(row)
    camera = sequence.camera
    return {
        "frame": int(sequence.frame_numbers[row]),
        "valid": bool(sequence.valid[row]),
        "head": sequence.info["head"],
        "params": {name: value[0].tolist() for name, value in zip(HeadParams._fields, params)},
        "world_to_camera": camera.world_to_camera[0].tolist(),
        "intrinsics": camera.intrinsics[0].tolist(),
    }


# ---- reading ------------------------------------------------------------------------------------------------------------------


class Shard:
    """A shard's table of contents and its bytes; threads may read at the same time.

    Attributes:
        damaged: why the end of the file could not be listed, or None; what lies before it can be read.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.damaged = path, None
        self.places: dict[str, tuple[int, int]] = {}
        try:
            self.file = open(path, "rb")  # noqa: SIM115 - open as long as the shard is
            size = os.fstat(self.file.fileno()).st_size
            with tarfile.open(fileobj=self.file, mode="r:") as tar:
                for entry in tar:
                    if entry.offset_data + entry.size <= size:
                        self.places[entry.name] = entry.offset_data, entry.size
        except (OSError, tarfile.TarError) as error:
            self.damaged = str(error)
            if not hasattr(self, "file"):
                raise BadSequenceError(f"{path} cannot be read ({error}); copy it again.") from error

    def read(self, name: str) -> bytes:
        """Raises BadSequenceError: there is no such member, or the file ends before it."""
        place = self.places.get(name)
        if place is None:
            why = f"is damaged ({self.damaged})" if self.damaged else "is damaged or another's"
            raise BadSequenceError(f"{self.path} {why}: {name} is not in it; copy it again.")
        return os.pread(self.file.fileno(), place[1], place[0])


open_shard = lru_cache(OPEN)(Shard)


class ShardSequence(TrackedSequence):
    """A sequence that lies in a shard."""

    def picture(self, kind: str, row: int) -> np.ndarray:
        name = f"{self.path.name}/{row:06d}.{MEMBERS[kind]}"
        data = np.frombuffer(open_shard(self.path.parent).read(name), np.uint8)
        return decoded(data, self.path.parent / name, kind)


def open_clip(path: Path) -> ShardSequence:
    """``shard-000000.tar/NAME``.

    Raises:
        BadSequenceError: the shard is not there or damaged, or holds no such clip.
    """
    shard = open_shard(path.parent)
    info, params = (shard.read(f"{path.name}/{member}") for member in (CLIP_INFO, CLIP_PARAMS))
    return ShardSequence.parsed(path, info, io.BytesIO(params))


def shard_clips(folder: str | Path) -> list[ClipEntry]:
    """Clips of a folder of shards in the order in which they lie there; none where it holds no shards.

    Raises:
        BadDatasetError: a shard's description is damaged or of a later version.
    """
    found = []
    for path in sorted(Path(folder).glob("shard-*.json")):
        try:
            about = json.loads(path.read_text())
            if (about["format"], about["version"]) != (FORMAT, VERSION):
                raise BadDatasetError(f"{path} has version {about['version']}; update avatarzoo.")
            for clip in about["clips"]:
                tar, valid = path.with_suffix(".tar"), clip["frames"] - len(clip["lost"])
                found.append(ClipEntry(clip["name"], tar / clip["name"], valid, tar.name, clip["job"]))
        except (ValueError, KeyError, TypeError) as error:
            raise BadDatasetError(f"{path} is damaged ({error}); copy the shard again.") from error
    return found


def folder_clips(root: str | Path) -> list[ClipEntry]:
    """Sequences of a folder, in it or one folder deeper, in the order of their names."""
    infos = sorted([*Path(root).glob(f"*/{INFO}"), *Path(root).glob(f"*/*/{INFO}")])
    found = []
    for info in infos:
        try:
            about = json.loads(info.read_text())
            valid = int(about["frames"]) - len(about["lost_frames"])
        except (ValueError, KeyError, TypeError) as error:
            raise BadDatasetError(f"{info} is damaged ({error}); track the video again.") from error
        name = info.parent.relative_to(root).as_posix()
        found.append(ClipEntry(name, info.parent, valid, name, about.get("job")))
    return found


def tracked_clips(root: str | Path) -> list[ClipEntry]:
    """Everything that ``avatarzoo track`` made of many videos, in shards or folders.

    Raises:
        BadDatasetError: there is nothing.
    """
    if found := shard_clips(root) or folder_clips(root):
        return found
    raise BadDatasetError(
        f"{root} holds no shards and no tracked clips; make them with: avatarzoo track VIDEOS {root}."
    )
