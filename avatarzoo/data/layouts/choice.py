"""A deterministic choice of items: the same on every machine, whatever the file system's order or the library's version."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence

from avatarzoo.data.layouts.base import Item
from avatarzoo.errors import UsageError


def select(
    items: Iterable[Item],
    *,
    names: Sequence[str] | None = None,
    count: int | None = None,
    first: int | None = None,
    seed: int = 0,
    identities: int | Collection[str] | None = None,
) -> list[Item]:
    """Choose items; the options apply in this order, and the result is in name order (that of ``names`` where given).

    A random choice takes those whose SHA-256 of "seed:name" is smallest. It depends on the names alone, and an item that is
    missing from somebody's copy changes the choice by one item, not altogether.

    Args:
        names: exactly these, in this order.
        identities: all items of these people, or of so many people chosen by ``seed``.
        first: the first so many.
        count: so many of them, chosen by ``seed``.

    Raises:
        UsageError: a name or person is not there, or there are fewer than asked for.
    """
    pool = sorted(items, key=lambda item: item.name)
    if names is not None:
        by_name = {item.name: item for item in pool}
        _all_there("items", names, by_name)
        pool = [by_name[name] for name in names]
    if identities is not None:
        people = {item.identity for item in pool}
        if isinstance(identities, int):
            _enough("people", identities, len(people))
            identities = _smallest(people, identities, seed)
        _all_there("people", identities, people)
        wanted = set(identities)
        pool = [item for item in pool if item.identity in wanted]
    if first is not None:
        _enough("items", first, len(pool))
        pool = pool[:first]
    if count is not None:
        _enough("items", count, len(pool))
        wanted = set(_smallest((item.name for item in pool), count, seed))
        pool = [item for item in pool if item.name in wanted]
    return pool


def _smallest(names: Iterable[str], count: int, seed: int) -> list[str]:
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())[:count]


def _enough(what: str, asked: int, there: int) -> None:
    if not 0 < asked <= there:
        raise UsageError(f"{asked} {what} were asked for, and there are {there}; ask for 1 to {there}.")


def _all_there(what: str, asked: Collection[str], there: Collection[str]) -> None:
    if absent := [name for name in asked if name not in there]:
        raise UsageError(
            f"{len(absent)} of the {len(asked)} {what} asked for are not there, first: {absent[0]}; "
            "avatarzoo data check says what is missing."
        )
