"""Topology of the procedural head: loops round eyes, mouth and ears, a graded triangulation between them.

The half x >= 0 is built in the chart ``(angle, level)`` of :mod:`procedural_surface` and mirrored, so the head is exactly
symmetric. Lids and lips have true rims: the lid rims continue behind the lids round the eyeball, the lip rims meet on one
seam and continue into the mouth cavity. The skin with sockets and cavity is one closed surface but for the rim of the neck.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.spatial import Delaunay, cKDTree

from avatarzoo.heads.procedural_surface import (
    EYE,
    EYE_RADIUS,
    LEVELS,
    MOUTH_HALF_WIDTH,
    MOUTH_Y,
    Array,
    Skin,
    smoothstep,
)  # fmt: skip

N_LID, N_LIP, N_EAR = 32, 25, 24
LID_STEPS = np.array([0.0, 0.05, 0.15, 0.27, 0.40, 0.54, 0.70, 0.85, 1.0])
LIP_STEPS = np.array([0.0, 0.14, 0.34, 0.58, 0.80, 1.0])
AROUND_MOUTH = np.array([0.25, 0.50, 0.75, 1.0])
LIP_OPENING = 0.0016
"""Half height of the mouth's slit in the chart; the lips are closed over it in space."""
CHART_RADIUS, CHART_HEIGHT = 0.085, 0.42
EYEBALL_RINGS = np.radians([9, 18, 26.5, 38, 52, 68, 90, 112, 135, 158])
N_EYEBALL, N_TEETH = 20, 13


@dataclass
class Part:
    """One half of a part: vertices, texture vertices and what the modes need to know about each vertex.

    ``frontal`` is the position (x, y) at which displacement fields are read: the chart's, in which the mouth's slit is open.
    ``lid`` is 1 on the lid rims and 0 away from the eye, ``jaw`` is 1 for what moves with the jaw by itself (teeth).
    """

    name: str
    vertices: Array
    uv: Array
    faces: Array
    uv_faces: Array
    frontal: Array
    axis: float = 0.5  # u of the mirror line
    info: dict[str, Array] = field(default_factory=dict)


def chart(angle: Array, level: Array) -> Array:
    """Planar, nearly isometric, convex chart in metres, ``(N, 2)``; the crown is one point."""
    taper = np.sqrt(np.clip(1 - np.clip((level - 0.55) / 0.45, 0, 1) ** 2, 0, 1))
    return np.stack([angle * CHART_RADIUS * taper, level * CHART_HEIGHT], -1)


def skin_uv(angle: Array, level: Array) -> Array:
    """Texture coordinates: the face in the middle and magnified, the neck at the bottom, all four corners left free."""
    t = angle / np.pi
    top = np.clip((level - 0.55) / 0.45, 0, 1)
    width = np.sqrt(np.clip(1 - top**2, 0, 1)) * (1 - 0.46 * (1 - smoothstep(level, 0.04, 0.40)))
    return np.stack([0.5 + 0.495 * width * (1.35 * t - 0.35 * t**3), 0.005 + 0.99 * level], -1)


def lid_rim(theta: Array) -> Array:
    """Almond of the open eye relative to the eye's centre, ``(N, 2)``; theta = 0 at the outer corner, counter-clockwise."""
    s, c = np.sin(theta), np.cos(theta)
    line = -0.0006 + 0.0014 * c
    height = np.where(s > 0, 0.0055, 0.0044) * np.sign(s) * np.abs(s) ** 1.15
    return np.stack([0.0136 * c, line + height * (1 - 0.10 * c)], -1)


def lid_closure(x: Array) -> Array:
    """Height of the line on which the lids meet, relative to the eye's centre."""
    c = np.clip(x / 0.0136, -1, 1)
    return -0.0006 + 0.0014 * c - 0.0030 * (1 - c**2)


def lid_depth(xy: Array, extra: Array | float) -> Array:
    """z of the lids over the eyeball, relative to its centre: an ellipsoid wider than the ball."""
    inside = 1 - (xy[:, 0] / 0.0180) ** 2 - (xy[:, 1] / 0.0142) ** 2
    return (EYE_RADIUS + extra) * np.sqrt(np.maximum(inside, 0.04))


