"""Identity modes of the procedural head: forty named changes of a face and sixty smooth fields orthogonal to them.

Every mode is a displacement for one standard deviation, in metres. Eyeballs with the lids round them, and each row of
teeth, move rigidly, so that closed lids and closed lips stay closed for every identity.
"""

from __future__ import annotations

import numpy as np

from avatarzoo.heads.procedural_parts import HeadMesh
from avatarzoo.heads.procedural_surface import EYE, MOUTH_Y, Array, smoothstep

N_IDENTITY = 100
N_ASYMMETRIC = 20

# Gaussians in space, mirrored: x, y, z of the centre, dx, dy, dz in millimetres, three standard deviations in metres.
_LOCAL: dict[str, list[tuple]] = {
    "jaw width": [(0.052, -0.075, 0.020, 4.0, 0, 0, 0.022, 0.022, 0.030)],
    "cheekbones": [(0.055, -0.015, 0.055, 3.0, 0, 1.0, 0.018, 0.016, 0.025)],
    "forehead width": [(0.062, 0.060, 0.040, 3.5, 0, 0, 0.025, 0.030, 0.040)],
    "forehead slope": [(0.0, 0.070, 0.080, 0, 0, -4.0, 0.060, 0.022, 0.035)],
    "brow ridge": [(0.026, 0.030, 0.084, 0, 0, 2.2, 0.016, 0.007, 0.020)],
    "brow height": [(0.026, 0.032, 0.084, 0, 2.2, 0, 0.020, 0.009, 0.020)],
    "eye distance": [(0.0315, 0.0085, 0.070, 1.6, 0, 0, 0.020, 0.022, 0.030)],
    "eye height": [(0.0315, 0.0085, 0.070, 0, 1.6, 0, 0.026, 0.022, 0.030)],
    "eye depth": [(0.0315, 0.0085, 0.070, 0, 0, 1.6, 0.024, 0.020, 0.030)],
    "nose length": [(0.0, -0.034, 0.105, 0, -2.2, 0, 0.016, 0.016, 0.022)],
    "nose protrusion": [(0.0, -0.029, 0.108, 0, 0, 2.6, 0.012, 0.018, 0.022)],
    "nose bridge": [(0.0, 0.004, 0.090, 0, 0, 1.8, 0.007, 0.014, 0.020)],
    "nose hump": [(0.0, -0.008, 0.097, 0, 0, 1.3, 0.006, 0.007, 0.020)],
    "nose wings": [(0.014, -0.035, 0.098, 2.0, 0, 0, 0.008, 0.010, 0.014)],
    "nose bridge width": [(0.009, -0.005, 0.090, 1.3, 0, 0, 0.007, 0.018, 0.016)],
    "nose tip": [(0.0, -0.031, 0.112, 0, 2.2, 0.8, 0.009, 0.007, 0.012)],
    "mouth width": [(0.0255, MOUTH_Y, 0.080, 2.2, 0, 0, 0.014, 0.016, 0.024)],
    "mouth height": [(0.0, MOUTH_Y, 0.085, 0, 1.8, 0, 0.034, 0.018, 0.030)],
    "mouth protrusion": [(0.0, MOUTH_Y, 0.090, 0, 0, 2.2, 0.024, 0.018, 0.030)],
    "corners of the mouth": [(0.0255, MOUTH_Y, 0.080, 0, 1.3, 0, 0.009, 0.010, 0.020)],
    "chin protrusion": [(0.0, -0.098, 0.090, 0, 0, 3.2, 0.020, 0.016, 0.030)],
    "chin height": [(0.0, -0.103, 0.080, 0, -3.2, 0, 0.030, 0.018, 0.040)],
    "chin width": [(0.022, -0.098, 0.082, 2.6, 0, 0, 0.014, 0.014, 0.025)],
    "chin cleft": [(0.0, -0.098, 0.096, 0, 0, -0.9, 0.004, 0.008, 0.014)],
    "cheek fullness": [(0.046, -0.048, 0.060, 3.0, 0, 2.0, 0.018, 0.020, 0.030)],
    "mid-face fullness": [(0.034, -0.024, 0.078, 0, 0, 1.8, 0.014, 0.012, 0.020)],
    "temples": [(0.066, 0.035, 0.040, 2.2, 0, 0, 0.016, 0.020, 0.025)],
    "under the chin": [(0.0, -0.115, 0.055, 0, -3.0, 1.0, 0.030, 0.016, 0.026)],
    "neck width": [(0.055, -0.135, -0.020, 4.0, 0, 0, 0.030, 0.028, 0.060)],
    "neck depth": [(0.0, -0.130, -0.070, 0, 0, -4.0, 0.060, 0.036, 0.040)],
    "back of the head": [(0.0, 0.030, -0.100, 0, 0, -5.0, 0.070, 0.050, 0.050)],
    "crown": [(0.0, 0.110, -0.010, 0, 5.0, 0, 0.070, 0.040, 0.070)],
}


