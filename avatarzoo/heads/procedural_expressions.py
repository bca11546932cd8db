"""Expression modes of the procedural head: fifty of the ARKit shapes, as displacement fields on its lids, lips and skin.

Displacements are for the coefficient 1, in metres. The eyeLook shapes move the lids only; the eyeballs are turned by the
eye joints. Of ARKit's 52 shapes ``tongueOut`` (there is no tongue) and ``mouthShrugUpper`` are left out.
"""

from __future__ import annotations

import numpy as np

from avatarzoo.heads.procedural_mesh import LIP_OPENING, lid_closure, lid_depth, lid_rim, seam_bow
from avatarzoo.heads.procedural_parts import HeadMesh
from avatarzoo.heads.procedural_surface import (
    EYE,
    LEVELS,
    MOUTH_HALF_WIDTH,
    MOUTH_Y,
    Array,
    gaussian,
    smoothstep,
)

JAW_JOINT = np.array([0.0, -0.0120, 0.0060])
JAW_OPENING = np.radians(17.0)
"""Turn of the jaw at ``jawOpen`` = 1."""
A = MOUTH_HALF_WIDTH

_PAIRS = (
    "eyeBlink", "eyeLookDown", "eyeLookIn", "eyeLookOut", "eyeLookUp", "eyeSquint", "eyeWide", "mouthSmile", "mouthFrown",
    "mouthDimple", "mouthStretch", "mouthPress", "mouthLowerDown", "mouthUpperUp", "browDown", "browOuterUp", "cheekSquint",
    "noseSneer",
)  # fmt: skip
_SINGLES = (
    "jawForward", "jawLeft", "jawRight", "jawOpen", "mouthClose", "mouthFunnel", "mouthPucker", "mouthLeft", "mouthRight",
    "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "browInnerUp", "cheekPuff",
)  # fmt: skip
EXPRESSION_NAMES = tuple(f"{name}_{side}" for name in _PAIRS for side in "LR") + _SINGLES

