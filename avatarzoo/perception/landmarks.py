"""Facial landmarks: MediaPipe's 478 points (468 face mesh + 2 x 5 iris), and a cheap count of faces.

Convention: pixel coordinates with pixel centres at +0.5 (the networks' own normalised coordinates times the
picture size), z in the same pixel scale, smaller is nearer. "Left" and "right" are the subject's.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
import warnings
from types import ModuleType
from typing import Any, Literal

import numpy as np

from avatarzoo.errors import MissingAssetError

N_LANDMARKS = 478
# fmt: off
FACE_OVAL = (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152,
             148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109)
LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
RIGHT_EYE = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
LEFT_EYE = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
RIGHT_BROW = (70, 63, 105, 66, 107, 55, 65, 52, 53, 46)
LEFT_BROW = (300, 293, 334, 296, 336, 285, 295, 282, 283, 276)
NOSE = (168, 351, 429, 358, 279, 294, 327, 326, 2, 97, 98, 64, 49, 129, 209, 122)
# fmt: on
"""Closed outlines, in order, as indices into the 478 points."""
TOP, CHIN = 10, 152
"""The two points whose distance is the height of the face."""


def import_mediapipe() -> ModuleType:
    """MediaPipe, imported when first needed and without its warnings."""
    os.environ.setdefault("GLOG_minloglevel", "2")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    warnings.filterwarnings("ignore", message=".*SymbolDatabase.GetPrototype.*")
    with quiet_stderr():
        import mediapipe

    return mediapipe


class QuietStderr:
    """Silence what C++ libraries write to file descriptor 2, from whichever thread, while Python's own stderr stays heard.

    May be entered several times, also from several threads; the last one out restores everything.
    """

    def __init__(self) -> None:
        self.lock, self.depth = threading.Lock(), 0

    def __enter__(self) -> None:
        with self.lock:
            self.depth += 1
            if self.depth > 1:
                return
            self.python = sys.stderr
            self.python.flush()
            try:
                self.kept = os.dup(2)
            except OSError:  # the process has no stderr
                self.kept = -1
                return
            if has_descriptor_2(self.python):
                sys.stderr = os.fdopen(os.dup(self.kept), "w", buffering=1)
            sink = os.open(os.devnull, os.O_WRONLY)
            os.dup2(sink, 2)
            os.close(sink)

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.depth -= 1
            if self.depth or self.kept < 0:
                return
            os.dup2(self.kept, 2)
            os.close(self.kept)
            if sys.stderr is not self.python:
                sys.stderr.flush()
                sys.stderr = self.python


def has_descriptor_2(stream: Any) -> bool:
    try:
        return stream.fileno() == 2
    except (OSError, ValueError, AttributeError):
        return False


_quiet = QuietStderr()


def quiet_stderr() -> QuietStderr:
    """The process's one :class:`QuietStderr`, for ``with``."""
    return _quiet


