"""Head motion over time: filled where the face was lost, smoothed where it was seen.

Only the pose is smoothed. Landmark noise moves neighbours together, so a fit does not average it; and smoothing landmarks
or expressions takes the peaks off blinks (0.55 to 0.40 with a window of 7 frames).
"""

from __future__ import annotations

import numpy as np
from scipy.signal import savgol_filter
from scipy.spatial.transform import Rotation

from avatarzoo.trackers import landmark_groups as groups

WINDOW_SECONDS = 0.36
"""Nine frames at 25 per second."""
ORDER = 2
CUT = 0.15
"""Share of the face height by which the face's middle may move between frames before it counts as a cut."""


def runs(landmarks: np.ndarray, valid: np.ndarray) -> list[slice]:
    """Stretches of frames without a lost face or a cut inside.

    Args:
        landmarks: ``(T, 478, 2)`` pixels. valid: ``(T,)`` bool.
    """
    middle = landmarks.mean(1)
    height = np.nanmedian(groups.face_height(landmarks[valid]))
    jump = np.zeros(len(valid), bool)
    with np.errstate(invalid="ignore"):
        jump[1:] = np.linalg.norm(np.diff(middle, axis=0), axis=1) > CUT * height
    starts = np.flatnonzero(valid & (jump | ~np.roll(valid, 1) | (np.arange(len(valid)) == 0)))
    stops = [*starts[1:], len(valid)]
    return [slice(a, a + int(valid[a:b].sum())) for a, b in zip(starts, stops)]


def smooth_pose(
    rotations: np.ndarray, translations: np.ndarray, stretches: list[slice], fps: float
) -> tuple[np.ndarray, np.ndarray]:
    """Savitzky-Golay on rotation vectors, taken about each stretch's middle frame, and translations.

    Args:
        rotations: ``(T, 3, 3)``. translations: ``(T, 3)``. stretches: from :func:`runs`; others stay as they are.
    """
    rotations, translations = rotations.copy(), translations.copy()
    for stretch in stretches:
        length = stretch.stop - stretch.start
        window = min(odd(WINDOW_SECONDS * fps), length if length % 2 else length - 1)
        if window <= ORDER + 1:
            continue
        turned = Rotation.from_matrix(rotations[stretch])
        middle = turned[length // 2]
        vectors = savgol_filter((turned * middle.inv()).as_rotvec(), window, ORDER, axis=0)
        rotations[stretch] = (Rotation.from_rotvec(vectors) * middle).as_matrix()
        translations[stretch] = savgol_filter(translations[stretch], window, ORDER, axis=0)
    return rotations, translations


def odd(x: float) -> int:
    """The nearest odd number, at least 1."""
    return max(1, 2 * round((x - 1) / 2) + 1)


def fill(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Rows ``(T, n)`` where not ``valid`` are interpolated linearly from their neighbours, held at the ends."""
    frames = np.arange(len(values))
    columns = values.reshape(len(values), -1).T
    filled = np.stack([np.interp(frames, frames[valid], column[valid]) for column in columns], 1)
    return filled.reshape(values.shape)
