"""The avatar's head in the driver's own picture: the way back through the crop, with the predicted alpha, feathered."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from avatarzoo.geometry.crop import Crop, square_crop
from avatarzoo.trackers.pipeline import head_crop

FEATHER = 1 / 64
"""Width of the soft edge, of the crop's side."""
MARGIN = 0.06
"""Of the crop's side: a face nearer to its edge moves the square that is drawn."""


class HeadSquare:
    """The square round the driver's head that is drawn anew: stands still until the face comes near its edge."""

    def __init__(self) -> None:
        self.square: Crop | None = None
        self.base: Crop | None = None

    def __call__(self, base: Crop, landmarks: np.ndarray, picture: tuple[int, int]) -> Crop:
        """The square in pixels of ``base``, the tracker's crop; ``landmarks (478, 2)`` in those of the picture."""
        if self.square is None or base is not self.base:
            self.square, self.base = unmoved(base.size), base
        if np.isfinite(landmarks).all():
            seen = self.square.points(base.points(torch.from_numpy(landmarks[None]).float()))[0]
            margin = MARGIN * base.size
            if float(seen.min()) < margin or float(seen.max()) > base.size - margin:
                self.square = between(base, head_crop(landmarks[None], picture, base.size))
        return self.square


def unmoved(size: int) -> Crop:
    """The crop that changes nothing."""
    return square_crop(torch.tensor([[size / 2, size / 2]]), torch.tensor([float(size)]), size)


def between(base: Crop, other: Crop) -> Crop:
    """Pixels of ``base`` to pixels of ``other``, both upright crops of one picture."""
    centre = other.inverse()[:, :, :2].sum(2) * other.size / 2 + other.inverse()[:, :, 2]
    scale = base.matrix[:, 0, 0]
    side = other.size / other.matrix[:, 0, 0]
    return square_crop(base.points(centre[None])[0], side * scale, other.size)


def chained(first: Crop, second: Crop) -> np.ndarray:
    """``(2, 3)``: picture pixels through ``first`` and then ``second``."""
    a, b = (torch.cat([c.matrix[0].double(), torch.tensor([[0.0, 0.0, 1.0]])]) for c in (first, second))
    return (b @ a)[:2].numpy()


def feathered(alpha: np.ndarray) -> np.ndarray:
    """``alpha (S, S)`` that falls off to zero inside its own edge and inside the picture's."""
    width = max(1, round(FEATHER * alpha.shape[0]))
    inner = alpha.copy()
    inner[[0, -1]] = inner[:, [0, -1]] = 0
    inner = cv2.erode(inner, np.ones((2 * width + 1,) * 2, np.uint8), borderValue=0)
    return np.minimum(cv2.GaussianBlur(inner, (0, 0), width / 2), alpha)


def head_colour(rgb: np.ndarray, alpha: np.ndarray, ground: float) -> np.ndarray:
    """The head's own colour where ``rgb (S, S, 3)`` is the head over a plain ``ground``, all in [0, 1]."""
    a = alpha[..., None]
    return np.clip((rgb - (1 - a) * ground) / np.maximum(a, 0.05), 0, 1)


def paste(picture: np.ndarray, head: np.ndarray, alpha: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The head laid over the picture.

    Args:
        picture: uint8 RGB ``(H, W, 3)``. head, alpha: float32 ``(S, S, 3)``, ``(S, S)`` in [0, 1].
        matrix: ``(2, 3)`` from picture pixels to those of the head's square, pixel centres at +0.5.
    """
    size = alpha.shape[0]
    back = cv2.invertAffineTransform(matrix)
    corners = np.array([[0, 0], [size, 0], [0, size], [size, size]]) @ back[:, :2].T + back[:, 2]
    limit = picture.shape[1::-1]
    low = np.clip(np.floor(corners.min(0)).astype(int), 0, limit)
    high = np.clip(np.ceil(corners.max(0)).astype(int), 0, limit)
    if (high <= low).any():
        return picture
    shifted = matrix.copy()
    # the part's own pixels, counted from its corner, with cv2's integer pixel centres on both sides
    shifted[:, 2] += matrix[:, :2] @ (low + 0.5) - 0.5
    layers = np.dstack([head * alpha[..., None], alpha])
    extent = (int(high[0] - low[0]), int(high[1] - low[1]))
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(layers, shifted, extent, flags=flags, borderValue=(0.0,) * 4)
    out = picture.copy()
    part = out[low[1] : high[1], low[0] : high[0]]
    part[:] = (part * (1 - warped[..., 3:]) + 255 * warped[..., :3]).round().clip(0, 255).astype(np.uint8)
    return out