class FaceLandmarker:
    """Finds faces and their 478 landmarks.

    In tracking mode (``static=False``) pictures must be successive frames of one video; the face detector then
    runs only while fewer than ``max_faces`` faces are tracked, so ``max_faces=1`` is the fast mode (280 against
    210 frames/s on one core).

    Args:
        api: ``"solutions"`` is FaceMesh from the MediaPipe wheel; ``"tasks"`` the newer face_landmarker.task
            asset; ``"auto"`` the first wherever the wheel carries it.
        max_faces: most faces returned.
        static: treat every picture on its own.

    Raises:
        MissingAssetError: the chosen API has no network file here.
    """

    def __init__(
        self, api: Literal["auto", "solutions", "tasks"] = "auto", max_faces: int = 2, static: bool = False
    ) -> None:
        mediapipe = import_mediapipe()
        if api == "auto":
            api = "solutions" if hasattr(mediapipe, "solutions") else "tasks"
        self.api, self.static, self.frame = api, static, 0
        with quiet_stderr():
            make = self._solutions if api == "solutions" else self._tasks
            self.build = functools.partial(make, mediapipe, max_faces, static)
            self.network = self.build()
            self.detect(
                np.zeros((64, 64, 3), np.uint8)
            )  # the networks report for duty on their first picture

    @staticmethod
    def _solutions(mediapipe: Any, max_faces: int, static: bool) -> Any:
        if not hasattr(mediapipe, "solutions"):
            raise MissingAssetError(
                "This MediaPipe wheel carries no FaceMesh; install mediapipe==0.10.14 or choose api='tasks'."
            )
        return mediapipe.solutions.face_mesh.FaceMesh(
            static_image_mode=static, max_num_faces=max_faces, refine_landmarks=True
        )

    @staticmethod
    def _tasks(mediapipe: Any, max_faces: int, static: bool) -> Any:
        from avatarzoo import assets

        vision = mediapipe.tasks.vision
        mode = vision.RunningMode.IMAGE if static else vision.RunningMode.VIDEO
        base = mediapipe.tasks.BaseOptions(model_asset_path=str(assets.find("face-landmarker")))
        return vision.FaceLandmarker.create_from_options(
            vision.FaceLandmarkerOptions(base_options=base, running_mode=mode, num_faces=max_faces)
        )

    def detect(self, picture: np.ndarray) -> np.ndarray:
        """uint8 RGB ``(H, W, 3)`` -> ``(faces, 478, 3)`` float32 pixels; zero faces is an empty array."""
        height, width = picture.shape[:2]
        picture = np.ascontiguousarray(picture)
        if self.api == "solutions":
            faces = [face.landmark for face in self.network.process(picture).multi_face_landmarks or ()]
        else:
            faces = self._detect_tasks(picture)
        points = np.array([[(p.x, p.y, p.z) for p in face] for face in faces], np.float32)
        return points.reshape(-1, N_LANDMARKS, 3) * np.float32([width, height, width])

    def _detect_tasks(self, picture: np.ndarray) -> list[Any]:
        mediapipe = import_mediapipe()
        image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=picture)
        if self.static:
            return self.network.detect(image).face_landmarks
        self.frame += 1  # timestamps must grow; their scale is irrelevant to the result
        return self.network.detect_for_video(image, 33 * self.frame).face_landmarks

    def restart(self) -> None:
        """Forget the faces tracked so far: the next picture begins another video."""
        if self.api == "solutions":
            self.network.reset()
        elif not self.static:
            self.network.close()
            with quiet_stderr():
                self.network = self.build()

    def close(self) -> None:
        self.network.close()

    def __enter__(self) -> FaceLandmarker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class FaceDetector:
    """MediaPipe's full-range face detector: also finds faces too small in the picture for FaceMesh to start on."""

    def __init__(self, confidence: float = 0.6) -> None:
        mediapipe = import_mediapipe()
        with quiet_stderr():
            self.network = mediapipe.solutions.face_detection.FaceDetection(
                model_selection=1, min_detection_confidence=confidence
            )
            self.detect(np.zeros((64, 64, 3), np.uint8))

    def detect(self, picture: np.ndarray) -> np.ndarray:
        """uint8 RGB ``(H, W, 3)`` -> boxes ``(faces, 4)`` as left, top, width, height in pixels."""
        height, width = picture.shape[:2]
        found = self.network.process(np.ascontiguousarray(picture)).detections or ()
        boxes = [d.location_data.relative_bounding_box for d in found]
        rows = np.array([(b.xmin, b.ymin, b.width, b.height) for b in boxes], np.float32).reshape(-1, 4)
        return rows * np.float32([width, height, width, height])

    def close(self) -> None:
        self.network.close()

    def __enter__(self) -> FaceDetector:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def face_height(landmarks: np.ndarray) -> np.ndarray:
    """Forehead to chin in the picture plane: ``(..., 478, 2 or 3)`` -> ``(...)`` pixels."""
    return np.linalg.norm(landmarks[..., TOP, :2] - landmarks[..., CHIN, :2], axis=-1)
