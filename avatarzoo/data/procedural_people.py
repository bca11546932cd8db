"""Made-up people as EG3D wants portraits: neutral faces, exact 25-number camera labels, and the numbers that made each person."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from avatarzoo.data.procedural import ProceduralActor
from avatarzoo.geometry.camera import Camera, from_eg3d, look_at_face, to_eg3d
from avatarzoo.heads.base import HeadParams
from avatarzoo.priors.eg3d_config import FFHQ_FOCAL

UNITS_PER_METRE = 2.7
"""EG3D's world units: its recipe multiplies Deep3D's decimetres by 0.27, so its camera radius of 2.7 is one metre."""
HEAD_CENTRE = (0.0, -0.005, 0.0)
"""Point of the head frame, in metres, that EG3D's origin is put on: eyes, mouth and chin then lie as in its FFHQ crops."""
YAW_SPREAD, PITCH_SPREAD = 0.35, 0.15
"""Standard deviations of the cameras in radians, cut at 2.5 deviations (FFHQ's yaw: 0.26)."""
IDENTITY_SPREAD = 0.8
"""Standard deviation of a made-up person's identity coefficients."""


class Portraits(NamedTuple):
    """Pictures with cameras, in memory.

    Attributes:
        images: RGB bytes.
        labels: EG3D camera labels.
        people: who each picture shows.
    """

    images: UInt8[Tensor, "n 3 s s"]
    labels: Float[Tensor, "n 25"]
    people: Int[Tensor, " n"]


def portrait_cameras(yaw: Float[Tensor, " b"], pitch: Float[Tensor, " b"], size: int) -> Camera:
    """Cameras in metres, one metre from the origin and looking at it, with the focal length of EG3D's crops."""
    return look_at_face(1.0, math.degrees(2 * math.atan(0.5 / FFHQ_FOCAL)), size, yaw, pitch)


def portrait_labels(camera: Camera) -> Float[Tensor, "b 25"]:
    """EG3D labels of cameras in metres round :data:`HEAD_CENTRE`."""
    return _scaled(to_eg3d(camera), UNITS_PER_METRE)


def portrait_camera(labels: Float[Tensor, "b 25"], size: int) -> Camera:
    """Inverse of :func:`portrait_labels`."""
    return from_eg3d(_scaled(labels, 1 / UNITS_PER_METRE), size)


def _scaled(labels: Tensor, factor: float) -> Tensor:
    labels = labels.clone()
    labels[:, [3, 7, 11]] *= factor
    return labels


def random_angles(rng: np.random.Generator, count: int) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Yaw and pitch of ``count`` cameras, in radians."""
    turns = torch.from_numpy(rng.normal(size=(2, count)).clip(-2.5, 2.5)).float()
    return turns[0] * YAW_SPREAD, turns[1] * PITCH_SPREAD


def neutral(actor: ProceduralActor, count: int) -> HeadParams:
    """``count`` rows of a person at rest, :data:`HEAD_CENTRE` on the world's origin."""
    centre = torch.tensor([HEAD_CENTRE]).expand(count, 3)
    identity = actor.identity.expand(count, -1)
    return actor.head.zeros(count)._replace(identity=identity, translation=-centre)


def render_person(
    seed: int, views: int, size: int, background: str | float
) -> tuple[Portraits, ProceduralActor]:
    """``views`` pictures of one person from random sides; the same seed gives the same pictures."""
    actor = ProceduralActor(seed, size, background=background)
    camera = portrait_cameras(*random_angles(np.random.default_rng([seed, 3]), views), size)
    with torch.inference_mode():
        rgb = actor.render(neutral(actor, views), camera)[0]
    images = (rgb * 255 + 0.5).clamp(0, 255).byte().clone()
    return Portraits(images, portrait_labels(camera), torch.full((views,), seed)), actor


def render_people(seeds: range, views: int, size: int, background: str | float) -> Portraits:
    """``views`` pictures of each person, in order."""
    return joined(render_person(seed, views, size, background)[0] for seed in seeds)


def joined(parts: Iterator[Portraits]) -> Portraits:
    return Portraits(*(torch.cat(fields) for fields in zip(*parts)))
