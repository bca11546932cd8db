"""Where live pictures go: a video file, a window, a virtual camera (the web page is in :mod:`.live_page`)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from avatarzoo.apps.live_loop import Channel, Closed
from avatarzoo.credentials import Credentials
from avatarzoo.data.video import write_video
from avatarzoo.errors import MissingExtraError, UsageError
from avatarzoo.optional import require

WINDOW_NAME = "avatarzoo live (q or Esc ends)"
QUEUE = 8
MOST_REPEATS = 3600
"""Frames: a gap longer than this in the pictures' times is cut short instead of filled."""


class VideoSink:
    """An mp4 file at a constant rate: a picture stays until the next one's time, so that what is held or dropped keeps its length.

    The file appears when it is closed. Pictures of another size than the first are fitted into it, with black bars.

    Args:
        fps: of the file. credentials: sign it as made by an avatar.
    """

    def __init__(self, path: Path, fps: float, credentials: Credentials | None = None) -> None:
        self.path, self.fps, self.credentials = path, fps, credentials
        self.pictures: Channel[tuple[np.ndarray, int]] = Channel(QUEUE)
        self.slot: int | None = None
        self.error: BaseException | None = None
        self.thread: threading.Thread | None = None

    def show(self, picture: np.ndarray, time: float) -> None:
        """Raises:
        OutputError: the file cannot be written.
        """
        if self.thread is None:
            self.thread = threading.Thread(target=self._write, name="video file", daemon=True)
            self.thread.start()
        slot = round(time * self.fps)
        step = 1 if self.slot is None else max(1, slot - self.slot)
        self.slot = slot if self.slot is None else self.slot + step
        try:
            self.pictures.put((picture, min(step, MOST_REPEATS)))
        except Closed:
            self.close()

    def _write(self) -> None:
        try:
            write_video(self.path, self._frames(), self.fps, credentials=self.credentials)
        except BaseException as error:
            self.error = error
        finally:
            self.pictures.stop()

    def _frames(self) -> Iterator[np.ndarray]:
        """Every slot's picture; the one before repeated over the slots between."""
        held = None
        while True:
            try:
                picture, slots = self.pictures.get()
            except Closed:
                return
            picture = picture if held is None else fitted(picture, held.shape[:2])
            for _ in range(slots - 1):
                yield held
            yield picture
            held = picture

    def close(self) -> None:
        """Finish the file.

        Raises:
            OutputError: it cannot be written.
        """
        self.pictures.end()
        if self.thread is not None:
            self.thread.join()
            self.thread = None
        if self.error is not None:
            error, self.error = self.error, None
            raise error


class WindowSink:
    """A window of OpenCV; q or Esc raises KeyboardInterrupt, as Ctrl-C does. To be used on the main thread.

    Raises:
        UsageError: this OpenCV was built without windows.
    """

    def __init__(self) -> None:
        try:
            cv2.namedWindow(WINDOW_NAME, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
        except cv2.error as error:
            raise UsageError(
                "This OpenCV is built without windows (headless); leave --window out and open the page that is served instead, "
                "or install opencv-python in place of opencv-python-headless."
            ) from error

    def show(self, picture: np.ndarray, time: float) -> None:
        cv2.imshow(WINDOW_NAME, picture[..., ::-1])
        if cv2.waitKey(1) & 0xFF in (ord("q"), 27):
            raise KeyboardInterrupt

    def close(self) -> None:
        cv2.destroyWindow(WINDOW_NAME)


class VirtualCameraSink:
    """A camera that other programs (video calls) can choose, through pyvirtualcam; it takes the size of the first picture.

    Raises:
        MissingExtraError: pyvirtualcam is not installed.
    """

    def __init__(self, fps: float) -> None:
        self.package = require("pyvirtualcam", extra="live")
        self.fps, self.camera = fps, None

    def show(self, picture: np.ndarray, time: float) -> None:
        """Raises:
        MissingExtraError: the system has no virtual-camera driver.
        """
        camera: Any = self.camera
        if camera is None:
            height, width = picture.shape[:2]
            try:
                camera = self.camera = self.package.Camera(width, height, self.fps)
            except RuntimeError as error:
                raise MissingExtraError(
                    f"No virtual camera could be made ({str(error).splitlines()[0]}); install its driver (Linux: v4l2loopback; "
                    "Windows and macOS: OBS)."
                ) from error
        camera.send(fitted(picture, (camera.height, camera.width)))

    def close(self) -> None:
        if self.camera is not None:
            self.camera.close()


def fitted(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The picture inside ``(height, width)``, its proportions kept, black round it."""
    if picture.shape[:2] == size:
        return np.ascontiguousarray(picture)
    height, width = size
    scale = min(height / picture.shape[0], width / picture.shape[1])
    inner = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    out = np.zeros((height, width, 3), np.uint8)
    top, left = (height - inner[1]) // 2, (width - inner[0]) // 2
    out[top : top + inner[1], left : left + inner[0]] = cv2.resize(picture, inner, interpolation=method)
    return out