# Sums of Gaussians of the left side: x, y, dx, dy, dz (millimetres), standard deviations, tilt, and which lip moves
# ("both", "upper", "lower"); x and y in metres at the neutral head.
_FIELDS: dict[str, list[tuple]] = {
    "mouthSmile": [
        (A, -0.0605, 7.5, 7.0, -4.0, 0.0115, 0.0110, 0, "both"),
        (0.0410, -0.0270, 0.5, 4.0, 2.5, 0.0150, 0.0130, 20, "both"),
        (0.0120, -0.0600, 1.5, 0.6, -0.8, 0.0080, 0.0080, 0, "both"),
    ],
    "mouthFrown": [
        (A, -0.0640, 1.0, -7.0, -1.0, 0.0120, 0.0120, 0, "both"),
        (0.0120, -0.0850, 0.0, 2.0, 1.0, 0.0120, 0.0080, 0, "both"),
    ],
    "mouthDimple": [(A + 0.001, -0.0610, 4.5, 1.5, -4.0, 0.0095, 0.0100, 0, "both")],
    "mouthStretch": [
        (A, -0.0640, 8.0, -4.0, -3.0, 0.0130, 0.0120, 0, "both"),
        (0.0330, -0.0900, 3.0, -3.0, 0.0, 0.0140, 0.0180, 0, "both"),
    ],
    "mouthPress": [
        (0.0140, -0.0540, 0.0, -2.0, -1.6, 0.0100, 0.0034, 0, "both"),
        (0.0140, -0.0705, 0.0, 2.4, -1.6, 0.0100, 0.0040, 0, "both"),
        (A, -0.0615, 1.5, 0.0, -1.0, 0.0080, 0.0070, 0, "both"),
    ],
    "mouthLowerDown": [
        (0.0115, -0.0665, 0.5, -6.5, -0.5, 0.0080, 0.0085, 0, "lower"),
        (0.0140, -0.0800, 0.5, -3.0, 1.0, 0.0110, 0.0090, 0, "lower"),
    ],
    "mouthUpperUp": [
        (0.0115, -0.0570, 0.5, 5.5, 0.3, 0.0080, 0.0075, 0, "upper"),
        (0.0190, -0.0420, 1.0, 3.0, 1.0, 0.0090, 0.0100, 20, "upper"),
    ],
    "browDown": [
        (0.0190, 0.0290, -2.0, -6.0, 1.2, 0.0120, 0.0080, 0, "both"),
        (0.0350, 0.0310, -0.5, -3.5, 0.6, 0.0100, 0.0075, 0, "both"),
    ],
    "browOuterUp": [
        (0.0370, 0.0310, 0.5, 6.0, -0.5, 0.0130, 0.0110, -10, "both"),
        (0.0360, 0.0520, 0.0, 3.0, 0.0, 0.0140, 0.0140, 0, "both"),
    ],
    "cheekSquint": [
        (0.0390, -0.0130, 0.5, 4.5, 2.5, 0.0150, 0.0095, 10, "both"),
        (0.0320, -0.0050, 0.0, 1.8, 0.5, 0.0120, 0.0040, 0, "both"),
    ],
    "noseSneer": [
        (0.0125, -0.0340, 0.8, 3.6, 0.6, 0.0060, 0.0080, 0, "both"),
        (0.0140, -0.0500, 0.3, 2.6, 0.4, 0.0080, 0.0065, 0, "upper"),
        (0.0100, 0.0000, 0.0, 2.2, 1.2, 0.0060, 0.0090, 0, "both"),
    ],
    "mouthFunnel": [
        (0.0000, -0.0540, 0.0, 3.5, 6.0, 0.0140, 0.0065, 0, "upper"),
        (0.0000, -0.0690, 0.0, -4.5, 6.0, 0.0140, 0.0075, 0, "lower"),
        (A, -0.0615, -8.5, 0.0, 2.0, 0.0110, 0.0130, 0, "both"),
    ],
    "mouthPucker": [
        (0.0000, -0.0615, 0.0, 0.0, 6.5, 0.0135, 0.0120, 0, "both"),
        (A, -0.0615, -9.5, 0.0, 1.5, 0.0115, 0.0150, 0, "both"),
        (0.0120, -0.0615, -3.2, 0.0, 1.0, 0.0070, 0.0110, 0, "both"),
    ],
    "mouthRollLower": [
        (0.0000, -0.0710, 0.0, 4.0, -4.5, 0.0200, 0.0042, 0, "lower"),
        (0.0000, -0.0640, 0.0, 0.0, -3.0, 0.0170, 0.0030, 0, "lower"),
    ],
    "mouthRollUpper": [
        (0.0000, -0.0535, 0.0, -3.2, -4.0, 0.0200, 0.0038, 0, "upper"),
        (0.0000, -0.0595, 0.0, 0.0, -3.0, 0.0170, 0.0030, 0, "upper"),
    ],
    "mouthShrugLower": [
        (0.0000, -0.0670, 0.0, 4.5, 2.5, 0.0200, 0.0110, 0, "both"),
        (0.0000, -0.0900, 0.0, 4.0, 1.5, 0.0180, 0.0120, 0, "both"),
    ],
    "browInnerUp": [
        (0.0120, 0.0310, 0.3, 7.5, 0.5, 0.0110, 0.0110, 10, "both"),
        (0.0090, 0.0520, 0.0, 3.5, 0.5, 0.0140, 0.0120, 0, "both"),
    ],
    "cheekPuff": [
        (0.0440, -0.0560, 8.0, 0.0, 8.0, 0.0140, 0.0170, 0, "both"),
        (0.0000, -0.0500, 0.0, 0.0, 2.0, 0.0200, 0.0070, 0, "both"),
    ],
}  # fmt: skip
# How far the upper and the lower lid go (1: to the line where they meet), and their shift to the side in millimetres.
_LIDS = {
    "eyeBlink": (1.0, 1.0, 0.0), "eyeLookDown": (0.36, -0.42, 0.0), "eyeLookIn": (0.0, 0.0, -0.7),
    "eyeLookOut": (0.0, 0.0, 0.7),
    "eyeLookUp": (-0.20, 0.16, 0.0), "eyeSquint": (0.20, 0.95, 0.0), "eyeWide": (-0.27, -0.25, 0.0),
}  # fmt: skip


