"""Sliders with names a person understands, and what they change in head parameters."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch

from avatarzoo.geometry.rotations import axis_angle_to_matrix, euler_to_matrix, matrix_to_axis_angle
from avatarzoo.heads.base import HeadModel, HeadParams

DEGREE = math.pi / 180
LIDS = 1 / 25
"""Of the eyeLook shapes (lids that follow the gaze) for a degree of gaze."""
TURN = "turn"
"""Field of changes that turn the head about its own axes: yaw, pitch and roll, radians."""
UNNAMED = (-2.0, 2.0)
"""Of coefficients without names and bounds, in their own units (standard deviations in FLAME)."""
FIRST_UNNAMED, UNNAMED_IN_FOLDER = 6, 10
MOVES = 1e-4
"""Metres: a parameter that moves no vertex as far has no slider."""
LEFT_RIGHT = "Positive is to the right of the picture."

Key = tuple[str, str]
"""Folder and label of a slider."""


class Change(NamedTuple):
    """What one unit of a slider adds to one number of the parameters (or of :data:`TURN`)."""

    field: str
    column: int
    amount: float


class Control(NamedTuple):
    """A slider; zero leaves the face as it is. Without a folder, it is one of the handful on top."""

    label: str
    folder: str
    low: float
    high: float
    step: float
    changes: tuple[Change, ...]
    hint: str | None = None

    @property
    def key(self) -> Key:
        return self.folder, self.label


DETAILS = {
    "jawOpen": ("Jaw", "Open"), "jawForward": ("Jaw", "Forward"), "jawLeft": ("Jaw", "To its left"),
    "jawRight": ("Jaw", "To its right"),
    "mouthSmile": ("Mouth", "Smile"), "mouthFrown": ("Mouth", "Corner down"), "mouthDimple": ("Mouth", "Dimple"),
    "mouthStretch": ("Mouth", "Stretch"), "mouthPress": ("Mouth", "Press lips"), "mouthClose": ("Mouth", "Close lips"),
    "mouthFunnel": ("Mouth", "Funnel (oh)"), "mouthPucker": ("Mouth", "Pucker (kiss)"), "mouthLeft": ("Mouth", "To its left"),
    "mouthRight": ("Mouth", "To its right"), "mouthLowerDown": ("Mouth", "Lower lip down"),
    "mouthUpperUp": ("Mouth", "Upper lip up"), "mouthRollLower": ("Mouth", "Lower lip in"),
    "mouthRollUpper": ("Mouth", "Upper lip in"), "mouthShrugLower": ("Mouth", "Chin up"),
    "mouthShrugUpper": ("Mouth", "Shrug upper lip"), "tongueOut": ("Mouth", "Tongue out"),
    "eyeBlink": ("Eyes", "Close"), "eyeWide": ("Eyes", "Open wide"), "eyeSquint": ("Eyes", "Squint"),
    "eyeLookUp": ("Eyes", "Lids as when looking up"), "eyeLookDown": ("Eyes", "Lids as when looking down"),
    "eyeLookIn": ("Eyes", "Lids as when looking inwards"), "eyeLookOut": ("Eyes", "Lids as when looking outwards"),
    "browDown": ("Brows", "Frown"), "browInnerUp": ("Brows", "Inner end up"), "browOuterUp": ("Brows", "Outer end up"),
    "cheekPuff": ("Cheeks and nose", "Puff cheek"), "cheekSquint": ("Cheeks and nose", "Raise cheek"),
    "noseSneer": ("Cheeks and nose", "Wrinkle nose"),
}  # fmt: skip
"""ARKit's shapes, without their side -> folder and label."""
FOLDERS = ("Mouth", "Jaw", "Eyes", "Brows", "Cheeks and nose")

