"""Expression and pose distance (AED, APD): how far two clips lie apart in the coefficients of a head model.

The papers only say "extract 3DMM expression and pose parameters and compute the average distance"; the definition here is
the one that published comparisons use: the mean absolute difference of the 64 expression coefficients, and of the three
Euler angles in radians (or of the six numbers angles and translation), of Deep3DFaceRecon_pytorch (the 2021 weights).
Another estimator gives other numbers, so its name belongs to every value: ``AED (Deep3D)`` and ``AED (our tracker, ict)``
are different metrics.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections import OrderedDict
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from avatarzoo.metrics.base import AvatarMetric, Images, Masks
from avatarzoo.perception import deep3d
from avatarzoo.perception.face_embedding import five_points
from avatarzoo.perception.faces import FaceReader, shared_reader

Reduction = Literal["mean", "l2"]
REMEMBERED = 8192
"""Pictures whose observations an estimator keeps: a row of landmarks takes 6 kB."""
REMEMBERED_CLIPS = 64


class Coefficients(NamedTuple):
    """What an estimator says of a clip of T frames; rows are NaN where it found no face.

    Attributes:
        expression: ``(T, n)``.
        pose: ``(T, 3)`` Euler angles in radians, or ``(T, 6)`` with the translation behind them, in the estimator's unit.
    """

    expression: Float[Tensor, "t n"]
    pose: Float[Tensor, "t p"]


def aed(
    beta_a: Float[Tensor, "t n"], beta_b: Float[Tensor, "t n"], reduction: Reduction = "mean"
) -> Float[Tensor, "t"]:
    """Expression distance of each frame; AED is its mean over the frames. NaN where either row has one.

    Args:
        beta_a, beta_b: expression coefficients of the same frames, by the same estimator.
        reduction: ``mean`` absolute difference over the coefficients (published), or the ``l2`` norm of the difference.

    Raises:
        ValueError: shapes differ.
    """
    return _reduce(_difference(beta_a, beta_b), reduction)


def apd(
    pose_a: Float[Tensor, "t p"],
    pose_b: Float[Tensor, "t p"],
    components: Literal["angles", "pose6"] = "angles",
    reduction: Reduction = "mean",
) -> Float[Tensor, "t"]:
    """Pose distance of each frame; APD is its mean over the frames. NaN where either row has one.

    Args:
        pose_a, pose_b: three Euler angles in radians, then the translation if there is one. Angles are compared the short way round.
        components: ``angles`` (GAGAvatar, LAM) or ``pose6``, angles and translation together (OTAvatar; mixes units).
        reduction: as in :func:`aed`.

    Raises:
        ValueError: shapes differ, or ``pose6`` without translation.
    """
    if components == "pose6" and pose_a.shape[-1] != 6:
        raise ValueError(
            f"pose6 needs angles and translation, but the estimator gives {pose_a.shape[-1]} numbers; use angles."
        )
    difference = _difference(pose_a, pose_b)
    angles = torch.remainder(difference[:, :3] + torch.pi, 2 * torch.pi) - torch.pi
    return _reduce(torch.cat([angles, difference[:, 3:6]], 1) if components == "pose6" else angles, reduction)


def _difference(a: Tensor, b: Tensor) -> Tensor:
    if a.shape != b.shape or a.ndim != 2:
        raise ValueError(
            f"Coefficients {tuple(a.shape)} and {tuple(b.shape)} must be of the same frames and the same estimator."
        )
    return a - b


def _reduce(difference: Tensor, reduction: Reduction) -> Tensor:
    if reduction not in ("mean", "l2"):
        raise ValueError(f"There is no reduction {reduction!r}; choose mean or l2.")
    return difference.abs().mean(1) if reduction == "mean" else difference.norm(dim=1)


class CoefficientEstimator(ABC):
    """Pictures in, coefficients out, in two steps, so that a clip of any length is kept as a few numbers a frame.

    One estimator may serve several metrics and several methods: what it made of a picture or of a clip is remembered by
    the content, so AED and APD together, or one reference beside ten methods, cost one estimation.

    Attributes:
        name: printed in tables behind the metric's.
        row: shape of what is kept of one frame.
    """

    name: str
    row: tuple[int, ...]

    def __init__(self) -> None:
        self.seen: OrderedDict[bytes, Tensor] = OrderedDict()
        self.solved: OrderedDict[bytes, Coefficients] = OrderedDict()

    @abstractmethod
    def observe(self, pictures: Images) -> Tensor:
        """What is kept of each picture, ``(B, *row)`` on the CPU, NaN where there is no face; each picture on its own."""

    @abstractmethod
    def solve(self, rows: Tensor, size: tuple[int, int]) -> Coefficients:
        """Coefficients of one clip of one person from its ``(T, *row)``, at least one of them finite.

        Args:
            size: (height, width) of the pictures.
        """

    def observed(self, pictures: Images) -> Tensor:
        """:meth:`observe`, remembered; pictures that are not finite have no face."""
        keys = [_digest(picture) for picture in pictures]
        finite = torch.isfinite(pictures).flatten(1).all(1).tolist()
        rows = {key: self.seen.get(key) for key in keys}
        new = [i for i, key in enumerate(keys) if rows[key] is None and finite[i]]
        if new:
            for i, row in zip(new, self.observe(pictures[new])):
                rows[keys[i]] = self.seen[keys[i]] = row
        while len(self.seen) > REMEMBERED:
            self.seen.popitem(last=False)
        lost = torch.full(self.row, torch.nan)
        return torch.stack([lost if (row := rows[key]) is None else row for key in keys])

    def __deepcopy__(self, memo: dict[int, Any]) -> CoefficientEstimator:
        return self  # a copy of a metric keeps the same estimator

    def clip(self, rows: Tensor, size: tuple[int, int]) -> Coefficients:
        """:meth:`solve`, remembered; without any face all rows are NaN."""
        key = _digest(rows) + bytes(str(size), "ascii")
        if key not in self.solved:
            self.solved[key] = self.solve(rows, size)
            if len(self.solved) > REMEMBERED_CLIPS:
                self.solved.popitem(last=False)
        return self.solved[key]


class Deep3DEstimator(CoefficientEstimator):
    """64 expression coefficients, three angles and a translation by Deep3DFaceRecon_pytorch, each picture on its own.

    Args:
        reader: finds the faces whose five points place the crop; shared by all metrics by default.
        device: of the network.

    Raises:
        MissingAssetError: the weights or the standard landmarks are not on this machine.
    """

    name = "Deep3D"
    row = (sum(deep3d.HEADS),)

    def __init__(self, reader: FaceReader | None = None, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.network, self.standard = deep3d.load_deep3d().to(device), deep3d.standard_landmarks()
        self.reader = reader or shared_reader()

    def observe(self, pictures: Images) -> Float[Tensor, "b 257"]:
        points = five_points(self.reader(pictures).cpu().numpy())
        return deep3d.estimate(self.network, pictures, points, self.standard)

    def solve(self, rows: Float[Tensor, "t 257"], size: tuple[int, int]) -> Coefficients:
        parts = deep3d.split(rows)
        return Coefficients(parts.expression, torch.cat([parts.angles, parts.translation], 1))


def _digest(x: Tensor) -> bytes:
    array = x.detach().cpu().contiguous().numpy()
    return hashlib.blake2b(array, digest_size=16).digest() + bytes(f"{array.dtype}{array.shape}", "ascii")


class CoefficientMetric(AvatarMetric):
    """Gathers a clip, and at its end adds one distance per frame; a frame without a face on either side is a failure.

    Prediction and reference go through the same estimator as two clips.

    Args:
        estimator: may be shared between metrics.

    Attributes:
        label: what a table calls the numbers, such as ``AED (Deep3D)``.
    """

    higher_is_better = False
    short: str

    def __init__(self, estimator: CoefficientEstimator, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.estimator, self.reduction = estimator, reduction
        self.label = f"{self.short} ({estimator.name})"
        self._begin()

    def _begin(self) -> None:
        self.gathered: tuple[list[Tensor], list[Tensor]] = ([], [])
        self.size: tuple[int, int] | None = None

    @torch.no_grad()
    def score(self, prediction: Images, reference: Images, mask: Masks | None) -> None:
        size = (prediction.shape[-2], prediction.shape[-1])
        if self.size not in (None, size):
            raise ValueError(
                f"A clip's pictures changed from {self.size} to {size}; call end_clip() between clips."
            )
        self.size = size
        for rows, pictures in zip(self.gathered, (prediction, reference)):
            rows.append(self.estimator.observed(pictures))

    @torch.no_grad()
    def end_clip(self) -> None:
        if self.size is None:
            return
        rows = [torch.cat(x) for x in self.gathered]
        if all(torch.isfinite(x).flatten(1).all(1).any() for x in rows):
            values = self.distance(*(self.estimator.clip(x, self.size) for x in rows))
        else:
            values = torch.full((len(rows[0]),), torch.nan)
        self.add(values.to(self.device))
        self._begin()

    @abstractmethod
    def distance(self, prediction: Coefficients, reference: Coefficients) -> Float[Tensor, "t"]:
        """The pure function on this metric's part of the coefficients."""

    def per_image(self) -> Tensor:
        """All values so far.

        Raises:
            ValueError: the last clip was not ended.
        """
        if self.size is not None:
            raise ValueError(
                f"{self.label} scores whole clips: call end_clip() after the last picture of each."
            )
        return super().per_image()

    def reset(self) -> None:
        super().reset()
        self._begin()


class AED(CoefficientMetric):
    """Average expression distance, see :func:`aed`."""

    short = "AED"

    def distance(self, prediction: Coefficients, reference: Coefficients) -> Tensor:
        return aed(prediction.expression, reference.expression, self.reduction)


class APD(CoefficientMetric):
    """Average pose distance, see :func:`apd`."""

    short = "APD"

    def __init__(
        self,
        estimator: CoefficientEstimator,
        components: Literal["angles", "pose6"] = "angles",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(estimator, reduction)
        self.components = components
        if components != "angles":
            self.label = f"{self.short} ({estimator.name}, {components})"

    def distance(self, prediction: Coefficients, reference: Coefficients) -> Tensor:
        return apd(prediction.pose, reference.pose, self.components, self.reduction)
