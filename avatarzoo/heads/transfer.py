"""One head's motion on another: what changes against a driver's own rest is added to the avatar's rest."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from avatarzoo.geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from avatarzoo.heads.base import HeadParams

FACE = ("expression", "jaw", "eyes", "eyelids")
"""What a face does, without where the head is."""


def median(params: HeadParams) -> HeadParams:
    """The median row, field by field; rotations are near each other, so their vectors may be taken apart."""
    return HeadParams(*(x.median(0, keepdim=True).values for x in params))


def shifted(
    values: Float[Tensor, "b n"],
    neutral: Float[Tensor, "1 n"],
    rest: Float[Tensor, "1 n"],
    bounds: tuple[float, float] | None,
) -> Float[Tensor, "b n"]:
    """``values`` relative to ``neutral``, on ``rest``, within what a head model allows."""
    moved = rest + values - neutral
    return moved if bounds is None else moved.clamp(*bounds)


def with_face(
    params: HeadParams, neutral: HeadParams, rest: HeadParams, bounds: tuple[float, float] | None
) -> HeadParams:
    """``params`` (B rows) with the face of ``rest`` (1 row) that moves as theirs does against ``neutral`` (1 row).

    Args:
        bounds: of the head model's expression coefficients.
    """
    limits = {"expression": bounds, "eyelids": (0.0, 1.0)}
    change = {
        k: shifted(getattr(params, k), getattr(neutral, k), getattr(rest, k), limits.get(k))
        for k in (*FACE, "neck")
    }
    return params._replace(**change)


def with_pose(params: HeadParams, neutral: HeadParams, rest: HeadParams) -> HeadParams:
    """``params`` (B rows) with the pose of ``rest`` (1 row) that turns and shifts as theirs does against ``neutral`` (1 row)."""
    now, then, own = (axis_angle_to_matrix(p.rotation) for p in (params, neutral, rest))
    rotation = matrix_to_axis_angle(now @ then.transpose(1, 2) @ own)
    return params._replace(
        rotation=rotation, translation=rest.translation + params.translation - neutral.translation
    )


def projected(params: HeadParams, low: HeadParams, high: HeadParams) -> HeadParams:
    """``params`` whose face (expression, jaw, eyes, lids) stays between ``low`` and ``high`` (1 row each), number by number."""
    inside = {k: getattr(params, k).clamp(getattr(low, k), getattr(high, k)) for k in FACE}
    return params._replace(**inside)
