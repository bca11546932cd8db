"""Linear blend skinning, batched over pictures, joints and vertices."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

PARENTS = (-1, 0, 1, 1, 1)
"""The tree of all head models here: root, neck, jaw, left eye, right eye (FLAME's)."""


def joint_transforms(
    rotations: Float[Tensor, "b j 3 3"], joints: Float[Tensor, "b j 3"], parents: Sequence[int] = PARENTS
) -> tuple[Float[Tensor, "b j 3 3"], Float[Tensor, "b j 3"]]:
    """``(A, t)`` with ``x -> A x + t`` taking rest positions to posed ones, for each joint.

    Args:
        rotations: of each joint relative to its parent.
        joints: rest positions.
        parents: index of each joint's parent, which comes before it; -1 for the root.
    """
    turn: list[Tensor] = []
    shift: list[Tensor] = []
    for j, parent in enumerate(parents):
        local, rest = rotations[:, j], joints[:, j]
        if parent < 0:
            turn.append(local)
            shift.append(rest - _apply(local, rest))
        else:
            turn.append(turn[parent] @ local)
            shift.append(_apply(turn[parent], rest) + shift[parent] - _apply(turn[j], rest))
    return torch.stack(turn, 1), torch.stack(shift, 1)


def skin(
    vertices: Float[Tensor, "b v 3"],
    turn: Float[Tensor, "b j 3 3"],
    shift: Float[Tensor, "b j 3"],
    weights: Float[Tensor, "v j"],
) -> Float[Tensor, "b v 3"]:
    """Move each vertex by the weighted mean of its joints' transforms; the rows of ``weights`` sum to one."""
    batch, count = turn.shape[0], vertices.shape[1]
    blended = (weights @ turn.flatten(2)).view(batch, count, 3, 3)
    return (blended @ vertices[..., None])[..., 0] + weights @ shift


def lbs(
    vertices: Float[Tensor, "b v 3"],
    joints: Float[Tensor, "b j 3"],
    rotations: Float[Tensor, "b j 3 3"],
    weights: Float[Tensor, "v j"],
    parents: Sequence[int] = PARENTS,
) -> Float[Tensor, "b v 3"]:
    """Skinned vertices; see :func:`joint_transforms` and :func:`skin`."""
    return skin(vertices, *joint_transforms(rotations, joints, parents), weights)


def pose_correctives(
    rotations: Float[Tensor, "b j 3 3"], basis: Float[Tensor, "v3 p"]
) -> Float[Tensor, "b v 3"]:
    """SMPL-style correctives: offsets linear in ``R - I`` of all joints but the root, ``p = 9 (J - 1)``."""
    identity = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
    features = (rotations[:, 1:] - identity).flatten(1)
    return torch.nn.functional.linear(features, basis).unflatten(1, (-1, 3))


def _apply(matrix: Float[Tensor, "b 3 3"], point: Float[Tensor, "b 3"]) -> Float[Tensor, "b 3"]:
    return (matrix @ point[..., None])[..., 0]
