"""Parameter novelty: how far test frames lie from the training set (StyleAvatar section 4.2, Table 4), and its nearest sample.

The paper gives "average nearest parameters ... normalized by the standard deviation calculated in the training set" for
translation, rotation and expression. It says neither norm nor how a group of numbers has one standard deviation. We take the L2
norm and divide by the root of the group's summed variance (the RMS distance of training frames from their mean), so that
1 means "as far as a random training frame from the average one" and unused expression coefficients, whose own deviation
is near zero, count for nothing; the other conventions are options.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatarzoo.geometry.rotations import axis_angle_to_matrix, matrix_to_euler
from avatarzoo.heads.base import HeadParams

GROUPS = ("translation", "rotation", "expression")
Norm = Literal["l2", "mean"]
Deviation = Literal["group", "dimension"]
CHUNK = 1024
STILL = 1e-6
"""A standard deviation below this is no motion."""


def parameter_groups(params: HeadParams) -> dict[str, Float[Tensor, "t n"]]:
    """The three groups of Table 4 in float64: translation (metres), rotation (Euler angles in radians), expression.

    Jaw angles and lids count as expression: they are what FaceVerse, the paper's head, has as coefficients.
    """
    rotation = torch.stack(matrix_to_euler(axis_angle_to_matrix(params.rotation.double())), 1)
    expression = torch.cat([params.expression, params.jaw, params.eyelids], 1).double()
    return {"translation": params.translation.double(), "rotation": rotation, "expression": expression}


def nearest_distances(
    test: HeadParams, train: HeadParams, norm: Norm = "l2", deviation: Deviation = "group"
) -> dict[str, Float[Tensor, "t"]]:
    """Distance of each test frame to the nearest training frame, each group on its own, over the training set's deviation.

    Args:
        test, train: T and N frames of the same head model.
        norm: ``l2``, or ``mean`` absolute difference over the group's numbers.
        deviation: one for the ``group`` (root of the summed variance; of the mean variance with ``norm="mean"``), or one per
            ``dimension``, where numbers that do not move in training are left out.

    Raises:
        ValueError: the training set is empty or does not move in a group.
    """
    return {name: d.amin(1) for name, d in _distances(test, train, norm, deviation).items()}


def parameter_novelty(
    test: HeadParams, train: HeadParams, norm: Norm = "l2", deviation: Deviation = "group"
) -> dict[str, float]:
    """A row of Table 4: the mean over the test frames of :func:`nearest_distances`."""
    return {name: float(d.mean()) for name, d in nearest_distances(test, train, norm, deviation).items()}


def nearest_sample(
    test: HeadParams, train: HeadParams, norm: Norm = "l2", deviation: Deviation = "group"
) -> Int[Tensor, "t"]:
    """Index of the training frame nearest to each test frame, the three normalised groups with equal weight.

    The paper's "Nearest Sample" baseline shows that frame.
    """
    return torch.stack(list(_distances(test, train, norm, deviation).values())).sum(0).argmin(1)


def _distances(test: HeadParams, train: HeadParams, norm: Norm, deviation: Deviation) -> dict[str, Tensor]:
    """Normalised distances ``(T, N)`` of the groups."""
    if train.batch == 0:
        raise ValueError("The training set has no frame, so nothing can be near it.")
    seen, asked = parameter_groups(train), parameter_groups(test)
    return {name: _group_distance(name, asked[name], seen[name], norm, deviation) for name in GROUPS}


def _group_distance(
    name: str, test: Float[Tensor, "t n"], train: Float[Tensor, "m n"], norm: Norm, deviation: Deviation
) -> Float[Tensor, "t m"]:
    spread = train.std(0, correction=0)
    moving = spread > STILL
    if not moving.any():
        raise ValueError(
            f"The training set's {name} does not move, so distances have no unit; use a clip that moves."
        )
    if deviation == "dimension":
        test, train = test[:, moving] / spread[moving], train[:, moving] / spread[moving]
        unit = 1.0
    else:
        unit = float(spread.norm()) if norm == "l2" else float(spread.square().mean().sqrt())
    order, share = (2.0, 1.0) if norm == "l2" else (1.0, 1.0 / train.shape[1])
    # directly: by matrix product close neighbours drown in rounding
    parts = [torch.cdist(x, train, order, "donot_use_mm_for_euclid_dist") for x in test.split(CHUNK)]
    return torch.cat(parts) * (share / unit)
