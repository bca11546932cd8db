"""How a procedural person moves: head, speech, blinks, gaze, brows; smooth, random, made from a seed."""

from __future__ import annotations

import numpy as np
import torch

from avatarzoo.heads.base import HeadParams
from avatarzoo.heads.procedural import ProceduralHead
from avatarzoo.heads.procedural_surface import Array

MAX_YAW, MAX_PITCH, MAX_ROLL = np.radians([25.0, 10.0, 7.0])
LOOK_AHEAD = 2.0
"""Seconds after the end of a clip in which events still begin that its last frames foreshadow."""
BLINK = np.array([0.0, 0.55, 1.0, 1.0, 0.72, 0.42, 0.2, 0.07, 0.0])
"""Closing of the lids over a blink, in steps of 1/25 s: quick down, slower up."""
_VISEMES = (  # what the mouth does on one syllable, coefficients at full voice
    {"jawOpen": 0.55, "mouthLowerDown": 0.25}, {"jawOpen": 0.30, "mouthStretch": 0.35, "mouthUpperUp": 0.25},
    {"jawOpen": 0.22, "mouthFunnel": 0.65}, {"mouthPucker": 0.75, "jawOpen": 0.10}, {"mouthPress": 0.6},
    {"jawOpen": 0.18, "mouthLowerDown": 0.45, "mouthUpperUp": 0.2}, {"mouthRollLower": 0.6, "jawOpen": 0.05},
    {"jawOpen": 0.40, "mouthSmile": 0.2}, {"jawOpen": 0.12, "mouthSmile": 0.3, "mouthUpperUp": 0.3},
)  # fmt: skip


def random_motion(
    head: ProceduralHead, identity: torch.Tensor, rng: np.random.Generator, frames: int, fps: float
) -> HeadParams:
    """``frames`` rows; the rigid motion is ``rotation`` and ``translation``, jaw and neck joints rest.

    Gaze is in ``eyes`` and the lids follow it through the eyeLook coefficients. The clip starts with a neutral half second.
    """
    wanted, frames = frames, frames + int(np.ceil(LOOK_AHEAD * fps))
    time = np.arange(frames) / fps
    start = np.clip((time - 0.3) / 0.5, 0, 1)
    # a generator for each kind of motion, and events beyond the end: a longer clip then begins like a shorter one
    rng, voice, mood, look, lids = rng.spawn(5)
    yaw = MAX_YAW * _wander(rng, time, 0.16) * start
    pitch = MAX_PITCH * _wander(rng, time, 0.20) * start
    roll = MAX_ROLL * _wander(rng, time, 0.13) * start
    angles = np.stack([pitch, yaw, roll], -1)
    shift = (
        np.stack([_wander(rng, time, f) for f in (0.12, 0.15, 0.10)], -1)
        * [0.010, 0.006, 0.012]
        * start[:, None]
    )
    tracks = {name: np.zeros(frames) for name in head.expression_names}
    _speak(voice, time, tracks)
    _brows_and_mood(mood, time, tracks)
    gaze = _gaze(look, time) * start[:, None]
    _follow_gaze(gaze, tracks)
    closing = _blinks(lids, time)
    for side in "LR":
        tracks[f"eyeBlink_{side}"] = closing
        for name in ("eyeWide", "eyeSquint", "eyeLookDown", "eyeLookUp"):
            tracks[f"{name}_{side}"] = tracks[f"{name}_{side}"] * (1 - closing)
    expression = np.stack([np.clip(tracks[name], 0, 1) for name in head.expression_names], -1)
    eyes = np.stack([-gaze[:, 1], gaze[:, 0], 0 * time] * 2, -1)
    to = torch.from_numpy
    params = head.zeros(frames)._replace(
        identity=identity.expand(frames, -1).contiguous(), expression=to(expression).float(), eyes=to(eyes).float(),
        rotation=to(angles).float(), translation=to(shift).float(),
    )  # fmt: skip
    return params.rows(slice(0, wanted))


def _wander(rng: np.random.Generator, time: Array, rate: float) -> Array:
    """Smooth noise in [-1, 1] of about ``rate`` hertz."""
    total = np.zeros_like(time)
    for k in range(4):
        total += (
            rng.uniform(0.6, 1.0)
            / (1 + 0.6 * k)
            * np.sin(
                2 * np.pi * rate * (1 + 0.83 * k) * rng.uniform(0.8, 1.2) * time + rng.uniform(0, 2 * np.pi)
            )
        )
    return np.tanh(0.9 * total)


