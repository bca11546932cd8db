"""Reading video files with PyAV (FFmpeg inside the wheel).

Convention: frames are uint8 RGB ``(H, W, 3)`` arrays, upright (the rotation flag is applied), at one rate.
A variable-rate file is resampled by its timestamps: source frame t goes to slot ``round((t - t0) * fps)``; an
empty slot repeats the frame before it, and of two frames in one slot the later wins. A jump of more than two
seconds in the timestamps is a cut and is not filled. A constant-rate file passes through frame by frame. High
dynamic range is not tone-mapped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from av.stream import Disposition

from avatarzoo.errors import BadVideoError

MAX_FPS = 240
CUT_SECONDS = 2.0
"""A longer jump of the timestamps is not filled."""


class VideoInfo(NamedTuple):
    """What a video file is, as :func:`read_frames` delivers it.

    Attributes:
        width, height: pixels of the upright picture.
        fps: constant rate of the delivered frames.
        frames: number of frames the file promises (an estimate where the container stores none).
        duration: seconds.
        rotation: counter-clockwise degrees (multiple of 90) that make the stored picture upright.
        has_audio: whether a sound track exists.
    """

    width: int
    height: int
    fps: float
    frames: int
    duration: float
    rotation: int
    has_audio: bool


def open_video(path: str | Path) -> Any:
    """An open PyAV container that holds at least one real video stream.

    Raises:
        BadVideoError: missing, empty, unreadable, audio-only or a still picture.
    """
    path = Path(path)
    if not path.exists():
        raise BadVideoError(f"{path} does not exist; give the path of a video file.")
    if path.is_dir():
        raise BadVideoError(f"{path} is a folder; give the path of a video file.")
    if path.stat().st_size == 0:
        raise BadVideoError(f"{path} is empty (0 bytes); copy the video again.")
    try:
        container = av.open(str(path), metadata_errors="ignore")
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadVideoError(
            f"{path} cannot be read as a video ({reason}); if it was cut off while copying, copy it again,"
            " otherwise convert it to mp4 first."
        ) from error
    problem = None
    if container.format.name == "image2" or container.format.name.endswith("_pipe"):
        problem = "is a still picture; this command needs a video."
    elif not real_streams(container):
        kind = "holds only sound" if container.streams.audio else "holds no video stream"
        problem = f"{kind}; give a file with a picture."
    if problem:
        container.close()
        raise BadVideoError(f"{path} {problem}")
    return container


def real_streams(container: Any) -> list[Any]:
    """Video streams that are not a cover picture of a sound file."""
    return [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]


def constant_rate(stream: Any) -> Fraction:
    """Nominal rate if the measured one is within 2 %, else the measured one; 25 where none is known."""
    average, nominal = stream.average_rate, stream.base_rate
    if nominal and average and abs(nominal / average - 1) < 0.02:
        average = nominal
    average = average or nominal or Fraction(25)
    return min(max(average, Fraction(1)), Fraction(MAX_FPS))


def probe(path: str | Path) -> VideoInfo:
    """Read a file's header and first frame.

    Raises:
        BadVideoError: as :func:`open_video`, or when not even one frame can be decoded.
    """
    with open_video(path) as container:
        stream = real_streams(container)[0]
        first = next(decoded_frames(container, stream, LossCount()), None)
        if first is None:
            raise BadVideoError(f"{path} holds no readable picture; copy the video again.")
        fps = constant_rate(stream)
        if stream.duration is not None:
            duration = float(stream.duration * stream.time_base)
        elif container.duration is not None:
            duration = container.duration / av.time_base
        else:
            duration = stream.frames / float(fps)
        rotation = quarter_turns(first) * 90
        width, height = (first.height, first.width) if rotation % 180 else (first.width, first.height)
        frames = stream.frames or max(1, round(duration * fps))
        if stream.frames and duration and abs(frames / (duration * float(fps)) - 1) > 0.02:
            frames = max(1, round(duration * fps))
        return VideoInfo(
            width,
            height,
            float(fps),
            frames,
            duration or frames / float(fps),
            rotation,
            bool(container.streams.audio),
        )


class LossCount:
    """Source frames that the file promises and that could not be read."""

    def __init__(self) -> None:
        self.packets = self.decoded = self.errors = 0

    def lost(self, promised: int) -> int:
        """Counted only where something is damaged: a whole file may show less than it promises."""
        damaged = self.errors > 0 or self.packets < promised
        return max(0, promised - self.decoded) if damaged else 0


def decoded_frames(container: Any, stream: Any, count: LossCount) -> Iterator[Any]:
    """Readable frames in display order; what is damaged is left out and counted."""
    stream.thread_type = "AUTO"
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except (av.FFmpegError, OSError):
            return
        if packet is None:
            return
        count.packets += packet.size > 0
        try:
            for frame in packet.decode():
                if frame.is_corrupt:
                    count.errors += 1
                else:
                    count.decoded += 1
                    yield frame
        except av.FFmpegError:
            count.errors += 1


def quarter_turns(frame: Any) -> int:
    """Counter-clockwise quarter turns that make a decoded frame upright (0 to 3)."""
    return round(frame.rotation / 90) % 4


def upright(frame: Any) -> np.ndarray:
    """Decoded frame -> contiguous uint8 RGB ``(H, W, 3)``."""
    picture = frame.to_ndarray(format="rgb24")
    turns = quarter_turns(frame)
    return np.ascontiguousarray(np.rot90(picture, turns)) if turns else picture


class FrameReader:
    """Iterator over the frames of a video from output frame ``start`` on.

    Frames before ``start`` are decoded, not converted, so frame numbers never depend on where reading begins.

    Attributes:
        fps: constant output rate.
        lost: after the last frame, how many promised source frames were unreadable.
    """

    def __init__(self, path: str | Path, start: int = 0) -> None:
        self.path, self.start = Path(path), start
        self.container = open_video(path)
        self.stream = real_streams(self.container)[0]
        self.fps = float(constant_rate(self.stream))
        self.promised = self.stream.frames
        self.count = LossCount()
        self.frames = self._frames()

    def __iter__(self) -> Iterator[np.ndarray]:
        return self

    def __next__(self) -> np.ndarray:
        return next(self.frames)

    @property
    def lost(self) -> int:
        return self.count.lost(self.promised)

    def close(self) -> None:
        self.container.close()

    def __enter__(self) -> FrameReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _frames(self) -> Iterator[np.ndarray]:
        held, slot = None, 0
        source = decoded_frames(self.container, self.stream, self.count)
        for frame, new in zip_slots(source, self.fps):
            if held is not None:
                yield from self._repeat(held, slot, new)
            held, slot = frame, new
        if held is None:
            raise BadVideoError(f"{self.path} holds no readable picture; copy the video again.")
        yield from self._repeat(held, slot, slot + 1)

    def _repeat(self, frame: Any, first: int, stop: int) -> Iterator[np.ndarray]:
        first = max(first, self.start)
        if first < stop:
            picture = upright(frame)
            for _ in range(first, stop):
                yield picture


def zip_slots(frames: Iterable[Any], fps: float) -> Iterator[tuple[Any, int]]:
    """``(frame, output slot)`` with slots that never decrease; see the module's convention."""
    shift, last = None, -1
    for frame in frames:
        if frame.time is None:
            slot = last + 1
        else:
            shift = frame.time * fps if shift is None else shift
            slot = round(frame.time * fps - shift)
        if slot < last or slot - last > CUT_SECONDS * fps + 1:
            shift = (shift or 0.0) + slot - (last + 1)
            slot = last + 1
        last = slot
        yield frame, slot
