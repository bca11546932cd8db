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
    """Lazily opened footage of every role of a part. Roles with a slash are one set from several sources: ``clips/hdtf`` and
    ``clips/vfhq`` are the role ``clips``; a layout given by the user (own clips) stands for all of them.

    Raises:
        UsageError: no folder was given for a role.
    """
    roles: dict[str, dict[str, DataSpec]] = {}
    for name, spec in part.data.items():
        role, _, source = name.partition("/")
        roles.setdefault(role, {})[source] = spec
    sets = {}
    for role, sources in roles.items():
        sound = role == "audio"
        if options.twin is not None:
            sets[role] = made_up(part, role, options, sound)
        elif options.layout or list(sources) == [""]:
            sets[role] = on_disk(part, role, next(iter(sources.values())), options, sound)
        else:
            sets[role] = together(
                {s: on_disk(part, f"{role}/{s}", spec, options, sound) for s, spec in sources.items()}
            )
    return sets


def together(sets: dict[str, FootageSet]) -> FootageSet:
    """Several sets as one; names and people carry their set's, so that FFHQ's 00000 is not LPFF's."""
    openers = {}
    items = []
    for source, single in sets.items():
        for item in single.items:
            item = item._replace(name=f"{source}-{item.name}", identity=f"{source}-{item.identity}")
            items.append(item)
            openers[item.name] = single.opener
    return FootageSet(items, lambda item: openers[item.name](item))


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

    if role not in KINDS and (still := next((i for i in items if i.kind == "image"), None)) is not None:
        raise UsageError(
            f"The role {role} needs clips, but {root} (layout {name}) holds pictures, such as {still.name}; are two roles swapped?"
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
