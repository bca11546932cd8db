"""Causal smoothing for live tracking: the One Euro filter (Casiez, Roussel and Vogel, CHI 2012).

A low-pass filter whose cutoff grows with speed: still heads stand still, fast ones do not lag.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.spatial.transform import Rotation

SPEED_CUTOFF = 1.0
"""Hertz at which the speed itself is smoothed (the paper's value)."""
SHORTEST = 1e-3
"""Seconds; frames nearer than this count as so far apart."""


def smoothing(cutoff: float, dt: float) -> float:
    """Share of the new value that a first-order low-pass of ``cutoff`` hertz takes after ``dt`` seconds."""
    return 1 / (1 + 1 / (2 * math.pi * cutoff * dt))


class OneEuro:
    """The filter on vectors; one cutoff for all components, from the norm of their speed.

    Args:
        cutoff: hertz at rest; lower is smoother.
        beta: hertz per unit of speed; higher lags less.
    """

    def __init__(self, cutoff: float, beta: float) -> None:
        self.cutoff, self.beta = cutoff, beta
        self.reset()

    def reset(self) -> None:
        """Forget the past; the next value passes unchanged."""
        self.value: np.ndarray | None = None
        self.speed: np.ndarray | None = None
        self.time = 0.0

    def share(self, change: np.ndarray, time: float) -> float:
        """Share of ``change`` (new value minus filtered value) to follow at ``time`` seconds."""
        dt = max(time - self.time, SHORTEST)
        assert self.speed is not None
        self.speed = self.speed + smoothing(SPEED_CUTOFF, dt) * (change / dt - self.speed)
        return smoothing(self.cutoff + self.beta * float(np.linalg.norm(self.speed)), dt)

    def __call__(self, value: np.ndarray, time: float) -> np.ndarray:
        """The filtered ``value (n,)`` at ``time`` seconds."""
        if self.value is None:
            self.value, self.speed = value, np.zeros_like(value)
        else:
            change = value - self.value
            self.value = self.value + self.share(change, time) * change
        self.time = time
        return self.value


class PoseFilter(OneEuro):
    """The filter on a rigid motion: rotation and translation follow by one share.

    Errors of the two go together (a head turned too far is also shifted back), so that two filters with shares of their own
    would make the face tremble more, not less.

    Args:
        reach: metres; a turn by one radian counts as a motion by so much.
        depth: what a motion along z counts beside one across; depth is known ten times less well.
    """

    def __init__(
        self, cutoff: float = 1.0, beta: float = 200.0, reach: float = 0.1, depth: float = 0.1
    ) -> None:
        super().__init__(cutoff, beta)
        self.scale = np.array([reach] * 3 + [1.0, 1.0, depth])

    def reset(self) -> None:
        super().reset()
        self.rotation, self.translation = Rotation.identity(), np.zeros(3)

    def pose(
        self, rotation: np.ndarray, translation: np.ndarray, time: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Filtered ``(3, 3)`` and ``(3,)`` at ``time`` seconds."""
        turned = Rotation.from_matrix(rotation)
        if self.speed is None:
            self.speed = np.zeros(6)
            self.rotation, self.translation = turned, translation
        else:
            step = np.concatenate(
                [(turned * self.rotation.inv()).as_rotvec(), translation - self.translation]
            )
            step = self.share(step * self.scale, time) * step
            self.rotation = Rotation.from_rotvec(step[:3]) * self.rotation
            self.translation = self.translation + step[3:]
        self.time = time
        return self.rotation.as_matrix(), self.translation
