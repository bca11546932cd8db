"""One face followed through a live picture stream, whoever else comes into view."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from avatarzoo.perception.landmarks import N_LANDMARKS, FaceDetector, FaceLandmarker, face_height
from avatarzoo.trackers.detection import LONGEST_SIDE, other_people

REACH = 0.7
"""Face heights by which the face may have moved since the last frame and still be the same one."""
SPEED = 0.6
"""Face heights a second by which that grows while the face is not seen."""
LOOK_SECONDS, SEARCH_SECONDS = 0.5, 0.2
"""How often the whole picture is searched: for other people, and for a face that is lost."""
LOOKS = 2
"""Looks in a row that must agree before the number of people changes."""
WINDOW = 3.0
"""Side of the window round a face that is searched for, in box widths."""
RIM = 0.05
"""Of the window: a face nearer to its edge moves the window."""


class Sighting(NamedTuple):
    """What one picture shows.

    Attributes:
        landmarks: ``(478, 2)`` float64 pixels of the picture; NaN where the face is not seen.
        size: height and width of the picture.
        people: 0, 1, or 2 for more than one.
        newcomer: from here on another face is followed than before.
    """

    landmarks: np.ndarray
    size: tuple[int, int]
    people: int
    newcomer: bool


class FaceFollower:
    """Follows one face; call it on every picture in turn.

    A face that appears too far from where the followed one was is a stranger's: for ``patience`` seconds the old place is searched,
    then the widest face in view is followed.

    Args:
        patience: seconds. landmarker, detector: other networks than MediaPipe's, for tests.
    """

    def __init__(
        self,
        patience: float = 2.0,
        landmarker: FaceLandmarker | None = None,
        detector: FaceDetector | None = None,
    ) -> None:
        self.patience = patience
        self.landmarker = landmarker or FaceLandmarker(max_faces=1)
        self.detector = detector or FaceDetector()
        self.size: tuple[int, int] | None = None
        self.begin()

    def begin(self) -> None:
        """Forget everybody: the next picture begins another film."""
        self.landmarker.restart()
        self.face: np.ndarray | None = None
        self.window: tuple[int, int, int] | None = None  # left, top, side; None: the whole picture
        self.seen = self.looked = self.searched = -np.inf
        self.people, self.doubts = 0, 0

    def __call__(self, picture: np.ndarray, time: float) -> Sighting:
        """``picture``: uint8 RGB ``(H, W, 3)``; ``time``: seconds."""
        size = picture.shape[:2]
        if size != self.size:
            if self.size is not None:
                self.begin()
            self.size = size
        face = self.admitted(self.read(picture), time)
        if face is None and time - self.searched >= SEARCH_SECONDS:
            self.searched = time
            face = self.search(picture, time)
        newcomer = False
        if face is not None:
            newcomer = self.is_newcomer(face, time)
            self.face, self.seen = face, time
            self.keep_in_window(face)
        self.look_around(picture, face, time)
        row = np.full((N_LANDMARKS, 2), np.nan) if face is None else face.astype(np.float64)
        return Sighting(row, size, self.people, newcomer)

    def read(self, picture: np.ndarray) -> np.ndarray | None:
        """Landmarks ``(478, 2)`` of the face in the window."""
        left, top, side = self.window or (0, 0, max(picture.shape[:2]))
        part, scale = shrunk(picture[top : top + side, left : left + side])
        faces = self.landmarker.detect(part)[..., :2]
        return faces[0] * scale + np.float32([left, top]) if len(faces) else None

    def admitted(self, face: np.ndarray | None, time: float) -> np.ndarray | None:
        """The face, unless it must be a stranger's."""
        if face is None or self.face is None or time - self.seen > self.patience:
            return face
        return face if self.apart(face.mean(0)) < REACH + SPEED * (time - self.seen) else None

    def is_newcomer(self, face: np.ndarray, time: float) -> bool:
        """A face in another place after the followed one was lost for long."""
        lost = self.face is not None and time - self.seen > self.patience
        return lost and bool(self.apart(face.mean(0)) > REACH)

    def apart(self, centres: np.ndarray) -> np.ndarray:
        """Distance ``(...)`` of points ``(..., 2)`` from the followed face, in its heights."""
        assert self.face is not None
        return np.linalg.norm(centres - self.face.mean(0), axis=-1) / face_height(self.face)

    def search(self, picture: np.ndarray, time: float) -> np.ndarray | None:
        """Look for the lost face in the whole picture, and read it in a window of its own."""
        small, scale = shrunk(picture)
        boxes = self.detector.detect(small) * scale
        centres = boxes[:, :2] + boxes[:, 2:] / 2
        if self.face is not None and time - self.seen <= self.patience:
            distance = self.apart(centres)
            chosen = np.flatnonzero(distance < REACH + SPEED * (time - self.seen))
            chosen = chosen[distance[chosen].argsort()]
        else:
            chosen = np.argsort(-boxes[:, 2])
        self.landmarker.restart()
        if len(chosen) == 0:
            self.window = None
            return None
        self.aim(centres[chosen[0]], WINDOW * boxes[chosen[0], 2])
        return self.admitted(self.read(picture), time)

    def aim(self, centre: np.ndarray, side: float) -> None:
        """Place the window inside the picture; the whole picture where it is no larger."""
        assert self.size is not None
        height, width = self.size
        side = int(side)
        if side >= max(height, width):
            self.window = None
            return
        left = int(np.clip(centre[0] - side / 2, 0, max(width - side, 0)))
        top = int(np.clip(centre[1] - side / 2, 0, max(height - side, 0)))
        self.window = (left, top, side)

    def keep_in_window(self, face: np.ndarray) -> None:
        """Move the window when the face comes near its edge."""
        if self.window is None:
            return
        assert self.size is not None
        low, high = face.min(0), face.max(0)
        start, side = np.array(self.window[:2]), self.window[2]
        stop = np.minimum(start + side, self.size[::-1])
        near = (low < start + RIM * side) & (start > 0) | (high > stop - RIM * side) & (
            stop < self.size[::-1]
        )
        if near.any():
            before = self.window
            self.aim((low + high) / 2, WINDOW * float((high - low).max()))
            if self.window != before:
                self.landmarker.restart()

    def look_around(self, picture: np.ndarray, face: np.ndarray | None, time: float) -> None:
        """Count the people now and then."""
        if face is None:
            self.people = 0
        if face is None or time - self.looked < LOOK_SECONDS:
            self.people = max(self.people, int(face is not None))
            return
        self.looked = time
        small, scale = shrunk(picture)
        found = 2 if other_people(self.detector.detect(small) * scale, face) else 1
        self.doubts = 0 if found == max(self.people, 1) else self.doubts + 1
        self.people = max(self.people, 1)
        if self.doubts >= LOOKS:
            self.people, self.doubts = found, 0

    def close(self) -> None:
        self.landmarker.close()
        self.detector.close()


def shrunk(picture: np.ndarray) -> tuple[np.ndarray, float]:
    """The picture at most :data:`LONGEST_SIDE` pixels wide or high, and how many of its pixels one of these is."""
    scale = max(1.0, max(picture.shape[:2]) / LONGEST_SIDE)
    if scale == 1.0:
        return picture, scale
    return cv2.resize(picture, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA), scale
