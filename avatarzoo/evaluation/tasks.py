"""Tasks: how footage becomes cases. One function per task; each yields cases in a fixed order that a seed decides.

Settings are those of the protocol's part; every function names its own. ``sets`` maps the part's roles to lazily opened footage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from avatarzoo.data.batch import AvatarBatch
from avatarzoo.errors import BadVideoError, NoFaceError, UsageError
from avatarzoo.evaluation.case import Case, Footage, Shots
from avatarzoo.evaluation.footage import FootageSet, joined
from avatarzoo.evaluation.protocol import Part
from avatarzoo.geometry.camera import look_at_face
from avatarzoo.heads.base import HeadParams
from avatarzoo.heads.transfer import shifted

Sets = dict[str, FootageSet]
Lost = Callable[[str, Exception], None]
MAX_SOURCES = 512
"""Most training frames a method may see at once, spread evenly; methods that are trained see all."""


class Tasks:
    """Cases of one part.

    Args:
        part: what to ask. sets: role -> footage. seed: of pairings and orders.
        limit: at most so many cases (0: all). lost: told of footage without a face or unreadable: counted, never skipped in silence.
    """

    def __init__(self, part: Part, sets: Sets, seed: int, limit: int, lost: Lost) -> None:
        self.part, self.sets, self.seed, self.limit, self.lost = part, sets, seed, limit, lost
        self.settings = dict(part.settings)

    def __iter__(self) -> Iterator[Case]:
        makers: dict[str, Callable[[], Iterator[Case]]] = {
            "reconstruction": self.reconstruction,
            "self_reenactment": self.self_reenactment,
            "cross_reenactment": self.cross_reenactment,
            "few_shot": self.few_shot,
            "novel_view": self.novel_view,
            "audio_driven": self.audio_driven,
            "generation": self.generation,
        }
        if self.part.task not in makers:
            raise UsageError(f"Part {self.part.name}: task {self.part.task} asks no method for pictures.")
        for number, case in enumerate(makers[self.part.task](), 1):
            yield case
            if number == self.limit:
                return

    def get(self, name: str, default: Any) -> Any:
        return self.settings.get(name, default)

    def group(self, subset: str) -> str:
        return self.part.group.replace("{subset}", str(self.get("subset_names", {}).get(subset, subset)))

    def clips(self, role: str) -> FootageSet:
        if role not in self.sets:
            raise UsageError(f"Part {self.part.name} of the protocol needs data with the role {role!r}.")
        return self.sets[role]

    def each(self, role: str) -> Iterator[Footage]:
        """All footage of a role; what cannot be used is reported and left out."""
        clips = self.clips(role)
        for i in range(len(clips)):
            if (footage := self.open(clips, i)) is not None:
                yield footage

    def open(self, clips: FootageSet, i: int) -> Footage | None:
        try:
            return clips.open(i)
        except (NoFaceError, BadVideoError) as error:
            self.lost(clips.names[i], error)
            return None

    def case(self, name: str, subset: str, sources: AvatarBatch | None, shots: Shots, **more: Any) -> Case:
        driver = shots.driver
        return Case(
            name=name, group=self.group(subset), sources=sources, shots=shots, count=len(shots.rows), head=driver.head,
            fps=driver.fps, procedural=driver.procedural, **{"facts": driver.source, **more},
        )  # fmt: skip

    # ---- pictures of the same person ---------------------------------------------------------------------------------------

    def reconstruction(self) -> Iterator[Case]:
        """Every picture is its own source and target (role ``images``)."""
        for footage in self.each("images"):
            rows = torch.arange(1)
            source = footage.batch(rows)
            shots = Shots(footage, rows, True, source["image"])
            yield self.case(footage.name, footage.identity, source, shots, training=footage)

    def self_reenactment(self) -> Iterator[Case]:
        """Role ``clips``; setting ``source``: ``first`` frame drives the rest (``drive_frames``), ``train``: the first
        ``train_fraction`` of every clip of a person is shown and the rest asked for, ``other_clip``: role ``train`` is shown.
        """
        source = self.get("source", "first")
        if source == "first":
            for footage in self.each("clips"):
                yield self.first_frame(footage)
        elif source == "train":
            for name, clips in self.people("clips"):
                yield self.held_out(name, clips)
        else:
            seen = dict(self.people("train"))
            for name, clips in self.people("clips"):
                if name not in seen:
                    raise UsageError(f"There is no training clip of {name}; the role train needs one.")
                yield self.trained(name, joined(seen[name], name), joined(clips, name))

    def first_frame(self, footage: Footage) -> Case:
        count = int(self.get("drive_frames", 0)) or len(footage)
        rows = torch.arange(1, min(len(footage), count + 1))
        source = footage.batch(torch.arange(1))
        shots = Shots(footage, rows, True, source["image"])
        return self.case(footage.name, footage.identity, source, shots)

    def people(self, role: str) -> Iterator[tuple[str, list[Footage]]]:
        """Clips of a role by the person they show."""
        clips = self.clips(role)
        for person in dict.fromkeys(clips.identities):
            rows = [i for i, identity in enumerate(clips.identities) if identity == person]
            found = [footage for i in rows if (footage := self.open(clips, i)) is not None]
            if found:
                yield person, found

    def held_out(self, person: str, clips: list[Footage]) -> Case:
        fraction = float(self.get("train_fraction", 0.9))
        cuts = [max(1, int(fraction * len(clip))) for clip in clips]
        if min(len(c) - k for c, k in zip(clips, cuts)) < 1:
            raise UsageError(f"A clip of {person} is too short to hold out frames; give longer clips.")
        shown = joined([cut(c, torch.arange(k)) for c, k in zip(clips, cuts)], person)
        asked = joined([cut(c, torch.arange(k, len(c))) for c, k in zip(clips, cuts)], person)
        return self.trained(person, shown, asked)

    def trained(self, person: str, shown: Footage, asked: Footage) -> Case:
        sources = shown.batch(spread(len(shown), MAX_SOURCES))
        shots = Shots(asked, torch.arange(len(asked)), True, sources["image"][:1])
        return self.case(person, person, sources, shots, training=shown)

    def few_shot(self) -> Iterator[Case]:
        """Role ``clips``; ``counts`` pictures spread evenly over ``source_range`` (or drawn, ``order: shuffled``) are shown,
        ``test_range`` is asked for (InvertAvatar section 4.2.3).
        """
        low, high = self.get("source_range", [0, 200])
        first, last = self.get("test_range", [200, 300])
        for footage in self.each("clips"):
            if len(footage) < last:
                raise UsageError(
                    f"{footage.name} has {len(footage)} frames, {last} are needed; choose longer clips."
                )
            for count in self.get("counts", [1, 2, 4, 8]):
                rows = low + spread(high - low, count)
                if self.get("order", "even") == "shuffled":
                    order = torch.randperm(high - low, generator=self.generator(count))
                    rows = low + order[:count]
                source = footage.batch(rows)
                shots = Shots(footage, torch.arange(first, last), True, source["image"][:1])
                training = cut(footage, rows)
                name = f"{footage.name}-{count:03d}"
                yield self.case(name, f"{count} frames", source, shots, training=training)

    def novel_view(self) -> Iterator[Case]:
        """Role ``views``; the view ``source_view`` is shown, the others are asked for."""
        for footage in self.each("views"):
            shown = int(self.get("source_view", 0))
            rows = torch.tensor([i for i in range(len(footage)) if i != shown])
            source = footage.batch(torch.tensor([shown]))
            shots = Shots(footage, rows, True, source["image"])
            yield self.case(
                footage.name, footage.identity, source, shots, training=cut(footage, torch.tensor([shown]))
            )

    # ---- somebody else drives ----------------------------------------------------------------------------------------------

    def cross_reenactment(self) -> Iterator[Case]:
        """First frames of role ``sources`` under frames of role ``drivers``.

        Settings: ``pairing`` (``others``: every driver but the same person, ``all``, ``sample``: ``pairs`` drawn by seed),
        ``drive_frames`` of each driver (0: all), ``transfer`` (``absolute``, or ``mean_expression``: the driver's deviation from
        its own mean expression is added to the source's expression).
        """
        sources, drivers = self.clips("sources"), self.clips("drivers")
        pairs = self.pairs(sources, drivers)
        for j in dict.fromkeys(driver for _, driver in pairs):
            driver = self.open(drivers, j)
            if driver is None:
                continue
            count = int(self.get("drive_frames", 0)) or len(driver)
            rows = (
                spread(len(driver), count)
                if self.get("spread", False)
                else torch.arange(min(count, len(driver)))
            )
            for i in (i for i, k in pairs if k == j):
                source = self.open(sources, i)
                if source is None:
                    continue
                shown = source.batch(torch.arange(1))
                params = self.transfer(source, driver, rows)
                shots = Shots(driver, rows, False, shown["image"], params)
                facts = {"source": source.source, "driver": driver.source}
                training = cut(source, torch.arange(1))
                yield self.case(
                    f"{source.name}--{driver.name}",
                    source.identity,
                    shown,
                    shots,
                    training=training,
                    facts=facts,
                )

    def pairs(self, sources: FootageSet, drivers: FootageSet) -> list[tuple[int, int]]:
        """``(source, driver)`` numbers."""
        every = [(i, j) for j in range(len(drivers)) for i in range(len(sources))]
        pairing = self.get("pairing", "others")
        if pairing != "all":
            every = [(i, j) for i, j in every if sources.identities[i] != drivers.identities[j]]
        if not every:
            raise UsageError("No source has a driver of another person; give data of at least two people.")
        if pairing == "sample":
            order = torch.randperm(len(every), generator=self.generator(0))[: int(self.get("pairs", 100))]
            every = [every[k] for k in sorted(order.tolist())]
        return every

    def transfer(self, source: Footage, driver: Footage, rows: Tensor) -> HeadParams:
        params = driver.frames.params.rows(rows)
        if self.get("transfer", "absolute") == "absolute":
            return params
        mean = driver.frames.params.expression.mean(0, keepdim=True)
        own = source.frames.params.expression[:1]
        return params._replace(
            expression=shifted(params.expression, mean, own, driver.head.expression_bounds)
        )

    def audio_driven(self) -> Iterator[Case]:
        """Role ``sources`` speaks what is heard in role ``audio``; the head turns from -``yaw_degrees`` to +``yaw_degrees``
        (NOFA++ section 4.3). Methods make the expressions from sound; the filmed ones are what they are compared with.
        """
        sources, audio = self.clips("sources"), self.clips("audio")
        for i, j in self.pairs(sources, audio):
            source, clip = self.open(sources, i), self.open(audio, j)
            if source is None or clip is None:
                continue
            if clip.sound is None:
                raise UsageError(f"{clip.name} has no sound; audio-driven tables need clips with sound.")
            count = min(len(clip), int(self.get("frames", 0)) or len(clip))
            shown = source.batch(torch.arange(1))
            params, camera = swept(clip, count, float(self.get("yaw_degrees", 60)))
            shots = Shots(clip, torch.arange(count), False, shown["image"], params, camera)
            yield self.case(
                f"{source.name}--{clip.name}", source.identity, shown, shots, sound=clip.sound,
                facts={"source": source.source, "driver": clip.source},
            )  # fmt: skip

    # ---- nobody ------------------------------------------------------------------------------------------------------------

    def generation(self) -> Iterator[Case]:
        """``people`` made up by seed, each under ``conditions`` pictures' parameters and cameras drawn from role ``conditions``
        (InvertAvatar section 4.2.1).
        """
        conditions = self.clips("conditions")
        for person in range(int(self.get("people", 100))):
            generator = self.generator(person)
            drawn = torch.randperm(len(conditions), generator=generator)[: int(self.get("conditions", 100))]
            found = [f for i in drawn.tolist() if (f := self.open(conditions, i)) is not None]
            if not found:
                raise UsageError("None of the conditions shows a face; check the data.")
            driver = joined([cut(f, torch.arange(1)) for f in found], f"person{person:05d}")
            shots = Shots(driver, torch.arange(len(driver)), False, None)
            yield self.case(driver.name, "", None, shots, seed=1_000_003 * self.seed + person)

    def generator(self, number: int) -> torch.Generator:
        return torch.Generator().manual_seed(1_000_003 * (self.seed + int(self.get("seed", 0))) + number)


def spread(length: int, count: int) -> Tensor:
    """At most ``count`` numbers spread evenly over ``range(length)``, the first included."""
    count = min(count, length)
    return (torch.arange(count) * (length / count)).long()


def cut(footage: Footage, rows: Tensor) -> Footage:
    """Some frames of footage."""
    return replace(footage, frames=footage.frames.rows(rows), facial=footage.facial[rows])


def swept(clip: Footage, count: int, degrees: float) -> tuple[HeadParams, Any]:
    """The clip's expressions on a head at rest, seen from cameras that swing once from one side to the other."""
    params = clip.frames.params.rows(torch.arange(count)).in_head_frame()
    yaw = torch.deg2rad(torch.linspace(-degrees, degrees, count))
    camera = clip.frames.camera
    distance = float(camera.world_to_camera[0, :3, 3].norm())
    around = look_at_face(distance, size=camera.size[0], yaw=yaw)
    return params, around._replace(intrinsics=camera.intrinsics[:1].expand(count, 3, 3))
