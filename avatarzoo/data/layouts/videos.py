"""Sets of video clips: CelebV-HQ, VoxCeleb, HDTF, VFHQ, and any folder of clips."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from avatarzoo.data.layouts.base import Findings, Item, Kind, Layout, safe_name
from avatarzoo.data.layouts.reading import (
    SOUNDS,
    VIDEOS,
    beside,
    entries,
    files,
    has_picture,
    read_json,
    read_lines,
    walk,
)
from avatarzoo.errors import BadDatasetError


class CelebVHQ(Layout):
    """CelebV-HQ: ``celebvhq_info.json`` and the clips cut with the authors' script (fact sheet of NOFA++, section 5.2).

    The file names no people (the paper counts 15,653); the identity is the source video, so that clips of one source never pass
    as different people, while one person in two sources does. Unverified (the set is not here): whether the cut clips keep
    their sound.
    """

    name = "celebv-hq"
    title = "CelebV-HQ"
    licence = "non-commercial research, videos remain their owners'; github.com/CelebV-HQ/CelebV-HQ"
    tree = """\
ROOT/
  celebvhq_info.json                 {"clips": {"<youtube id>_<n>": {"ytb_id": ..., ...}, ...}, ...}
  processed/<youtube id>_<n>.mp4"""

    def recognises(self, root: Path) -> bool:
        return (root / "celebvhq_info.json").is_file()

    def scan(self, root: Path, found: Findings) -> Iterator[Item]:
        listing = root / "celebvhq_info.json"
        if not listing.is_file():
            raise self.missing(root, "celebvhq_info.json is not there")
        content = read_json(listing)
        clips = content.get("clips") if isinstance(content, dict) else None
        if not isinstance(clips, dict):
            raise BadDatasetError(f'{listing} has no "clips"; download it again.')
        videos = {path.stem: path for path in files(root / "processed", VIDEOS)}
        for name, clip in clips.items():
            if name in videos:
                identity = str(clip.get("ytb_id", name)) if isinstance(clip, dict) else name
                yield Item(safe_name(name), "video", videos[name], identity, audio=videos[name])
            else:
                found.add("videos of the list are missing", name)
        if extra := sorted(videos.keys() - clips.keys()):
            found.notes.append(f"{len(extra)} videos are not in the list and not read, first: {extra[0]}")


class VoxCeleb(Layout):
    """VoxCeleb as FOMM and PIRenderer prepare it: crops named ``<id>#<youtube id>#<start>#<end>.mp4`` in train/ and test/.

    A clip may also be a folder of frames of that name. The crops carry no sound; a wav of the same stem beside the clip is used.
    The set is not here: the tree is taken from the description of both.
    """

    name = "voxceleb"
    title = "VoxCeleb as FOMM and PIRenderer prepare it"
    licence = "annotations CC BY 4.0, videos remain their owners'; robots.ox.ac.uk/~vgg/data/voxceleb"
    tree = """\
ROOT/
  train/id10001#7w0IBEWc9Qw#000993#001143.mp4
        id10001#7w0IBEWc9Qw#000993#001143.wav   (16 kHz, where there is sound)
  test/id10280#NXjT3732Ekg#001093#001192.mp4"""
    pattern = re.compile(r"([^#]+)#([^#]+)#(\d+)#(\d+)")
    splits = ("train", "test", "val")

    def recognises(self, root: Path) -> bool:
        return any(
            self.pattern.fullmatch(path.stem) for split in self.splits for path in entries(root / split)[:50]
        )

    def scan(self, root: Path, found: Findings) -> Iterator[Item]:
        here = [split for split in self.splits if (root / split).is_dir()]
        if not here:
            raise self.missing(root, "neither train/ nor test/ is there")
        for split in ("train", "test"):
            if split not in here:
                found.notes.append(f"there is no {split}/")
        for split in here:
            for path in entries(root / split):
                frames = path.is_dir()
                if not frames and path.suffix.lower() not in VIDEOS:
                    continue
                parts = self.pattern.fullmatch(path.name.removesuffix(".mp4") if frames else path.stem)
                if not parts:
                    found.add("clips are not named <id>#<youtube id>#<start>#<end>", f"{split}/{path.name}")
                elif frames and not has_picture(path):
                    found.add("folders have no frames", f"{split}/{path.name}")
                else:
                    sound = beside(path, (".wav",))
                    kind: Kind = "frames" if frames else "video"
                    yield Item(safe_name(parts[0]), kind, path, parts[1], split, audio=sound)


