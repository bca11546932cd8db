"""Tracked clips of many people, cropped as EG3D crops heads, as a source of pairs."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatarzoo.data.clip_pairs import Frames
from avatarzoo.data.eg3d_views import eg3d_crop
from avatarzoo.data.mattes import MATTES, person_mattes
from avatarzoo.data.portrait_video import Region
from avatarzoo.data.sequence import INFO, TrackedSequence, describe
from avatarzoo.data.shards import shard_clips
from avatarzoo.errors import BadDatasetError, BadSequenceError, HeadModelMismatchError

OPEN = 64
"""Sequences whose parameters are kept in memory."""


class TrackedClips:
    """Folders of ``avatarzoo track``, read when asked for; frames without a face are left out.

    Args:
        folders: one for each clip.
        distance: clips without two frames so far apart are left out.
        size: side of the crops in pixels.
        region: what is shown, see :mod:`avatarzoo.data.portrait_video`. Mattes of persons are made when a clip is first read.
        background: grey level behind it, and beyond the filmed picture.

    Raises:
        BadDatasetError: no clip is long enough.
        BadSequenceError: a folder is damaged, or was tracked without matting that ``region`` needs.
        HeadModelMismatchError: clips were tracked with different head models.
    """

    def __init__(
        self, folders: list[Path], distance: int, size: int, region: Region, background: float
    ) -> None:
        self.size, self.region, self.background = size, region, background
        self.head_signature = TrackedSequence.open(folders[0]).info["head"]
        found = [(folder, *self._look(folder, folders[0])) for folder in folders]
        long_enough = [clip for clip in found if len(clip[2]) and clip[2][-1] - clip[2][0] >= distance]
        if not long_enough:
            raise BadDatasetError(
                f"None of the {len(folders)} clips, such as {folders[0]}, shows the face in two frames {distance} apart; give "
                "longer clips or a smaller --data.distance."
            )
        self.folders, self.rows, self.known = (list(x) for x in zip(*long_enough))
        self.open = lru_cache(OPEN)(TrackedSequence.open)
        self.described: dict[str, Any] = {
            "kind": "tracked clips",
            "clips": len(self.folders),
            "too_short": len(folders) - len(self.folders),
            "frames": sum(map(len, self.known)),
            "region": region,
        }

    def __len__(self) -> int:
        return len(self.folders)

    def numbers(self, clip: int) -> Int[np.ndarray, " n"]:
        return self.known[clip]

    def frames(self, clip: int, rows: Int[Tensor, " n"]) -> Frames:
        """See :class:`avatarzoo.data.clip_pairs.ClipSource`.

        Raises:
            BadSequenceError: a picture is missing or damaged.
            UsageError: parameters and camera do not belong together.
        """
        sequence = self.open(self.folders[clip])
        rows = torch.from_numpy(self.rows[clip])[rows]
        images, params = sequence.images(rows).float() / 255, sequence.params.rows(rows)
        crop = eg3d_crop(
            images, self._masks(sequence, clip, rows), params, sequence.camera, self.size, self.background
        )
        image, mask = ((crop[k] * 255 + 0.5).clamp(0, 255).byte() for k in ("image", "mask"))  # type: ignore[literal-required]
        return Frames(image, mask[:, 0], params, crop["camera"])

    def _masks(
        self, sequence: TrackedSequence, clip: int, rows: Int[Tensor, " n"]
    ) -> Float[Tensor, "n 1 h w"] | None:
        if self.region == "frame":
            return None
        if self.region == "head":
            masks = sequence.masks(rows)
        else:
            made = all((sequence.path / MATTES / f"{row:06d}.png").is_file() for row in rows.tolist())
            if not made:  # networks are loaded once for the clip
                person_mattes(sequence, torch.from_numpy(self.rows[clip]))
            masks = person_mattes(sequence, rows)
        return masks[:, None].float() / 255

    def _look(self, folder: Path, first: Path) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
        """Rows that show the face, and their numbers in the video."""
        sequence = TrackedSequence.open(folder)
        if sequence.info["head"] != self.head_signature:
            raise HeadModelMismatchError(
                f"{folder} was tracked with the head {describe(sequence.info['head'])}, {first} with "
                f"{describe(self.head_signature)}; track all clips with the same head."
            )
        if self.region == "head" and not sequence.has_masks:
            raise BadSequenceError(f"{folder} has no masks; track it again without --no-matting.")
        rows = sequence.valid.nonzero()[0]
        return rows, sequence.frame_numbers[rows]


def clip_folders(root: str | Path) -> dict[str, list[Path]]:
    """Tracked clips by person: ``ROOT/PERSON/CLIP/sequence.json``, or ``ROOT/CLIP/sequence.json`` for people with one clip; or shards.

    Raises:
        BadDatasetError: there is none.
    """
    if shards := shard_clips(root):
        return {clip.name: [clip.path] for clip in shards}
    people = {}
    for person in _folders(Path(root)):
        if clips := [path for path in (person, *_folders(person)) if (path / INFO).is_file()]:
            people[person.name] = clips
    if not people:
        raise BadDatasetError(
            f"{root} holds no tracked clip; track videos into {root}/PERSON/CLIP with avatarzoo track."
        )
    return people


def set_folders(root: str | Path, videos: str | Path, layout_name: str) -> dict[str, list[Path]]:
    """Tracked clips ``ROOT/NAME`` of a published set by person, with the names and people that ``avatarzoo data list`` shows.

    Args:
        videos: folder of the set as it is published; layout_name: its layout.

    Raises:
        BadDatasetError: the set is not there, or none of its clips is tracked. UsageError: there is no such layout.
    """
    from avatarzoo.data.layouts import layout

    root, people = Path(root), dict[str, list[Path]]()
    items = layout(layout_name).items(videos)
    for item in items:
        if (root / item.name / INFO).is_file():
            people.setdefault(item.identity, []).append(root / item.name)
    if not people:
        raise BadDatasetError(
            f"None of the {len(items)} clips of {videos} is tracked in {root}; the first belongs into {root / items[0].name}: "
            f"avatarzoo track {items[0].path} {root / items[0].name}."
        )
    return dict(sorted(people.items()))


def _folders(root: Path) -> list[Path]:
    return sorted(p for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
