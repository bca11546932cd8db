"""Head parameters of one frame after the other: the analytic tracker, warm-started and smoothed causally."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from avatarzoo.geometry.camera import project
from avatarzoo.heads.base import HeadModel, HeadParams
from avatarzoo.heads.transfer import median
from avatarzoo.trackers import landmark_groups as groups
from avatarzoo.trackers.analytic import AnalyticTracker
from avatarzoo.trackers.gauss_newton import Motion, Problem, refine
from avatarzoo.trackers.gaze import hidden_eyes
from avatarzoo.trackers.live_filters import OneEuro, PoseFilter
from avatarzoo.trackers.priors import lids_after_gaze
from avatarzoo.trackers.smoothing import CUT

STEPS, FIRST_STEPS = 2, 4
"""Gauss-Newton steps from the frame before, and from the weak-perspective start."""
GAZE = (1.0, 3.0)
"""Cutoff and beta of the eyes' filter: hertz, hertz per radian a second."""
CALIBRATION_SECONDS = 1.0
FEWEST, MOST = 10, 48
"""Frames that the calibration waits for, and keeps."""
WORST_ERROR = 5.0
"""% of the face height: landmarks that fit a head no better are no face (a hand, a head turned away)."""


class Solution(NamedTuple):
    """One frame's parameters (1 row) and the mean landmark distance in % of the face height."""

    params: HeadParams
    error: float


class LiveSolver:
    """Landmarks in, parameters out, one frame at a time.

    The identity is fitted to the first frame and again to the first second, then stays. ``neutral``, the driver's face at rest, is
    the median over that second; until it is over, over what there is of it.

    Attributes:
        camera: sees the crop; its world frame is the head's neutral frame.

    Args:
        size, fov: of the square crop, pixels and degrees.
        identity: ``(1, n_identity)`` of the person, if it is known; none is fitted then.
        smooth: filter pose and gaze over time. Expressions never are: that takes the peaks off blinks.
    """

    def __init__(
        self,
        head: HeadModel,
        size: int = 512,
        fov: float = 20.0,
        identity: Float[torch.Tensor, "1 i"] | None = None,
        smooth: bool = True,
    ) -> None:
        self.head, self.known, self.smooth = head, identity, smooth
        self.tracker = AnalyticTracker(head, size, fov)
        self.pose, self.gaze = PoseFilter(), OneEuro(*GAZE)
        self.begin()

    def begin(self) -> None:
        """Begin with another person."""
        zeros = np.zeros(self.head.n_identity)
        self.tracker.identity = zeros if self.known is None else self.known[0].double().cpu().numpy()
        self.problem: Problem | None = None
        self.camera = self.tracker.camera
        self.samples: list[tuple[np.ndarray, HeadParams]] = []
        self.started = 0.0
        self.calibrated = False
        self.neutral: HeadParams | None = None
        self.params: HeadParams | None = None
        self.restart()

    def restart(self) -> None:
        """The face was lost: solve the next frame without the one before."""
        self.motion: Motion | None = None
        self.points: np.ndarray | None = None
        self.eyes: np.ndarray | None = None
        self.pose.reset()
        self.gaze.reset()

    def warm_up(self) -> None:
        """Solve a made-up face, so that what is loaded at first use is ready before the first picture."""
        points = project(torch.from_numpy(self.tracker.model.mean).float()[None], self.camera)
        for time in (0.0, 0.1):
            self(points[0, :, :2].double().numpy(), time)
        self.begin()

    def placed(self) -> None:
        """Take over the person and the camera that the tracker has found."""
        self.problem = self.tracker.problem
        self.camera = self.tracker.camera

    def __call__(self, points: np.ndarray, time: float, moved: bool = False) -> Solution | None:
        """Solve one frame.

        Args:
            points: ``(478, 2)`` pixels of the crop. time: seconds.
            moved: the crop is another than that of the frame before.

        Returns:
            ``None`` where the points are no face.
        """
        if self.problem is None:
            self.started = time
            self.identify(points[None])
        elif moved:
            self.move(points, time)
        solution = self.solve(points, time)
        if not solution.error <= WORST_ERROR:
            self.restart()
            return None
        self.params = solution.params
        if not self.calibrated:
            self.calibrate(points, time)
        return solution

    def identify(self, landmarks: np.ndarray) -> None:
        """Take the person and the scale from ``landmarks (n, 478, 2)``."""
        if self.known is None:
            self.tracker.fit_identity(landmarks)
        else:
            self.tracker.measure(landmarks)
        self.placed()

    def calibrate(self, points: np.ndarray, time: float) -> None:
        """Gather the first second; at its end, fit the identity to all of it and solve the neutral face again."""
        assert self.params is not None
        self.samples = [*self.samples, (points, self.params)][-MOST:]
        if time - self.started >= CALIBRATION_SECONDS and len(self.samples) >= FEWEST:
            landmarks = np.stack([p for p, _ in self.samples])
            self.identify(landmarks)
            motion = self.tracker.fit_motion(landmarks)
            self.neutral = median(self.tracker.params(motion, self.tracker.eyes(motion, landmarks)))
            self.samples, self.calibrated = [], True
            self.restart()
        else:
            self.neutral = median(HeadParams(*map(torch.cat, zip(*(s for _, s in self.samples)))))

    def move(self, points: np.ndarray, time: float) -> None:
        """Go on in another crop: the neutral face moves along with what is seen, so that nothing jumps."""
        before = self.params
        self.tracker.measure(points[None])
        self.placed()
        self.restart()
        if self.calibrated and before is not None and self.neutral is not None:
            step = self.solve(points, time).params.translation - before.translation
            self.neutral = self.neutral._replace(translation=self.neutral.translation + step)
            self.restart()
        else:
            self.samples, self.started = [], time

    def solve(self, points: np.ndarray, time: float) -> Solution:
        """Pose from the last frame's, filtered; then gaze, then expression with that pose held."""
        targets, tracker = points[None].astype(np.float64), self.tracker
        assert self.problem is not None
        if self.motion is None or self.jumped(points):
            self.restart()
            motion = refine(self.problem, tracker.start(targets), targets, FIRST_STEPS)
        else:
            motion = refine(self.problem, self.motion, targets, STEPS)
        held = motion
        if self.smooth:
            turned, shifted = self.pose.pose(motion.rotation[0], motion.translation[0], time)
            held = motion._replace(rotation=turned[None], translation=shifted[None])
        eyes = self.look(held, targets, time)
        held = refine(self.problem, held, targets, 1, True, lids_after_gaze(tracker.model, eyes))
        self.motion, self.points = motion._replace(modes=held.modes), points
        return Solution(tracker.params(held, eyes), float(tracker.error(held, eyes, targets)[0]))

    def look(self, motion: Motion, targets: np.ndarray, time: float) -> np.ndarray:
        """Eye rotations ``(1, 6)``; behind closed lids those of the frame before."""
        eyes = self.tracker.eyes(motion, targets)[0]
        if self.eyes is not None:
            eyes = np.where(np.repeat(hidden_eyes(targets)[0], 3), self.eyes, eyes)
        self.eyes = self.gaze(eyes, time) if self.smooth else eyes
        return self.eyes[None]

    def jumped(self, points: np.ndarray) -> bool:
        """Whether the face is elsewhere than in the frame before: a cut."""
        if self.points is None:
            return True
        moved = np.linalg.norm((points - self.points).mean(0))
        return bool(moved > CUT * groups.face_height(self.points))
