"""What is seen behind a driven avatar: its own ground, a colour, a picture, or nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from PIL import ImageColor

from avatarzoo.apps.live_paste import head_colour
from avatarzoo.data.video_source import load_picture
from avatarzoo.errors import UsageError
from avatarzoo.models.drawing import to_bytes

Plate = UInt8[np.ndarray, "h w 3"]
KEPT, TRANSPARENT, SOURCE = "avatar", "transparent", "source"


def plate_named(name: str) -> Plate:
    """A picture file, or a colour as one pixel.

    Raises:
        UsageError: neither. BadVideoError: the file is no picture.
    """
    if Path(name).is_file():
        return load_picture(Path(name))
    try:
        return np.array(ImageColor.getrgb(name)[:3], np.uint8).reshape(1, 1, 3)
    except ValueError as error:
        raise UsageError(
            f"--background takes {KEPT}, {TRANSPARENT}, {SOURCE}, a colour (white, #20c040) or a picture file, not {name}."
        ) from error


def filling(plate: Plate, size: tuple[int, int]) -> Float[np.ndarray, "h w 3"]:
    """The middle of a picture, enlarged or shrunk to fill ``size`` (height, width), in [0, 1]."""
    height, width = size
    scale = max(height / plate.shape[0], width / plate.shape[1])
    side = (max(width, round(plate.shape[1] * scale)), max(height, round(plate.shape[0] * scale)))
    large = cv2.resize(plate, side, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    top, left = (side[1] - height) // 2, (side[0] - width) // 2
    return large[top : top + height, left : left + width].astype(np.float32) / 255


Composite = Callable[[Float[np.ndarray, "h w 3"], Float[np.ndarray, "h w"]], UInt8[np.ndarray, "h w c"]]
"""Colours (on the avatar's own ground) and alpha to a finished picture."""


def composite_on(name: str, plate: Plate | None, ground: float | None) -> Composite:
    """How pictures are finished.

    Args:
        name: of the background. plate: what is put behind, for all but :data:`KEPT` and :data:`TRANSPARENT`.
        ground: grey level in the avatar's pictures; ``None`` where it is a filmed background.
    """
    if name == KEPT:
        return lambda rgb, alpha: to_bytes(rgb)
    if name == TRANSPARENT:
        return lambda rgb, alpha: to_bytes(
            np.dstack([rgb if ground is None else head_colour(rgb, alpha, ground), alpha])
        )
    assert plate is not None

    def over(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
        behind, a = filling(plate, alpha.shape), alpha[..., None]
        own = (
            rgb * a if ground is None else rgb - (1 - a) * ground
        )  # edges are mixed already: grounds are exchanged
        return to_bytes((own + (1 - a) * behind).clip(0, 1))

    return over
