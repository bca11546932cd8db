"""Made-up people for the procedural twins: footage with exact truth, rendered when first asked for, labelled procedural."""

from __future__ import annotations

import functools
import hashlib
import math
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from avatarzoo.data.actor import head_labels
from avatarzoo.data.frames import FrameStore
from avatarzoo.data.procedural import ProceduralActor, ProceduralClip
from avatarzoo.data.procedural_motion import random_motion
from avatarzoo.data.sound import RATE
from avatarzoo.evaluation.case import Footage, Sound
from avatarzoo.evaluation.footage import FootageSet, facial_region
from avatarzoo.geometry.camera import Camera, look_at_face
from avatarzoo.heads.base import HeadParams
from avatarzoo.perception.parsing import polygon
from avatarzoo.perception.regions import FEATURES

Kind = Literal["clip", "image", "views"]
CHUNK = 8
FPS = 25
STILL = 25
"""Frames left out at the start: a procedural clip begins with a neutral face at rest."""
VIEW_YAW = 60.0
"""Degrees to either side from which views are taken."""
MESH = 468
"""Landmarks on the skin; the rest are irises."""
KEPT = 32
"""Pieces of footage kept in memory (24 frames of 128 x 128 are 2.4 MB)."""


class MadeUp(NamedTuple):
    """What decides one piece of procedural footage; see :func:`procedural_set`."""

    name: str
    identity: str
    person: int
    take: int
    frames: int
    size: int
    ground: float | None
    kind: Kind
    sound: bool


def procedural_set(
    role: str,
    people: int,
    frames: int,
    size: int,
    ground: float | None,
    seed: int = 0,
    take: str = "",
    kind: Kind = "clip",
    sound: bool = False,
) -> FootageSet:
    """Footage of made-up people, a function of the arguments alone.

    Args:
        role: equal roles (and seeds) show the same people, different roles different ones.
        people: how many, one piece of footage each.
        frames: of a clip, or views; an image has one.
        size: side in pixels. ground: grey level behind the head, ``None`` to keep the made-up background.
        take: equal takes show the same motion of these people, different takes another (default: ``role``).
        kind: ``views`` is one expression from ``frames`` cameras, the frontal one first, the others from yaw -60 to 60 degrees.
        sound: give clips a made-up voice, whose loudness follows how far the jaw is open.
    """
    take = take or role
    items = [
        MadeUp(
            f"{take}-{i}", f"{role}-{i}", number(seed, role, i), number(seed, role, i, take),
            1 if kind == "image" else frames, size, ground, kind, sound and kind == "clip",
        )
        for i in range(people)
    ]  # fmt: skip
    return FootageSet(items, make)


def number(*of: object) -> int:
    """A seed of 31 bits that anything else would not have."""
    return int.from_bytes(hashlib.sha256(repr(of).encode()).digest()[:4], "big") >> 1


@functools.lru_cache(KEPT)
def cast(person: int, size: int) -> ProceduralActor:
    return ProceduralActor(seed=person, size=size, fps=FPS)


@functools.lru_cache(KEPT)
def make(item: MadeUp) -> Footage:
    """Render one piece of footage."""
    actor = cast(item.person, item.size)
    params, camera = performance(actor, item)
    clip = shoot(actor, params, camera)
    labels, masks = head_labels(clip)
    features = np.isin(labels, [int(region) for region in FEATURES]).astype(np.uint8) * 255
    tensor = torch.from_numpy
    store = FrameStore(
        tensor(clip.images).permute(0, 3, 1, 2).contiguous(), tensor(masks), tensor(features), params, camera,
        torch.arange(params.batch),
    )  # fmt: skip
    facial = side_faces(clip) if item.kind == "views" else facial_region(labels, clip.landmarks)
    source = {
        "kind": f"procedural {item.kind} (not a real person)", "name": item.name, "identity": item.identity,
        "actor": item.person, "frames": params.batch, "tracking": "exact ground truth",
    }  # fmt: skip
    return Footage(
        item.name, item.identity, store, facial, actor.head, fps=FPS,
        sound=voice(actor, params, item.take) if item.sound else None, ground=item.ground, procedural=True, source=source,
    )  # fmt: skip


def performance(actor: ProceduralActor, item: MadeUp) -> tuple[HeadParams, Camera]:
    """Parameters of all frames, and one camera, or one per view."""
    rng = np.random.default_rng([item.take, 2])
    if item.kind == "clip":
        motion = random_motion(actor.head, actor.identity, rng, STILL + item.frames, FPS)
        return motion.rows(slice(STILL, None)), actor.camera
    row = STILL + int(rng.integers(4 * FPS))
    moment = random_motion(actor.head, actor.identity, rng, row + 1, FPS).rows(row)
    if item.kind == "image":
        return moment, actor.camera
    side = torch.linspace(-VIEW_YAW, VIEW_YAW, item.frames)
    yaw = torch.cat([torch.zeros(1), side[side.abs().argsort(stable=True)[1:].sort().values]])
    camera = look_at_face(1.0, 20.0, item.size, yaw=torch.deg2rad(yaw))
    return moment.in_head_frame().rows([0] * item.frames), camera


def shoot(actor: ProceduralActor, params: HeadParams, camera: Camera) -> ProceduralClip:
    """Pictures and truth of any performance."""
    drawn: list[list[Tensor]] = []
    landmarks = []
    with torch.inference_mode():
        for rows in torch.arange(params.batch).split(CHUNK):
            here: Any = camera if camera.batch == 1 else camera[rows]
            part = params.rows(rows)
            drawn.append([to_bytes(x) for x in actor.render(part, here)])
            landmarks.append(actor.landmarks(part, here))
    rgb, masks, heads = (torch.cat(x).numpy() for x in zip(*drawn))
    return ProceduralClip(
        rgb, masks[..., 0], params, camera, torch.cat(landmarks).numpy(), heads[..., 0]
    )  # fmt: skip


def side_faces(clip: ProceduralClip) -> Tensor:
    """Faces ``(T, H, W)`` uint8 from any side: the hull of the true landmarks, whose oval folds over in profile, on the head."""
    size = clip.images.shape[1:3]
    hulls = [polygon(cv2.convexHull(points[:MESH])[:, 0], size) > 0.5 for points in clip.landmarks]
    return torch.from_numpy((np.stack(hulls) & (clip.head_masks > 127)).astype(np.uint8) * 255)


def to_bytes(x: Tensor) -> Tensor:
    """``(B, C, H, W)`` in [0, 1] -> ``(B, H, W, C)`` uint8."""
    return (x * 255 + 0.5).clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous()


def voice(actor: ProceduralActor, params: HeadParams, seed: int) -> Sound:
    """A hum with breath, as loud as the jaw is open (coefficient ``jawOpen``), as long as the frames."""
    rng = np.random.default_rng([seed, 3])
    jaw = params.expression[:, actor.head.expression_names.index("jawOpen")].double().numpy()
    time = np.arange(math.ceil(len(jaw) * RATE / FPS)) / RATE
    loudness = np.interp(time, (np.arange(len(jaw)) + 0.5) / FPS, jaw)
    pitch = rng.uniform(100, 220)
    hum = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 6))
    samples = 0.4 * loudness * (hum + 0.3 * rng.normal(size=len(time)))
    return Sound(samples.clip(-1, 1).astype(np.float32), RATE)
