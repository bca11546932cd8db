"""Runs a protocol: cases in, pictures on disk, columns, one result file.

Every contender answers a case before the next case is opened, so that footage is read once and networks that look at the truth do
so once. Pictures are written before they are scored: a run that was stopped goes on where it was, and pictures can be scored again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from avatarzoo.assets import cache_folder
from avatarzoo.errors import AvatarZooError, MissingAssetError, MissingExtraError, UsageError
from avatarzoo.evaluation import studies
from avatarzoo.evaluation.case import Case, Shot
from avatarzoo.evaluation.comparison import compare
from avatarzoo.evaluation.contenders import Contender, PicturesContender, make_contender
from avatarzoo.evaluation.costs import Costs
from avatarzoo.evaluation.pictures import read_manifest, read_pictures, write_pictures
from avatarzoo.evaluation.protocol import Part, Protocol, Row
from avatarzoo.evaluation.scoring import Board, Tools
from avatarzoo.evaluation.sets import SetOptions, open_sets
from avatarzoo.evaluation.summary import summarise
from avatarzoo.evaluation.tasks import Sets, Tasks
from avatarzoo.heads import HeadModel, load_head

STUDIES = ("novelty", "features", "convergence")
"""Tasks that ask nobody for pictures under given parameters."""


@dataclass
class Options:
    """How to run a protocol; see ``avatarzoo test --help``.

    Attributes:
        data: role -> folder (``""`` serves every role). layout: replaces the protocol's (your own clips: ``clips``).
        procedural: run the twin. rows: names to run (all). checkpoints: row -> file. predictions: name -> folder.
        head, head_file: replace the protocol's head model. limit: most cases of a part. seeds: replace the protocol's.
        output: folder. device: of methods and metric networks. keep: keep the pictures. embedder: network of CSIM.
        videos: of so many cases of each part, all rows side by side and their errors are shown under ``output/comparison``.
    """

    output: Path
    data: dict[str, Path] = field(default_factory=dict)
    layout: str | None = None
    procedural: bool = False
    rows: tuple[str, ...] = ()
    checkpoints: dict[str, Path] = field(default_factory=dict)
    predictions: dict[str, Path] = field(default_factory=dict)
    head: str | None = None
    head_file: str | None = None
    limit: int = 0
    seeds: tuple[int, ...] = ()
    device: str = "cpu"
    keep: bool = True
    embedder: str = "auto"
    videos: int = 1
    cache: Path | None = None
    progress: bool = True


class Run:
    """One protocol being run.

    Attributes:
        boards: ``(row, seed, part)`` -> columns. costs: ``(row, seed)`` -> what each case cost. absent: row -> why it was not run.
        lost: footage without a face. cases: part -> facts of its cases.
    """

    def __init__(self, protocol: Protocol, options: Options) -> None:
        self.protocol, self.options = protocol, options
        self.twin = protocol.twin if options.procedural else None
        name = "procedural" if self.twin else options.head or protocol.picture.head
        self.head: HeadModel = load_head(name, options.head_file)
        self.head_name = name
        self.tools = Tools(self.head, options.device, options.embedder)
        self.boards: dict[tuple[str, int, str], Board] = {}
        self.costs: dict[tuple[str, int], list[dict[str, Any]]] = {}
        self.absent: dict[str, str] = {}
        self.lost: list[dict[str, str]] = []
        self.cases: dict[str, list[dict[str, Any]]] = {}
        self.studies: dict[str, Any] = {}
        self.contenders = self._contenders()

    @property
    def size(self) -> int:
        return self.twin.size if self.twin else self.protocol.picture.size

    @property
    def seeds(self) -> tuple[int, ...]:
        return self.options.seeds or self.protocol.seeds

    def rows(self) -> list[Row]:
        """The lines this run can fill: the protocol's (or its twin's), and folders of finished pictures."""
        rows = list(self.twin.rows or self.protocol.rows) if self.twin else list(self.protocol.rows)
        if self.options.rows:
            known = {row.row: row for row in rows}
            if missing := [name for name in self.options.rows if name not in known]:
                raise UsageError(f"The protocol has no row {missing[0]!r}; its rows are {', '.join(known)}.")
            rows = [known[name] for name in self.options.rows]
        return rows

    def _contenders(self) -> list[Contender]:
        found: list[Contender] = []
        rows = self.rows()
        for name in self.options.checkpoints:
            if name not in {row.row for row in rows}:
                rows.append(Row(name, "checkpoint", extra=True))
        self.table_rows = rows + [Row(name, "pictures", extra=True) for name in self.options.predictions]
        for row in rows:
            checkpoint = self.options.checkpoints.get(row.row)
            try:
                found.append(
                    make_contender(
                        row,
                        self.head_name,
                        self.options.head_file,
                        self.protocol.picture.ground,
                        checkpoint,
                        self.options.device,
                    )
                )
            except (UsageError, MissingAssetError, MissingExtraError) as error:
                if checkpoint is not None:
                    raise
                self.absent[row.row] = str(error)
        for name, folder in self.options.predictions.items():
            found.append(PicturesContender(Row(name, "pictures", extra=True), folder))
        return found

    # ---- running -----------------------------------------------------------------------------------------------------------

    def run(self) -> dict[str, Any]:
        """Everything; returns the result.

        Raises:
            AvatarZooError: data are missing, or a part has no case at all.
        """
        for part in self.parts():
            sets = open_sets(part, self._set_options())
            if part.task in STUDIES:
                self.studies[part.name] = studies.run(part, sets, self)
            else:
                self._run_part(part, sets)
        return summarise(self)

    def parts(self) -> list[Part]:
        """The protocol's parts, with the twin's settings where it runs."""
        if not self.twin:
            return list(self.protocol.parts)
        return [
            replace(part, settings={**part.settings, **self.twin.settings}) for part in self.protocol.parts
        ]

    def _set_options(self) -> SetOptions:
        options = self.options
        return SetOptions(
            head=self.head, size=self.size, ground=self.protocol.picture.ground, twin=self.twin, data=options.data,
            layout=options.layout, cache=options.cache or cache_folder() / "tracks",
        )  # fmt: skip

    def _run_part(self, part: Part, sets: Sets) -> None:
        seen: list[dict[str, Any]] = []
        self.cases[part.name] = seen
        tasks = Tasks(part, sets, self.seeds[0], self.options.limit, self.note_lost)
        bar = tqdm(
            tasks,
            desc=f"{self.protocol.protocol} {part.name}",
            unit="case",
            disable=not self.options.progress,
        )
        for case in bar:
            bar.set_postfix_str(case.name[:32])
            seen.append({"name": case.name, "group": case.group, "pictures": case.count, **case.facts})
            for contender in self.contenders:
                for seed in self._seeds_of(contender):
                    self._answer(part, case, contender, seed)
            self._show(part, case, len(seen))
        if not seen:
            raise AvatarZooError(f"Part {part.name} has no case: no footage shows a face; check the data.")

    def _seeds_of(self, contender: Contender) -> tuple[int, ...]:
        """Only what is trained here depends on the seed."""
        return (
            self.seeds
            if contender.row.fit and not self.options.checkpoints.get(contender.row.row)
            else self.seeds[:1]
        )

    def note_lost(self, name: str, error: Exception) -> None:
        self.lost.append({"name": name, "reason": str(error)})

    def _answer(self, part: Part, case: Case, contender: Contender, seed: int) -> None:
        """Render one case unless its pictures are there, and score them."""
        row = contender.row.row
        folder = self.folder(contender, seed, part, case)
        if row in self.absent:
            return
        if (manifest := self._finished(folder, contender, case)) is None:
            try:
                manifest = self._render(part, case, contender, seed, folder)
            except UsageError as error:
                if isinstance(contender, PicturesContender):
                    raise
                self.absent[row] = str(error)  # a method that cannot do this task says so in its row
                return
        self.costs.setdefault((row, seed), []).append(manifest["costs"])
        board = self.boards.setdefault(
            (row, seed, part.name), Board(part, self.tools, self.protocol.picture.ground)
        )
        board.score(case, self._predictions(case, folder, manifest["broken"]))

    def _show(self, part: Part, case: Case, number: int) -> None:
        """Put all rows of the part's first cases side by side, and drop the pictures where they are not kept."""
        asked = [c for c in self.contenders if c.row.row not in self.absent]
        if number <= self.options.videos and asked:
            rows = {c.row.row: self.folder(c, self.seeds[0], part, case) for c in asked}
            compare(case, rows, self.options.output / "comparison" / part.name / case.name)
        if not self.options.keep:
            for contender in asked:
                for seed in self._seeds_of(contender):
                    for path in self.folder(contender, seed, part, case).glob("*.png"):
                        path.unlink()

    def folder(self, contender: Contender, seed: int, part: Part, case: Case) -> Path:
        name = contender.slug if seed == self.seeds[0] else f"{contender.slug}-seed{seed}"
        return self.options.output / "predictions" / name / part.name / case.name

    def _key(self, contender: Contender, case: Case) -> str:
        return f"{self.protocol.hash}-{contender.key}-{self.size}-{case.count}"

    def _finished(self, folder: Path, contender: Contender, case: Case) -> dict[str, Any] | None:
        manifest = read_manifest(folder)
        if manifest is None or manifest.get("key") != self._key(contender, case):
            return None
        last = folder / f"{case.count - 1:06d}.png"
        return manifest if last.is_file() else None

    def _render(
        self, part: Part, case: Case, contender: Contender, seed: int, folder: Path
    ) -> dict[str, Any]:
        if isinstance(contender, PicturesContender):
            contender.part = part.name
        here = Costs(self.options.device)
        work = self.options.output / "avatars" / folder.relative_to(self.options.output / "predictions")
        perform = contender.prepare(case, work, here, seed)

        def batches() -> Iterator[Tensor]:
            for shot in case.shots:
                with here.rendering(len(shot.rows)):
                    pictures = perform(shot)
                if pictures.shape[-2:] != shot.camera.size:
                    raise AvatarZooError(
                        f"{contender.row.row} made pictures of {tuple(pictures.shape[-2:])}, not {shot.camera.size}."
                    )
                yield pictures

        facts = {"key": self._key(contender, case), "case": case.name, "row": contender.row.row, "seed": seed}
        return write_pictures(folder, batches(), lambda: {**facts, "costs": here.as_dict()})

    def _predictions(self, case: Case, folder: Path, broken: list[int]) -> Iterator[tuple[Shot, Tensor]]:
        for shot in case.shots:
            yield shot, read_pictures(folder, shot.rows, shot.camera.size, broken)


