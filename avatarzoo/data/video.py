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

from avatarzoo.credentials import Credentials
from avatarzoo.data.video_reader import FrameReader, VideoInfo
from avatarzoo.data.video_source import VideoPart, VideoSource, probe, read_frames, video_part
from avatarzoo.errors import BadVideoError
from avatarzoo.files import atomic_path

__all__ = [
    "FrameReader", "VideoInfo", "VideoPart", "VideoSource", "picture_bytes", "probe", "read_frames", "side_by_side", "video_part",
    "write_picture", "write_video",
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
    credentials: Credentials | None = None,
) -> int:
    """Write a video in the format of :data:`FORMATS` that its name asks for (mp4 for any other); returns the number of frames.

    Args:
        frames: uint8 RGB ``(H, W, 3)`` of one size, RGBA ``(H, W, 4)`` for mov; odd sizes gain one repeated row or column.
        audio_from: file whose sound, from its beginning and no longer than the frames, goes along.
        crf: quality of H.264, lower is better.
        credentials: sign the video as made by an avatar, before it appears.

    Raises:
        OutputError: the file cannot be written. BadVideoError: no frames. CredentialsError: it cannot be signed.
    """
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        raise BadVideoError(f"No frames were given to write to {path}.")
    with atomic_path(path) as temporary:
        number = _encode(temporary, chain_first(first, iterator), first.shape, fps, audio_from, crf)
        if credentials is not None:
            credentials.embed(temporary, Path(path).name)
    return number


def _encode(
    path: Path,
    frames: Iterator[np.ndarray],
    shape: tuple[int, ...],
    fps: float,
    audio_from: str | Path | None,
    crf: int,
) -> int:
    kind = FORMATS.get(path.suffix.lower(), FORMATS[".mp4"])
    rate = Fraction(fps).limit_denominator(10**5)
    number = 0
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(
            av.open(str(path), "w", format=kind.container, options=kind.container_options)
        )
        options = kind.codec_options or {"crf": str(crf)}
        stream: Any = out.add_stream(kind.codec, rate=rate, options=options)
        stream.width, stream.height = shape[1] + shape[1] % 2, shape[0] + shape[0] % 2
        stream.pix_fmt = kind.pixels
        sound = AudioCopy(out, audio_from, stack) if audio_from is not None else None
        for picture in frames:
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


def write_picture(path: Path, rgb: np.ndarray, credentials: Credentials | None = None) -> Path:
    """Write uint8 ``(H, W, 3)`` as PNG; ``credentials`` sign it as made by an avatar, before it appears.

    Raises:
        OutputError: the file cannot be written. CredentialsError: it cannot be signed.
    """
    data = picture_bytes(rgb, path.name, credentials)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
    return path


def picture_bytes(rgb: np.ndarray, name: str, credentials: Credentials | None = None) -> bytes:
    """The same in memory, for a browser to save as ``name``."""
    good, data = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    assert good
    return data.tobytes() if credentials is None else credentials.embedded(data.tobytes(), name)


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
