"""Which weights and head models are here, and what cannot be done without those that are not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from avatarzoo.apps.doctor_findings import Finding
from avatarzoo.assets import ASSETS, find, locate, search_folders, way_out
from avatarzoo.errors import AvatarZooError


class Feature(NamedTuple):
    """Something people want to do.

    Attributes:
        files: names of assets; of each group one is enough, the first is the one to get.
        without: what happens if they are not here.
    """

    name: str
    files: tuple[tuple[str, ...], ...]
    without: str


FEATURES = (
    Feature(
        "real people",
        (("ict-facekit", "flame2020", "flame2023", "flame2023-open", "faceverse4", "faceverse3.1", "faceverse3"),),
        "only the procedural head is there, which fits made-up people",
    ),
    Feature("hair in masks", (("skin-clothes-hair",),), "masks are MediaPipe's, coarser round hair"),
    Feature("FLAME's textures", (("flame-template", "flame-texture"),), "FLAME cannot wear Gaussians or textures"),
    Feature("FLAME's eyelids", (("flame-eyelids",),), "FLAME does not blink"),
    Feature("LPIPS", (("alexnet",), ("vgg16",)), "tables leave it out"),
    Feature("FID", (("inception",),), "tables leave it out"),
    Feature("identity scores", (("mobilefacenet", "facenet", "arcface"),), "CSIM is left out"),
    Feature("AED and APD", (("deep3d",), ("deep3d-landmarks",)), "tables leave them out"),
    Feature("StyleAvatar, paper's loss", (("vgg19",),), "take preset avatarzoo, which needs no weights"),
    Feature("Déjà-vu, published network", (("dejavu-network",),), "a photo takes the small network inside the package"),
)  # fmt: skip


def features() -> Iterator[Finding]:
    """What works with the files that are here; else which file is missing, where to get it, and what happens without."""
    for feature in FEATURES:
        here = [next(filter(locate, group), None) for group in feature.files]
        missing = [group[0] for group, found in zip(feature.files, here) if found is None]
        if missing:
            ways = "; ".join(way_out(ASSETS[name]) for name in missing)
            yield Finding("note", feature.name, f"{feature.without}: {ways}")
        else:
            yield Finding("ok", feature.name, ", ".join(name for name in here if name))


def flame() -> Iterator[Finding]:
    """Which FLAME files are here, what --head name takes each, and whether one has the name of another."""
    found = {name: path for name in ("flame2020", "flame2023", "flame2023-open") if (path := locate(name))}
    for name, path in found.items():
        yield flame_file(name, path)
    if found and "flame2020" not in found:
        text = f"--head flame means FLAME 2020, which is not here; write --head {next(iter(found))}"
        yield Finding("note", "flame", text)


def flame_file(name: str, path: Path) -> Finding:
    """FLAME 2020's published file holds chumpy arrays, 2023's plain ones: so a renamed file is noticed. Nothing in it is executed."""
    chumpy = b"chumpy" in path.read_bytes()
    if chumpy != (name == "flame2020"):
        year = "2020 or older" if chumpy else "2023, or converted"
        text = f"{path} looks like FLAME {year}; head files of two versions do not mix, so name it as its publisher did"
        return Finding("note", name, text)
    return Finding("ok", name, f"--head {name}" + (" or --head flame" if name == "flame2020" else ""))


def assets() -> Iterator[Finding]:
    """Every file; none is needed for the quickstart."""
    yield Finding(
        "ok", "folders", ", ".join(map(str, search_folders())) + " (AVATARZOO_ASSETS sets the first)"
    )
    for name in ASSETS:
        if locate(name) is None:
            continue
        try:
            yield Finding("ok", name, str(find(name)))
        except AvatarZooError as error:  # another file of that name
            yield Finding("note", name, str(error))
