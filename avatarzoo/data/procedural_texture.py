"""Albedo of a procedural person, painted texel by texel from where each texel lies on the head; linear maths, no files."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from avatarzoo.geometry.uv import UVAtlas, extend_texture, uv_atlas
from avatarzoo.heads.procedural import ProceduralHead
from avatarzoo.heads.procedural_parts import TEETH_UV, HeadMesh, head_mesh
from avatarzoo.heads.procedural_surface import EYE, MOUTH_Y, Array, gaussian, smoothstep

_SKIN = np.array(
    [[0.94, 0.78, 0.68], [0.87, 0.68, 0.55], [0.74, 0.54, 0.41], [0.56, 0.38, 0.27], [0.38, 0.25, 0.18]]
)
_HAIR = np.array(
    [
        [0.09, 0.07, 0.06],
        [0.22, 0.14, 0.09],
        [0.38, 0.25, 0.14],
        [0.62, 0.48, 0.28],
        [0.45, 0.20, 0.10],
        [0.55, 0.54, 0.53],
    ]
)
_IRIS = np.array([[0.30, 0.19, 0.10], [0.22, 0.34, 0.46], [0.28, 0.38, 0.24], [0.20, 0.13, 0.08]])
_HAIRLINE = np.array([  # degrees round the head from the front, height of the hairline in metres
    [0, 0.0690], [25, 0.0700], [42, 0.0600], [56, 0.0420], [66, 0.0150], [76, -0.0120], [86, 0.0260], [104, 0.0230],
    [116, -0.0250], [140, -0.0560], [180, -0.0680],
])  # fmt: skip


class Look(NamedTuple):
    """Colours (RGB in [0, 1]) and marks of a person."""

    skin: Array
    hair: Array
    iris: Array
    cloth: Array
    lips: float
    brows: float
    stubble: float
    freckles: float
    hair_thickness: float  # metres; 0 is a bald head
    hair_shift: float  # metres the hairline lies higher


def random_look(rng: np.random.Generator) -> Look:
    """Everything about a person's colours."""
    tone = rng.uniform(0, len(_SKIN) - 1)
    skin = _SKIN[int(tone)] + (tone - int(tone)) * (_SKIN[min(int(tone) + 1, 4)] - _SKIN[int(tone)])
    dark = tone > 2.2
    hair = _HAIR[rng.integers(0, 2 if dark else len(_HAIR))] * rng.uniform(0.85, 1.15)
    iris = _IRIS[3 if dark else rng.integers(0, 4)]
    return Look(
        skin, hair, iris, rng.uniform(0.08, 0.75, 3), rng.uniform(0.5, 1.0), rng.uniform(0.75, 1.0),
        float(rng.uniform() < 0.35) * rng.uniform(0.4, 0.9), float(rng.uniform() < 0.3) * rng.uniform(0.4, 1.0),
        float(rng.uniform() > 0.08) * rng.uniform(0.005, 0.013), rng.uniform(-0.004, 0.010),
    )  # fmt: skip


def hair_cover(vertices: Array, angle: Array, shift: float, softness: float) -> Array:
    """0 on bare skin to 1 on the scalp, rising over ``softness`` metres above the hairline."""
    line = np.interp(np.degrees(angle), _HAIRLINE[:, 0], _HAIRLINE[:, 1]) + shift * (angle < 1.2)
    return smoothstep(vertices[:, 1] - line, -0.25 * softness, softness)


def paint(head: ProceduralHead, look: Look, rng: np.random.Generator, size: int = 768) -> torch.Tensor:
    """``(1, 3, size, size)`` albedo in the head's atlas."""
    mesh = head_mesh()
    atlas = uv_atlas(head.uv, head.uv_faces, head.faces, size)
    texel = _Texels(mesh, atlas)
    noise = _noise(rng, size)[:, atlas.pixels.numpy()]
    color = np.empty((len(texel.part), 3))
    for name, painter in (
        ("skin", _skin),
        ("mouth", _mouth),
        ("teeth_upper", _teeth),
        ("teeth_lower", _teeth),
        ("eyeball", _eyeball),
    ):
        here = texel.part == mesh.parts.index(name)
        color[here] = painter(texel.at(here), look, noise[:, here], rng)
    image = atlas.image(torch.from_numpy(np.clip(color, 0, 1)).float()[None])
    return extend_texture(image, atlas.mask[None, None].float(), steps=6)


