"""Where live pictures come from: a camera, a video file, a folder of frames."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from avatarzoo.data.video_source import FOLDER_FPS, load_picture, numbered_pictures, probe, read_frames
from avatarzoo.errors import BadVideoError

CAMERA_FPS = 30.0
"""Where a camera does not say."""


class SourceLost(Exception):
    """No picture came, for now: a camera was unplugged or fell asleep."""


class Source(Protocol):
    """A stream of uint8 RGB pictures ``(H, W, 3)``, whose size may change.

    Attributes:
        name: for messages. fps: nominal rate. paced: pictures come at their own time, whether someone reads or not.
    """

    name: str
    fps: float
    paced: bool

    def read(self) -> np.ndarray | None:
        """The next picture, ``None`` after the last.

        Raises:
            SourceLost: none came; :meth:`reopen` may help.
        """

    def reopen(self) -> None:
        """Try to get pictures again.

        Raises:
            SourceLost: not yet.
        """

    def close(self) -> None: ...


class CameraSource:
    """A camera of this machine, through OpenCV.

    Raises:
        BadVideoError: it cannot be opened.
    """

    paced = True

    def __init__(self, index: int) -> None:
        self.index, self.name = index, f"camera {index}"
        self.capture = cv2.VideoCapture(index)
        if not self.capture.isOpened():
            raise BadVideoError(
                f"Camera {index} cannot be opened; connect it, close programs that use it, or give another number or a video."
            )
        self.fps = self.capture.get(cv2.CAP_PROP_FPS) or CAMERA_FPS

    def read(self) -> np.ndarray | None:
        good, picture = self.capture.read()
        if not good:
            raise SourceLost
        return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)

    def reopen(self) -> None:
        self.capture.release()
        self.capture = cv2.VideoCapture(self.index)
        if not self.capture.isOpened():
            raise SourceLost

    def close(self) -> None:
        self.capture.release()


class FileSource:
    """A video file, read like a camera.

    Args:
        loop: begin again at the end, for ever.

    Raises:
        BadVideoError: it cannot be read.
    """

    paced = False

    def __init__(self, path: Path, loop: bool = False) -> None:
        self.path, self.name, self.loop = path, path.name, loop
        self.fps = probe(path).fps
        self.reader = read_frames(path)

    def read(self) -> np.ndarray | None:
        picture = next(self.reader, None)
        if picture is None and self.loop:
            self.reader.close()
            self.reader = read_frames(self.path)
            picture = next(self.reader, None)
        return picture

    def reopen(self) -> None:
        raise SourceLost

    def close(self) -> None:
        self.reader.close()


class FolderSource:
    """The numbered pictures of a folder, read like a camera; sizes may differ, unreadable ones are left out.

    Raises:
        BadVideoError: there is none.
    """

    paced, fps = False, FOLDER_FPS

    def __init__(self, folder: Path, loop: bool = False) -> None:
        self.name, self.loop, self.paths = folder.name, loop, numbered_pictures(folder)
        load_picture(self.paths[0])
        self.pictures = self._pictures()

    def _pictures(self) -> Iterator[np.ndarray]:
        while True:
            for path in self.paths:
                try:
                    yield load_picture(path)
                except BadVideoError:
                    continue
            if not self.loop:
                return

    def read(self) -> np.ndarray | None:
        return next(self.pictures, None)

    def reopen(self) -> None:
        raise SourceLost

    def close(self) -> None:
        pass


def open_source(text: str, loop: bool = False) -> Source:
    """A camera's number, a video file or a folder of frames.

    Raises:
        BadVideoError: it cannot be opened or read.
    """
    if text.isdecimal() and not Path(text).exists():
        return CameraSource(int(text))
    path = Path(text)
    return FolderSource(path, loop) if path.is_dir() else FileSource(path, loop)