def identity_basis(mesh: HeadMesh) -> Array:
    """``(V, 3, 100)``: global proportions, local features, lips and ears, then smooth fields."""
    fields = _global_fields() + [_gaussian_field(rows) for rows in _LOCAL.values()]
    named = np.stack([_rigid(mesh, field) for field in fields] + _lips_and_ears(mesh), -1)
    smooth = np.stack([_rigid(mesh, f) for f in _smooth_fields(N_IDENTITY - named.shape[-1])], -1)
    flat, rest = named.reshape(-1, named.shape[-1]), smooth.reshape(-1, smooth.shape[-1])
    q, _ = np.linalg.qr(np.concatenate([flat, rest], 1))
    rest = q[:, flat.shape[1] :]
    rest *= np.linspace(0.16e-3, 0.05e-3, rest.shape[1]) * np.sqrt(
        len(rest) / 3
    )  # RMS from 0.16 to 0.05 mm a vertex
    return np.concatenate([flat, rest], 1).reshape(*named.shape[:2], N_IDENTITY)


def at_joint(mesh: HeadMesh, basis: Array, point: Array, count: int = 24) -> Array:
    """``(3, 100)`` motion of a joint inside the head: the mean of the vertices nearest to it (skin only)."""
    skin = np.flatnonzero(mesh.part == 0)
    near = skin[np.argsort(np.linalg.norm(mesh.vertices[skin] - point, axis=1), kind="stable")[:count]]
    return basis[near].mean(0)


def _global_fields():
    def scale(factors, low=None):
        def field(p: Array) -> Array:
            w = 1.0 if low is None else smoothstep(p[:, 1], *low)[:, None]
            return p * np.asarray(factors) * w

        return field

    return [
        scale((0.025, 0.025, 0.025)), scale((0.035, 0, 0)), scale((0, 0, 0.035), low=(-0.06, 0.06)), scale((0, 0.03, 0)),
        scale((0, 0.05, 0), low=(0.02, -0.10)), scale((0.06, 0, 0), low=(-0.02, -0.10)),
    ]  # fmt: skip


def _gaussian_field(rows: list[tuple]):
    def field(p: Array) -> Array:
        out = np.zeros_like(p)
        for x, y, z, dx, dy, dz, sx, sy, sz in rows:
            for side in (1.0, -1.0) if x > 0 else (1.0,):
                g = np.exp(-0.5 * (((p - [side * x, y, z]) / [sx, sy, sz]) ** 2).sum(1))
                out += 0.75e-3 * g[:, None] * np.array([side * dx, dy, dz])
        return out

    return field


def _smooth_fields(count: int):
    """Gaussian fields of random place, direction and width; the last ones differ from left to right."""
    rng = np.random.default_rng(20240229)
    fields = []
    for k in range(count):
        angle, y = rng.uniform(0, 1.5), rng.uniform(-0.11, 0.09)
        x, z = 0.066 * np.sin(angle), -0.005 + 0.095 * np.cos(angle)
        width = rng.uniform(0.013, 0.032)
        d = rng.normal(size=3) * [1.0, 1.0, 1.3]
        if k < count - N_ASYMMETRIC:
            fields.append(_gaussian_field([(max(x, 1e-3), y, z, *d, width, width, width)]))
        else:
            fields.append(_one_sided((x * rng.choice([-1.0, 1.0]), y, z), d, width))
    return fields


def _one_sided(centre: tuple, direction: Array, width: float):
    def field(p: Array) -> Array:
        return 1e-3 * np.exp(-0.5 * (((p - np.asarray(centre)) / width) ** 2).sum(1))[:, None] * direction

    return field


def _rigid(mesh: HeadMesh, field) -> Array:
    """The field on all vertices, but rigid on eyeballs with their lids and on rows of teeth."""
    out = field(mesh.vertices)
    name = np.array(mesh.parts)[mesh.part]
    lid = np.where(mesh.info["socket"] > 0, 1.0, smoothstep(mesh.info["lid"], 0.0, 0.7))
    weight = np.where(name == "eyeball", 1.0, lid * (name == "skin"))[:, None]
    side = np.where(mesh.vertices[:, 0] > 0, 1.0, -1.0)
    at_eyes = field((EYE + np.array([0, 0, 0.010])) * np.array([[1, 1, 1], [-1, 1, 1]]))
    out = (1 - weight) * out + weight * np.where(side[:, None] > 0, at_eyes[0], at_eyes[1])
    teeth = np.char.startswith(name, "teeth")
    out[teeth] = field(np.array([[0.0, MOUTH_Y, 0.085]]))
    return out


def _lips_and_ears(mesh: HeadMesh) -> list[Array]:
    """Fullness of the upper and the lower lip (the seam stays), size and stand of the ears."""
    lip, phi = np.where(mesh.part == 0, mesh.info["lip"], 0.0), mesh.info["phi"]
    red = (
        np.interp(lip, [0.0, 1.0, 1.5, 2.0], [0.0, 1.0, 0.6, 0.0])[:, None]
        * np.abs(np.sin(phi))[:, None] ** 0.7
    )
    fields = [red * (phi > 0)[:, None] * [0, 1.4e-3, 0.9e-3], red * (phi < 0)[:, None] * [0, -1.4e-3, 0.9e-3]]
    v, ear = mesh.vertices, mesh.info["ear"][:, None]
    side = np.sign(v[:, :1])
    stand = np.clip((np.abs(v[:, :1]) - 0.070) / 0.016, 0, 1) * ear
    fields.append(stand * side * np.array([[2.5e-3, 0, 0]]))
    fields.append(stand * (v - [0, -0.004, -0.010]) * [0.0, 0.10, 0.10])
    return fields
