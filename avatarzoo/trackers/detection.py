"""Landmarks of every frame of a video: chunk by chunk, on two threads, each finished chunk kept on disk.

FaceMesh tracks from frame to frame, so a result depends on where tracking began. Every chunk therefore starts afresh, a few
frames early (after eight frames the memory of the start is below 0.05 px), and a run that was killed continues at
the first missing chunk with the very same numbers.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from avatarzoo.data.video import VideoSource, read_frames
from avatarzoo.errors import NoFaceError
from avatarzoo.files import atomic_path
from avatarzoo.perception.landmarks import (
    N_LANDMARKS,
    FaceDetector,
    FaceLandmarker,
    face_height,
    quiet_stderr,
)

Person = Literal["only", "largest"]
CHUNK, WARM_UP = 120, 8
LONGEST_SIDE = 1280
"""Pictures are shrunk to this for detection; FaceMesh sees a face at 192 pixels anyway."""
LOOK_AROUND = 12
"""Every so many frames the whole picture is searched for other people."""
OTHER_FACE = 0.35
"""A face narrower than this share of the main one is no second person (a photograph on the wall)."""
MOST_FACES = 4
WORKERS = 2


class Detections(NamedTuple):
    """Landmarks of a clip.

    Attributes:
        landmarks: ``(T, 478, 2)`` float32 source pixels, NaN where no face was found.
        others: how many looks around found another person.
        unreadable: source frames that the file promises and does not hold.
    """

    landmarks: np.ndarray
    others: int
    unreadable: int


def detect_clip(
    video: VideoSource, folder: Path, person: Person = "only", total: int | None = None, progress: bool = True
) -> Detections:
    """Landmarks of the one person in a video.

    Args:
        folder: where finished chunks are kept.
        person: ``"only"`` refuses a second person, ``"largest"`` follows the largest face.

    Raises:
        BadVideoError: unreadable. OutputError: ``folder`` cannot be written. NoFaceError: see :func:`check_faces`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done = {int(path.stem) for path in folder.glob("[0-9]*.npz")}
    networks = Networks(person)
    pending: dict[int, Future] = {}
    with contextlib.ExitStack() as stack:
        stack.enter_context(quiet_stderr())
        reader = stack.enter_context(read_frames(video))
        bar = stack.enter_context(tqdm(total=total, desc="landmarks", unit="frame", disable=not progress))
        stack.enter_context(networks)
        pool = stack.enter_context(ThreadPoolExecutor(WORKERS))
        count = 0
        for number, start, pictures, scale in chunks(reader):
            new = len(pictures) - start
            count += new
            if number not in done:
                file = folder / f"{number:06d}.npz"
                pending[number] = pool.submit(networks.run, pictures, start, number * CHUNK, scale, file)
            while len(pending) > WORKERS:
                pending.pop(min(pending)).result()
            bar.update(new)
        for future in pending.values():
            future.result()
        unreadable = reader.lost
    parts = [np.load(path) for path in sorted(folder.glob("[0-9]*.npz"))]
    landmarks = np.concatenate([part["landmarks"] for part in parts])[:count]
    return Detections(landmarks, int(sum(part["others"] for part in parts)), unreadable)


def chunks(reader: Iterable[np.ndarray]) -> Iterator[tuple[int, int, list[np.ndarray], float]]:
    """``(chunk number, index of its first new frame, pictures, source pixels per picture pixel)``."""
    pictures: list[np.ndarray] = []
    number, start, scale = 0, 0, 1.0
    for picture in reader:
        scale = max(1.0, max(picture.shape[:2]) / LONGEST_SIDE)
        if scale > 1:
            picture = cv2.resize(picture, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA)
        pictures.append(picture)
        if len(pictures) - start == CHUNK:
            yield number, start, pictures, scale
            pictures = pictures[-WARM_UP:]
            number, start = number + 1, WARM_UP
    if len(pictures) > start:
        yield number, start, pictures, scale


