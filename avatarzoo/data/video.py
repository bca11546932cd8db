"""Videos in and out: reading (from ``video_source``) and writing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np

from avatarzoo.data.video_reader import FrameReader, VideoInfo
from avatarzoo.data.video_source import VideoPart, VideoSource, probe, read_frames, video_part
from avatarzoo.errors import BadVideoError
from avatarzoo.files import atomic_path

__all__ = [
    "FrameReader", "VideoInfo", "VideoPart", "VideoSource", "probe", "read_frames", "side_by_side", "video_part", "write_video",
]  # fmt: skip
COPIED_AUDIO = ("aac", "mp3")
"""Codecs that mp4 and mov files carry as they are; any other is transcoded to AAC."""


class Format(NamedTuple):
    """How a video is written: container and its options, codec and its options, pixels in the file, pixels of the frames."""

    container: str
    container_options: dict[str, str]
    codec: str
    codec_options: dict[str, str]
    pixels: str
    frames: str


FORMATS = {
    ".mp4": Format("mp4", {"movflags": "faststart"}, "libx264", {}, "yuv420p", "rgb24"),
    ".mov": Format("mov", {}, "prores_ks", {"profile": "4444"}, "yuva444p10le", "rgba"),
}
"""By file name: H.264 that plays everywhere; ProRes 4444, which keeps transparency and is large."""


def write_video(
    path: str | Path,
    frames: Iterable[np.ndarray],
    fps: float,
    audio_from: str | Path | None = None,
    crf: int = 18,
) -> int:
    """Write a video in the format of :data:`FORMATS` that its name asks for (mp4 for any other); returns the number of frames.

    Args:
        frames: uint8 RGB ``(H, W, 3)`` of one size, RGBA ``(H, W, 4)`` for mov; odd sizes gain one repeated row or column.
        audio_from: file whose sound, from its beginning and no longer than the frames, goes along.
        crf: quality of H.264, lower is better.

    Raises:
        OutputError: the file cannot be written. BadVideoError: no frames.
    """
    kind = FORMATS.get(Path(path).suffix.lower(), FORMATS[".mp4"])
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        raise BadVideoError(f"No frames were given to write to {path}.")
    rate = Fraction(fps).limit_denominator(10**5)
    height, width = first.shape[0] + first.shape[0] % 2, first.shape[1] + first.shape[1] % 2
    with atomic_path(path) as temporary, contextlib.ExitStack() as stack:
        out = stack.enter_context(
            av.open(str(temporary), "w", format=kind.container, options=kind.container_options)
        )
        options = kind.codec_options or {"crf": str(crf)}
        stream: Any = out.add_stream(kind.codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, kind.pixels
        sound = AudioCopy(out, audio_from, stack) if audio_from is not None else None
        number = 0
        for picture in chain_first(first, iterator):
            frame = av.VideoFrame.from_ndarray(even(picture), format=kind.frames)
            frame.pts, frame.time_base = number, 1 / rate
            out.mux(stream.encode(frame))
            number += 1
            if sound:
                sound.write_until(number / fps)
        out.mux(stream.encode(None))
        if sound:
            sound.finish()
    return number


def chain_first(first: np.ndarray, rest: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    yield first
    yield from rest


def even(picture: np.ndarray) -> np.ndarray:
    """Repeat the last row or column where a side is odd (4:2:0 needs even sides)."""
    height, width = picture.shape[:2]
    if height % 2 or width % 2:
        picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(picture)


class AudioCopy:
    """Carries the sound of one file into another, interleaved with the picture."""

    def __init__(self, out: Any, source: str | Path, stack: contextlib.ExitStack) -> None:
        self.out: Any = out
        self.stream: Any = None
        self.pending: Any = None
        self.items: Iterator[Any] = iter(())
        container = stack.enter_context(av.open(str(source)))
        if not container.streams.audio:
            return
        audio = container.streams.audio[0]
        if audio.codec_context.name.startswith(COPIED_AUDIO):
            self.stream, self.decode = out.add_stream_from_template(audio), False
            self.items = (p for p in container.demux(audio) if p.dts is not None)
        else:
            self.stream, self.decode = out.add_stream("aac", rate=min(audio.rate, 48000)), True
            self.items = container.decode(audio)

    def write_until(self, seconds: float) -> None:
        """Write all sound that starts before ``seconds``."""
        while self.stream is not None:
            item = self.pending if self.pending is not None else next(self.items, None)
            self.pending = item
            if item is None or float(item.pts * item.time_base) >= seconds:
                return
            self.pending = None
            if self.decode:
                self.out.mux(self.stream.encode(item))
            else:
                item.stream = self.stream
                self.out.mux(item)

    def finish(self) -> None:
        if self.stream is not None and self.decode:
            self.out.mux(self.stream.encode(None))


def side_by_side(*streams: Iterable[np.ndarray], height: int | None = None) -> Iterator[np.ndarray]:
    """Frames next to each other, scaled to one height (the first one's); ends with the shortest."""
    for pictures in zip(*streams):
        side = height or pictures[0].shape[0]
        yield np.concatenate([fit_height(p, side) for p in pictures], 1)


def fit_height(picture: np.ndarray, height: int) -> np.ndarray:
    if picture.shape[0] == height:
        return picture
    width = max(1, round(picture.shape[1] * height / picture.shape[0]))
    shrinking = height < picture.shape[0]
    return cv2.resize(
        picture, (width, height), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC
    )
