"""The skin of the procedural head as a formula: tilted cross-sections, plus displacement fields for the features.

A point of the skin is named by ``(angle, level)``: the angle round the vertical axis (0 in front, pi at the back) and the
level from 0 (rim of the neck) to 1 (crown). Metres; y up, face towards +z, origin in the middle of the head. Only the
half x >= 0 is described; the other is its mirror image. Proportions follow adult anthropometry: pupils 63 mm apart and at
mid-height, nose 50 mm long, mouth 50 mm wide, chin to crown 0.22 m.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline, PchipInterpolator

Array = NDArray[Any]

EYE = np.array([0.0315, 0.0085, 0.0580])
"""Centre of the left eyeball (x > 0 is the subject's left)."""
EYE_RADIUS = 0.0132
MOUTH_Y, MOUTH_HALF_WIDTH = -0.0615, 0.0255
EAR = np.array([0.0710, -0.0040, -0.0060])

# fmt: off
_SECTIONS = np.array([
    # y front, z front, y back, z back, half width, z of the widest point, exponent of the front half, of the back half
    [-0.1440, 0.0280, -0.1440, -0.0740, 0.0575, -0.026, 2.00, 2.0],  # rim of the neck
    [-0.1350, 0.0280, -0.1200, -0.0700, 0.0555, -0.024, 2.00, 2.0],
    [-0.1240, 0.0360, -0.0960, -0.0700, 0.0540, -0.020, 1.95, 2.1],  # throat
    [-0.1155, 0.0610, -0.0760, -0.0735, 0.0540, -0.014, 1.82, 2.1],  # under the jaw
    [-0.1085, 0.0790, -0.0600, -0.0790, 0.0565, -0.008, 1.78, 2.1],  # lower edge of the chin
    [-0.0950, 0.0875, -0.0450, -0.0850, 0.0600, -0.006, 1.82, 2.1],  # chin
    [-0.0680, 0.0885, -0.0260, -0.0920, 0.0640, -0.004, 1.98, 2.1],  # mouth
    [-0.0430, 0.0880, -0.0100, -0.0970, 0.0675, -0.003, 2.10, 2.1],  # base of the nose
    [-0.0180, 0.0870, 0.0050, -0.1000, 0.0700, -0.003, 2.15, 2.1],
    [0.0100, 0.0865, 0.0220, -0.1010, 0.0715, -0.004, 2.15, 2.1],    # eyes
    [0.0330, 0.0895, 0.0400, -0.1000, 0.0735, -0.006, 2.15, 2.1],    # brows
    [0.0600, 0.0850, 0.0600, -0.0930, 0.0735, -0.009, 2.10, 2.1],    # forehead
    [0.0830, 0.0710, 0.0800, -0.0800, 0.0650, -0.011, 2.05, 2.0],
    [0.1010, 0.0460, 0.0990, -0.0590, 0.0465, -0.012, 2.00, 2.0],
    [0.1105, 0.0200, 0.1095, -0.0370, 0.0250, -0.012, 2.00, 2.0],
    [0.1135, -0.0120, 0.1135, -0.0120, 0.0000, -0.012, 2.0, 2.0],    # crown
])

_NOSE_Y = np.array([
    -0.0520, -0.0470, -0.0425, -0.0395, -0.0360, -0.0310, -0.0255,
    -0.0160, -0.0050, 0.0050, 0.0130, 0.0220, 0.0340,
])
_NOSE_Z = np.array([
    0.0000, 0.0010, 0.0045, 0.0110, 0.0180, 0.0222, 0.0207,
    0.0152, 0.0098, 0.0055, 0.0035, 0.0025, 0.0000,
])
_NOSE_W = np.array([
    0.0110, 0.0095, 0.0068, 0.0064, 0.0070, 0.0078, 0.0078,
    0.0070, 0.0064, 0.0064, 0.0072, 0.0090, 0.0120,
])

# x, y, dx, dy, dz in millimetres of displacement, then the two standard deviations and the tilt (degrees)
_BUMPS = np.array([
    # x       y       dx    dy    dz    sx     sy     tilt
    [0.0310, 0.0100,  0.0,  0.0, -5.5, 0.0150, 0.0105, -5],   # eye socket
    [0.0150, 0.0100,  0.0,  0.0, -6.5, 0.0050, 0.0110, 0],    # corner between nose and eye
    [0.0290, 0.0300,  0.0,  0.0,  4.0, 0.0190, 0.0062, 4],    # brow ridge
    [0.0000, 0.0290,  0.0,  0.0,  1.2, 0.0100, 0.0080, 0],    # glabella
    [0.0128, -0.0362, 2.2, -0.8,  7.5, 0.0042, 0.0050, 0],    # wing of the nose
    [0.0110, -0.0290, 0.0,  0.0,  2.0, 0.0060, 0.0060, 0],    # above the wing
    [0.0068, -0.0420, 0.0,  1.0, -2.0, 0.0030, 0.0024, 0],    # nostril
    [0.0420, -0.0200, 2.0,  0.0,  3.5, 0.0170, 0.0130, 20],   # cheek bone
    [0.0460, -0.0560, 0.0,  0.0, -1.5, 0.0110, 0.0180, 0],    # hollow of the cheek
    [0.0000, -0.0600, 0.0,  0.0,  5.0, 0.0230, 0.0160, 0],    # muzzle
    [0.0000, -0.0500, 0.0,  0.0, -1.4, 0.0028, 0.0055, 0],    # philtrum
    [0.0000, -0.0790, 0.0,  0.0, -3.5, 0.0170, 0.0045, 0],    # fold above the chin
    [0.0000, -0.0960, 0.0,  0.0,  6.5, 0.0170, 0.0115, 0],    # chin
    [0.0640, 0.0360, -1.5,  0.0, -2.0, 0.0120, 0.0150, 0],    # temple
    [0.0560, -0.0680, 3.0,  0.0,  0.0, 0.0130, 0.0150, 0],    # angle of the jaw
    [0.0220, -0.0440, 0.0,  0.0, -1.0, 0.0030, 0.0110, 25],   # fold from nose to mouth
    [0.0290, -0.0620, 0.0,  0.0, -2.0, 0.0050, 0.0060, 0],    # corner of the mouth
])
# fmt: on
LEVELS = np.concatenate(
    [
        [0.0],
        np.cumsum(
            np.linalg.norm(np.diff((_SECTIONS[:, :2] + _SECTIONS[:, 2:4]) / 2, axis=0), axis=1)
            + 0.5 * np.abs(np.diff(_SECTIONS[:, 4]))
            + 0.5 * np.abs(np.diff(_SECTIONS[:, 1]))
        ),
    ]
)
LEVELS = LEVELS / LEVELS[-1]


def smoothstep(x: Array, low: float | Array, high: float | Array) -> Array:
    """Cubic step from 0 at ``low`` to 1 at ``high``."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3 - 2 * t)


def gaussian(xy: Array, centre: tuple[float, float], sx: float, sy: float, tilt: float = 0.0) -> Array:
    """Anisotropic Gaussian of height 1 over ``(N, 2)``; tilt in degrees, counter-clockwise."""
    c, s = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
    d = xy - np.asarray(centre)
    a, b = d @ np.array([c, s]), d @ np.array([-s, c])
    return np.exp(-0.5 * ((a / sx) ** 2 + (b / sy) ** 2))


class Skin:
    """Evaluates the surface; everything is vectorised over ``(N,)`` angles and levels."""

    def __init__(self) -> None:
        self.sections = CubicSpline(LEVELS, _SECTIONS)
        self.nose_height = PchipInterpolator(_NOSE_Y, _NOSE_Z, extrapolate=False)
        self.nose_width = PchipInterpolator(_NOSE_Y, _NOSE_W, extrapolate=False)

    def base(self, angle: Array, level: Array) -> Array:
        """``(N, 3)`` points of the skin without features."""
        yf, zf, yb, zb, w, zc, nf, nb = np.moveaxis(self.sections(np.clip(level, 0, 1)), -1, 0)
        s, c = np.sin(angle), np.cos(angle)
        n = np.where(c > 0, nf, nb)
        r = (np.abs(s) ** n + np.abs(c) ** n + 1e-12) ** (-1 / n)
        z = zc + np.where(c > 0, zf - zc, zc - zb) * r * c
        y = yb + (yf - yb) * (z - zb) / np.maximum(zf - zb, 1e-9)
        return np.stack([np.maximum(w, 0) * r * s, y, z], -1)

    def features(self, xy: Array) -> Array:
        """``(N, 3)`` displacement of the face at frontal positions ``(N, 2)``, without lids and lips."""
        out = gaussians(xy, _BUMPS) * 1e-3
        height = np.nan_to_num(self.nose_height(xy[:, 1]))
        width = np.nan_to_num(self.nose_width(xy[:, 1]), nan=0.01)
        u = np.abs(xy[:, 0]) / width
        out[:, 2] += height * np.exp(-0.5 * (u / 0.85) ** 2.4)
        return out

    def point(self, angle: Array, level: Array) -> Array:
        """``(N, 3)`` points of the skin with features; lids and lips come on top of this."""
        p = self.base(angle, level)
        return p + self.features(p[:, :2]) * smoothstep(np.cos(angle), -0.1, 0.35)[:, None]

    def locate(self, xy: Array) -> tuple[Array, Array]:
        """``(angle, level)`` of the skin whose base point is seen at frontal ``(N, 2)`` (Gauss-Newton; |x| < 60 mm)."""
        angle = np.arcsin(np.clip(xy[:, 0] / 0.074, -0.95, 0.95))
        level = np.interp(xy[:, 1], _SECTIONS[2:-1, 0], LEVELS[2:-1])
        step = 1e-5
        for _ in range(8):
            here = self.base(angle, level)[:, :2]
            da = (self.base(angle + step, level)[:, :2] - here) / step
            dl = (self.base(angle, level + step)[:, :2] - here) / step
            error = xy - here
            det = da[:, 0] * dl[:, 1] - da[:, 1] * dl[:, 0]
            angle = angle + (error[:, 0] * dl[:, 1] - error[:, 1] * dl[:, 0]) / det
            level = np.clip(level + (da[:, 0] * error[:, 1] - da[:, 1] * error[:, 0]) / det, 0.05, 0.97)
        return angle, level


def gaussians(xy: Array, table: Array) -> Array:
    """Sum of displacement Gaussians, rows ``x, y, dx, dy, dz, sx, sy, tilt``, mirrored to both sides; ``(N, 3)``."""
    out = np.zeros((len(xy), 3))
    for x, y, dx, dy, dz, sx, sy, tilt in table:
        for side in (1.0, -1.0) if x > 0 else (1.0,):
            g = gaussian(xy, (side * x, y), sx, sy, side * tilt)
            out += g[:, None] * np.array([side * dx, dy, dz])
    return out
