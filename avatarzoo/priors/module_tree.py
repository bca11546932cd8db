"""What a stored module tree says: its flat state dictionary, its plain values, the parts in it.

Parts may be shared, so that a small file can stand for a tree without end: every walk has a limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from avatarzoo.priors.persistence_pickle import Part

MOST_ENTRIES = 100_000  # parts and tensors of a tree
MOST_VALUES, MOST_TEXT = 200_000, 10_000_000  # plain values of a file, characters in them
DEEPEST, LONGEST_NAME = 40, 500


class NotPlainError(ValueError):
    """A value that JSON cannot hold."""


def walk(part: Part, prefix: str = "") -> Iterator[tuple[str, Part]]:
    """The part and everything below it, with the prefix of its keys, in the order of ``state_dict``.

    Raises:
        ValueError: it is no module tree, or one without end.
    """
    waiting, seen = [(prefix, part, 0)], 0
    while waiting:
        prefix, part, depth = waiting.pop()
        children = part.state.get("_modules", {})
        seen += 1 + sum(len(part.state.get(kind, ())) for kind in ("_modules", "_parameters", "_buffers"))
        if seen > MOST_ENTRIES or depth > DEEPEST or len(prefix) > LONGEST_NAME:
            raise ValueError("a module tree without end")
        yield prefix, part
        below = [(f"{prefix}{_name(key)}.", x, depth + 1) for key, x in children.items() if x is not None]
        if not all(isinstance(child, Part) for _, child, _ in below):
            raise ValueError("a module that is none")
        waiting += below[::-1]


def flat_state(part: Part) -> dict[str, Tensor]:
    """The ``state_dict`` of a stored module: parameters and persistent buffers."""
    state: dict[str, Tensor] = {}
    for prefix, below in walk(part):
        fleeting = below.state.get("_non_persistent_buffers_set", set())
        if not isinstance(fleeting, (set, frozenset)):
            raise ValueError("a set that is none")
        buffers = below.state.get("_buffers", {}).items()
        own = [*below.state.get("_parameters", {}).items(), *(x for x in buffers if x[0] not in fleeting)]
        for key, tensor in own:
            if tensor is None:
                continue
            if not isinstance(tensor, Tensor):
                raise ValueError("a parameter that is no tensor")
            state[prefix + _name(key)] = tensor
    return state


def find_part(part: Part, class_name: str) -> Part | None:
    """The first part of a class."""
    return next((below for _, below in walk(part) if below.class_name == class_name), None)


class PlainValues:
    """Makes values that JSON can hold; one for a file, so that its limit is the file's."""

    def __init__(self) -> None:
        self.left, self.text_left = MOST_VALUES, MOST_TEXT

    def items(
        self, values: Mapping[Any, Any], private: tuple[str, ...] = ()
    ) -> tuple[dict[str, Any], list[Any]]:
        """The entries that JSON can hold, and the keys of the others.

        Names with a leading underscore are passed over unless they are in ``private``; tuples and sets become lists.

        Raises:
            ValueError: there are too many values, or they are nested too deep.
        """
        plain, others = {}, []
        for key, thing in values.items():
            if str(key).startswith("_") and key not in private:
                continue
            try:
                plain[str(key)] = self.value(thing, 0)
            except NotPlainError:
                others.append(key)
        return plain, others

    def value(self, thing: Any, depth: int) -> Any:
        self.left -= 1
        self.text_left -= len(thing) if isinstance(thing, str) else 0
        if self.left < 0 or self.text_left < 0 or depth > DEEPEST:
            raise ValueError("plain values without end")
        if (
            isinstance(thing, (np.generic, np.ndarray))
            and thing.dtype.kind in "biufU"
            and thing.size <= self.left
        ):
            thing = thing.tolist()
        if thing is None or isinstance(thing, (str, bool, int, float)):
            return thing
        if isinstance(thing, dict):
            self.text_left -= sum(len(str(key)) for key in thing)
            return {str(key): self.value(x, depth + 1) for key, x in thing.items()}
        if isinstance(thing, (set, frozenset)):
            thing = sorted(thing, key=str)
        if isinstance(thing, (list, tuple)):
            return [self.value(x, depth + 1) for x in thing]
        raise NotPlainError(f"a {type(thing).__name__}")


def _name(key: Any) -> str:
    if not isinstance(key, str) or not 0 < len(key) <= LONGEST_NAME or "." in key:
        raise ValueError("a part or a tensor without a proper name")
    return key
