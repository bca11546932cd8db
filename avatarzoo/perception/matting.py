"""Person mattes: MediaPipe's selfie segmentation (256x256 inside), sharpened along the edges of the picture."""

from __future__ import annotations

import cv2
import numpy as np

from avatarzoo.perception.landmarks import import_mediapipe, quiet_stderr

RAMP = (0.35, 0.95)
"""Filtered values that become 0 and 1: the filter's halo would bring background into the head."""


class SelfieMatting:
    """Soft matte of the person in a picture; every picture on its own.

    Args:
        refine: follow the picture's edges by a guided filter (radius 1/128 of the height).
    """

    def __init__(self, refine: bool = True) -> None:
        self.refine = refine
        mediapipe = import_mediapipe()
        with quiet_stderr():
            self.network = mediapipe.solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)
            self(np.zeros((64, 64, 3), np.uint8))

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """uint8 RGB ``(H, W, 3)`` -> float32 ``(H, W)`` in [0, 1]."""
        matte = self.network.process(np.ascontiguousarray(picture)).segmentation_mask
        if not self.refine:
            return matte
        guide = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
        matte = guided_filter(guide, matte, max(2, round(picture.shape[0] / 128)))
        low, high = RAMP
        return np.clip((matte - low) / (high - low), 0, 1)

    def close(self) -> None:
        self.network.close()

    def __enter__(self) -> SelfieMatting:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def guided_filter(guide: np.ndarray, source: np.ndarray, radius: int, eps: float = 1e-3) -> np.ndarray:
    """Edge-aware smoothing (He, Sun and Tang 2010, algorithm 1): ``source`` as a local linear function of ``guide``.

    Args:
        guide, source: float32 ``(H, W)``; radius: pixels; eps: variance below which the guide counts as flat.
    """

    def mean(x: np.ndarray) -> np.ndarray:
        return cv2.blur(x, (2 * radius + 1, 2 * radius + 1))

    mean_guide, mean_source = mean(guide), mean(source)
    slope = (mean(guide * source) - mean_guide * mean_source) / (mean(guide * guide) - mean_guide**2 + eps)
    offset = mean_source - slope * mean_guide
    return mean(slope) * guide + mean(offset)