class _Texels:
    """What the painters know about texels: positions and the mesh's per-vertex numbers, interpolated."""

    def __init__(self, mesh: HeadMesh, atlas: UVAtlas) -> None:
        corners, weights = atlas.corners.numpy(), atlas.weights.numpy().astype(np.float64)

        def mix(values: Array) -> Array:
            return (values[corners] * weights.reshape(*weights.shape, *[1] * (values.ndim - 1))).sum(1)

        self.part = mesh.face_part[atlas.face_id.numpy().ravel()[atlas.pixels.numpy()]]
        self.point, self.frontal = mix(mesh.vertices), mix(mesh.frontal)
        self.info = {k: mix(v) for k, v in mesh.info.items()}
        row, column = np.divmod(atlas.pixels.numpy(), atlas.size)
        self.uv = np.stack([(column + 0.5) / atlas.size, 1 - (row + 0.5) / atlas.size], -1)

    def at(self, mask: NDArray[np.bool_]) -> _Texels:
        out = object.__new__(_Texels)
        out.part, out.point, out.frontal, out.uv = (
            self.part[mask],
            self.point[mask],
            self.frontal[mask],
            self.uv[mask],
        )
        out.info = {k: v[mask] for k, v in self.info.items()}
        return out


def _noise(rng: np.random.Generator, size: int) -> Array:
    """Four textures of unit variance, coarse to fine, and one of vertical strands; ``(5, size^2)``."""
    layers = [gaussian_filter(rng.normal(size=(size, size)), s * size / 768) for s in (28, 9, 2.5, 0.8)]
    layers.append(gaussian_filter(rng.normal(size=(size, size)), (9 * size / 768, 0.9 * size / 768)))
    return np.stack([x.ravel() / x.std() for x in layers])


def _blend(color: Array, other: Array, weight: Array) -> Array:
    return color + np.clip(weight, 0, 1)[:, None] * (other - color)


def _skin(t: _Texels, look: Look, noise: Array, rng: np.random.Generator) -> Array:
    """Skin tone with redder and darker places, then stubble, freckles, lips, brows, lashes and hair."""
    q = np.stack([np.abs(t.frontal[:, 0]), t.frontal[:, 1]], -1)
    front = smoothstep(np.cos(t.info["angle"]), 0.0, 0.3)
    color = (
        np.tile(look.skin, (len(q), 1)) * (1 + 0.035 * noise[0] + 0.02 * noise[1] + 0.012 * noise[2])[:, None]
    )
    red = sum(
        w * gaussian(q, c, s, s) for c, s, w in (((0.040, -0.025), 0.014, 1.0), ((0.0, -0.031), 0.011, 0.9))
    )
    color = _blend(color, color * [1.02, 0.84, 0.80], front * red * 0.6 + 0.4 * t.info["ear"])
    shade = 0.75 * gaussian(q, (0.0068, -0.0420), 0.0028, 0.0016) + 0.45 * gaussian(
        q, (0.0175, -0.0385), 0.0016, 0.0040, 25
    )
    shade += 0.28 * gaussian(q, (0.0, -0.0765), 0.012, 0.0030) + 0.22 * gaussian(
        q, (0.0165, 0.0105), 0.0035, 0.006
    )
    shade += 0.25 * gaussian(q, (0.0310, 0.0185), 0.013, 0.0022, -3) + 0.16 * gaussian(
        q, (0.0310, -0.0010), 0.012, 0.003
    )
    shade += 0.18 * gaussian(q, (0.0240, -0.0480), 0.0018, 0.0100, 28) + 0.12 * gaussian(
        q, (0.0, -0.0500), 0.0022, 0.006
    )
    color = _blend(color, color * [0.42, 0.30, 0.27], front * shade)
    beard = (
        smoothstep(-q[:, 1], 0.034, 0.052)
        * smoothstep(t.point[:, 2], -0.005, 0.03)
        * (t.point[:, 1] > -0.122)
    )
    beard = np.where(t.info["lip"] >= 1, 0, beard) * (1 - gaussian(q, (0.034, -0.042), 0.012, 0.014))
    color = _blend(color, look.hair, 0.42 * look.stubble * beard * (0.7 + 0.3 * noise[3]))
    color = _blend(
        color, look.skin * [0.62, 0.48, 0.40], look.freckles * red * smoothstep(noise[2], 1.2, 2.0) * 0.9
    )
    color = _lips(color, t, look, noise)
    color = _lids(color, t)
    color = _brows(color, q, front, look, noise)
    cover = hair_cover(t.point, t.info["angle"] + 0.012 * noise[1], look.hair_shift, 0.006) * (
        look.hair_thickness > 0
    )
    strands = look.hair * (1 + 0.22 * noise[4] + 0.08 * noise[0])[:, None]
    return _blend(color, strands, np.where(t.info["ear"] > 0.9, 0, cover))


def _lips(color: Array, t: _Texels, look: Look, noise: Array) -> Array:
    lip = t.info["lip"]
    red = 0.55 * look.skin * [1.0, 0.62, 0.60] + 0.45 * np.array([0.72, 0.32, 0.32])
    color = _blend(color, red * (1 + 0.05 * noise[2])[:, None], look.lips * smoothstep(lip, 0.88, 1.12))
    return _blend(color, color * [0.45, 0.28, 0.28], smoothstep(lip, 1.80, 2.0))


