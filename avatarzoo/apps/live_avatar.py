"""The avatar's part of the live loop: what the driver does, drawn by any method."""

from __future__ import annotations

import numpy as np

from avatarzoo.apps.live_loop import Shot
from avatarzoo.apps.live_paste import HeadSquare, chained, feathered, head_colour, paste
from avatarzoo.data.video import fit_height
from avatarzoo.models.drawing import Avatar, to_bytes
from avatarzoo.trackers.live import LiveFit
from avatarzoo.trackers.live_driving import Driven, Driving


class LivePicture:
    """Picture and fit to what is shown: the avatar alone, beside the driver, or in the driver's picture.

    Args:
        paste_back: lay the avatar over the driver's picture; the driving must then keep the driver's own pose.
        ground: see :func:`ground_of`.
        side_by_side: the driver's crop to the left.
    """

    def __init__(
        self,
        avatar: Avatar,
        driving: Driving,
        paste_back: bool = False,
        ground: float | None = 1.0,
        side_by_side: bool = False,
    ) -> None:
        self.avatar, self.driving, self.ground = avatar, driving, ground
        self.paste_back, self.side_by_side = paste_back, side_by_side
        self.square = HeadSquare()

    def __call__(self, shot: Shot, fit: LiveFit) -> np.ndarray:
        """uint8 RGB."""
        driven = self.driving(fit, shot.time)
        if not self.paste_back:
            out = to_bytes(self.avatar.draw(driven.params, driven.camera)[0])
            driver = fit.crop.picture(shot.picture, border="black") if self.side_by_side else None
        elif driven.presence == 0:
            out, driver = shot.picture, shot.picture if self.side_by_side else None
        else:
            out = self.pasted(shot.picture, fit, driven)
            driver = shot.picture if self.side_by_side else None
        return out if driver is None else np.concatenate([fit_height(driver, out.shape[0]), out], 1)

    def pasted(self, picture: np.ndarray, fit: LiveFit, driven: Driven) -> np.ndarray:
        """The driver's picture with the avatar's head; it fades out while no face is seen."""
        square = self.square(fit.crop, fit.landmarks, picture.shape[:2])
        rgb, alpha = self.avatar.draw(driven.params, square.camera(driven.camera))
        head = rgb if self.ground is None else head_colour(rgb, alpha, self.ground)
        soft = feathered(alpha) * np.float32(driven.presence)
        return paste(picture, head, soft, chained(fit.crop, square))
