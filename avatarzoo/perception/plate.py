"""Background plates: a picture without the person in it, filled in once, to put behind every frame of an avatar.

NOFA++ removes the foreground of the source, inpaints it with the network MAT, and composites every frame over that static picture;
here a smooth filling serves, which needs no weights and invents no structure.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float, UInt8

MARGIN = 1 / 40
"""Of the picture's side: a person's matte is grown by it, so that no rim of hair or shoulder colours the filling."""
PERSON = 0.05
"""Matte above which a pixel belongs to the person."""
WORKING_SIDE = 128
"""Pixels: what is filled in is smooth, so that it is computed on a small picture."""
SWEEPS = 400


def background_plate(
    picture: UInt8[np.ndarray, "h w 3"], matte: Float[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w 3"]:
    """The picture with the person removed.

    Telea's inpainting (2004) continues the surroundings into the hole; membrane interpolation then takes its streaks away. Where the
    person fills the whole picture, the plate is its mean colour.

    Args:
        matte: of the person, in [0, 1].
    """
    height, width = matte.shape
    reach = max(1, round(MARGIN * max(height, width)))
    hole = cv2.dilate((matte > PERSON).astype(np.uint8), np.ones((2 * reach + 1,) * 2, np.uint8))
    if hole.all():
        return np.broadcast_to(picture.mean((0, 1)).round().astype(np.uint8), picture.shape).copy()
    if not hole.any():
        return picture.copy()
    scale = min(1.0, WORKING_SIDE / max(height, width))
    size = (max(2, round(width * scale)), max(2, round(height * scale)))
    filled = cv2.resize(
        filled_in(*shrunk(picture, hole, size)), (width, height), interpolation=cv2.INTER_CUBIC
    )
    edge = cv2.GaussianBlur(hole.astype(np.float32), (0, 0), max(1.0, reach / 2))
    soft = np.maximum(edge, hole)[..., None]
    return (picture * (1 - soft) + filled * soft).round().clip(0, 255).astype(np.uint8)


def shrunk(
    picture: UInt8[np.ndarray, "h w 3"], hole: UInt8[np.ndarray, "h w"], size: tuple[int, int]
) -> tuple[UInt8[np.ndarray, "k l 3"], UInt8[np.ndarray, "k l"]]:
    """Smaller versions; a small pixel is the mean of its known ones, and in the hole where it has none."""
    known = (1 - hole)[..., None].astype(np.float32)
    weight = cv2.resize(known, size, interpolation=cv2.INTER_AREA)
    colours = cv2.resize(picture * known, size, interpolation=cv2.INTER_AREA)
    colours = colours / np.maximum(weight, 1e-6)[..., None]
    return colours.round().clip(0, 255).astype(np.uint8), (weight < 1e-3).astype(np.uint8)


def filled_in(
    picture: UInt8[np.ndarray, "k l 3"], hole: UInt8[np.ndarray, "k l"]
) -> Float[np.ndarray, "k l 3"]:
    """The hole filled, 0 to 255."""
    filled = cv2.inpaint(picture, hole, 3, cv2.INPAINT_TELEA).astype(np.float32)
    inside = hole.astype(bool)
    for _ in range(SWEEPS):
        filled[inside] = cv2.blur(filled, (3, 3))[inside]
    return filled