class HDTF(Layout):
    """HDTF: clips ``<video>_<clip>.mp4`` cut by the text files of its three groups RD (radio), WDA and WRA (weekly addresses).

    The text files list videos without the group ("AdamSchiff.mp4 00:05-04:40", one time span per clip); in wide use the clips are
    called ``WDA_AdamSchiff_000.mp4``. Both forms are understood, ``_0`` and ``_000`` alike; the clips may lie in any folder.
    Items are named in the wide form. The identity is the video's name without a number at its end ("AmyKlobuchar0" and
    "AmyKlobuchar1" are one person), except for the radio shows, which are numbered only.
    Clips without the text files can be used, but then nobody can say what is missing.
    """

    name = "hdtf"
    title = "HDTF"
    licence = "CC BY 4.0 (annotations), videos remain their owners'; github.com/MRzzm/HDTF"
    tree = """\
ROOT/
  HDTF_dataset/RD_annotion_time.txt  WDA_annotion_time.txt  WRA_annotion_time.txt   (or directly in ROOT)
  clips/WDA_AdamSchiff_000.mp4       (or AdamSchiff_0.mp4; any folder)
  clips/RD_Radio11_001.mp4"""
    groups = ("RD", "WDA", "WRA")
    clip = re.compile(r"(?:(RD|WDA|WRA)_)?(.+)_(\d+)")

    def recognises(self, root: Path) -> bool:
        named = any(re.match(r"(RD|WDA|WRA)_.+_\d+$", path.stem) for path in entries(root)[:50])
        return named or any(any(root.glob(f"{place}*_annotion_time.txt")) for place in ("", "HDTF_dataset/"))

    def scan(self, root: Path, found: Findings) -> Iterator[Item]:
        groups = self.listed(root, found)
        seen: set[tuple[str, int]] = set()
        for path in walk(root):
            if path.suffix.lower() not in VIDEOS:
                continue
            parts = self.clip.fullmatch(path.stem)
            if not parts:
                found.add("videos are not named <video>_<clip>", path.name)
                continue
            video, number = parts[2], int(parts[3])
            group = parts[1] or groups.get((video, number))
            seen.add((video, number))
            name = f"{group}_{video}_{number:03d}" if group else f"{video}_{number:03d}"
            identity = video if video.startswith("Radio") else video.rstrip("0123456789") or video
            yield Item(safe_name(name), "video", path, identity, audio=beside(path, SOUNDS) or path)
        if groups and (extra := seen - groups.keys()):
            found.notes.append(
                f"{len(extra)} clips are not in the text files, first: {'_'.join(map(str, min(extra)))}"
            )
        for video, number in groups.keys() - seen:
            found.add("clips of the text files are missing", f"{groups[video, number]}_{video}_{number:03d}")

    def listed(self, root: Path, found: Findings) -> dict[tuple[str, int], str]:
        """Group of every (video, clip number) that the text files ask for."""
        clips = {}
        for group in self.groups:
            names = [root / folder / f"{group}_annotion_time.txt" for folder in ("HDTF_dataset", ".")]
            text = next((name for name in names if name.is_file()), None)
            if text is None:
                found.add("text files are missing, so that missing clips cannot be told", names[0].name)
                continue
            for video, *spans in read_lines(text):
                clips.update({(Path(video).stem, number): group for number in range(len(spans))})
        return clips


class VFHQ(Layout):
    """VFHQ: clips ``Clip+<youtube id>+P<person>+C<clip>+F<start>-<end>`` as folders of frames or videos, in any folder.

    Meta files of the same stem (.txt), where they are there, say which clips there should be; the published test set has none.
    The identity is source video and person. A folder below ``train`` or ``test`` makes the split. The test set's archive holds
    each clip sharp and degraded under one name: give the folder of the sharp ones. Unverified (the set is not here): that
    archive's inner folders.
    """

    name = "vfhq"
    title = "VFHQ"
    licence = "research use, videos remain their owners'; liangbinxie.github.io/projects/vfhq"
    tree = """\
ROOT/
  meta_info/Clip+-4VmAlhNPhc+P0+C0+F1537-1825.txt       (training set; any folder)
  clips/Clip+-4VmAlhNPhc+P0+C0+F1537-1825/00000000.png  (or Clip+....mp4; any folder)"""
    pattern = re.compile(r"Clip\+(.+)\+P(\d+)\+C(\d+)\+F(\d+)-(\d+)")

    def recognises(self, root: Path) -> bool:
        return any(root.glob("Clip+*")) or any(root.glob("*/Clip+*"))

    def scan(self, root: Path, found: Findings) -> Iterator[Item]:
        wanted: set[str] = set()
        seen: set[str] = set()
        for path in walk(root, lambda folder: folder.name.startswith("Clip+")):
            frames = path.is_dir()
            stem = path.name if frames else path.stem
            parts = self.pattern.fullmatch(stem)
            if path.suffix == ".txt" and parts and not frames:
                wanted.add(stem)
            elif frames or path.suffix.lower() in VIDEOS:
                if not parts:
                    found.add("clips are not named Clip+<youtube id>+P<n>+C<n>+F<n>-<n>", path.name)
                elif frames and not has_picture(path):
                    found.add("folders have no frames", path.name)
                else:
                    seen.add(stem)
                    yield self.item(root, path, parts)
        if not wanted:
            found.notes.append("no meta files, so that missing clips cannot be told")
        for stem in wanted - seen:
            found.add("clips of the meta files are missing", stem)

    def item(self, root: Path, path: Path, parts: re.Match[str]) -> Item:
        above = [part.lower() for part in path.relative_to(root).parts[:-1]]
        split = next((split for split in ("train", "test", "val") if split in above), "")
        kind: Kind = "frames" if path.is_dir() else "video"
        sound = None if path.is_dir() else path
        return Item(safe_name(parts[0]), kind, path, f"{parts[1]}+P{parts[2]}", split, audio=sound)


class Clips(Layout):
    """Any folder of video files, with folders below it; the person is the file's stem: files of one stem show one person."""

    name = "clips"
    title = "a folder of video clips"
    licence = "your own videos; mind the consent of the people in them"
    tree = """\
ROOT/
  anna.mp4
  anna.wav                           (where the sound is not in the video)
  friends/ben.mov"""

    def recognises(self, root: Path) -> bool:
        return any(path.suffix.lower() in VIDEOS for path in entries(root))

    def scan(self, root: Path, found: Findings) -> Iterator[Item]:
        for path in walk(root):
            if path.suffix.lower() in VIDEOS:
                name = safe_name(path.relative_to(root).with_suffix("").as_posix())
                yield Item(name, "video", path, path.stem, audio=beside(path, SOUNDS) or path)