def lid_point(xy: Array, step: Array, skin: Array) -> Array:
    """``(N, 3)`` of lid points at ``xy`` relative to the eye, between the ball (step 0) and the ``skin`` (step 1)."""
    extra = 0.0005 + 0.0009 * smoothstep(step, 0.0, 0.06)
    ball = np.concatenate([xy + EYE[:2], (EYE[2] + lid_depth(xy, extra))[:, None]], 1)
    w = smoothstep(step, 0.10, 1.0)[:, None]
    return (1 - w) * ball + w * skin


def lip_curve(phi: Array, step: Array, around: Array) -> Array:
    """Frontal chart positions of the mouth's loops: rim (0, 0) to border of the red (1, 0) to outermost loop (1, 1)."""
    s, c = np.sin(phi), np.cos(phi)
    up = s > 0
    seam = MOUTH_Y + seam_bow(MOUTH_HALF_WIDTH * c)
    rim = np.stack([MOUTH_HALF_WIDTH * c, seam + LIP_OPENING * s], -1)
    bow = 0.0008 * np.exp(-(((c - 0.27) / 0.16) ** 2)) - 0.0007 * np.exp(-((c / 0.14) ** 2))
    height = np.where(up, 0.0074 + bow, 0.0093) * np.sign(s) * np.abs(s) ** 1.25
    border = np.stack([(MOUTH_HALF_WIDTH + 0.0012) * c, seam + height], -1)
    outer = np.stack([0.0350 * c, MOUTH_Y + np.where(up, 0.0165, 0.0190) * s], -1)
    inner = rim + (border - rim) * step[:, None]
    return inner + (outer - inner) * around[:, None]


def seam_bow(x: Array) -> Array:
    """Height of the closed lips' seam above ``MOUTH_Y``."""
    return 0.0007 * np.exp(-((x / 0.006) ** 2)) - 0.0004 * (np.abs(x) / MOUTH_HALF_WIDTH) ** 2


def lip_points(skin: Skin, phi: Array, step: Array, around: Array) -> Array:
    """``(N, 3)`` of the closed lips: the slit of the chart closed, the red of the lips swollen."""
    xy = lip_curve(phi, step, around)
    xy = xy - np.stack([0 * phi, LIP_OPENING * np.sin(phi) * (1 - step) ** 2], -1)
    swell = np.interp(step, [0, 0.14, 0.34, 0.58, 0.8, 1.0], [-0.15, 0.45, 0.85, 1.0, 0.85, 0.5])
    swell = swell * np.interp(around, [0, 0.25, 0.5, 0.75, 1], [1, 0.45, 0.12, 0, 0])
    full = np.where(np.sin(phi) > 0, 0.0040, 0.0048) * np.abs(np.sin(phi)) ** 0.8
    p = skin.point(*skin.locate(xy))
    p[:, 2] += swell * full
    return p


def quads(rows: int, columns: int, closed: bool) -> Array:
    """Triangles of a grid of ``rows`` loops (row-major); counter-clockwise when rows go outward and columns turn left."""
    i = np.arange(rows * columns).reshape(rows, columns)
    if closed:
        i = np.concatenate([i, i[:, :1]], 1)
    a, b, c, d = i[:-1, :-1].ravel(), i[1:, :-1].ravel(), i[1:, 1:].ravel(), i[:-1, 1:].ravel()
    return np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])


def fan(ring: Array, centre: int, closed: bool = True) -> Array:
    """Triangles from a ring (turning left) to a centre inside it."""
    nxt = np.roll(ring, -1)
    f = np.stack([np.full(len(ring), centre), ring, nxt], 1)
    return f if closed else f[:-1]


