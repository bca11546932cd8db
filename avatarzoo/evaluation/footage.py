"""From items of a data set to footage: tracked once (kept in a cache by content), decoded when asked for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from avatarzoo.data.frames import FrameStore
from avatarzoo.data.layouts.base import Item
from avatarzoo.data.sequence import TrackedSequence
from avatarzoo.data.sound import RATE, decode_samples
from avatarzoo.data.video import VideoPart
from avatarzoo.errors import NoFaceError, UsageError
from avatarzoo.evaluation.case import Footage, Sound
from avatarzoo.geometry.camera import Camera
from avatarzoo.heads.base import HeadModel, HeadParams
from avatarzoo.perception.landmarks import FACE_OVAL
from avatarzoo.perception.parsing import polygon
from avatarzoo.perception.regions import FEATURES, Region

FACE = (Region.SKIN, *FEATURES)
KEPT_BYTES = 1 << 30
"""Most decoded pictures a :class:`FootageSet` keeps, besides the last opened."""


def facial_region(labels: np.ndarray, landmarks: np.ndarray) -> UInt8[Tensor, "t h w"]:
    """255 on the face: skin, brows, eyes, nose and lips within the face oval.

    Deja-vu's face is every BiSeNet class but background, ears, neck, hair and cloth. Our label ``SKIN`` is the face oval without
    hair, and bare skin above the brows beyond it: a high forehead, a bald head, but also temples and tips of ears. The cut along
    the oval (whose upper rim runs below the hair line) leaves ears out for sure; it costs what lies above the oval.

    Args:
        labels: ``(T, H, W)`` uint8, see :class:`Region`; landmarks: ``(T, 478, 2)`` pixels.
    """
    table = np.zeros(256, np.uint8)
    table[list(FACE)] = 255
    size = labels.shape[1:]
    pairs = zip(labels, landmarks)
    faces = [np.where(polygon(p[list(FACE_OVAL)], size) > 0.5, table[x], np.uint8(0)) for x, p in pairs]
    return torch.from_numpy(np.stack(faces))


def open_item(
    item: Item,
    head: HeadModel,
    size: int,
    ground: float | None,
    cache: Path,
    frames: int = 0,
    sound: bool = False,
) -> Footage:
    """Footage of one picture, clip or multi-view identity; tracked now unless it was before.

    Every view of a multi-view identity is tracked on its own, with parameters, identity included, and a camera of its own: cameras
    of the set are not used. ``frames.index`` says which view or frame a row is.

    Args:
        head: model to track with. size: side of the square pictures. ground: grey level behind the head, ``None`` to keep what is
            there. cache: folder of tracked sequences.
        frames: most frames of a clip; the rest is not even tracked (0: all). sound: decode the sound too.

    Raises:
        NoFaceError: no face, or in too few frames of a clip. BadVideoError: cannot be read, fewer than ten frames, no sound.
    """
    if item.kind == "views":
        return replace(_views(item, head, size, cache), ground=ground)
    if item.kind == "image":
        from avatarzoo.trackers.portraits import cached_portrait  # brings solver and networks along

        footage = _footage(item, cached_portrait(item.path, cache, head, size=size), head)
    else:
        from avatarzoo.trackers.pipeline import cached_track

        stop = item.stop
        if frames:
            stop = item.start + frames if stop is None else min(stop, item.start + frames)
        part = VideoPart(item.path, item.start, stop)
        footage = _footage(item, cached_track(part, cache, head, size=size, person="largest"), head)
        if sound:
            end = None if part.stop is None else part.stop / footage.fps
            samples = decode_samples(item.audio or item.path, part.start / footage.fps, end)
            footage = replace(footage, sound=Sound(samples, RATE))
    return replace(footage, ground=ground)


def _footage(item: Item, tracked: TrackedSequence, head: HeadModel) -> Footage:
    rows = torch.from_numpy(tracked.valid).nonzero()[:, 0]
    labels = tracked.parsing(rows).numpy()
    store = FrameStore(
        tracked.images(rows), tracked.masks(rows), tracked.features(rows), tracked.params.rows(rows), tracked.camera,
        torch.from_numpy(tracked.frame_numbers)[rows],
    )  # fmt: skip
    info = tracked.info
    source = {
        "kind": item.kind,
        "name": item.name,
        "identity": item.identity,
        "file": info["source"].get("name"),
        "sha256": info["source"].get("sha256"),
        "frames": len(rows),
        "lost_frames": len(tracked) - len(rows),
        "mask": info["mask"]["rule"],
        "tracker": info.get("tracker"),
    }
    return Footage(
        item.name, item.identity, store, facial_region(labels, tracked.landmarks[rows.numpy()]), head,
        fps=tracked.fps, source=source, lost=len(tracked) - len(rows),
    )  # fmt: skip


def _views(item: Item, head: HeadModel, size: int, cache: Path) -> Footage:
    from avatarzoo.trackers.portraits import cached_portraits

    paths = [path for path, _ in item.views]
    tracked, failures = cached_portraits(paths, cache, head, size=size, progress=False)
    if not tracked:
        raise NoFaceError(f"None of the {len(paths)} views of {item.path} shows a face; check the pictures.")
    views = []
    for number, path in enumerate(paths):
        if path in tracked:
            view = _footage(item, tracked[path], head)
            view.frames.index[:] = number
            views.append(view)
    whole = joined(views, item.name)
    source = {
        **views[0].source,
        "file": item.path.name,
        "frames": len(views),
        "lost_views": [p.name for p, _ in failures],
    }
    return replace(whole, source=source, lost=len(failures))


def joined(footages: Sequence[Footage], name: str) -> Footage:
    """Footage one after another, each row with its own camera; without sound.

    Raises:
        UsageError: nothing to join, other picture sizes or another head model.
    """
    if not footages:
        raise UsageError(f"There is no footage to join into {name}.")
    first = footages[0]
    if len(footages) == 1:
        return replace(first, name=name)
    for other in footages:
        if other.head.signature != first.head.signature or other.facial.shape[1:] != first.facial.shape[1:]:
            raise UsageError(
                f"{other.name} and {first.name} differ in picture size or head model and cannot be joined."
            )
    stores = [f.frames for f in footages]

    def all_rows(field: str) -> Tensor:
        return torch.cat([getattr(store, field) for store in stores])

    params = HeadParams(*(torch.cat(x) for x in zip(*(store.params for store in stores))))
    store = FrameStore(
        all_rows("images"), all_rows("masks"), all_rows("features"), params, _cameras(stores), all_rows("index")
    )  # fmt: skip
    source: dict[str, Any] = {"kind": "joined", "parts": [f.source for f in footages]}
    return replace(
        first, name=name, frames=store, facial=torch.cat([f.facial for f in footages]), sound=None, source=source,
        procedural=any(f.procedural for f in footages), lost=sum(f.lost for f in footages),
    )  # fmt: skip


def _cameras(stores: Sequence[FrameStore]) -> Camera:
    """One camera per row."""
    poses, lenses = zip(
        *(
            (
                s.camera.world_to_camera.expand(len(s), 4, 4),
                s.camera.intrinsics.expand(len(s), 3, 3),
            )
            for s in stores
        )
    )
    return Camera(torch.cat(poses), torch.cat(lenses), stores[0].camera.size)


class FootageSet:
    """Footage opened when asked for; the last opened are kept, up to a limit of memory.

    Args:
        items: anything with ``name`` and ``identity``. opener: makes footage of one.
        keep: bytes of decoded pictures kept, besides the last opened.
    """

    def __init__(
        self, items: Sequence[Any], opener: Callable[[Any], Footage], keep: int = KEPT_BYTES
    ) -> None:
        self.items, self.opener, self.keep = list(items), opener, keep
        self.names = [item.name for item in self.items]
        self.identities = [item.identity for item in self.items]
        self._kept: OrderedDict[int, Footage] = OrderedDict()

    def __len__(self) -> int:
        return len(self.items)

    def open(self, i: int) -> Footage:
        """Footage number ``i``.

        Raises:
            NoFaceError, BadVideoError: as the opener.
        """
        if i not in self._kept:
            self._kept[i] = self.opener(self.items[i])
        self._kept.move_to_end(i)
        while len(self._kept) > 1 and sum(map(weight, self._kept.values())) > self.keep:
            self._kept.popitem(last=False)
        return self._kept[i]


def weight(footage: Footage) -> int:
    """Bytes of its pictures."""
    store = footage.frames
    return sum(x.numel() for x in (store.images, store.masks, store.features, footage.facial))
