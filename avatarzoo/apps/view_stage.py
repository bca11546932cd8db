"""Whom the viewer shows, how it is seen from the page's camera, and how pictures are laid out."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8

from avatarzoo.apps.drive_motion import Motion
from avatarzoo.apps.view_controls import Control, Key, changed, controls_of
from avatarzoo.credentials import Credentials
from avatarzoo.data.sequence import TrackedSequence
from avatarzoo.geometry.camera import OPENGL_TO_OPENCV, Camera, rigid
from avatarzoo.geometry.rotations import axis_angle_to_matrix, matrix_to_quaternion, quaternion_to_matrix
from avatarzoo.heads.base import HeadModel, HeadParams
from avatarzoo.models.base import AvatarModule, AvatarState
from avatarzoo.models.drawing import Avatar, ground_of, to_bytes
from avatarzoo.render.gaussians import Gaussians
from avatarzoo.trackers.live_driving import Rest

Picture = UInt8[np.ndarray, "h w 3"]
FILMED = 1.0
"""Grey level round pictures that have a filmed background."""
DISTANCE = 100.0
"""From the page's camera at rest to the heads: viser sends covariances in half precision, which small numbers lose."""


class View(NamedTuple):
    """The page's camera. Its world has the middle of every head at the origin and y up; the camera rests at 1 on the z axis.

    Attributes:
        world_to_camera: ``(4, 4)``, OpenCV axes. fov: vertical, radians.
    """

    world_to_camera: Float[torch.Tensor, "4 4"]
    fov: float

    @classmethod
    def of_pose(
        cls, rotation: Float[np.ndarray, "3 3"], position: Float[np.ndarray, "3"], fov: float
    ) -> View:
        """From the axes (columns) and the place of the page's camera, whose unit is :data:`DISTANCE` times smaller."""
        turn = torch.tensor(np.asarray(rotation).T, dtype=torch.float32)
        place = torch.tensor(np.asarray(position), dtype=torch.float32) / DISTANCE
        return cls(rigid(turn[None], -(turn @ place)[None])[0], float(fov))

    @classmethod
    def home(cls, fov: float) -> View:
        """The view at first: the avatars' own cameras."""
        return cls.of_pose(np.diag(OPENGL_TO_OPENCV), np.array([0.0, 0.0, DISTANCE]), fov)


@dataclass
class Sitter:
    """An avatar in the viewer.

    Attributes:
        name: for people. head: its head model, on the CPU. photo: what it was made of, if there was a picture.
        motion: what a driver makes it do. driver: the driver's pictures. sound: file with the driver's voice.
    """

    name: str
    module: AvatarModule
    state: AvatarState
    head: HeadModel
    rest: Rest
    photo: Picture | None = None
    motion: Motion | None = None
    driver: TrackedSequence | None = None
    sound: Path | None = None
    controls: tuple[Control, ...] = field(init=False)
    ground: float | None = field(init=False)

    @torch.no_grad()
    def __post_init__(self) -> None:
        self.avatar = Avatar(self.module, self.state)
        self.controls = controls_of(self.head)
        self.ground = ground_of(self.module, self.state)
        vertices = self.head(self.rest.params)[0]
        middle = (vertices.amin(0) + vertices.amax(0)) / 2
        pose = self.rest.camera.world_to_camera[0]
        turn = torch.diag(torch.tensor(OPENGL_TO_OPENCV)) @ pose[:3, :3]
        self.to_page = rigid(turn[None], -(turn @ middle)[None])[0]
        self.offset = pose[:3, :3] @ middle + pose[:3, 3]
        self.distance = float(self.offset[2])
        self.lens = self.rest.camera.intrinsics[0]
        self.fov = 2 * math.atan(self.rest.camera.size[0] / 2 / float(self.lens[1, 1]))
        self.is_gaussians = self.module.gaussians_at(self.params({}, None).to(self.module.device)) is not None

    def camera(self, view: View, size: int, zoom: float = 1.0, base: Camera | None = None) -> Camera:
        """The page's camera as this avatar's, of a square picture.

        Args:
            zoom: of the lens. base: stands in for the camera at rest (a driver's).
        """
        rest = self.rest.camera.world_to_camera[0]
        pose = view.world_to_camera.clone()
        pose[:3, 3] *= self.distance
        pose[:2, 3] += self.offset[:2]
        base = self.rest.camera if base is None else base
        seen = base.world_to_camera[0] @ torch.linalg.inv(rest) @ pose @ self.to_page
        lens = base.resized(size, size).intrinsics.clone()
        lens[:, [0, 1], [0, 1]] *= zoom
        return Camera(seen[None], lens, (size, size))

    def params(self, values: Mapping[Key, float], frame: int | None) -> HeadParams:
        """Its head: at rest or in a picture of the driver's motion, with what the sliders add."""
        base = self.rest.params
        if frame is not None and self.motion is not None:
            base = self.motion.at(frame)[0]
        return changed(base, values, self.controls, self.head.expression_bounds)

    def draw(self, request: Request, zoom: float) -> Picture:
        base = None
        if request.frame is not None and self.motion is not None:
            base = self.motion.at(request.frame)[1]
        camera = self.camera(request.view, request.size, zoom, base)
        return to_bytes(self.avatar.draw(self.params(request.values, request.frame), camera)[0])

    @torch.inference_mode()
    def gaussians(self, values: Mapping[Key, float], frame: int | None) -> Gaussians:
        """Where :attr:`is_gaussians`: its Gaussians in the page's world, on the CPU."""
        params = self.params(values, frame)
        found = self.module.gaussians_at(params.to(self.module.device))
        assert found is not None
        place = self.to_page @ rigid(axis_angle_to_matrix(params.rotation), params.translation)[0]
        place[:2, 3] += self.offset[:2] * torch.tensor(OPENGL_TO_OPENCV[:2])
        return moved(found.to("cpu"), place, DISTANCE / self.distance)


