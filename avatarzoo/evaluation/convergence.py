"""Held-out quality against training time (Déjà-vu Figures 6 and 11): the clock stands still while the avatar is judged."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import lightning as L
import torch

from avatarzoo.evaluation.case import Case
from avatarzoo.evaluation.contenders import Contender, FittedContender, performer
from avatarzoo.evaluation.costs import Costs
from avatarzoo.evaluation.footage import FootageSet
from avatarzoo.evaluation.protocol import Part
from avatarzoo.evaluation.scoring import Board
from avatarzoo.evaluation.tasks import Tasks, cut, spread
from avatarzoo.models.base import AvatarModule

if TYPE_CHECKING:
    from avatarzoo.evaluation.runner import Run

FRAMES = 8
"""Held-out frames that are judged each time."""


class ConvergenceCurve(L.Callback):
    """Scores an avatar on a few held-out frames before the first step, every so many seconds of training, and at the end.

    Args:
        case: the person; its shots are the held-out frames. part: names the metrics. run: gives networks and device.
        costs: the training clock, which this pauses. every: seconds of training between scorings.

    Attributes:
        points: ``{"step", "seconds", column: value...}``. notes: what was not computed, and why.
    """

    def __init__(self, case: Case, part: Part, run: Run, costs: Costs, every: float) -> None:
        self.case, self.part, self.run, self.costs, self.every = case, part, run, costs, every
        self.points: list[dict[str, float]] = []
        self.notes: set[str] = set()
        self.due = 0.0

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        self.judge(module, 0)

    def on_train_batch_end(
        self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.costs.training_seconds >= self.due:
            self.judge(module, trainer.global_step)

    def on_train_end(self, trainer: L.Trainer, module: Any) -> None:
        if not self.points or self.points[-1]["step"] != trainer.global_step:
            self.judge(module, trainer.global_step)

    @torch.no_grad()
    def judge(self, module: AvatarModule, step: int) -> None:
        with self.costs.paused():
            seconds = self.costs.training_seconds
            mode = module.training
            module.eval()
            perform = performer(module, module.reconstruct(), self.case, self.run.options.device)
            board = Board(self.part, self.run.tools, self.run.protocol.picture.ground)
            board.score(self.case, ((shot, perform(shot).cpu().clamp(0, 1)) for shot in self.case.shots))
            module.train(mode)
        self.notes |= set(board.notes.values())
        values = {title: numbers["mean"] for title, numbers in board.numbers().items()}
        self.points.append({"step": step, "seconds": round(seconds, 3), **values})
        self.due = seconds + self.every


def run_convergence(part: Part, sets: dict[str, FootageSet], run: Run) -> dict[str, Any]:
    """Train every trained row on every person and follow it.

    Settings: ``train_fraction`` (0.9), ``every`` seconds of training between scorings (5), ``frames`` judged (8), ``marks``:
    seconds at which the table tells the value reached so far.
    """
    asking = replace(part, task="self_reenactment", group="", settings={**part.settings, "source": "train"})
    seen = run.cases.setdefault(part.name, [])
    curves: dict[str, list[dict[str, Any]]] = {}
    rows: dict[str, dict[str, Any]] = {}
    notes: set[str] = set()
    for case in Tasks(asking, sets, run.seeds[0], run.options.limit, run.note_lost):
        case = few_shots(case, int(part.settings.get("frames", FRAMES)))
        seen.append({"name": case.name, "pictures": case.count, **case.facts})
        for contender in run.contenders:
            for seed in run.seeds if isinstance(contender, FittedContender) else run.seeds[:1]:
                points, missing = follow(contender, case, part, run, seed)
                notes |= missing
                curves.setdefault(contender.row.row, []).append(
                    {"case": case.name, "seed": seed, "points": points}
                )
    for contender in run.contenders:
        rows[contender.row.row] = {
            **contender.facts,
            "state": "run",
            "reason": None,
            "extra": contender.row.extra,
        }
    metrics = {row: at_marks(found, part) for row, found in curves.items()}
    return {"curves": curves, "metrics": metrics, "rows": rows, "notes": sorted(notes)}


def few_shots(case: Case, count: int) -> Case:
    """The case with at most ``count`` held-out frames, spread evenly."""
    shots = case.shots
    rows = shots.rows[spread(len(shots.rows), count)]
    few = type(shots)(
        cut(shots.driver, rows), torch.arange(len(rows)), shots.truth, shots.source, batch=shots.size
    )
    return replace(case, shots=few, count=len(rows))


def follow(
    contender: Contender, case: Case, part: Part, run: Run, seed: int
) -> tuple[list[dict[str, float]], set[str]]:
    """The curve of one contender on one person, and notes; what needs no training has one point at zero seconds."""
    costs = Costs(run.options.device)
    folder = run.options.output / "avatars" / f"{contender.slug}-seed{seed}" / part.name / case.name
    if isinstance(contender, FittedContender):
        curve = ConvergenceCurve(case, part, run, costs, float(part.settings.get("every", 5.0)))
        contender.fit(case, folder / "avatar.ckpt", costs, seed, [curve])
        return curve.points, curve.notes
    perform = contender.prepare(case, folder, costs, seed)
    board = Board(part, run.tools, run.protocol.picture.ground)
    board.score(case, ((shot, perform(shot).cpu().clamp(0, 1)) for shot in case.shots))
    values = {title: numbers["mean"] for title, numbers in board.numbers().items()}
    return [{"step": 0, "seconds": 0.0, **values}], set(board.notes.values())


def at_marks(curves: list[dict[str, Any]], part: Part) -> dict[str, dict[str, Any]]:
    """Columns: the value reached by each mark, averaged over people and seeds, and the last one."""
    columns: dict[str, dict[str, Any]] = {}
    titles = [spec.column for spec in part.metrics]
    marks = [(f" after {mark:g} s", float(mark)) for mark in part.settings.get("marks", [])]
    for title in titles:
        for words, mark in [*marks, ("", float("inf"))]:
            reached = [
                value for curve in curves if (value := reached_by(curve["points"], title, mark)) is not None
            ]
            if reached:
                columns[title + words] = {
                    "mean": sum(reached) / len(reached), "std": None, "count": len(reached), "failures": 0, "label": None,
                    "per_case": per_person(curves, title, mark),
                }  # fmt: skip
    return columns


def per_person(curves: list[dict[str, Any]], title: str, mark: float) -> dict[str, float | None]:
    """The value of each person, averaged over seeds; ``None`` where none was reached."""
    found: dict[str, list[float]] = {}
    for curve in curves:
        value = reached_by(curve["points"], title, mark)
        found.setdefault(curve["case"], []).extend([] if value is None else [value])
    return {case: sum(values) / len(values) if values else None for case, values in found.items()}


def reached_by(points: list[dict[str, float]], title: str, mark: float) -> float | None:
    """The value of the last scoring at or before ``mark`` seconds of training."""
    known = [p[title] for p in points if p["seconds"] <= mark and p.get(title) is not None]
    return known[-1] if known else None
