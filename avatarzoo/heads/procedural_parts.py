"""The loose parts of the procedural head (eyeballs, mouth cavity, teeth) and the mirroring of halves into one mesh."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from avatarzoo.heads.procedural_mesh import LIP_OPENING, N_LIP, Part, build_skin, fan, quads
from avatarzoo.heads.procedural_surface import (
    EYE,
    EYE_RADIUS,
    MOUTH_Y,
    Array,
    Skin,
    smoothstep,
)

EYEBALL_RINGS = np.radians([9, 18, 26, 33, 44, 58, 74, 92, 114, 138, 160])
IRIS_RING = 2
"""The ring of vertices on the rim of the iris (radius 5.8 mm)."""
N_EYEBALL, N_TEETH = 20, 13
EYE_UV, EYE_UV_RADIUS = (0.921, 0.921), 0.073
CAVITY_UV, CAVITY_UV_RADIUS = (0.917, 0.083), 0.077
TEETH_UV = (0.083, 0.142)  # middle of the strips, v of the upper teeth's root
_CAVITY = np.array([  # dz, spread in y, scale in x: from the lips' rim to the throat
    [-0.0030, 0.0012, 1.00], [-0.0052, 0.0085, 1.02], [-0.0085, 0.0120, 0.98], [-0.0220, 0.0120, 0.86],
    [-0.0380, 0.0100, 0.66],
])  # fmt: skip


class HeadMesh(NamedTuple):
    """Both halves of all parts; the first two arrays are float64, indices int64.

    Attributes:
        vertices: ``(V, 3)``; faces: ``(F, 3)``; uv: ``(T, 2)``; uv_faces: ``(F, 3)``.
        frontal: ``(V, 2)`` where displacement fields are read.
        part: ``(V,)`` index into ``parts``; face_part: ``(F,)``.
        mirror: ``(V,)`` index of the mirrored vertex.
        info: per-vertex numbers, see :class:`avatarzoo.heads.procedural_mesh.Part`.
    """

    vertices: Array
    faces: Array
    uv: Array
    uv_faces: Array
    frontal: Array
    part: Array
    face_part: Array
    mirror: Array
    info: dict[str, Array]
    parts: tuple[str, ...]


@lru_cache(maxsize=1)
def head_mesh() -> HeadMesh:
    """The neutral mean head; built once a process."""
    skin = Skin()
    half = build_skin(skin)
    parts = [
        half,
        build_cavity(half),
        build_teeth(half, upper=True),
        build_teeth(half, upper=False),
        build_eyeball(),
    ]
    return _mirror(parts)


def build_eyeball() -> Part:
    """Sphere round the left eye's centre with rings on iris and pupil; its texture is a disc in a top corner."""
    around = 2 * np.pi * np.arange(N_EYEBALL) / N_EYEBALL
    polar = np.repeat(EYEBALL_RINGS, N_EYEBALL)
    turn = np.tile(around, len(EYEBALL_RINGS))
    ring = np.stack([np.sin(polar) * np.cos(turn), np.sin(polar) * np.sin(turn), np.cos(polar)], -1)
    unit = np.concatenate([[[0, 0, 1.0]], ring, [[0, 0, -1.0]]])
    bulge = 0.0004 * smoothstep(unit[:, 2], np.cos(0.6), 1.0)
    n, last = len(unit), len(unit) - 1
    grid = 1 + quads(len(EYEBALL_RINGS), N_EYEBALL, closed=True)
    rim = last - N_EYEBALL + np.arange(N_EYEBALL)
    faces = np.concatenate([fan(1 + np.arange(N_EYEBALL), 0), grid, fan(rim, last)[:, ::-1]])
    radius = np.concatenate([[0.0], polar, np.full(N_EYEBALL, np.pi)])
    turns = np.concatenate([[0.0], turn, around + np.pi / N_EYEBALL])
    r = EYE_UV_RADIUS * (radius / np.pi) ** 0.8
    uv = np.stack([r * np.cos(turns), r * np.sin(turns)], -1) + EYE_UV
    apex = last + np.arange(N_EYEBALL)
    back = np.stack([np.roll(rim, -1), rim, apex], -1)
    uv_faces = np.concatenate([fan(1 + np.arange(N_EYEBALL), 0), grid, back])
    faces[-N_EYEBALL:] = np.stack([np.roll(rim, -1), rim, np.full(N_EYEBALL, last)], -1)
    points = EYE + unit * (EYE_RADIUS + bulge)[:, None]
    return Part(
        "eyeball",
        points,
        uv,
        faces,
        uv_faces,
        np.tile(EYE[:2], (n, 1)),
        0.5,
        {"polar": np.arccos(unit[:, 2])},
    )


