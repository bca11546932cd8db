"""What the avatar does in each picture, and from where it is seen."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from avatarzoo.apps.drive_driver import Driver
from avatarzoo.geometry.camera import Camera
from avatarzoo.geometry.rotations import euler_to_matrix
from avatarzoo.heads.base import HeadModel, HeadParams
from avatarzoo.heads.transfer import projected, with_face, with_pose
from avatarzoo.models.seen import Seen
from avatarzoo.trackers.live_driving import Rest

Transfer = Literal["none", "mean"]
CameraPath = Literal["driver", "fixed", "orbit"]
ORBIT_DEGREES, ORBIT_SECONDS = 35.0, 4.0
"""A camera that orbits swings so far to both sides, there and back in so many seconds."""


class Motion(NamedTuple):
    """``params`` of T pictures and ``camera``, one for all or T."""

    params: HeadParams
    camera: Camera

    def at(self, number: int) -> tuple[HeadParams, Camera]:
        row = number if self.camera.batch > 1 else 0
        return self.params.rows(number), self.camera.rows([row])


def motion_of(
    driver: Driver, rest: Rest, head: HeadModel, seen: Seen | None, transfer: Transfer, path: CameraPath
) -> Motion:
    """The driver's motion as the avatar's.

    Args:
        rest: the avatar at rest, with its own head shape. seen: the range of its training, where known.
        transfer: ``mean`` adds the driver's change from its own rest to the avatar's rest and keeps the face within the range of
            training; ``none`` takes expressions as they are, and the head where it stood before the driver's camera.
        path: ``driver``: the head moves as the driver's; ``fixed``: it rests; ``orbit``: it rests, and the camera swings round it.
    """
    params, camera = driver.params, rest.camera
    voice = driver.neutral is None
    if driver.neutral is not None and transfer == "mean":
        params = with_face(params, driver.neutral, rest.params, head.expression_bounds)
    if seen is not None and (voice or transfer == "mean"):
        params = projected(params, seen.low, seen.high)
    if path != "driver" or voice:
        params = resting(params, rest.params)
    elif transfer == "none" and driver.camera is not None:
        camera = driver.camera.resized(*rest.camera.size)
    elif driver.neutral is not None:
        params = with_pose(params, driver.neutral, rest.params)
    params = params._replace(identity=rest.params.identity.expand(params.batch, -1))
    if path == "orbit":
        camera = orbit(rest, head, torch.arange(driver.frames) / driver.fps)
    return Motion(params, camera)


def resting(params: HeadParams, rest: HeadParams) -> HeadParams:
    """The same faces on a head that rests."""
    pose = {k: getattr(rest, k).expand(params.batch, -1) for k in ("neck", "rotation", "translation")}
    return params._replace(**pose)


def orbit(rest: Rest, head: HeadModel, seconds: Tensor) -> Camera:
    """Cameras that swing round the resting head, one for each time."""
    with torch.no_grad():
        vertices = head(rest.params)[0]
    middle = (vertices.amin(0) + vertices.amax(0)) / 2
    yaw = math.radians(ORBIT_DEGREES) * (2 * math.pi * seconds / ORBIT_SECONDS).sin()
    turn = euler_to_matrix(yaw, torch.zeros_like(yaw), torch.zeros_like(yaw))
    return rest.camera.after(turn, middle - turn @ middle)
