"""Sets of a few people seen often: PointAvatar / IMAvatar subjects, MEAD's actors, multi-view identities."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from avatarzoo.data.layouts.base import Findings, Item, Label, Layout, safe_name
from avatarzoo.data.layouts.reading import (
    PICTURES,
    SOUNDS,
    VIDEOS,
    files,
    folders,
    has_picture,
    read_json,
    read_label,
    walk,
)
from avatarzoo.errors import BadDatasetError


class PointAvatar(Layout):
    """The subjects of IMAvatar and PointAvatar: per clip the frames, masks, parsing maps and FLAME parameters.

    One item per clip; its identity is the subject. ``masks`` is the clip's ``mask`` folder, whose files are named as the frames.
    FLAME parameters are not read: every method here uses its own tracking, as Deja-vu's author did. A clip folder is any
    folder with ``image/`` in it, so that the archives' doubled folders (subject1/subject1/...) do not matter.
    Unverified (the set is not here): which clips subject1 and subject3 hold besides those of PointAvatar's own split.
    """

    name = "pointavatar"
    title = "PointAvatar / IMAvatar subjects"
    licence = "non-commercial research; github.com/zhengyuf/PointAvatar (subject1.zip to subject3.zip), github.com/zhengyuf/IMavatar"
    tree = """\
ROOT/
  subject2/MVI_1797/image/1.png ...
                    mask/1.png ...
                    semantic/1.png ...
                    flame_params.json
           MVI_1801/..."""
    parts = ("mask", "semantic", "flame_params.json")

    def recognises(self, root: Path) -> bool:
        return any(root.glob("*/flame_params.json")) or any(root.glob("*/*/flame_params.json"))

    def scan(self, root: Path, found: Findings) -> Iterator[Item]:
        clips = {path.parent for path in walk(root, lambda p: p.name == "image") if path.name == "image"}
        for clip in clips:
            subject = clip.resolve().parent.name
            name = safe_name(subject, clip.resolve().name)
            for part in self.parts:
                if not (clip / part).exists():
                    found.add(f"clips have no {part}", name)
            if not has_picture(clip / "image"):
                found.add("clips have no frames", name)
                continue
            masks = clip / "mask" if (clip / "mask").is_dir() else None
            yield Item(name, "frames", clip / "image", subject, masks=masks)


class MEAD(Layout):
    """MEAD: actors (M003, W009, ...) who speak sentences in eight emotions at three levels, seen by seven cameras.

    Only the frontal camera is read; the others are noted. Names are ``M003_front_angry_level_1_001``; the sound is the file of the
    same emotion, level and number below ``audio``. The set is not here: the tree is
    taken from its description.
    """

    name = "mead"
    title = "MEAD"
    licence = "research use on the authors' terms; wywu.github.io/projects/MEAD/MEAD.html"
    tree = """\
ROOT/
  M003/video/front/angry/level_1/001.mp4 ...
       audio/angry/level_1/001.m4a ...      (or .wav)
  W009/..."""

    def recognises(self, root: Path) -> bool:
        return any(root.glob("*/video/front"))

    def scan(self, root: Path, found: Findings) -> Iterator[Item]:
        views: set[str] = set()
        for actor in folders(root):
            front = actor / "video" / "front"
            if (actor / "video").is_dir():
                views |= {view.name for view in folders(actor / "video")}
                if not front.is_dir():
                    found.add("actors have no frontal video", actor.name)
            elif (actor / "audio").is_dir():
                found.add("actors have no video", actor.name)
            for path in front.glob("*/level_*/*"):
                if path.suffix.lower() in VIDEOS:
                    yield self.sentence(actor, path, found)
        if others := sorted(views - {"front"}):
            found.notes.append(f"other cameras are there and not read: {', '.join(others)}")

    def sentence(self, actor: Path, path: Path, found: Findings) -> Item:
        emotion, level = path.parent.parent.name, path.parent.name
        stem = actor / "audio" / emotion / level / path.stem
        sounds = [sound for ending in SOUNDS if (sound := stem.with_name(f"{stem.name}{ending}")).is_file()]
        name = safe_name(actor.name, "front", emotion, level, path.stem)
        if not sounds:
            found.add("videos have no sound file", name)
        return Item(name, "video", path, actor.name, audio=sounds[0] if sounds else None)


class MultiView(Layout):
    """Identities seen from many known cameras, such as renderings of a 3D-aware generator (PanoHead).

    One item per identity with all its views. Cameras are EG3D 25-number labels by the stem of the view: one ``cameras.json`` for
    all (Deja-vu's supplement, section 1: 25 pre-defined cameras), or one in an identity's folder, which then counts for it.
    This layout is our own; the papers publish none.
    """

    name = "multiview"
    title = "multi-view identities"
    licence = "that of your renderings (PanoHead's weights: CC BY-NC 4.0)"
    tree = """\
ROOT/
  cameras.json                       {"00": [25 numbers], "01": ...}   for all identities
  identities/0001/00.png 01.png ...
             0001/cameras.json       only where an identity has cameras of its own"""

    def recognises(self, root: Path) -> bool:
        return (root / "identities").is_dir()

    def scan(self, root: Path, found: Findings) -> Iterator[Item]:
        if not self.recognises(root):
            raise self.missing(root, "identities/ is not there")
        shared = self.cameras(root / "cameras.json", found)
        for folder in folders(root / "identities"):
            labels = self.cameras(folder / "cameras.json", found) or shared
            if not labels:
                found.add("identities have no cameras.json, nor is there one for all", folder.name)
                continue
            pictures = files(folder, PICTURES)
            views = tuple((path, labels[path.stem]) for path in pictures if path.stem in labels)
            for path in pictures:
                if path.stem not in labels:
                    found.add("views have no camera", f"{folder.name}/{path.name}")
            for view in labels.keys() - {path.stem for path in pictures}:
                found.add("views are missing", f"{folder.name}/{view}")
            if views:
                yield Item(safe_name(folder.name), "views", folder, folder.name, views=views)

    @staticmethod
    def cameras(path: Path, found: Findings) -> dict[str, Label]:
        if not path.is_file():
            return {}
        content = read_json(path)
        if not isinstance(content, dict):
            raise BadDatasetError(f'{path} is not of the form {{"<view>": [25 numbers], ...}}.')
        return {
            Path(view).stem: label
            for view, values in content.items()
            if (label := read_label(values, found, f"{path.parent.name}/{view}"))
        }