def build_cavity(skin: Part) -> Part:
    """From the lips' rim (shared with the skin) over the inner side of the lips into the mouth; textured by a disc."""
    rim = np.flatnonzero(skin.info["lip"] == 2.0)
    phi = skin.info["phi"][rim]
    points, fronts = [skin.vertices[rim]], [skin.frontal[rim]]
    for dz, spread, scale in _CAVITY:
        p = skin.vertices[rim] * np.array([scale, 1, 1]) + np.array([0, 0, dz])
        p[:, 1] += spread * np.sign(np.sin(phi)) * np.abs(np.sin(phi)) ** 0.7
        points.append(p)
        fronts.append(skin.frontal[rim])
    points.append(np.array([[0.0, MOUTH_Y, skin.vertices[rim[0], 2] - 0.042]]))
    fronts.append(np.array([[0.0, MOUTH_Y - 0.5 * LIP_OPENING]]))
    rows = len(_CAVITY) + 1
    grid = quads(rows, N_LIP, closed=False)[:, ::-1]
    faces = np.concatenate([grid, fan((rows - 1) * N_LIP + np.arange(N_LIP), rows * N_LIP, closed=False)])
    radius = np.append(np.repeat(CAVITY_UV_RADIUS * np.linspace(1, 0.25, rows), N_LIP), 0.0)
    turn = np.append(np.tile(phi, rows), 0.0)
    uv = np.stack([radius * np.cos(turn), radius * np.sin(turn)], -1) + CAVITY_UV
    uv[np.abs(np.cos(turn)) < 1e-9, 0] = CAVITY_UV[0]
    depth = np.append(np.repeat(np.arange(rows), N_LIP), rows).astype(float)
    return Part(
        "mouth",
        np.concatenate(points),
        uv,
        faces,
        faces,
        np.concatenate(fronts),
        CAVITY_UV[0],
        {"depth": depth},
    )


def build_teeth(skin: Part, upper: bool) -> Part:
    """Half of a closed row of teeth along an elliptic arch just behind the lips."""
    front = skin.vertices[skin.info["lip"] == 2.0][0, 2] - (0.0062 if upper else 0.0082)
    alpha = np.linspace(0, np.radians(78), N_TEETH)
    arch = np.stack([0.0245 * np.sin(alpha), front - 0.030 * (1 - np.cos(alpha))], -1)
    inward = -np.stack([np.sin(alpha) / 0.0245, np.cos(alpha) / 0.030], -1)
    inward /= np.linalg.norm(inward, axis=1, keepdims=True)
    sign, edge, root = (
        (1.0, MOUTH_Y - 0.0032, MOUTH_Y + 0.0095) if upper else (-1.0, MOUTH_Y - 0.0042, MOUTH_Y - 0.0125)
    )
    ring = np.array(
        [[0.0012, root], [0.0, 0.6 * edge + 0.4 * root], [0.0006, edge], [0.0022, edge], [0.0045, root]]
    )
    rows = []
    for depth, y in ring:
        xz = arch + inward * depth
        xz[0, 0] = 0.0
        rows.append(np.stack([xz[:, 0], np.full(N_TEETH, y), xz[:, 1]], -1))
    cap = np.array([[0.0, (edge + root) / 2, 0.0]])
    cap[0, [0, 2]] = arch[-1] + inward[-1] * 0.002
    n = N_TEETH
    points = np.concatenate([*rows, cap])
    grid = quads(6, n, closed=False)
    ends = np.array([[k * n + n - 1, (k + 1) * n + n - 1, 6 * n] for k in range(5)])
    uv_faces = np.concatenate([grid, ends])[:, :: int(sign)]
    faces = np.where(uv_faces == 6 * n, 5 * n, np.where(uv_faces >= 5 * n, uv_faces - 5 * n, uv_faces))
    v = np.repeat(TEETH_UV[1] - (0 if upper else 0.132) - sign * 0.011 * np.arange(6), n)
    u = TEETH_UV[0] + np.tile(0.070 * np.linspace(0, 1, n), 6)
    uv = np.stack([np.append(u, TEETH_UV[0] + 0.075), np.append(v, v.mean())], -1)
    name = "teeth_upper" if upper else "teeth_lower"
    return Part(name, points, uv, faces, uv_faces, points[:, :2].copy(), TEETH_UV[0], {})