class Networks:
    """One landmarker and one detector per thread, made when needed."""

    def __init__(self, person: Person) -> None:
        self.person = person
        self.all: list[tuple[FaceLandmarker, FaceDetector]] = []
        self.local = threading.local()

    def __enter__(self) -> Networks:
        return self

    def __exit__(self, *_: object) -> None:
        for landmarker, detector in self.all:
            landmarker.close()
            detector.close()

    def run(self, pictures: list[np.ndarray], start: int, first: int, scale: float, file: Path) -> None:
        """Detect one chunk and store it; ``first`` is the frame number of ``pictures[start]``."""
        if not hasattr(self.local, "pair"):
            self.local.pair = (
                FaceLandmarker(max_faces=1 if self.person == "only" else MOST_FACES),
                FaceDetector(),
            )
            self.all.append(self.local.pair)
        landmarker, detector = self.local.pair
        rows = follow(landmarker, pictures)
        if np.isnan(rows[:, 0, 0]).mean() > 0.5:  # perhaps the face is too small for FaceMesh to start on
            window = far_window(detector, pictures)
            if window is not None:
                x, y, side = window
                rows = follow(landmarker, [p[y : y + side, x : x + side] for p in pictures]) + np.float32(
                    [x, y]
                )
        others = 0
        if self.person == "only":
            looks = [i for i in range(start, len(pictures)) if (first + i - start) % LOOK_AROUND == 0]
            others = sum(other_people(detector.detect(pictures[i]), rows[i]) for i in looks)
        with atomic_path(file) as temporary:
            np.savez(temporary, landmarks=rows[start:] * scale, others=others)


def follow(landmarker: FaceLandmarker, pictures: list[np.ndarray]) -> np.ndarray:
    """Landmarks ``(n, 478, 2)`` of one face through successive pictures, NaN where it is not seen."""
    landmarker.restart()
    rows = np.full((len(pictures), N_LANDMARKS, 2), np.nan, np.float32)
    face = None
    for i, picture in enumerate(pictures):
        face = choose(landmarker.detect(picture)[..., :2], face)
        if face is not None:
            rows[i] = face
    return rows


def far_window(detector: FaceDetector, pictures: list[np.ndarray]) -> tuple[int, int, int] | None:
    """Left, top and side of a square in which the largest face, found at a few times, is large enough for FaceMesh."""
    found = [detector.detect(picture) for picture in pictures[::LOOK_AROUND]]
    boxes = np.array([b[b[:, 2].argmax()] for b in found if len(b)])
    if len(boxes) == 0:
        return None
    low, high = boxes[:, :2].min(0), (boxes[:, :2] + boxes[:, 2:]).max(0)
    side = int((high - low).max() + 2 * boxes[:, 2].max())
    x, y = np.maximum((low + high - side) / 2, 0).astype(int)
    return int(x), int(y), side


def choose(faces: np.ndarray, previous: np.ndarray | None) -> np.ndarray | None:
    """The largest face of ``(n, 478, 2)``; the one where the face was before counts half as much again."""
    if len(faces) == 0:
        return None
    size = face_height(faces)
    if previous is not None:
        near = np.linalg.norm(faces.mean(1) - previous.mean(0), axis=1) < face_height(previous) / 2
        size = size * np.where(near, 1.5, 1.0)
    return faces[size.argmax()]


def other_people(boxes: np.ndarray, face: np.ndarray) -> bool:
    """Whether ``(n, 4)`` boxes (left, top, width, height) hold a face of a size to matter that is not ``face``."""
    if np.isnan(face).any():
        return len(boxes) > 1
    low, high = face.min(0), face.max(0)
    centres = boxes[:, :2] + boxes[:, 2:] / 2
    outside = ((centres < low) | (centres > high)).any(1)
    return bool((outside & (boxes[:, 2] > OTHER_FACE * (high - low)[0])).any())


def check_faces(found: Detections, video: VideoSource, least: int) -> None:
    """Refuse clips without one person to track.

    Raises:
        NoFaceError: no face, a face in fewer than ``least`` frames, or a second person (seen in two looks around, or in
            the only one).
    """
    frames = len(found.landmarks)
    seen = int(np.isfinite(found.landmarks[:, 0, 0]).sum())
    if seen == 0:
        raise NoFaceError(f"No face was found in {video}; use a video in which one face is well visible.")
    if found.others >= min(2, max(1, frames // LOOK_AROUND)):
        raise NoFaceError(
            f"{video} shows more than one face; crop it to one person, or follow the largest with --person largest."
        )
    if seen < least:
        raise NoFaceError(
            f"{video} shows a face in only {seen} of its {frames} frames, at least {least} are needed; use another video."
        )
