"""Readers of the public data sets' on-disk layouts: ``layout("hdtf").items(folder)``."""

from __future__ import annotations

from pathlib import Path

from avatarzoo.data.layouts.base import Item, Layout, Report
from avatarzoo.data.layouts.choice import select
from avatarzoo.data.layouts.people import MEAD, MultiView, PointAvatar
from avatarzoo.data.layouts.pictures import FFHQ, LPFF, CelebAMaskHQ, Portraits
from avatarzoo.data.layouts.videos import HDTF, VFHQ, CelebVHQ, Clips, VoxCeleb
from avatarzoo.errors import UsageError

__all__ = ["LAYOUTS", "Item", "Layout", "Report", "hint", "layout", "select"]

LAYOUTS: dict[str, Layout] = {
    reader.name: reader
    for reader in (
        FFHQ(), LPFF(), CelebAMaskHQ(), CelebVHQ(), VoxCeleb(), HDTF(), VFHQ(), PointAvatar(), MEAD(), MultiView(),
        Portraits(), Clips(),
    )
}  # fmt: skip
"""By name, the particular ones before the folders of anything."""


def layout(name: str) -> Layout:
    """The reader called ``name``.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in LAYOUTS:
        raise UsageError(f"There is no layout {name!r}; known: {', '.join(LAYOUTS)}.")
    return LAYOUTS[name]


def hint(root: Path, wanted: Layout) -> str:
    """ " It looks like ..." when the folder, or one in it, bears the marks of the layout wanted or of another; else ""."""
    if not root.is_dir():
        return ""
    if not wanted.recognises(root):
        inner = [path for path in sorted(root.iterdir())[:50] if path.is_dir() and wanted.recognises(path)]
        if inner:
            return f" Give the folder in it: {inner[0]}."
    other = next(
        (reader for reader in LAYOUTS.values() if reader is not wanted and reader.recognises(root)), None
    )
    return f" It looks like {other.title}: try --layout {other.name}." if other else ""