def jaw_weight(mesh: HeadMesh) -> Array:
    """``(V,)``: how much each vertex follows the jaw; steps from 0 to 1 across the lips' seam, smooth elsewhere."""
    x, y = np.abs(mesh.frontal[:, 0]), mesh.frontal[:, 1]
    beyond = np.maximum(x - A, 0)
    line = MOUTH_Y + seam_bow(np.minimum(x, A)) + 0.9 * beyond
    width = 0.92 * LIP_OPENING + 0.007 * smoothstep(x, 0.75 * A, 1.3 * A) + 0.5 * beyond
    below = smoothstep((line - y) / width, -1.0, 1.0)
    z, level = mesh.vertices[:, 2], mesh.info["level"]
    weight = below * smoothstep(z, -0.012, 0.040) * smoothstep(level, LEVELS[1], LEVELS[4])
    name = np.array(mesh.parts)[mesh.part]
    weight = np.where(name == "mouth", below * smoothstep(z, 0.030, 0.060), weight)
    return np.where(
        name == "teeth_lower", 1.0, np.where((name == "teeth_upper") | (name == "eyeball"), 0.0, weight)
    )


def expression_basis(mesh: HeadMesh) -> Array:
    """``(V, 3, 50)`` in the order of ``EXPRESSION_NAMES``."""
    jaw = jaw_weight(mesh)
    columns = {}
    for name, fields in _FIELDS.items():
        if name in _PAIRS:
            columns[f"{name}_L"] = _sum(mesh, fields, (1.0,))
        else:
            columns[name] = _sum(mesh, fields, (1.0, -1.0))
    for name, (upper, lower, side) in _LIDS.items():
        columns[f"{name}_L"] = lid_motion(mesh, upper, lower, side * 1e-3) + columns.get(f"{name}_L", 0)
    columns.update(_jaw_shapes(mesh, jaw))
    for name in _PAIRS:
        columns[f"{name}_R"] = columns[f"{name}_L"][mesh.mirror] * [-1, 1, 1]
    return np.stack([columns[name] for name in EXPRESSION_NAMES], -1)


def _sum(mesh: HeadMesh, fields: list[tuple], sides: tuple[float, ...]) -> Array:
    """Displacement by Gaussians at frontal positions, read on the skin and the mouth cavity; lid rims stay."""
    out = np.zeros_like(mesh.vertices)
    lower = _lower_lip(mesh)
    reach = _moves(mesh)
    for x, y, dx, dy, dz, sx, sy, tilt, lip in fields:
        share = {"both": np.ones_like(lower), "upper": 1 - lower, "lower": lower}[lip]
        for side in sides if x > 0 else (1.0,):
            g = gaussian(mesh.frontal, (side * x, y), sx, sy, side * tilt) * share * reach
            out += 1e-3 * g[:, None] * np.array([side * dx, dy, dz])
    return out


def _lower_lip(mesh: HeadMesh) -> Array:
    """1 below the seam of the lips, 0 above."""
    x, y = np.abs(mesh.frontal[:, 0]), mesh.frontal[:, 1]
    width = 0.92 * LIP_OPENING + 0.6 * np.maximum(x - A, 0)
    return smoothstep((MOUTH_Y + seam_bow(np.minimum(x, A)) - y) / width, -1.0, 1.0)


