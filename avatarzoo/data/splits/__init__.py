"""Which items a paper tests on, frozen, one small file per list; also for lists that were never published, to say so.

Nothing in a list is guessed: a list that our sources do not hold has status ``unavailable``, and loading it says which rule the
protocols of this package use instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from avatarzoo.data.layouts.base import Item
from avatarzoo.data.layouts.choice import select
from avatarzoo.errors import BadDatasetError, UsageError

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Split:
    """A frozen list.

    Attributes:
        name: name of its file.
        layout: layout whose item names it holds.
        status: "published" (by the authors), "secondhand" (by others who follow them), "rule" (the paper gives a rule, not a list),
            "unavailable".
        source: where the list comes from, or why there is none.
        rule: what the protocols do with it, or in its place.
        names: names of the items; empty where every item of ``identities`` is meant.
        identities: people whose items are meant, with the items where they are known ([]: all that are there).
        train_fraction: leading part of every clip that is trained on; the rest is tested. None: no such division.
    """

    name: str
    layout: str
    status: str
    source: str
    rule: str
    names: tuple[str, ...] = ()
    identities: dict[str, list[str]] = field(default_factory=dict)
    train_fraction: float | None = None

    def select(self, items: Iterable[Item]) -> list[Item]:
        """The items of the list.

        Raises:
            UsageError: some are not there.
        """
        pool = list(items)
        if self.names:
            return select(pool, names=self.names)
        chosen = []
        for person, names in self.identities.items():
            chosen += select(pool, identities=[person], names=names or None)
        return chosen

    def divide(self, item: Item, frames: int) -> tuple[Item, Item]:
        """The training and the test part of a clip of so many frames.

        Raises:
            UsageError: the list has no such division, or a part would be empty.
        """
        if self.train_fraction is None:
            raise UsageError(f"The split {self.name} does not divide clips; it lists whole ones.")
        stop = item.start + int(frames * self.train_fraction + 1e-9)  # 0.7 * 10 must be 7
        if not item.start < stop < item.start + frames:
            raise UsageError(
                f"{item.name} has {frames} frames, too few to be divided by the split {self.name}."
            )
        return item._replace(stop=stop), item._replace(start=stop, stop=item.start + frames)


def known_splits() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_split(name: str) -> Split:
    """The frozen list called ``name``.

    Raises:
        UsageError: there is no list of that name. BadDatasetError: it was never published; the message says what is done instead.
    """
    split = describe_split(name)
    if split.status == "unavailable":
        raise BadDatasetError(f"The list {name} is not available: {split.source} Instead: {split.rule}")
    return split


def describe_split(name: str) -> Split:
    """As :func:`load_split`, for lists that are not available too.

    Raises:
        UsageError: there is no list of that name.
    """
    if name not in known_splits():
        raise UsageError(f"There is no split {name!r}; known: {', '.join(known_splits())}.")
    content: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    content["names"] = tuple(content.get("names", ()))
    return Split(name=name, **content)
