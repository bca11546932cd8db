"""A reconstructed person as a state: everything that animates it, and what further frames go on from."""

from __future__ import annotations

from torch import Tensor

from avatarzoo.models.invertavatar.inversion import Inversion, Memories, Person
from avatarzoo.priors.animatable import PersonFeatures
from avatarzoo.priors.feature_levels import Levels

DRAWING = ("prior.face_backbone.", "prior.decoder.", "prior.superresolution.")
"""Networks that draw a person once texture and static features are known."""
TEXTURE, STATIC = (0, 1, 2, 3), (0, 1, 2, 3, 5)
"""Levels that animation reads."""


def drawing_tensors(networks: Inversion) -> dict[str, Tensor]:
    """What animation needs of the networks, by their names."""
    return {f"networks.{k}": v.detach() for k, v in networks.state_dict().items() if k.startswith(DRAWING)}


def person_tensors(person: Person) -> dict[str, Tensor]:
    """Codes, cached features and memories of one person."""
    tensors = {"codes": person.codes}
    for name, part, kept in (("texture", 0, TEXTURE), ("static", 1, STATIC)):
        tensors |= {f"{name}.{i}": person.features[part][i] for i in kept}
    for name, memory in zip(Memories._fields, person.memories):
        tensors |= {f"memory.{name}.{i}": x for i, x in enumerate(memory or [])}
    return {name: x.detach() for name, x in tensors.items()}


def person_of(tensors: dict[str, Tensor]) -> Person:
    """Inverse of :func:`person_tensors`; levels that animation does not read are empty."""
    empty = tensors["codes"].new_zeros(1, 0, 0, 0)
    parts = [
        Levels(*(tensors.get(f"{name}.{i}", empty) for i in range(len(Levels._fields))))
        for name in ("texture", "static")
    ]
    memories = [
        [tensors[f"memory.{name}.{i}"] for i in range(4)] if f"memory.{name}.0" in tensors else None
        for name in Memories._fields
    ]
    return Person(tensors["codes"], PersonFeatures(*parts), Memories(*memories))


def shown_to(person: Person, count: int) -> Person:
    """One person ``count`` times without copies."""

    def wide(x: Tensor) -> Tensor:
        return x.expand(count, *x.shape[1:])

    texture, static = (Levels(*(wide(x) for x in part)) for part in person.features)
    return Person(wide(person.codes), PersonFeatures(texture, static), person.memories)


def merged(old: Person, new: Person, before: int, more: int) -> Person:
    """Running mean of features and codes over ``before`` and ``more`` pictures (Ours-OS with any number of pictures)."""
    share = more / (before + more)

    def mean(a: Tensor, b: Tensor) -> Tensor:
        return a if a.numel() == 0 else a.lerp(b, share)

    texture, static = (
        Levels(*(mean(a, b) for a, b in zip(*parts))) for parts in zip(old.features, new.features)
    )
    return Person(mean(old.codes, new.codes), PersonFeatures(texture, static), new.memories)