def _bump(time: Array, centre: float, width: float) -> Array:
    u = np.abs(time - centre) / width
    return np.where(u < 3, np.exp(-0.5 * u**2), 0.0)


def _both(tracks: dict[str, Array], name: str, values: Array, left: float = 1.0, right: float = 1.0) -> None:
    if name in tracks:
        tracks[name] = np.maximum(tracks[name], values)
    else:
        for side, share in (("L", left), ("R", right)):
            tracks[f"{name}_{side}"] = np.maximum(tracks[f"{name}_{side}"], share * values)


def _speak(rng: np.random.Generator, time: Array, tracks: dict[str, Array]) -> None:
    """Phrases of syllables, four to six a second, with pauses."""
    now = 0.6
    while now < time[-1]:
        phrase_end = now + rng.uniform(1.2, 3.5)
        while now < min(phrase_end, time[-1]):
            voice = rng.uniform(0.6, 1.25)
            width = rng.uniform(0.055, 0.085)
            for name, value in _VISEMES[rng.integers(len(_VISEMES))].items():
                _both(tracks, name, voice * value * _bump(time, now, width))
            now += rng.uniform(0.16, 0.26)
        now += rng.uniform(0.3, 1.2)


def _brows_and_mood(rng: np.random.Generator, time: Array, tracks: dict[str, Array]) -> None:
    """Slow brow movements on both sides or one, a smile now and then, and the odd grimace."""
    moods = (
        {"browInnerUp": 0.8, "browOuterUp": 0.7}, {"browDown": 0.8, "eyeSquint": 0.3}, {"browOuterUp": 0.7, "eyeWide": 0.6},
        {"mouthSmile": 0.85, "cheekSquint": 0.6, "eyeSquint": 0.4}, {"mouthSmile": 0.6},
        {"mouthFrown": 0.6, "browInnerUp": 0.5},
        {"cheekPuff": 0.7}, {"noseSneer": 0.6, "browDown": 0.4}, {"mouthLeft": 0.6}, {"mouthRight": 0.6}, {"jawLeft": 0.4},
    )  # fmt: skip
    now = 0.8
    while now < time[-1]:
        length = rng.uniform(0.25, 0.6)
        left, right = ((1.0, 1.0), (1.0, 0.4), (0.4, 1.0))[rng.choice(3, p=[0.7, 0.15, 0.15])]
        for name, value in moods[rng.integers(len(moods))].items():
            _both(tracks, name, value * rng.uniform(0.6, 1.1) * _bump(time, now, length), left, right)
        now += rng.uniform(1.0, 2.2)


def _gaze(rng: np.random.Generator, time: Array) -> Array:
    """``(T, 2)`` yaw and pitch of both eyes in radians: held targets, with jumps of about 60 ms."""
    out, now, here = np.zeros((len(time), 2)), rng.uniform(0.5, 1.5), np.zeros(2)
    while now < time[-1]:
        target = rng.normal(size=2) * np.radians([7.0, 4.5]) * (rng.uniform() > 0.3)
        target = np.clip(target, -np.radians([15, 10]), np.radians([15, 10]))
        out += (target - here) * np.clip((time[:, None] - now) / 0.06, 0, 1)
        now, here = now + rng.uniform(0.5, 2.0), target
    return out


def _follow_gaze(gaze: Array, tracks: dict[str, Array]) -> None:
    """Lids follow the eyes; coefficient 1 is 25 degrees."""
    yaw, pitch = gaze.T / np.radians(25.0)
    for side, outward in (("L", yaw), ("R", -yaw)):
        tracks[f"eyeLookUp_{side}"], tracks[f"eyeLookDown_{side}"] = (
            np.maximum(pitch, 0),
            np.maximum(-pitch, 0),
        )
        tracks[f"eyeLookOut_{side}"], tracks[f"eyeLookIn_{side}"] = (
            np.maximum(outward, 0),
            np.maximum(-outward, 0),
        )


def _blinks(rng: np.random.Generator, time: Array) -> Array:
    """A blink every one to four seconds."""
    closing, now = np.zeros_like(time), rng.uniform(0.8, 1.6)
    while now < time[-1]:
        closing = np.maximum(
            closing, np.interp(time - now, np.arange(len(BLINK)) / 25.0, BLINK, left=0, right=0)
        )
        now += rng.uniform(1.0, 4.0)
    return closing
