"""What a solver believes about expressions before it sees a picture, from the shapes' sizes and ARKit names.

Low reprojection error is not a good guide to expressions: with a plain ridge 31 of 53 shapes are active at once and
cancel each other. These weights make coefficients mean what their names say, at the price of 0.05 % of the face height.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from avatarzoo.trackers.landmark_model import LandmarkModel

IDENTITY_RIDGE = 10.0
STATISTICAL_RIDGE = 10.0
"""For unbounded coefficients with unit variance. Landmark errors of neighbours are alike, so a coefficient's prior weighs
as much as about ten independent landmarks' worth of noise."""
SHAPE_RIDGE = 20.0
SHAPE_L1 = 5.0
SIDE_DIFFERENCE = 30.0
GAZE_COUPLING = 100.0
GAZE_PULL = 100.0
GAZE_RANGE = np.radians(25.0)
"""Turn of the eye at which its eyeLook shape is 1."""
FACTORS = {
    "mouthClose": 50.0,
    **dict.fromkeys(("eyeSquint", "cheekSquint", "cheekPuff", "jawForward", "eyeWide"), 5.0),
    **dict.fromkeys(("eyeLookIn", "eyeLookOut", "eyeLookUp", "eyeLookDown"), 5.0),
}
"""Ridge factors of shapes that imitate others: mouthClose undoes jawOpen; squints and lowered gaze pass for blinks."""
COUPLED_GAZE = (
    ("eyeLookIn", "L", "eyeLookOut", "R"),
    ("eyeLookOut", "L", "eyeLookIn", "R"),
    ("eyeLookUp", "L", "eyeLookUp", "R"),
    ("eyeLookDown", "L", "eyeLookDown", "R"),
)


class ExpressionPrior(NamedTuple):
    """Adds ``b' quadratic b + 2 linear' b`` to the squared residuals, which are in units of 1 % of the face height.

    Attributes:
        quadratic: ``(M, M)``.
        linear: ``(M,)`` L1 weights; only modes that cannot be negative have one.
    """

    quadratic: np.ndarray
    linear: np.ndarray


def expression_prior(model: LandmarkModel) -> ExpressionPrior:
    """The prior of a head's modes; names it does not know get the ridge of their kind alone."""
    size = np.sqrt((model.modes**2).sum((0, 1)))
    # scaled by the size of each shape's motion: an equal ridge would prefer the shapes that move most
    relative = size / max(np.median(size), 1e-12)
    bounded = np.isfinite(model.low) & np.isfinite(model.high)
    ridge = np.where(bounded, SHAPE_RIDGE * relative, STATISTICAL_RIDGE)
    named = [split_side(name) for name in model.names]
    ridge = ridge * np.array([FACTORS.get(name, 1.0) for name, _ in named])
    for k, name in enumerate(model.names):
        if name.startswith("jaw_"):
            ridge[k] = SHAPE_RIDGE / 0.25**2
    quadratic = np.diag(ridge)
    index = {key: k for k, key in enumerate(named)}
    pairs = [(k, index[name, "R"], SIDE_DIFFERENCE) for (name, side), k in index.items() if side == "L"
             and (name, "R") in index and not name.startswith("eyeLook")]  # fmt: skip
    pairs += [(index[a, s], index[b, t], GAZE_COUPLING) for a, s, b, t in COUPLED_GAZE
              if (a, s) in index and (b, t) in index]  # fmt: skip
    for i, j, weight in pairs:
        quadratic[i, i] += weight
        quadratic[j, j] += weight
        quadratic[i, j] -= weight
        quadratic[j, i] -= weight
    linear = np.where(bounded & (model.low >= 0), SHAPE_L1 / 2, 0.0)
    return ExpressionPrior(quadratic, linear)


def lids_after_gaze(model: LandmarkModel, eyes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights ``(M,)`` and goals ``(T, M)`` that let the eyeLook shapes, which move lids only, follow the eyeballs.

    Landmarks alone cannot tell a lowered gaze from a half-closed lid; the irises can.

    Args:
        eyes: ``(T, 6)`` axis-angle, left then right.
    """
    weights, goals = np.zeros(len(model.names)), np.zeros((len(eyes), len(model.names)))
    for k, name in enumerate(model.names):
        shape, side = split_side(name)
        if not shape.startswith("eyeLook") or not side or model.gaze_modes:
            continue
        pitch, yaw = eyes[:, 3 * (side == "R")], eyes[:, 3 * (side == "R") + 1]
        outward = yaw if side == "L" else -yaw
        angle = {"Up": -pitch, "Down": pitch, "Out": outward, "In": -outward}.get(shape[7:])
        if angle is not None:
            weights[k], goals[:, k] = GAZE_PULL, np.clip(angle / GAZE_RANGE, 0, 1)
    return weights, goals


def split_side(name: str) -> tuple[str, str]:
    """``("eyeBlink", "L")`` from ``eyeBlink_L`` or ``eyeBlinkLeft``; side is empty where there is none."""
    match = re.fullmatch(r"(.+?)(?:_([LR])|(Left|Right))", name)
    if match is None or name in ("jawLeft", "jawRight", "mouthLeft", "mouthRight"):
        return name, ""
    return match[1], match[2] or match[3][0]
