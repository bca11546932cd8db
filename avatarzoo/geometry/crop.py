"""Square crops of pictures: boxes from landmarks, and what they do to points, pictures and cameras.

Pixel coordinates have pixel centres at +0.5, in the source and in the crop.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from avatarzoo.errors import NoFaceError
from avatarzoo.geometry.camera import Camera

EYE_RIGHT = (33, 160, 158, 133, 153, 144)
EYE_LEFT = (362, 385, 387, 263, 373, 380)
MOUTH_RIGHT, MOUTH_LEFT = 61, 291
"""MediaPipe indices of the lid contours and mouth corners; right and left are the subject's."""

Border = Literal["white", "black", "edge"]


class Crop(NamedTuple):
    """Maps source pixels to crop pixels.

    Attributes:
        matrix: ``(B, 2, 3)`` affine: a scale, a rotation in the picture plane, a shift.
        size: side of the crop in pixels.
    """

    matrix: Float[Tensor, "b 2 3"]
    size: int

    def points(self, points: Float[Tensor, "b n 2"]) -> Float[Tensor, "b n 2"]:
        """Source pixels to crop pixels."""
        return points @ self.matrix[:, :, :2].transpose(1, 2) + self.matrix[:, None, :, 2]

    def inverse(self) -> Float[Tensor, "b 2 3"]:
        """Crop pixels to source pixels."""
        linear = torch.linalg.inv(self.matrix[:, :, :2])
        return torch.cat([linear, -linear @ self.matrix[:, :, 2:]], 2)

    def camera(self, camera: Camera) -> Camera:
        """The camera that sees the crop; a rotated crop is a rolled camera.

        Raises:
            ValueError: a rotated crop of a camera with non-square pixels, which needs shear.
        """
        linear = self.matrix[:, :, :2]
        scale = torch.linalg.det(linear).sqrt()
        turn = linear / scale[:, None, None]
        k = camera.intrinsics
        rolled = bool((turn[:, 0, 1].abs() > 1e-6).any())
        if rolled and not torch.allclose(k[:, 0, 0], k[:, 1, 1]):
            raise ValueError("a rotated crop needs square pixels (fx = fy); resize the picture first.")
        batch = max(len(linear), camera.batch)
        intrinsics = k.new_zeros(batch, 3, 3)
        intrinsics[:, (0, 1), (0, 1)] = scale[:, None] * k[:, (0, 1), (0, 1)]
        intrinsics[:, :2, 2] = self.points(k[:, None, :2, 2])[:, 0]
        intrinsics[:, 2, 2] = 1
        roll = torch.eye(4, dtype=k.dtype, device=k.device).repeat(batch, 1, 1)
        roll[:, :2, :2] = turn
        return Camera(roll @ camera.world_to_camera, intrinsics, (self.size, self.size))

    def picture(
        self, image: UInt8[np.ndarray, "h w c"], index: int = 0, border: Border = "white"
    ) -> UInt8[np.ndarray, "s s c"]:
        """Cut one picture out, bilinear; shrinking by more than 1.5 is anti-aliased by an area average."""
        shrink = 1 / float(torch.linalg.det(self.matrix[index, :, :2])) ** 0.5
        factor = max(1, round(shrink)) if shrink > 1.5 else 1
        matrix = self.matrix[index].double().cpu().numpy() * factor
        matrix[:, 2] += matrix[:, :2].sum(1) * 0.5 - 0.5  # cv2 counts pixel centres as integers
        mode = cv2.BORDER_REPLICATE if border == "edge" else cv2.BORDER_CONSTANT
        value = (255.0,) * 4 if border == "white" else (0.0,) * 4
        side = self.size * factor
        cut = cv2.warpAffine(
            image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=mode, borderValue=value
        )
        if factor > 1:
            cut = cv2.resize(cut, (self.size, self.size), interpolation=cv2.INTER_AREA)
        return cut if cut.ndim == image.ndim else cut[..., None]


def square_crop(centre: Float[Tensor, "b 2"], side: Float[Tensor, " b"], size: int) -> Crop:
    """Upright squares of ``side`` source pixels round ``centre``, resized to ``size``."""
    scale = size / side
    linear = torch.eye(2, dtype=centre.dtype, device=centre.device) * scale[:, None, None]
    return Crop(torch.cat([linear, (size / 2 - scale[:, None] * centre)[..., None]], 2), size)


def ffhq_crop(landmarks: Float[Tensor, "b 478 2"], size: int, scale: float = 1.2) -> Crop:
    """FFHQ's oriented square (eyes level, centred just below them) from MediaPipe points, times ``scale``.

    The rule (Karras et al. 2017, appendix C, as FFHQ applies it): with e from eye to eye and m from the eyes'
    middle to the mouth's, the half side is max(2 |e|, 1.8 |m|), along e plus m turned by 90 degrees; the
    centre is 0.1 m below the eyes. Deja-vu's tracker enlarges it by 1.2 (v3.2) or 1.3 (v4.1), and pads with white.
    """
    right, left = landmarks[:, EYE_RIGHT].mean(1), landmarks[:, EYE_LEFT].mean(1)
    mouth = landmarks[:, (MOUTH_RIGHT, MOUTH_LEFT)].mean(1)
    eyes = (right + left) / 2
    e, m = left - right, mouth - eyes
    axis = e + torch.stack([m[:, 1], -m[:, 0]], 1)  # m turned to point where e does
    axis = axis / axis.norm(dim=1, keepdim=True)
    half = torch.maximum(2.0 * e.norm(dim=1), 1.8 * m.norm(dim=1)) * scale
    down = torch.stack([-axis[:, 1], axis[:, 0]], 1)
    linear = torch.stack([axis, down], 1) * (size / (2 * half))[:, None, None]
    centre = eyes + 0.1 * m
    return Crop(torch.cat([linear, size / 2 - linear @ centre[..., None]], 2), size)


def clip_crop(landmarks: Float[Tensor, "t n 2"], size: int, scale: float = 1.9, lift: float = 0.12) -> Crop:
    """One fixed upright square that holds the head in every frame of a clip.

    Each frame asks for a square of ``scale`` face heights, its centre ``lift`` face heights above the middle
    of the landmarks (they end at the hairline); the crop is the square round them all.

    Args:
        landmarks: of all frames; rows of NaN for frames without a face.

    Raises:
        NoFaceError: no frame has a face.
    """
    found = landmarks[landmarks.isfinite().flatten(1).all(1)]
    if not len(found):
        raise NoFaceError("no frame of this clip shows a face; choose a clip in which the face is visible.")
    low, high = found.amin(1), found.amax(1)
    height = (high - low).amax(1)
    middle = (low + high) / 2 - torch.stack([torch.zeros_like(height), lift * height], 1)
    reach = (scale / 2 * height)[:, None]
    low, high = (middle - reach).amin(0), (middle + reach).amax(0)
    return square_crop(((low + high) / 2)[None], (high - low).amax()[None], size)
