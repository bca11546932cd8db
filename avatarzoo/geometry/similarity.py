"""Similarity transforms that align point sets: Umeyama's and StyleAvatar's."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Similarity(NamedTuple):
    """``x -> scale R x + translation``.

    Attributes:
        rotation: ``(B, 3, 3)``, determinant +1.
        scale: ``(B,)``.
        translation: ``(B, 3)``.
    """

    rotation: Float[Tensor, "b 3 3"]
    scale: Float[Tensor, " b"]
    translation: Float[Tensor, "b 3"]

    def __call__(self, points: Float[Tensor, "b n 3"]) -> Float[Tensor, "b n 3"]:
        turned = points @ self.rotation.transpose(1, 2)
        return self.scale[:, None, None] * turned + self.translation[:, None]

    def inverse(self) -> Similarity:
        rotation, scale = self.rotation.transpose(1, 2), 1 / self.scale
        return Similarity(rotation, scale, -scale[:, None] * (rotation @ self.translation[..., None])[..., 0])


def align(
    source: Float[Tensor, "b n 3"],
    target: Float[Tensor, "b n 3"],
    weights: Float[Tensor, "b n"] | None = None,
    scale: Literal["target", "source", "fixed"] = "target",
) -> Similarity:
    """Best similarity from ``source`` to ``target``, in closed form, batched.

    Args:
        source, target: corresponding points; a batch of 1 is shared.
        weights: non-negative, per point; all equal by default.
        scale: where the squared error is measured.
            ``"target"``: minimise ``sum w |s R x + t - y|^2`` (Umeyama 1991).
            ``"source"``: minimise ``sum w |R x + t / s - y / s|^2`` (StyleAvatar Eq. 1; its t is t / s here);
            same rotation, scale larger by 1 / correlation^2: it does not shrink under noise.
            ``"fixed"``: s = 1 (Kabsch).

    Reflections are excluded by the sign of the smallest singular value. Points on one line leave the rotation
    about that line arbitrary.
    """
    source, target = torch.broadcast_tensors(source, target)
    weights = torch.ones_like(source[..., 0]) if weights is None else weights.expand(source.shape[:2])
    weights = (weights / weights.sum(1, keepdim=True))[..., None]
    source_mean, target_mean = (weights * source).sum(1), (weights * target).sum(1)
    x, y = source - source_mean[:, None], target - target_mean[:, None]
    covariance = (weights * y).transpose(1, 2) @ x
    u, singular, vt = torch.linalg.svd(covariance)
    sign = torch.ones_like(singular)
    sign[:, 2] = torch.linalg.det(u @ vt).sign()
    rotation = (u * sign[:, None]) @ vt
    overlap = (singular * sign).sum(1)  # <R x, y>
    if scale == "target":
        s = overlap / (weights * x * x).sum((1, 2))
    elif scale == "source":
        s = (weights * y * y).sum((1, 2)) / overlap
    elif scale == "fixed":
        s = torch.ones_like(overlap)
    else:
        raise ValueError(f"unknown scale rule {scale!r}; choose target, source or fixed.")
    translation = target_mean - s[:, None] * (rotation @ source_mean[..., None])[..., 0]
    return Similarity(rotation, s, translation)