HANDFUL: tuple[tuple[str, float, dict[str, float]], ...] = (
    ("Open mouth", -0.5, {"jawOpen": 1}),
    ("Smile", -1, {"mouthSmile": 1, "mouthFrown": -1}),
    ("Kiss", -1, {"mouthPucker": 1, "mouthStretch": -1}),
    ("Close eyes", -1, {"eyeBlink": 1, "eyeWide": -1}),
    ("Raise brows", -1, {"browInnerUp": 1, "browOuterUp": 1, "browDown": -1}),
)
"""Label, lower end and shapes of both sides; below zero the opposite shapes come, for coefficients stay within their bounds."""
JOINTS_INSTEAD = {
    "Open mouth": (Change("jaw", 0, 0.35),),
    "Close eyes": (Change("eyelids", 0, 1.0), Change("eyelids", 1, 1.0)),
}
"""For heads without such shapes."""


def side_of(name: str) -> tuple[str, str]:
    """``mouthSmile_L`` or ``mouthSmileLeft`` to ``("mouthSmile", " left")``; names without a side keep theirs."""
    found = re.fullmatch(r"(.+?)(_L|_R|Left|Right)", name)
    if found is None or name in DETAILS:
        return name, ""
    return found[1], " left" if found[2] in ("_L", "Left") else " right"


def controls_of(head: HeadModel) -> tuple[Control, ...]:
    """All sliders of a head model (on the CPU): the handful, then folder by folder."""
    columns: dict[str, list[int]] = {}
    for column, name in enumerate(head.expression_names):
        columns.setdefault(side_of(name)[0], []).append(column)
    named = any(base in DETAILS for base in columns)
    found = [*handful(head, columns), *gaze(head), *POSE]
    found += details(head) if named else unnamed(head)
    return tuple(c for c in [*found, *joints()] if moves(head, c))


def handful(head: HeadModel, columns: Mapping[str, list[int]]) -> list[Control]:
    found = []
    for label, low, shapes in HANDFUL:
        changes = tuple(
            Change("expression", c, amount) for base, amount in shapes.items() for c in columns.get(base, ())
        )
        if not any(change.amount > 0 for change in changes):
            changes = JOINTS_INSTEAD.get(label, ())
        if changes:
            found.append(Control(label, "", low, 1.0, 0.01, changes))
    return found


def gaze(head: HeadModel) -> list[Control]:
    """Both eyes, with the lids that follow."""
    index = {"".join(side_of(name)): column for column, name in enumerate(head.expression_names)}

    def lids(shapes: Mapping[str, float]) -> tuple[Change, ...]:
        return tuple(
            Change("expression", index[name], sign * LIDS) for name, sign in shapes.items() if name in index
        )

    sideways = {
        "eyeLookOut left": 1, "eyeLookIn right": 1, "eyeLookIn left": -1, "eyeLookOut right": -1,
    }  # fmt: skip
    upwards = {
        f"eyeLook{way} {side}": s for way, s in (("Up", 1), ("Down", -1)) for side in ("left", "right")
    }
    across = tuple(Change("eyes", c, DEGREE) for c in (1, 4)) + lids(sideways)
    up = tuple(Change("eyes", c, -DEGREE) for c in (0, 3)) + lids(upwards)
    return [
        Control("Look sideways", "", -30, 30, 0.5, across, f"Degrees. {LEFT_RIGHT}"),
        Control("Look up", "", -20, 20, 0.5, up, "Degrees; negative looks down."),
    ]


POSE = (
    Control("Turn head", "", -45, 45, 0.5, (Change(TURN, 0, DEGREE),), f"Degrees. {LEFT_RIGHT}"),
    Control("Raise head", "", -30, 30, 0.5, (Change(TURN, 1, -DEGREE),), "Degrees; negative nods."),
    Control("Tilt head", "", -30, 30, 0.5, (Change(TURN, 2, -DEGREE),), f"Degrees. {LEFT_RIGHT}"),
)