def _lids(color: Array, t: _Texels) -> Array:
    """Lash lines, the fold above the upper lid, and the red of sockets and corners."""
    lid, upper = t.info["lid"], np.sin(t.info["theta"]) > 0
    lash = smoothstep(lid, np.where(upper, 0.86, 0.93), np.where(upper, 0.97, 1.0))
    color = _blend(color, np.array([0.10, 0.07, 0.06]), lash * np.where(upper, 0.92, 0.45))
    fold = np.exp(-0.5 * ((lid - 0.60) / 0.05) ** 2) * upper * np.clip(np.sin(t.info["theta"]), 0, 1)
    color = _blend(color, color * [0.5, 0.4, 0.37], 0.65 * fold)
    return _blend(color, np.array([0.66, 0.42, 0.38]), (t.info["socket"] > 0.05) * 1.0)


def _brows(color: Array, q: Array, front: Array, look: Look, noise: Array) -> Array:
    x = q[:, 0]
    s = np.clip((x - 0.0095) / 0.0365, 0, 1)
    line = 0.0262 + 0.0062 * np.sin(np.pi * np.minimum(s / 1.32, 1.0)) ** 1.0 - 0.0015 * s**3
    half = 0.0034 - 0.0022 * s**1.5
    inside = smoothstep(half - np.abs(q[:, 1] - line), -0.0012, 0.0010)
    ends = smoothstep(x, 0.0080, 0.0115) * (1 - smoothstep(x, 0.0425, 0.0470))
    return _blend(color, look.hair * 0.75, look.brows * front * inside * ends * (0.86 + 0.14 * noise[3]))


def _mouth(t: _Texels, look: Look, noise: Array, rng: np.random.Generator) -> Array:
    depth = t.info["depth"]
    inner = (
        np.array([0.50, 0.20, 0.20])
        * np.interp(depth, [0, 1, 2, 3, 5], [0.8, 0.7, 0.45, 0.28, 0.08])[:, None]
    )
    return inner * (1 + 0.05 * noise[1])[:, None]


def _teeth(t: _Texels, look: Look, noise: Array, rng: np.random.Generator) -> Array:
    upper = t.uv[:, 1] > (TEETH_UV[1] - 0.066)
    across = np.abs(t.uv[:, 0] - TEETH_UV[0]) / 0.070 * 78
    edges = np.array([0, 20.5, 36, 52, 66, 80]) * np.where(upper, 1.0, 0.72)[:, None]
    gap = np.exp(-0.5 * (np.abs(across[:, None] - edges).min(1) / 0.8) ** 2)
    root = MOUTH_Y + np.where(upper, 0.0095, -0.0125)
    gum = smoothstep(np.abs(t.point[:, 1] - root), 0.0040, 0.0018)
    color = _blend(np.tile([0.90, 0.87, 0.80], (len(across), 1)), np.array([0.42, 0.34, 0.30]), 0.7 * gap)
    back = np.interp(across, [0, 40, 78], [1.0, 0.85, 0.45])[:, None]
    return _blend(color, np.array([0.66, 0.34, 0.34]), gum) * back


def _eyeball(t: _Texels, look: Look, noise: Array, rng: np.random.Generator) -> Array:
    d = t.point - EYE * np.where(t.point[:, :1] > 0, [1, 1, 1], [-1, 1, 1])
    polar, turn = t.info["polar"], np.arctan2(d[:, 1], d[:, 0])
    white = np.array([0.93, 0.91, 0.89]) * (1 - 0.10 * smoothstep(polar, 0.8, 1.5))[:, None]
    color = _blend(white, np.array([0.80, 0.52, 0.48]), 0.5 * smoothstep(polar, 0.85, 1.5))
    radius = np.degrees(polar)
    fibres = 1 + 0.18 * np.sin(turn * 23 + 3 * noise[0]) + 0.5 * (1 - radius / 26) * 0.4
    iris = look.iris * (fibres * np.interp(radius, [0, 18, 24, 27], [1.25, 1.1, 0.65, 0.35]))[:, None]
    color = _blend(color, iris, smoothstep(-radius, -27.2, -25.6))
    color = _blend(color, np.array([0.015, 0.012, 0.012]), smoothstep(-radius, -11.2, -9.8))
    glint = np.exp(-0.5 * (((d[:, 0] + 0.0018) / 0.0009) ** 2 + ((d[:, 1] - 0.0022) / 0.0009) ** 2)) * (
        d[:, 2] > 0
    )
    return _blend(color, np.ones(3), 0.95 * smoothstep(glint, 0.3, 0.7))
