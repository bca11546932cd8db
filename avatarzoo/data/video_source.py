"""What can be read as a video: a file, a folder of numbered pictures, or a part of either.

A folder's frames are its pictures in the order of the last number in their names ("2.png" before "10.png"; all of one size, gaps
in the numbers are not filled), at :data:`FOLDER_FPS` frames a second.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np
from PIL import Image, ImageOps

from avatarzoo.data import video_reader
from avatarzoo.data.video_reader import VideoInfo
from avatarzoo.errors import BadVideoError
from avatarzoo.files import file_hash

FOLDER_FPS = 25.0
JPEG = b"\xff\xd8\xff"
"""How files begin that have no transparency."""
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


class VideoPart(NamedTuple):
    """Frames ``start`` up to, not including, ``stop`` (``None``: the end) of a video; they are numbered from 0."""

    path: Path
    start: int = 0
    stop: int | None = None

    @property
    def name(self) -> str:
        return self.path.name

    def __str__(self) -> str:
        whole = self.start == 0 and self.stop is None
        return str(self.path) if whole else f"{self.path} (frames {self.start} to {self.stop or 'the end'})"


VideoSource = str | Path | VideoPart


class Reader(Protocol):
    """Iterator over frames, uint8 RGB ``(H, W, 3)``; ``lost``: after the last, how many were unreadable."""

    fps: float

    @property
    def lost(self) -> int: ...
    def close(self) -> None: ...
    def __iter__(self) -> Iterator[np.ndarray]: ...
    def __next__(self) -> np.ndarray: ...
    def __enter__(self) -> Reader: ...
    def __exit__(self, *_: object) -> None: ...


def video_part(video: VideoSource) -> VideoPart:
    return video if isinstance(video, VideoPart) else VideoPart(Path(video))


def probe(video: VideoSource) -> VideoInfo:
    """Size, rate and number of frames.

    Raises:
        BadVideoError: missing, unreadable, or without a single picture (in the part).
    """
    path, start, stop = video_part(video)
    info = probe_folder(path) if path.is_dir() else video_reader.probe(path)
    if start == 0 and stop is None:
        return info
    frames = min(info.frames, info.frames if stop is None else stop) - start
    if frames < 1:
        raise BadVideoError(
            f"{path} has {info.frames} frames, none from number {start} on; use a longer video."
        )
    return info._replace(frames=frames, duration=frames / info.fps)


def read_frames(video: VideoSource, start: int = 0) -> Reader:
    """Frames of a video, uint8 RGB ``(H, W, 3)``, upright, constant rate, from output frame ``start`` on.

    Raises:
        BadVideoError: cannot be read or holds no picture.
    """
    path, first, stop = video_part(video)
    make = FolderReader if path.is_dir() else video_reader.FrameReader
    reader = make(path, first + start)
    return reader if stop is None else Until(reader, stop - first - start)


class Until:
    """The first ``count`` frames of a reader; what is damaged behind them does not count."""

    def __init__(self, reader: Reader, count: int) -> None:
        self.reader, self.fps = reader, reader.fps
        self.frames = itertools.islice(reader, max(0, count))

    def __iter__(self) -> Iterator[np.ndarray]:
        return self

    def __next__(self) -> np.ndarray:
        return next(self.frames)

    @property
    def lost(self) -> int:
        return 0

    def close(self) -> None:
        self.reader.close()

    def __enter__(self) -> Until:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class FolderReader:
    """Iterator over the pictures of a folder from number ``start`` on; an unreadable one repeats the frame before.

    Attributes:
        lost: unreadable pictures so far.
    """

    fps = FOLDER_FPS

    def __init__(self, folder: Path, start: int = 0) -> None:
        self.paths, self.lost = numbered_pictures(folder), 0
        self.frames = self._frames(start)

    def __iter__(self) -> Iterator[np.ndarray]:
        return self

    def __next__(self) -> np.ndarray:
        return next(self.frames)

    def close(self) -> None:
        self.frames.close()

    def __enter__(self) -> FolderReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _frames(self, start: int) -> Generator[np.ndarray, None, None]:
        last = None
        for number in range(start, len(self.paths)):
            path = self.paths[number]
            try:
                picture = load_picture(path)
            except BadVideoError:
                self.lost += 1
                if last is None:
                    raise
                picture = last
            if last is not None and picture.shape != last.shape:
                raise BadVideoError(
                    f"{path} is {picture.shape[1]} x {picture.shape[0]}, the pictures before it {last.shape[1]} x "
                    f"{last.shape[0]}; the frames of a folder must have one size."
                )
            last = picture
            yield picture


def probe_folder(folder: Path) -> VideoInfo:
    """A folder of frames as a video without sound."""
    paths = numbered_pictures(folder)
    height, width = load_picture(paths[0]).shape[:2]
    return VideoInfo(width, height, FOLDER_FPS, len(paths), len(paths) / FOLDER_FPS, 0, False)


def numbered_pictures(folder: Path) -> list[Path]:
    """Pictures whose names hold a number, in the order of the last one.

    Raises:
        BadVideoError: there is none, or two have the same number.
    """
    numbers: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        found = re.findall(r"\d+", path.stem)
        if path.suffix.lower() not in PICTURES or path.name.startswith(".") or not found:
            continue
        if (same := numbers.setdefault(int(found[-1]), path)) is not path:
            raise BadVideoError(f"{same} and {path.name} have the same number; leave one picture per frame.")
    if not numbers:
        raise BadVideoError(
            f"{folder} is a folder without numbered pictures; give a video file or a folder of frames (000000.png, ...)."
        )
    return [numbers[n] for n in sorted(numbers)]


def load_picture(path: Path) -> np.ndarray:
    """uint8 RGB ``(H, W, 3)``, upright (EXIF); what is transparent becomes white.

    Raises:
        BadVideoError: missing, or no picture.
    """
    if not path.is_file():
        raise BadVideoError(f"{path} does not exist; give the path of a picture.")
    data = np.fromfile(path, np.uint8)
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if len(data) else None
    if picture is None:
        raise BadVideoError(f"{path} cannot be read as a picture; copy it again or convert it to png.")
    return picture if data[:3].tobytes() == JPEG else without_transparency(path, picture)


def without_transparency(path: Path, opaque: np.ndarray) -> np.ndarray:
    """The picture over white if it has an alpha channel, else ``opaque``."""
    try:
        with Image.open(path) as image:
            if not image.has_transparency_data:
                return opaque
            colours = np.asarray(ImageOps.exif_transpose(image).convert("RGBA"), np.float32)
    except (OSError, ValueError, Image.DecompressionBombError):  # Pillow knows fewer files than OpenCV
        return opaque
    alpha = colours[..., 3:] / 255
    return (colours[..., :3] * alpha + 255 * (1 - alpha)).round().astype(np.uint8)


def content_hash(video: VideoSource) -> str:
    """sha256 of a file, or of all frames of a folder; a part adds its frame numbers."""
    path, start, stop = video_part(video)
    if path.is_dir():
        every = "".join(file_hash(picture) for picture in numbered_pictures(path))
        digest = hashlib.sha256(every.encode()).hexdigest()
    else:
        digest = file_hash(path)
    return digest if start == 0 and stop is None else f"{digest}[{start}:{'' if stop is None else stop}]"
