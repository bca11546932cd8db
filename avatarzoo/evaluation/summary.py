"""From a finished run to the one dictionary that becomes its result file."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from avatarzoo.evaluation.contenders import Contender
from avatarzoo.evaluation.protocol import Part, Protocol
from avatarzoo.evaluation.scoring import cost_columns

if TYPE_CHECKING:
    from avatarzoo.evaluation.runner import Run

Numbers = dict[str, Any]


def summarise(run: Run) -> dict[str, Any]:
    """See the schema ``avatarzoo/evaluation/result_schema.json`` for what it holds."""
    protocol, options = run.protocol, run.options
    rows, metrics, notes = {}, {}, []
    by_name = {c.row.row: c for c in run.contenders}
    for row in run.table_rows:
        contender = by_name.get(row.row)
        columns = {} if row.row in run.absent or contender is None else measured(run, contender)
        rows[row.row] = describe_row(run, row.row, contender)
        if columns:
            metrics[row.row] = columns
    for board in run.boards.values():
        notes += [note for note in board.notes.values() if note not in notes]
    result = {
        "method": protocol.title,
        "protocol": describe_protocol(protocol),
        "procedural": bool(run.twin),
        "head": run.head.signature,
        "seeds": list(run.seeds),
        "size": run.size,
        "data": {
            "roles": {k or "all": v.name for k, v in options.data.items()},
            "layout": options.layout,
            "limit": options.limit,
        },
        "rows": rows,
        "metrics": metrics,
        "cases": run.cases,
        "lost_cases": run.lost,
        "open_choices": [dataclasses.asdict(choice) for choice in protocol.open_choices],
        "aggregation": "one value per picture of 8-bit predictions, then the mean over pictures; over seeds: mean of their means",
        "notes": [*protocol.notes, *notes],
    }
    for study in run.studies.values():
        merge_study(result, study)
    return result


def describe_protocol(protocol: Protocol) -> dict[str, Any]:
    return {
        "name": protocol.protocol,
        "version": protocol.version,
        "hash": protocol.hash,
        "paper": protocol.paper,
        "table": protocol.table,
        "title": protocol.title,
        "columns": column_order(protocol),
    }


def column_order(protocol: Protocol) -> list[dict[str, Any]]:
    """Columns as the protocol lists them; ``{subset}`` in a group stands for the cases' own."""
    return [
        {
            "column": spec.column if not (part.group and spec.grouped) else f"{part.group} / {spec.column}",
            "extra": spec.extra,
            "metric": spec.metric,
        }
        for part in protocol.parts
        for spec in part.metrics
    ]


def describe_row(run: Run, name: str, contender: Contender | None) -> dict[str, Any]:
    row = next(r for r in run.table_rows if r.row == name)
    reason = run.absent.get(name)
    facts = (
        contender.facts
        if contender
        else {"method": row.method, "checkpoint_sha256": None, "config": None, "config_hash": None}
    )
    return {
        **facts,
        "state": "not run" if reason else "run",
        "reason": reason,
        "extra": row.extra,
        "costs": average_costs([c for (r, _), costs in run.costs.items() if r == name for c in costs]),
        "notes": [],
    }


def measured(run: Run, contender: Contender) -> dict[str, Numbers]:
    """Columns of one row over its seeds."""
    name = contender.row.row
    seeds = sorted({seed for row, seed, _ in run.boards if row == name})
    per_seed = [one_seed(run, name, seed) for seed in seeds]
    if len(per_seed) <= 1:
        return per_seed[0] if per_seed else {}
    return {
        title: over_seeds([columns[title] for columns in per_seed if title in columns])
        for title in per_seed[0]
    }


def one_seed(run: Run, row: str, seed: int) -> dict[str, Numbers]:
    columns: dict[str, Numbers] = {}
    costs = average_costs(run.costs.get((row, seed), []))
    for part in run.parts():
        board = run.boards.get((row, seed, part.name))
        if board is not None:
            columns |= board.numbers()
            columns |= grouped_costs(run, part, row, {**costs, "resolution": run.size})
    return columns


def grouped_costs(run: Run, part: Part, row: str, costs: dict[str, Any]) -> dict[str, Numbers]:
    prefix = f"{part.group} / " if part.group and "{" not in part.group else ""
    plain = {spec.column for spec in part.metrics if not spec.grouped}
    return {
        (name if name in plain else prefix + name): numbers
        for name, numbers in cost_columns(part, costs).items()
    }


def over_seeds(numbers: list[Numbers]) -> Numbers:
    """Mean of the seeds' means, the standard deviation over seeds as ``spread``, over pictures (of the first seed) as ``std``."""
    means = [n["mean"] for n in numbers if n["mean"] is not None]
    mean = _mean(means)
    spread = (
        math.sqrt(sum((m - mean) ** 2 for m in means) / (len(means) - 1))
        if mean is not None and len(means) > 1
        else None
    )
    return {
        **numbers[0],
        "mean": mean,
        "spread": spread,
        "per_seed": [n["mean"] for n in numbers],
        "count": sum(n["count"] for n in numbers),
        "failures": sum(n["failures"] for n in numbers),
        "per_case": {
            case: _mean([n["per_case"].get(case) for n in numbers]) for case in numbers[0]["per_case"]
        },
    }


def _mean(values: list[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None


def average_costs(costs: list[dict[str, Any]]) -> dict[str, Any]:
    """Costs per case (training time of one person), averaged; memory: the largest."""
    result: dict[str, Any] = {}
    for key in dict.fromkeys(key for c in costs for key in c):
        values = [c[key] for c in costs if c.get(key) is not None]
        if values and all(isinstance(v, int | float) for v in values):
            result[key] = max(values) if key.startswith("peak") else sum(values) / len(values)
        else:
            result[key] = values[0] if values else None
    return result


def merge_study(result: dict[str, Any], study: dict[str, Any]) -> None:
    """Add what a study measured: rows and columns like any other, curves under ``curves``."""
    for row, columns in study.get("metrics", {}).items():
        result["metrics"].setdefault(row, {}).update(columns)
        result["rows"].setdefault(row, study.get("rows", {}).get(row, {}))
    if "curves" in study:
        result.setdefault("curves", {}).update(study["curves"])
    result["notes"] += study.get("notes", [])