def details(head: HeadModel) -> list[Control]:
    """One slider for each named coefficient, in folders."""
    bounds = head.expression_bounds or UNNAMED
    span = 1.0 if math.isinf(bounds[1]) else bounds[1] - min(bounds[0], 0.0)
    found = []
    for column, name in enumerate(head.expression_names):
        base, side = side_of(name)
        folder, label = DETAILS.get(base, ("Other", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", base).lower()))
        change = (Change("expression", column, 1.0),)
        found.append(Control(label + side, folder, -span, span, 0.01, change, name))
    order = {name: place for place, name in enumerate(FOLDERS)}
    return sorted(found, key=lambda c: order.get(c.folder, len(order)))


def unnamed(head: HeadModel) -> list[Control]:
    """Numbered sliders: the first few on top, all in folders of ten."""
    low, high = UNNAMED

    def one(column: int, folder: str) -> Control:
        return Control(
            f"Expression {column + 1}", folder, low, high, 0.02, (Change("expression", column, 1.0),)
        )

    count, found = head.n_expression, [one(c, "") for c in range(min(FIRST_UNNAMED, head.n_expression))]
    for start in range(0, count, UNNAMED_IN_FOLDER):
        end = min(start + UNNAMED_IN_FOLDER, count)
        found += [one(column, f"Expressions {start + 1} to {end}") for column in range(start, end)]
    return found


def joints() -> list[Control]:
    """Joints and place, for those who look for them."""
    jaw = [("Open", 0, 1), ("Sideways", 1, 1), ("Twist", 2, -1)]
    neck = [("Turn", 1, 1), ("Raise", 0, -1), ("Tilt", 2, -1)]
    found = [
        Control(label, "Jaw joint", -20, 20, 0.5, (Change("jaw", c, s * DEGREE),), "Degrees.")
        for label, c, s in jaw
    ]
    found += [
        Control(label, "Neck", -30, 30, 0.5, (Change("neck", c, s * DEGREE),), "Degrees.")
        for label, c, s in neck
    ]
    for side, first in (("Left", 0), ("Right", 3)):
        for label, c, s in (("sideways", 1, 1), ("up", 0, -1)):
            change = (Change("eyes", first + c, s * DEGREE),)
            found.append(Control(f"{side} eye {label}", "Each eye", -30, 30, 0.5, change, "Degrees."))
    for label, c in (("To the right", 0), ("Up", 1), ("Nearer", 2)):
        found.append(Control(label, "Place", -10, 10, 0.1, (Change("translation", c, 0.01),), "Centimetres."))
    return found


@torch.no_grad()
def moves(head: HeadModel, control: Control) -> bool:
    """Whether the head model has what the slider moves (FaceVerse refuses a jaw joint; some have no lids)."""
    if control.changes[0].field in ("expression", TURN, "translation"):
        return True
    zeros = head.zeros(1, "cpu")
    try:
        moved = head(changed(zeros, {control.key: control.high}, (control,), None))
    except ValueError:
        return False
    return float((moved - head(zeros)).abs().max()) > MOVES


def changed(
    params: HeadParams,
    values: Mapping[Key, float],
    controls: Iterable[Control],
    bounds: tuple[float, float] | None,
) -> HeadParams:
    """``params`` (1 row) with what the sliders add.

    Args:
        values: of sliders that are not at zero; keys of other head models' sliders are passed over.
        bounds: of expression coefficients.
    """
    fields = {k: v.clone() for k, v in params._asdict().items()}
    turn = torch.zeros(3)
    for control in controls:
        value = values.get(control.key, 0.0)
        if value:
            for field, column, amount in control.changes:
                target = turn if field == TURN else fields[field][0]
                target[column] += value * amount
    if bounds is not None:
        fields["expression"].clamp_(*bounds)
    fields["eyelids"].clamp_(0, 1)
    if turn.any():
        own = axis_angle_to_matrix(fields["rotation"])
        fields["rotation"] = matrix_to_axis_angle(own @ euler_to_matrix(*turn[:, None]))
    return HeadParams(**fields)
