"""From a driver's motion to an avatar's: another person's face moves as the driver's does, relative to both at rest."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float

from avatarzoo.data.sequence import TrackedSequence
from avatarzoo.geometry.camera import Camera, fov_intrinsics, look_at_face
from avatarzoo.heads.base import HeadModel, HeadParams
from avatarzoo.heads.transfer import median, with_face, with_pose
from avatarzoo.trackers.landmark_groups import CHIN, FOREHEAD
from avatarzoo.trackers.live import LiveFit

HOLD_SECONDS, EASE_SECONDS, RETURN_SECONDS = 0.7, 1.0, 0.3
"""A lost face: its last expression stays, then goes to rest; when it is found again, the avatar comes back to it."""
FACE_SHARE, LIFT = 0.52, 0.03
"""A head at rest: its face takes so much of the picture's height, its middle so much below the picture's."""


class Rest(NamedTuple):
    """An avatar with a neutral face: its parameters (1 row) and the camera that frames it."""

    params: HeadParams
    camera: Camera


class Driven(NamedTuple):
    """What to render: parameters (1 row), camera, and how present the driver is (1; 0 when lost for long)."""

    params: HeadParams
    camera: Camera
    presence: float


def framed(
    head: HeadModel, size: int, fov: float = 20.0, identity: Float[torch.Tensor, "1 i"] | None = None
) -> Rest:
    """A neutral head of this identity (default: the mean), framed as the tracker's crops frame heads."""
    params = head.zeros(1, "cpu")
    if identity is not None:
        params = params._replace(identity=identity.cpu())
    with torch.no_grad():
        points = head.landmark_points(head(params))[0]
    height = float((points[FOREHEAD] - points[CHIN]).norm())
    distance = float(fov_intrinsics(fov, size)[0, 0, 0]) * height / (FACE_SHARE * size)
    middle = (points.amin(0) + points.amax(0)) / 2
    place = -middle - torch.tensor([0.0, LIFT * height / FACE_SHARE, 0.0])
    place[2] = -(points[FOREHEAD] + points[CHIN])[2] / 2
    return Rest(params._replace(translation=place[None]), look_at_face(distance, fov, size))


def rest_of(
    folder: Path, head: HeadModel, size: int, identity: Float[torch.Tensor, "1 i"] | None = None
) -> Rest:
    """The median frame of a tracked sequence, and its camera at another picture size.

    Raises:
        BadSequenceError: no such sequence. HeadModelMismatchError: it was tracked with another head model.
    """
    sequence = TrackedSequence.open(folder)
    sequence.check_head(head)
    params = median(sequence.params.rows(sequence.valid.nonzero()[0].tolist()))
    if identity is not None:
        params = params._replace(identity=identity.cpu())
    return Rest(params, sequence.camera.rows([0]).resized(size, size))


class Driving:
    """Turns the fits of a driver into what the avatar does; call it once per picture.

    Args:
        rest: the avatar at rest.
        relative_expression: the driver's change from the own neutral face is added to the avatar's; else the driver's coefficients are
            taken as they are.
        relative_pose: the same for the head's pose, seen by the avatar's camera; else the head stands where the driver's stands
            before the tracker's camera.
        keep_identity: the avatar's own identity; else the driver's.
    """

    def __init__(
        self,
        head: HeadModel,
        rest: Rest,
        relative_expression: bool = True,
        relative_pose: bool = True,
        keep_identity: bool = True,
    ) -> None:
        self.rest, self.keep_identity = rest, keep_identity
        self.relative_expression, self.relative_pose = relative_expression, relative_pose
        self.bounds = head.expression_bounds
        self.presence, self.seen, self.time = 0.0, float("-inf"), None

    def __call__(self, fit: LiveFit, time: float) -> Driven:
        """``time``: seconds, of the picture."""
        presence = self.follow(fit.valid, time)
        camera = self.rest.camera if self.relative_pose else fit.camera
        if fit.neutral is None:
            return Driven(self.rest.params, self.rest.camera, 0.0)
        driven = self.transferred(fit.params, fit.neutral)
        return Driven(blend(self.at_rest(fit, driven), driven, presence), camera, presence)

    def follow(self, valid: bool, time: float) -> float:
        """Presence at ``time``; the first face is there at once."""
        step = 0.0 if self.time is None else max(0.0, time - self.time)
        self.time = time
        if valid:
            first = self.seen == float("-inf")
            self.presence, self.seen = 1.0 if first else min(1.0, self.presence + step / RETURN_SECONDS), time
        elif time - self.seen > HOLD_SECONDS:
            self.presence = max(0.0, self.presence - step / EASE_SECONDS)
        return self.presence

    def transferred(self, params: HeadParams, neutral: HeadParams) -> HeadParams:
        """The driver's parameters as the avatar's."""
        rest, out = self.rest.params, params
        if self.relative_expression:
            out = with_face(out, neutral, rest, self.bounds)
        if self.relative_pose:
            out = with_pose(out, neutral, rest)
        return out._replace(identity=rest.identity) if self.keep_identity else out

    def at_rest(self, fit: LiveFit, driven: HeadParams) -> HeadParams:
        """Where a lost driver's avatar goes: a neutral face; the pose too where it is the avatar's own."""
        assert fit.neutral is not None
        face = self.rest.params if self.relative_expression else fit.neutral
        pose = self.rest.params if self.relative_pose else driven
        return face._replace(identity=driven.identity, rotation=pose.rotation, translation=pose.translation)


def blend(a: HeadParams, b: HeadParams, share: float) -> HeadParams:
    """From ``a`` (0) to ``b`` (1); rotation vectors are blended as they are, which serves turns below 90 degrees."""
    return HeadParams(*(x + share * (y - x) for x, y in zip(a, b)))
