"""Sets of single pictures: FFHQ and LPFF with EG3D cameras, CelebAMask-HQ, and any folder of portraits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from avatarzoo.data.layouts.base import Findings, Item, Label, Layout, safe_name
from avatarzoo.data.layouts.reading import (
    PICTURES,
    entries,
    files,
    folders,
    mirrored_label,
    read_json,
    read_label,
    walk,
)
from avatarzoo.errors import BadDatasetError

MIRROR = "_mirror"
MASKS_PER_FOLDER = 2000


class FFHQ(Layout):
    """FFHQ as EG3D prepares it (fact sheet of NOFA++, section 5.1): crops, mirrored copies, one 25-number label for each.

    A mirrored copy (stem + "_mirror") is listed in the file like any other picture; here it is in the split "mirror", shows the
    same identity as its original, and is left out unless that split is asked for. FFHQ does not say who is who: every picture
    is a person of its own. Unverified (the set is not here): the names of the number folders, which are not relied upon.
    """

    name = "ffhq"
    title = "FFHQ as EG3D prepares it"
    licence = "CC BY-NC-SA 4.0 (pictures: their Flickr licences); github.com/NVlabs/ffhq-dataset, prepared with EG3D's scripts"
    tree = """\
ROOT/
  dataset.json                       {"labels": [["00000/img00000000.png", [25 numbers]], ...]}
  00000/img00000000.png
  00000/img00000000_mirror.png
  ..."""
    hidden_splits = ("mirror",)

    def recognises(self, root: Path) -> bool:
        return (root / "dataset.json").is_file()

    def scan(self, root: Path, found: Findings) -> Iterator[Item]:
        listing = root / "dataset.json"
        if not listing.is_file():
            raise self.missing(root, "dataset.json is not there")
        for place, values in listed_labels(listing):
            path = root / place
            label = read_label(values, found, place)
            if not path.is_file():
                found.add("pictures of dataset.json are missing", place)
            elif label:
                yield portrait(path, Path(place).with_suffix("").as_posix(), label)


def listed_labels(listing: Path) -> list[tuple[str, Any]]:
    """(relative path, label) rows of an EG3D ``dataset.json``; a path that leaves the folder is refused.

    Raises:
        BadDatasetError: not of that form, or a path points out of the folder.
    """
    content = read_json(listing)
    rows = content.get("labels") if isinstance(content, dict) else None
    if not isinstance(rows, list) or any(not isinstance(row, list) or len(row) != 2 for row in rows):
        raise BadDatasetError(
            f'{listing} is not of the form {{"labels": [["picture.png", [25 numbers]], ...]}}.'
        )
    for place, _ in rows:
        if not isinstance(place, str) or Path(place).is_absolute() or ".." in Path(place).parts:
            raise BadDatasetError(f"{listing} lists {place!r}, which is no path inside of its folder.")
    return [(place, values) for place, values in rows]


def portrait(path: Path, stem: str, label: Label) -> Item:
    """A labelled picture; its mirrored copy has the identity of the original."""
    identity = safe_name(stem.removesuffix(MIRROR))
    split = "mirror" if stem.endswith(MIRROR) else ""
    return Item(safe_name(stem), "image", path, identity, split, camera=label)


class LPFF(Layout):
    """Large-pose Flickr faces: ``camera_parameters.json`` and the crops for EG3D (fact sheet of NOFA++, section 5.2).

    The labels follow EG3D's convention already. Pictures belong to the key that is their stem, in whatever folder below ``crop``
    they lie; of a mirrored copy without a label of its own the label is mirrored. A key names a face of a raw picture
    (``<picture>_<face>``); every face is taken as a person of its own. Unverified (the set is not here): how crop/eg3d.zip
    unpacks.
    """

    name = "lpff"
    title = "LPFF (large-pose Flickr faces)"
    licence = "CC BY-NC 2.0; github.com/oneThousand1000/LPFF-dataset"
    tree = """\