def run_protocol(protocol: Protocol, options: Options) -> dict[str, Any]:
    """Run a protocol and return its result; see :class:`Run`."""
    options.output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    return Run(protocol, options).run()


def check_failures(result: dict[str, Any], limit: float) -> None:
    """Refuse a result of which too much could not be computed, after it was written.

    Columns that we added may fail on rows that we added (no face is found in a grey head); the table shows how often.

    Raises:
        AvatarZooError: in one column, or of all footage, more than ``limit`` failed; the message names it.
    """
    found = sum(len(cases) for cases in result["cases"].values())
    lost = len(result["lost_cases"])
    if lost and lost / (lost + found) > limit:
        raise AvatarZooError(
            f"{lost} of {lost + found} pieces of footage show no face (first: {result['lost_cases'][0]['name']}); check the data."
        )
    added = tuple(c["column"] for c in result["protocol"]["columns"] if c["extra"])
    for row, columns in result["metrics"].items():
        for title, numbers in columns.items():
            if result["rows"][row]["extra"] and title.endswith(added):
                continue
            total = numbers["failures"] + numbers["count"]
            if numbers["failures"] and numbers["failures"] / total > limit:
                raise AvatarZooError(
                    f"{row}: {title} could not be computed on {numbers['failures']} of {total} pictures (limit {limit:.0%})."
                )
