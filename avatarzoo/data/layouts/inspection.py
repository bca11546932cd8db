"""The deeper look of ``check``: headers of pictures, beginnings of videos, frames against masks. Opens files; a sample only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from avatarzoo.data.layouts.base import Findings, Item
from avatarzoo.data.layouts.choice import select
from avatarzoo.data.layouts.reading import PICTURES, files
from avatarzoo.errors import BadVideoError

PICTURES_PER_VIDEO = 10
"""So many picture headers are read in the time of one video."""


def inspect(items: list[Item], found: Findings, sample: int, progress: bool) -> None:
    """Look into a fixed random choice of the items; adds findings, and the sizes and rates seen as notes."""
    videos = chosen((item for item in items if item.kind == "video"), sample)
    others = chosen((item for item in items if item.kind != "video"), PICTURES_PER_VIDEO * sample)
    sizes: Counter[str] = Counter()
    silent: list[str] = []
    for item in tqdm(videos + others, desc="looking into files", unit="item", disable=not progress):
        if item.kind == "video":
            sizes[look_into_video(item, found, silent)] += 1
        else:
            sizes.update(look_into_pictures(item, found))
    if silent:
        found.notes.append(
            f"{len(silent)} of the {len(videos)} videos looked into carry no sound, first: {silent[0]}"
        )
    sizes.pop("", None)
    if sizes:
        seen = ", ".join(f"{count} of {size}" for size, count in sizes.most_common(3))
        rest = f", and {len(sizes) - 3} other sizes" if len(sizes) > 3 else ""
        found.notes.append(f"looked into {len(videos) + len(others)} of {len(items)} items: {seen}{rest}")


def chosen(items: Iterable[Item], count: int) -> list[Item]:
    pool = list(items)
    if count == 0 or len(pool) <= count:
        return pool[:count]
    return select(pool, count=count)


def look_into_video(item: Item, found: Findings, silent: list[str]) -> str:
    """Size and rate of a video, "" when it cannot be read; one that should carry sound and does not is added to ``silent``."""
    from avatarzoo.data.video import probe  # imports PyAV

    try:
        info = probe(item.path)
    except BadVideoError as error:
        found.add("of the videos looked into cannot be read", error)
        return ""
    if item.audio == item.path and not info.has_audio:
        silent.append(item.name)
    return f"{info.width}x{info.height} at {info.fps:g} frames/s"


def look_into_pictures(item: Item, found: Findings) -> list[str]:
    """Sizes of an item's first picture, or of all its views; frames are counted against their masks."""
    pictures = [path for path, _ in item.views] or [item.path]
    if item.kind == "frames":
        frames = files(item.path, PICTURES)
        pictures = frames[:1]
        masks = {path.stem for path in files(item.masks, PICTURES)} if item.masks else set()
        for frame in frames:
            if item.masks and frame.stem not in masks:
                found.add("frames have no mask", f"{item.name}/{frame.name}")
    return [size for path in pictures if (size := picture_size(path, found))]


def picture_size(path: Path, found: Findings) -> str:
    try:
        with Image.open(path) as picture:
            return f"{picture.width}x{picture.height}"
    except (OSError, ValueError, Image.DecompressionBombError):
        found.add("of the pictures looked into cannot be read", path.name)
        return ""
