"""The footage of a part: from folders on disk through their layouts, or made-up people for the procedural twin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avatarzoo.data.layouts import layout, select
from avatarzoo.errors import UsageError
from avatarzoo.evaluation.footage import FootageSet, open_item
from avatarzoo.evaluation.procedural_footage import procedural_set
from avatarzoo.evaluation.protocol import DataSpec, Part, Twin
from avatarzoo.heads import HeadModel

KINDS = {"images": "image", "sources": "image", "conditions": "image", "views": "views"}
"""What the made-up people of a role are; all others are clips."""
SAME_PEOPLE = {"train": "clips", "test": "clips"}
"""Roles that show the people of another role (another clip of them)."""


@dataclass(frozen=True)
class SetOptions:
    """How footage is opened; see :class:`avatarzoo.evaluation.runner.Options`."""

    head: HeadModel
    size: int
    ground: float | None
    twin: Twin | None
    data: dict[str, Path]
    layout: str | None
    cache: Path


def open_sets(part: Part, options: SetOptions) -> dict[str, FootageSet]:
    """Lazily opened footage of every role of a part.

    Raises:
        UsageError: no folder was given for a role.
    """
    sound = "audio"
    if options.twin is not None:
        return {role: made_up(part, role, options, role == sound) for role in part.data}
    return {role: on_disk(part, role, spec, options, role == sound) for role, spec in part.data.items()}


def on_disk(part: Part, role: str, spec: DataSpec, options: SetOptions, sound: bool) -> FootageSet:
    name = options.layout or spec.layout
    root = options.data.get(role) or options.data.get("")
    if root is None:
        raise UsageError(
            f"Part {part.name} of the protocol needs {spec.what or name}: add --data {role}=FOLDER (layout {name}), "
            f"--data FOLDER --layout clips for your own clips, or --procedural for made-up people."
        )
    split = "" if options.layout else spec.split
    chosen = {} if options.layout else dict(spec.select)
    items = select(layout(name).items(root, split), **chosen)
    if not items:
        raise UsageError(
            f"{root} holds nothing that part {part.name} asks for; see avatarzoo data check {root} --layout {name}."
        )

    def opener(item: Any) -> Any:
        return open_item(item, options.head, options.size, options.ground, options.cache, spec.frames, sound)

    return FootageSet(items, opener)


def made_up(part: Part, role: str, options: SetOptions, sound: bool) -> FootageSet:
    assert options.twin is not None
    twin = options.twin
    seed_role = SAME_PEOPLE.get(role, role)
    kind = KINDS.get(role, "clip")
    make: Callable[..., FootageSet] = procedural_set
    return make(
        seed_role, twin.people, twin.frames, twin.size, options.ground, take=role, kind=kind, sound=sound
    )
