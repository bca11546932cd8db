"""Landmarks of pictures that are scored: every picture on its own, each looked at once however many metrics ask.

Convention: pixels as in :mod:`avatarzoo.perception.landmarks`. Of several faces the largest (forehead to chin) counts.
"""

from __future__ import annotations

import functools
import hashlib
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from avatarzoo.perception.landmarks import N_LANDMARKS, FaceDetector, FaceLandmarker, face_height

MOST_FACES = 4
WORKERS = 2
"""A MediaPipe graph is serial; two of them read 512 x 512 pictures 1.5 times as fast as one on two cores."""
WINDOW = 3.0
"""Side of the second look, in widths of the detector's box."""
REMEMBERED = 8192
"""Pictures whose landmarks are kept: 6 KB each."""


class FaceReader:
    """Landmarks of the largest face in each picture.

    FaceMesh starts on faces from about a seventh of the picture's side; where it finds none, the full-range detector looks (down
    to about a twelfth), and FaceMesh looks again around what that finds. The networks are made when the first picture comes.

    Results are remembered by the pixels (8 bits a channel), so metrics that share a reader, and methods scored
    against the same reference, look once. A copy of a metric keeps the same reader.

    Args:
        remember: pictures whose landmarks are kept, the least recently used go first.
    """

    def __init__(self, remember: int = REMEMBERED) -> None:
        self.remember = remember
        self.looks = 0
        self._known: OrderedDict[bytes, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()
        self._local = threading.local()
        self._made: list[tuple[FaceLandmarker, FaceDetector]] = []
        self._pool: ThreadPoolExecutor | None = None

    def __call__(self, pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 478 3"]:
        """RGB in [0, 1] -> pixels, on the pictures' device; rows of NaN where no face is found or a pixel is not finite."""
        finite = torch.isfinite(pictures.detach().flatten(1).sum(1)).tolist()
        frames = to_uint8(pictures)
        keys = [picture_key(frame) for frame in frames]
        todo = {k: frame for k, frame, fine in zip(keys, frames, finite) if fine and k not in self._known}
        if todo:
            self._pool = self._pool or ThreadPoolExecutor(WORKERS, thread_name_prefix="faces")
            self.looks += len(todo)
            found = dict(zip(todo, self._pool.map(self._look, todo.values())))
        else:
            found = {}
        nothing = np.full((N_LANDMARKS, 3), np.nan, np.float32)
        rows = [self._recall(k, found) if fine else nothing for k, fine in zip(keys, finite)]
        self._keep(found)
        return torch.from_numpy(np.stack(rows) if rows else np.zeros((0, N_LANDMARKS, 3), np.float32)).to(
            pictures.device
        )

    def _recall(self, key: bytes, found: dict[bytes, np.ndarray]) -> np.ndarray:
        if key in found:
            return found[key]
        self._known.move_to_end(key)
        return self._known[key]

    def _keep(self, found: dict[bytes, np.ndarray]) -> None:
        self._known.update(found)
        while len(self._known) > self.remember:
            self._known.popitem(last=False)

    def _look(self, frame: np.ndarray) -> np.ndarray:
        landmarker, detector = self._networks()
        return find_face(frame, landmarker, detector)

    def _networks(self) -> tuple[FaceLandmarker, FaceDetector]:
        """This thread's networks."""
        if not hasattr(self._local, "pair"):
            with self._lock:
                self._local.pair = (FaceLandmarker(max_faces=MOST_FACES, static=True), FaceDetector())
                self._made.append(self._local.pair)
        return self._local.pair

    def close(self) -> None:
        """Free the networks; what is remembered stays, and the next new picture makes them again."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        for network in (network for pair in self._made for network in pair):
            network.close()
        self._made.clear()
        self._local = threading.local()

    def __enter__(self) -> FaceReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __deepcopy__(self, memo: dict[int, Any]) -> FaceReader:
        return self


@functools.cache
def shared_reader() -> FaceReader:
    """The reader of all metrics that are given none."""
    return FaceReader()


def found_faces(landmarks: Float[Tensor, "b 478 3"]) -> Bool[Tensor, "b"]:
    """Which pictures a :class:`FaceReader` found a face in."""
    return torch.isfinite(landmarks).flatten(1).all(1)


def to_uint8(pictures: Float[Tensor, "b 3 h w"]) -> UInt8[np.ndarray, "b h w 3"]:
    """[0, 1] -> 0 to 255, rounded; what a pixel that is not finite becomes is undefined."""
    values = pictures.detach().mul(255).round_().clamp_(0, 255).byte()
    return values.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def picture_key(frame: UInt8[np.ndarray, "h w 3"]) -> bytes:
    return str(frame.shape).encode() + hashlib.sha256(frame.tobytes()).digest()


def find_face(
    frame: UInt8[np.ndarray, "h w 3"], landmarker: FaceLandmarker, detector: FaceDetector
) -> Float[np.ndarray, "478 3"]:
    """Landmarks of the largest face, NaN where there is none."""
    faces = landmarker.detect(frame)
    if len(faces) == 0 and len(boxes := detector.detect(frame)):
        x, y, side = window(boxes[boxes[:, 2].argmax()])
        faces = landmarker.detect(frame[y : y + side, x : x + side]) + np.array([x, y, 0], np.float32)
    if len(faces) == 0:
        return np.full((N_LANDMARKS, 3), np.nan, np.float32)
    return faces[face_height(faces).argmax()]


def window(box: np.ndarray) -> tuple[int, int, int]:
    """Left, top and side of the square round a box (left, top, width, height) in which FaceMesh sees the face."""
    side = max(1, round(WINDOW * float(box[2])))
    x, y = (max(0, int(v)) for v in box[:2] + box[2:] / 2 - side / 2)
    return x, y, side