def _moves(mesh: HeadMesh) -> Array:
    """1 on the front of the skin and in the cavity's front, 0 on teeth, eyeballs, lid rims, sockets and the back."""
    name = np.array(mesh.parts)[mesh.part]
    front = smoothstep(np.cos(mesh.info["angle"]), 0.0, 0.35)
    skin = front * (1 - smoothstep(mesh.info["lid"], 0.0, 0.75)) * (mesh.info["socket"] == 0)
    cavity = np.clip(1 - (mesh.info["depth"] - 1) / 3, 0, 1)
    return np.where(name == "skin", skin, np.where(name == "mouth", cavity, 0.0))


def lid_motion(mesh: HeadMesh, upper: float, lower: float, side: float) -> Array:
    """Slide the left lids over the eyeball: each lid's rim goes the given share of its way to the line where lids meet."""
    info = mesh.info
    here = (mesh.part == 0) & (mesh.vertices[:, 0] > 0) & ((info["lid"] > 0) | (info["socket"] > 0))
    theta, step, behind = info["theta"][here], 1 - info["lid"][here], info["socket"][here]
    rim = lid_rim(theta)
    share = np.where(np.sin(theta) > 0, upper, lower) * (np.abs(np.sin(theta)) > 1e-6)
    fade = np.where(behind > 0, np.interp(behind, [0, 1, 2, 3], [1, 0.8, 0.3, 0.0]), (1 - step) ** 1.35)
    move = (
        np.stack([side * np.abs(np.sin(theta)), share * (lid_closure(rim[:, 0]) - rim[:, 1])], -1)
        * fade[:, None]
    )
    xy = mesh.vertices[here, :2] - EYE[:2]
    thick = 0.0005 + 0.0009 * smoothstep(step, 0.0, 0.06)
    deeper = (lid_depth(xy + move, thick) - lid_depth(xy, thick)) * (1 - smoothstep(step, 0.10, 1.0))
    out = np.zeros_like(mesh.vertices)
    out[here] = np.concatenate([move, np.where(behind > 1, 0.0, deeper)[:, None]], 1)
    return out


def _jaw_shapes(mesh: HeadMesh, jaw: Array) -> dict[str, Array]:
    arm = mesh.vertices - JAW_JOINT
    c, s = np.cos(JAW_OPENING), np.sin(JAW_OPENING)
    turned = np.stack([arm[:, 0], c * arm[:, 1] - s * arm[:, 2], s * arm[:, 1] + c * arm[:, 2]], -1) - arm
    # A rotation about +x by a positive angle takes +z (the chin, in front of the joint) down: y' = c y - s z.
    x, y = np.abs(mesh.frontal[:, 0]), mesh.frontal[:, 1]
    away = np.maximum(np.abs(y - MOUTH_Y - seam_bow(np.minimum(x, A))) - LIP_OPENING, 0)
    lips = np.exp(-0.5 * (away / 0.011) ** 2) * (1 - smoothstep(x, A, 2.2 * A)) * _moves(mesh)
    shapes = {"jawOpen": jaw[:, None] * turned, "mouthClose": ((0.30 - jaw) * lips)[:, None] * turned}
    shapes["jawForward"] = jaw[:, None] * np.array([0, -0.0005, 0.0065])
    shapes["jawLeft"] = jaw[:, None] * np.array([0.0075, 0, 0])
    shapes["jawRight"] = -shapes["jawLeft"]
    sway = gaussian(mesh.frontal, (0.0, MOUTH_Y), 0.026, 0.020) * _moves(mesh)
    shapes["mouthLeft"] = sway[:, None] * np.array([0.0085, 0, 0]) + gaussian(
        mesh.frontal, (A, MOUTH_Y), 0.012, 0.012
    )[:, None] * _moves(mesh)[:, None] * np.array([0.0, 0.0015, -0.0025])
    shapes["mouthRight"] = shapes["mouthLeft"][mesh.mirror] * [-1, 1, 1]
    return shapes