def build_skin(skin: Skin) -> Part:
    """The right half of the skin (x >= 0) with lids, sockets, lips and ear; the cavity is a part of its own."""
    eye_angle, eye_level, eye_points, eye_front, eye_info, eye_faces = _eye(skin)
    lip_angle, lip_level, lip_space, lip_front, lip_info, lip_faces = _lips(skin)
    ear_angle, ear_level, ear_points, ear_faces = _ear(skin)
    rest = _background(skin, eye_front[-N_LID:], lip_front[-N_LIP:], ear_angle[:N_EAR], ear_level[:N_EAR])
    angle = np.concatenate([eye_angle, lip_angle, ear_angle, rest[:, 0]])
    level = np.concatenate([eye_level, lip_level, ear_level, rest[:, 1]])
    n_eye, n_lip, n_ear = len(eye_angle), len(lip_angle), len(ear_angle)
    outer_eye = np.arange(n_eye - N_LID, n_eye)
    outer_lip = n_eye + np.arange(n_lip - N_LIP, n_lip)
    outer_ear = n_eye + n_lip + np.arange(N_EAR)
    free = n_eye + n_lip + n_ear + np.arange(len(rest))
    used = np.concatenate([outer_eye, outer_lip, outer_ear, free])
    tri = used[_triangulate(chart(angle[used], level[used]), [N_LID, N_LIP, N_EAR])]
    faces = np.concatenate([tri, eye_faces, lip_faces + n_eye, ear_faces + n_eye + n_lip])
    vertices = np.concatenate([eye_points, lip_space, ear_points, skin.point(rest[:, 0], rest[:, 1])])
    frontal = skin.base(angle, level)[:, :2]
    frontal[:n_eye], frontal[n_eye : n_eye + n_lip] = eye_front, lip_front
    middle = (angle < 1e-9) | (angle > np.pi - 1e-9)
    vertices[middle, 0] = 0.0
    n = len(vertices)
    info = {"angle": angle, "level": level}
    for key in ("lid", "theta", "socket"):
        info[key] = np.concatenate([eye_info[key], np.zeros(n - n_eye)])
    for key in ("lip", "phi"):
        info[key] = np.concatenate([np.zeros(n_eye), lip_info[key], np.zeros(n - n_eye - n_lip)])
    info["ear"] = ((np.arange(n) >= n_eye + n_lip) & (np.arange(n) < n_eye + n_lip + n_ear)).astype(float)
    return Part("skin", vertices, skin_uv(angle, level), faces, faces, frontal, 0.5, info)


def _eye(skin: Skin):
    """Lid loops from the bottom of the socket outward; ``lid`` is 1 - step, and 1 behind the rim, which ``socket`` marks."""
    theta = 2 * np.pi * np.arange(N_LID) / N_LID
    rim = lid_rim(theta)
    ellipse = np.stack([0.0205 * np.cos(theta), 0.0012 + 0.0158 * np.sin(theta)], -1)
    lids, fronts, steps = [], [], []
    for step in LID_STEPS:
        xy = rim + (ellipse - rim) * step
        on_skin = skin.point(*skin.locate(xy + EYE[:2]))
        lids.append(lid_point(xy, np.full(N_LID, step), on_skin))
        fronts.append(xy + EYE[:2])
        steps.append(np.full(N_LID, step))
    corner = np.cos(theta)[:, None] ** 8  # at the corners a membrane runs from the rim onto the ball
    socket, hidden = [], []
    for k, (scale, at_corner, back) in enumerate(
        [([1.18, 2.0], 0.80, -0.0125), ([1.12, 1.6], 0.80, -0.0040), ([1.04, 1.22], 0.86, np.nan)]
    ):
        xy = rim * (np.array(scale) * (1 - corner) + at_corner * corner)
        z = lid_depth(xy, 0.0004) if np.isnan(back) else np.full(N_LID, back)
        on_ball = np.sqrt(np.maximum(EYE_RADIUS**2 - (xy**2).sum(1), 0)) - 0.0003
        z = (1 - corner[:, 0]) * z + corner[:, 0] * (on_ball if np.isnan(back) else z)
        socket.append(np.concatenate([xy, z[:, None]], 1) + EYE)
        hidden.append(rim * (0.35 + 0.22 * k) + EYE[:2])
    centre = np.array([[0.0, 0.0, -0.0145]]) + EYE
    points = np.concatenate([centre, *socket, *lids])
    frontal = np.concatenate([EYE[None, :2], *hidden, *fronts])
    angle, level = skin.locate(frontal)
    rows = 3 + len(LID_STEPS)
    faces = np.concatenate([fan(1 + np.arange(N_LID), 0), 1 + quads(rows, N_LID, closed=True)])
    lid = 1 - np.concatenate([np.zeros(1 + 3 * N_LID), np.concatenate(steps)])
    around = np.concatenate([[0.0], np.tile(theta, rows)])
    depth = np.concatenate([[4.0], np.repeat([3.0, 2.0, 1.0], N_LID), np.zeros(len(LID_STEPS) * N_LID)])
    return angle, level, points, frontal, {"lid": lid, "theta": around, "socket": depth}, faces


