"""Pictures and videos of what the viewer shows, as files for the browser to keep."""

from __future__ import annotations

import contextlib
import queue
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import cv2

from avatarzoo.apps.view_stage import Picture, padded
from avatarzoo.credentials import Credentials
from avatarzoo.data.video import fit_height, write_video

FPS = 25.0
"""Of recordings."""
LONGEST = 120.0
"""Seconds of a recording."""
WAITING = 50
"""Pictures that may wait for the encoder before drawing waits for it."""


def file_name(names: Iterable[str], suffix: str, signed: bool) -> str:
    """``name-and-name-20260131-235959.png``; a file without content credentials says so in its name."""
    joined = "-and-".join("".join(c if c.isalnum() or c in "_." else "-" for c in n) for n in names)
    left_out = "" if signed else "-no-credentials"
    return f"{joined[:80] or 'avatar'}-{time.strftime('%Y%m%d-%H%M%S')}{left_out}{suffix}"


def video(
    frames: Iterable[Picture],
    fps: float,
    name: str,
    credentials: Credentials | None,
    sound: Path | None = None,
) -> bytes:
    """An mp4 in memory, with the sound of another file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write_video(path, frames, fps, sound, credentials=credentials)
        return path.read_bytes()


def fitted(picture: Picture, size: tuple[int, int]) -> Picture:
    """As large as the first picture of a video (height, width), its own shape kept."""
    if picture.shape[:2] == size:
        return picture
    height, width = size
    small = fit_height(picture, min(height, max(1, picture.shape[0] * width // picture.shape[1])))
    whole = padded(small, width / height, int(picture[0, 0].mean()))
    return cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)


class Recording:
    """What is shown, as it was shown, at a constant rate; encoded beside.

    Args:
        name: of the file. credentials: that sign it.
        clock: seconds. longest: the recording ends by itself after so many.
    """

    def __init__(
        self,
        name: str,
        credentials: Credentials | None = None,
        clock: Callable[[], float] = time.perf_counter,
        fps: float = FPS,
        longest: float = LONGEST,
    ) -> None:
        self.name, self.credentials = name, credentials
        self.clock, self.fps, self.longest = clock, fps, longest
        self.begun, self.count = clock(), 0
        self.last: Picture | None = None
        self.waiting: queue.Queue[Picture | None] = queue.Queue(WAITING)
        self.lock, self.abandoned = threading.Lock(), False
        self.made: bytes | Exception = b""
        self.thread = threading.Thread(target=self.encode, name="record", daemon=True)
        self.thread.start()

    @property
    def full(self) -> bool:
        return self.clock() - self.begun > self.longest

    def add(self, picture: Picture) -> None:
        """This is shown from now on."""
        with self.lock:
            self.fill()
            self.last = picture

    def fill(self) -> None:
        """What was shown until now, once for each frame that is due."""
        due = int(min(self.clock() - self.begun, self.longest) * self.fps)
        while self.last is not None and self.count < due and self.thread.is_alive():
            with contextlib.suppress(queue.Full):  # the encoder is slow or has failed
                self.waiting.put(self.last, timeout=1.0)
                self.count += 1

    def frames(self) -> Iterator[Picture]:
        size = None
        while not self.abandoned:
            with contextlib.suppress(queue.Empty):
                picture = self.waiting.get(timeout=1.0)
                if picture is None:
                    return
                size = size or picture.shape[:2]
                yield fitted(picture, size)

    def encode(self) -> None:
        try:
            self.made = video(self.frames(), self.fps, self.name, self.credentials)
        except Exception as error:  # told by finish
            self.made = error

    def finish(self) -> bytes:
        """The mp4.

        Raises:
            AvatarZooError: nothing was shown, or the disk is full.
        """
        with self.lock:
            self.fill()
            if self.last is not None and not self.count and self.thread.is_alive():
                self.waiting.put(self.last)
        while self.thread.is_alive():
            with contextlib.suppress(queue.Full):
                self.waiting.put(None, timeout=1.0)
                self.thread.join()
        if isinstance(self.made, Exception):
            raise self.made
        return self.made

    def abandon(self) -> None:
        """Nobody wants it any more; the encoder ends soon."""
        self.abandoned = True