ROOT/
  camera_parameters.json             {"<picture>_<face>": [25 numbers], ...}
  crop/eg3d/<picture>_<face>.png     (crop/eg3d.zip unpacked; any folder below crop/ will do)"""
    hidden_splits = ("mirror",)

    def recognises(self, root: Path) -> bool:
        return (root / "camera_parameters.json").is_file()

    def scan(self, root: Path, found: Findings) -> Iterator[Item]:
        listing = root / "camera_parameters.json"
        if not listing.is_file():
            raise self.missing(root, "camera_parameters.json is not there")
        labels = read_json(listing)
        if not isinstance(labels, dict):
            raise BadDatasetError(f'{listing} is not of the form {{"<picture>_<face>": [25 numbers], ...}}.')
        pictures = {
            path.stem: path for path in sorted(walk(root / "crop")) if path.suffix.lower() in PICTURES
        }
        if not pictures and (root / "crop/eg3d.zip").is_file():
            raise self.missing(root, "crop/eg3d.zip is not unpacked (unzip crop/eg3d.zip -d crop/eg3d)")
        good = {key: label for key, values in labels.items() if (label := read_label(values, found, key))}
        for key in labels.keys() - pictures.keys():
            found.add("pictures of camera_parameters.json are missing", key)
        for stem, path in pictures.items():
            original = stem.removesuffix(MIRROR)
            if stem in good:
                yield portrait(path, stem, good[stem])
            elif stem != original and original in good:
                yield portrait(path, stem, mirrored_label(good[original]))
            elif stem not in labels:
                found.add("pictures have no label", stem)


class CelebAMaskHQ(Layout):
    """CelebAMask-HQ: 30,000 pictures of 1024 and 19 binary masks of 512 each, in folders of 2,000.

    ``masks`` is the folder with the picture's masks, ``<number, five digits>_<part>.png``. Names are the numbers with five digits,
    so that name order is number order. The archive does not say who is who (CelebA does): every picture is taken as a person
    of its own. Masks are only looked for by ``check``; the pictures serve without them.
    """

    name = "celebamask-hq"
    title = "CelebAMask-HQ"
    licence = "non-commercial research only; github.com/switchablenorms/CelebAMask-HQ"
    tree = """\
ROOT/
  CelebA-HQ-img/0.jpg ... 29999.jpg
  CelebAMask-HQ-mask-anno/0/00000_skin.png ...   (pictures 0-1999; 1/ holds 2000-3999, up to 14/)"""

    def recognises(self, root: Path) -> bool:
        return (root / "CelebA-HQ-img").is_dir()

    def scan(self, root: Path, found: Findings) -> Iterator[Item]:
        if not self.recognises(root):
            raise self.missing(root, "CelebA-HQ-img/ is not there")
        annotations = root / "CelebAMask-HQ-mask-anno"
        if not annotations.is_dir():
            found.add("mask folder is missing", annotations.name)
        # a glob over 15 large folders costs a second; is_file per picture would cost 30,000 look-ups more
        masked = {path.name[:5] for folder in folders(annotations) for path in folder.glob("*_skin.png")}
        for path in files(root / "CelebA-HQ-img", PICTURES):
            if not re.fullmatch(r"\d+", path.stem):
                found.add("pictures are not named by a number", path.name)
                continue
            number = int(path.stem)
            name, masks = f"{number:05d}", annotations / str(number // MASKS_PER_FOLDER)
            if annotations.is_dir() and name not in masked:
                found.add("pictures have no skin mask", path.name)
            yield Item(name, "image", path, name, masks=masks if name in masked else None)


class Portraits(Layout):
    """Any folder of pictures of faces, with folders below it; every picture is a person of its own."""

    name = "portraits"
    title = "a folder of portraits"
    licence = "your own pictures; mind the consent of the people in them"
    tree = """\
ROOT/
  anna.jpg
  friends/ben.png
  ..."""

    def recognises(self, root: Path) -> bool:
        return any(path.suffix.lower() in PICTURES for path in entries(root))

    def scan(self, root: Path, found: Findings) -> Iterator[Item]:
        for path in walk(root):
            if path.suffix.lower() in PICTURES:
                name = safe_name(path.relative_to(root).with_suffix("").as_posix())
                yield Item(name, "image", path, name)