def _lips(skin: Skin):
    """Half loops from the rim outward, from the middle of the lower lip over the corner to the middle of the upper lip."""
    phi = np.linspace(-np.pi / 2, np.pi / 2, N_LIP)
    step = np.repeat(np.concatenate([LIP_STEPS, np.ones(len(AROUND_MOUTH))]), N_LIP)
    around = np.repeat(np.concatenate([np.zeros(len(LIP_STEPS)), AROUND_MOUTH]), N_LIP)
    phis = np.tile(phi, len(step) // N_LIP)
    frontal = lip_curve(phis, step, around)
    frontal[np.abs(np.abs(phis) - np.pi / 2) < 1e-9, 0] = 0.0
    angle, level = skin.locate(frontal)
    angle[frontal[:, 0] == 0] = 0.0
    points = lip_points(skin, phis, step, around)
    info = {
        "lip": 1 + (1 - step) - around,
        "phi": phis,
    }  # 2 on the rim, 1 on the border of the red, 0 outside
    return angle, level, points, frontal, info, quads(len(step) // N_LIP, N_LIP, closed=False)


def _ear(skin: Skin):
    """Loops of the ear from its root on the skull over the rim to the bottom of the shell."""
    psi = 2 * np.pi * np.arange(N_EAR) / N_EAR
    root = 0.5 * np.pi + 0.06, float(np.interp(0.0, [-0.08, 0.03], [LEVELS[6], LEVELS[10]]))
    shrink = np.array([1.0, 0.88, 0.74, 0.62, 0.5, 0.38, 0.22, 0.0])
    angle = root[0] + np.concatenate([k * 0.014 / CHART_RADIUS * np.cos(psi) for k in shrink[:-1]] + [[0.0]])
    level = root[1] + np.concatenate([k * 0.026 / CHART_HEIGHT * np.sin(psi) for k in shrink[:-1]] + [[0.0]])
    on_skin = skin.point(angle[:N_EAR], level[:N_EAR])
    origin = skin.point(np.array([root[0] - 0.12]), np.array([root[1]]))[0]
    flare, lean = np.radians(32), np.radians(12)
    back = np.array([np.sin(flare), 0, -np.cos(flare)])
    front = np.array([np.cos(flare), 0, np.sin(flare)])
    up = np.array([0.06, np.cos(lean), -np.sin(lean)])
    outline = np.stack([0.0095 + 0.0155 * np.cos(psi) * (1 + 0.16 * np.sin(psi)), 0.0290 * np.sin(psi)], -1)
    middle = np.array([0.0070, 0.0])
    origin = origin - np.array([0.0022, 0.0, 0.0])
    loops = [
        on_skin,
        0.45 * on_skin + 0.55 * (origin + (outline * [0.6, 0.85]) @ np.stack([back, up]) - 0.002 * front),
    ]
    for size, depth in ((0.97, -0.0005), (1.0, 0.0025), (0.84, 0.0005), (0.66, 0.0012), (0.40, -0.0040)):
        flat = middle + (outline - middle) * size
        loops.append(origin + flat @ np.stack([back, up]) + depth * front)
    centre = origin + middle @ np.stack([back, up]) - 0.0055 * front
    points = np.concatenate([*loops, centre[None]])
    rows = len(loops)
    grid = quads(rows, N_EAR, closed=True)[:, ::-1]
    faces = np.concatenate([grid, fan((rows - 1) * N_EAR + np.arange(N_EAR), rows * N_EAR)])
    return angle, level, points, faces


def _background(skin: Skin, eye: Array, lip: Array, ear_angle: Array, ear_level: Array) -> Array:
    """Chart positions ``(N, 2)`` (angle, level) of the skin between the loops: fine on the nose, coarse on the skull."""
    loops = [chart(*skin.locate(eye)), chart(*skin.locate(lip)), chart(ear_angle, ear_level)]
    kept = [np.concatenate(loops)]
    border = _border(skin, lip)
    kept.append(chart(border[:, 0], border[:, 1]))
    result = [border]
    for spacing, zone in ((0.0031, 2), (0.0053, 1), (0.0112, 0)):
        points = _hexagonal(spacing)
        angle, level = _unchart(points)
        kept_rows = (angle < np.pi - 0.4 * spacing / CHART_RADIUS) & (level < 0.975)
        points, angle, level = (x[kept_rows] for x in (points, angle, level))
        xy = skin.base(angle, level)[:, :2]
        good = _zone(xy, angle) >= zone
        for loop in loops:
            good &= ~_inside(points, loop)
        tree = cKDTree(np.concatenate(kept))
        good &= tree.query(points)[0] > 0.62 * spacing
        kept.append(points[good])
        result.append(np.stack([angle, level], -1)[good])
    return np.concatenate(result)


def _zone(xy: Array, angle: Array) -> Array:
    front = np.cos(angle) > 0.3
    face = front & (xy[:, 0] < 0.058) & (xy[:, 1] > -0.112) & (xy[:, 1] < 0.048)
    nose = front & (xy[:, 0] < 0.021) & (xy[:, 1] > -0.050) & (xy[:, 1] < 0.022)
    return face.astype(int) + nose.astype(int)


def _hexagonal(spacing: float) -> Array:
    """A slightly sheared hexagonal lattice over the half chart (sheared so that no four points share a circle)."""
    rows = np.arange(int(CHART_HEIGHT / spacing / 0.866) + 1)
    columns = np.arange(int(np.pi * CHART_RADIUS / spacing) + 1)
    r, c = np.meshgrid(rows, columns, indexing="ij")
    x = (c + 0.5 * (r % 2) + 0.45 + 0.03 * np.sin(1.7 * r)) * spacing
    y = (r + 0.5 + 0.03 * np.sin(2.3 * c)) * spacing * 0.866
    return np.stack([x.ravel(), y.ravel()], -1)[(y.ravel() < CHART_HEIGHT - 0.3 * spacing)]


def _unchart(points: Array) -> tuple[Array, Array]:
    level = points[:, 1] / CHART_HEIGHT
    unit = chart(np.ones(len(points)), level)[:, 0]
    return points[:, 0] / np.maximum(unit, 1e-9), level


def _border(skin: Skin, lip: Array) -> Array:
    """(angle, level) along the middle of the face, the middle of the back, the neck's rim, and the crown."""
    below, above = skin.locate(lip[:1])[1][0], skin.locate(lip[-1:])[1][0]
    fine = np.interp([-0.050, 0.022], [-0.068, -0.043, 0.010, 0.033], LEVELS[[6, 7, 9, 10]])

    def between(a: float, b: float, spacing: float) -> Array:
        return np.linspace(a, b, max(2, round((b - a) * CHART_HEIGHT / spacing)) + 1)[1:-1]

    front = np.concatenate([
        [0.0], between(0.0, 0.2, 0.0095), between(0.2, below, 0.0045), between(above, fine[1], 0.0027), [fine[1]],
        between(fine[1], 0.72, 0.0050), [0.72], between(0.72, 1.0, 0.0095), [1.0],
    ])  # fmt: skip
    back = np.linspace(0, 1, 44)[:-1]
    neck = np.linspace(0, np.pi, 28)[1:-1]
    return np.concatenate([
        np.stack([0 * front, front], -1), np.stack([np.full(len(back), np.pi), back], -1), np.stack([neck, 0 * neck], -1),
    ])  # fmt: skip


def _inside(points: Array, loop: Array) -> Array:
    """Whether points lie inside a convex loop that turns left."""
    a, b = loop, np.roll(loop, -1, 0)
    d = b - a
    cross = d[:, 0] * (points[:, None, 1] - a[:, 1]) - d[:, 1] * (points[:, None, 0] - a[:, 0])
    return (cross > -1e-9 * np.abs(d).max()).all(1)


def _triangulate(points: Array, loops: list[int]) -> Array:
    """Delaunay triangles turning left; those with all corners on one loop (the holes) are dropped."""
    tri = Delaunay(points).simplices
    start = 0
    for n in loops:
        hole = ((tri >= start) & (tri < start + n)).all(1)
        tri, start = tri[~hole], start + n
    a, b, c = points[tri[:, 0]], points[tri[:, 1]], points[tri[:, 2]]
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    tri = np.where(area[:, None] < 0, tri[:, ::-1], tri)
    return tri[np.abs(area) > 1e-12]