def _mirror(halves: list[Part]) -> HeadMesh:
    """Reflect every half, join halves along x = 0 and the cavity to the lips' rim."""
    names = tuple(p.name for p in halves)
    keys = sorted({k for p in halves for k in p.info})
    vertices, frontal, part = [], [], []
    info: dict[str, list[Array]] = {k: [] for k in keys}
    faces, uv, uv_faces, face_part, mirror = [], [], [], [], []
    n_vertices = n_uv = 0
    for index, p in enumerate(halves):
        count = len(p.vertices)
        middle = (p.vertices[:, 0] == 0) & (p.name != "eyeball")
        own = np.arange(count)
        other = np.where(middle, own, count - 1 + np.cumsum(~middle))
        flip, flip_front = p.vertices[~middle] * [-1, 1, 1], p.frontal[~middle] * [-1, 1]
        vertices.append(np.concatenate([p.vertices, flip]))
        frontal.append(np.concatenate([p.frontal, flip_front]))
        back = np.empty(count + len(flip), int)
        back[own], back[other] = other, own
        for k in keys:
            values = p.info.get(k, np.zeros(count))
            info[k].append(np.concatenate([values, values[~middle]]))
        faces.append(np.concatenate([p.faces, other[p.faces][:, ::-1]]) + n_vertices)
        uv_middle = np.abs(p.uv[:, 0] - p.axis) < 1e-9
        uv_other = np.where(uv_middle, np.arange(len(p.uv)), len(p.uv) - 1 + np.cumsum(~uv_middle))
        uv.append(
            np.concatenate([p.uv, np.stack([2 * p.axis - p.uv[~uv_middle, 0], p.uv[~uv_middle, 1]], -1)])
        )
        uv_faces.append(np.concatenate([p.uv_faces, uv_other[p.uv_faces][:, ::-1]]) + n_uv)
        part.append(np.full(count + len(flip), index))
        face_part.append(np.full(2 * len(p.faces), index))
        mirror.append(back + n_vertices)
        n_vertices, n_uv = n_vertices + count + len(flip), n_uv + len(uv[-1])
    mesh = HeadMesh(
        np.concatenate(vertices), np.concatenate(faces), np.concatenate(uv), np.concatenate(uv_faces),
        np.concatenate(frontal), np.concatenate(part), np.concatenate(face_part), np.concatenate(mirror),
        {k: np.concatenate(v) for k, v in info.items()}, names,
    )  # fmt: skip
    return _join_cavity(mesh)


def _join_cavity(mesh: HeadMesh) -> HeadMesh:
    """Replace the cavity's first loop by the lips' rim of the skin, so that both are one surface."""
    rim = np.flatnonzero((mesh.info["lip"] == 2.0) & (mesh.part == 0))
    loop = np.flatnonzero((mesh.part == 1) & (mesh.info["depth"] == 0.0))
    order = _match(mesh.frontal[loop], mesh.frontal[rim])
    target = np.arange(len(mesh.vertices))
    target[loop] = rim[order]
    keep = np.ones(len(target), bool)
    keep[loop] = False
    new = np.cumsum(keep) - 1
    renumber = new[target]
    return mesh._replace(
        vertices=mesh.vertices[keep], faces=renumber[mesh.faces], frontal=mesh.frontal[keep], part=mesh.part[keep],
        mirror=renumber[mesh.mirror[keep]], info={k: v[keep] for k, v in mesh.info.items()},
    )  # fmt: skip


def _match(a: Array, b: Array) -> Array:
    """For every row of ``a`` the equal row of ``b``."""
    distance = np.abs(a[:, None] - b[None]).sum(-1)
    return distance.argmin(1)
