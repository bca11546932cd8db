"""The tracker of a live stream: one picture in, head parameters out, at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from avatarzoo.geometry.camera import Camera
from avatarzoo.geometry.crop import Crop, square_crop
from avatarzoo.heads.base import HeadModel, HeadParams
from avatarzoo.trackers.live_faces import FaceFollower, Sighting
from avatarzoo.trackers.live_solver import LiveSolver
from avatarzoo.trackers.pipeline import head_crop


class LiveFit(NamedTuple):
    """What one picture says of the driver.

    Attributes:
        params: 1 row; the last ones where the face is not seen, zeros before it was first seen.
        camera: of the crop; its world frame is the head's neutral frame.
        crop: picture to the square that ``camera`` sees.
        valid: the face is seen in this very picture.
        landmarks: ``(478, 2)`` pixels of the picture, NaN where not valid.
        people: 0, 1, or 2 for more than one.
        neutral: 1 row, the driver's face at rest; ``None`` before a face was seen.
        error: % of the face height, NaN where not valid.
        news: what a user should hear about, in words.
    """

    params: HeadParams
    camera: Camera
    crop: Crop
    valid: bool
    landmarks: np.ndarray
    people: int
    neutral: HeadParams | None
    error: float
    news: tuple[str, ...]


class LiveTracker:
    """Follows one driver: landmarks, identity from the first second, pose and expression with causal smoothing.

    :meth:`see` and :meth:`solve` may run on two threads, each in the order of the pictures.

    Args:
        head: a head model with a landmark embedding.
        size, fov: of the square crop the driver is solved in, pixels and degrees.
        identity: ``(1, n_identity)`` of the driver if known (an avatar of the same person); else fitted.
        smooth: see :class:`LiveSolver`.
        follower: another one, for tests.

    Raises:
        MissingAssetError: the head has no landmark embedding, or no landmark network is installed.
    """

    def __init__(
        self,
        head: HeadModel,
        size: int = 512,
        fov: float = 20.0,
        identity: Float[torch.Tensor, "1 i"] | None = None,
        smooth: bool = True,
        follower: FaceFollower | None = None,
    ) -> None:
        self.solver = LiveSolver(head, size, fov, identity, smooth)
        self.size, self.params = size, head.zeros(1, "cpu")
        self.follower = FaceFollower() if follower is None else follower
        self.crop: Crop | None = None
        self.picture: tuple[int, int] | None = None
        self.seen, self.people = False, 0

    def update(self, picture: np.ndarray, time: float) -> LiveFit:
        """The next picture, uint8 RGB ``(H, W, 3)``, taken at ``time`` seconds."""
        return self.solve(self.see(picture, time), time)

    def see(self, picture: np.ndarray, time: float) -> Sighting:
        """Find the driver's landmarks."""
        return self.follower(picture, time)

    def solve(self, sighting: Sighting, time: float) -> LiveFit:
        """Head parameters of what was seen."""
        news = self.new_size(sighting)
        if sighting.newcomer:
            news.append("the driver is gone; another face is followed from now on")
            self.crop = None
            self.solver.begin()
        error = self.fit(sighting, time)
        valid = bool(np.isfinite(error))
        news += self.changes(sighting, valid)
        if valid and self.solver.params is not None:
            self.params = self.solver.params
        landmarks = sighting.landmarks if valid else np.full_like(sighting.landmarks, np.nan)
        crop = self.crop or whole(sighting.size, self.size)
        camera = self.solver.camera
        people = sighting.people if valid else 0
        return LiveFit(
            self.params, camera, crop, valid, landmarks, people, self.solver.neutral, error, tuple(news)
        )

    def new_size(self, sighting: Sighting) -> list[str]:
        """Notice pictures of another size; the crop is then placed anew."""
        before, self.picture = self.picture, sighting.size
        if before in (None, sighting.size):
            return []
        self.crop = None
        old, new = (f"{width} x {height}" for height, width in (before, sighting.size))
        return [f"the pictures changed from {old} to {new}; the crop is placed anew"]

    def fit(self, sighting: Sighting, time: float) -> float:
        """Solve, in the crop of the first face; returns the error, NaN without a face."""
        if not np.isfinite(sighting.landmarks).all():
            self.solver.restart()
            return float("nan")
        moved = self.crop is None
        crop = (
            head_crop(sighting.landmarks[None], sighting.size, self.size) if self.crop is None else self.crop
        )
        points = crop.points(torch.from_numpy(sighting.landmarks[None]).float())[0].double().numpy()
        solution = self.solver(points, time, moved)
        if solution is None:
            return float("nan")
        self.crop = crop
        return solution.error

    def changes(self, sighting: Sighting, valid: bool) -> list[str]:
        """Face lost or found, people come or gone, in words."""
        news = []
        if valid != self.seen:
            news.append("the face is found" if valid else "the face is lost")
        if valid and max(self.people, 1) != sighting.people:
            more = "a second person is in view; the first is still followed"
            news.append(more if sighting.people > 1 else "one person is in view again")
        self.seen = valid
        if valid:
            self.people = sighting.people
        return news

    def close(self) -> None:
        self.follower.close()


def whole(picture: tuple[int, int], size: int) -> Crop:
    """The largest square in the middle of a picture of ``(height, width)``."""
    height, width = picture
    return square_crop(torch.tensor([[width / 2, height / 2]]), torch.tensor([float(min(picture))]), size)