class Request(NamedTuple):
    """What a page asks for.

    Attributes:
        values: of the sliders that are not at zero. frame: of the driver's motion; ``None`` at rest.
        shown: numbers of the avatars. source: with the pictures it comes from beside. size: side of each picture.
        splats: drawn by the browser.
    """

    view: View
    values: Mapping[Key, float]
    frame: int | None
    shown: tuple[int, ...]
    source: bool
    size: int
    splats: bool = False


class Studio:
    """All avatars of a viewer; pages of several browsers ask it for pictures, one after the other.

    Args:
        credentials: that sign pictures and videos people keep; ``None`` where they were left out on request.
    """

    def __init__(self, sitters: list[Sitter], credentials: Credentials | None = None) -> None:
        self.sitters, self.credentials, self.lock = sitters, credentials, threading.Lock()
        self.fov = sitters[0].fov

    @property
    def sound(self) -> Path | None:
        return next((s.sound for s in self.sitters if s.sound is not None), None)

    def warm_up(self, size: int) -> None:
        """What is compiled at first use is ready before the first page."""
        self.draw(Request(View.home(self.fov), {}, None, tuple(range(len(self.sitters))), False, size))

    @property
    def frames(self) -> int:
        """Of the driver's motion; zero without one."""
        return max((s.motion.params.batch for s in self.sitters if s.motion is not None), default=0)

    @property
    def has_source(self) -> bool:
        return any(s.photo is not None or s.driver is not None for s in self.sitters)

    def ground(self, shown: tuple[int, ...]) -> int:
        """Grey level, uint8, round the pictures."""
        first = self.sitters[shown[0]].ground if shown else None
        return round(255 * (FILMED if first is None else first))

    def draw(self, request: Request) -> list[Picture]:
        """Square pictures: what they come from (where asked for), then the avatars."""
        zoom = math.tan(self.fov / 2) / math.tan(request.view.fov / 2)
        chosen = [self.sitters[n] for n in request.shown]
        with self.lock:
            drawn = [sitter.draw(request, zoom) for sitter in chosen]
        beside = self.sources(chosen, request.frame) if request.source else []
        return [squared(p, request.size, self.ground(request.shown)) for p in [*beside, *drawn]]

    def sources(self, chosen: list[Sitter], frame: int | None) -> list[Picture]:
        """The driver in this picture, and the photos."""
        driver = next((s.driver for s in self.sitters if s.driver is not None), None)
        found: list[Picture] = []
        if driver is not None:
            found.append(driver.images([frame or 0])[0].permute(1, 2, 0).contiguous().numpy())
        for sitter in chosen:
            if sitter.photo is not None and not any(sitter.photo is p for p in found):
                found.append(sitter.photo)
        return found

    def gaussians(self, request: Request) -> dict[int, Gaussians]:
        """Number of the avatar -> its Gaussians, side by side, of those that are made of Gaussians."""
        chosen = [n for n in request.shown if self.sitters[n].is_gaussians]
        width = 2 * DISTANCE * math.tan(self.fov / 2)
        found = {}
        with self.lock:
            for place, number in enumerate(chosen):
                own = self.sitters[number].gaussians(request.values, request.frame)
                shift = torch.tensor([(place - (len(chosen) - 1) / 2) * width, 0.0, 0.0])
                found[number] = own._replace(means=own.means + shift)
        return found


def moved(gaussians: Gaussians, pose: Float[torch.Tensor, "4 4"], scale: float) -> Gaussians:
    """Rigidly moved, then scaled about the origin; one set, quaternions of the moved ones."""
    turned = pose[:3, :3] @ quaternion_to_matrix(gaussians.quaternions)
    means = gaussians.means @ pose[:3, :3].T + pose[:3, 3]
    return gaussians._replace(
        means=scale * means, quaternions=matrix_to_quaternion(turned), scales=scale * gaussians.scales
    )


def squared(picture: Picture, size: int, ground: int) -> Picture:
    """Fitted into a square, the rest filled with a grey level."""
    height, width = picture.shape[:2]
    if (height, width) == (size, size):
        return picture
    scale = size / max(height, width)
    side = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(picture, side, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    out = np.full((size, size, 3), ground, np.uint8)
    top, left = (size - side[1]) // 2, (size - side[0]) // 2
    out[top : top + side[1], left : left + side[0]] = small
    return out


def side_by_side(pictures: list[Picture], aspect: float, ground: int) -> Picture:
    """Squares of one size in as many columns as show them largest in a window of this width over height, rather side by side."""
    count = len(pictures)
    columns = max(range(1, count + 1), key=lambda n: (min(aspect / n, 1 / math.ceil(count / n)), n))
    empty = np.full_like(pictures[0], ground)
    rows = [pictures[start : start + columns] for start in range(0, count, columns)]
    return np.concatenate([np.concatenate(r + [empty] * (columns - len(r)), 1) for r in rows])


def padded(picture: Picture, aspect: float, ground: int) -> Picture:
    """In the middle of a picture of this width over height."""
    height, width = picture.shape[:2]
    full = max(width, round(height * aspect)), max(height, round(width / aspect))
    left, top = (full[0] - width) // 2, (full[1] - height) // 2
    out = np.full((full[1], full[0], 3), ground, np.uint8)
    out[top : top + height, left : left + width] = picture
    return out
