"""Result files and published numbers, brought together as tables.

A table has the protocol's columns; a method that was measured and is printed in the paper has both numbers in one line. Results on
made-up people never meet published numbers: such a table has none, by construction.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from avatarzoo.errors import UsageError
from avatarzoo.evaluation import published as paper_numbers
from avatarzoo.evaluation.formats import csv_text, latex, markdown, markdown_grid
from avatarzoo.evaluation.published import Published
from avatarzoo.evaluation.results import read_result
from avatarzoo.evaluation.table_notes import data_warning, footnotes

Format = Literal["markdown", "latex", "csv"]
Numbers = dict[str, Any]

EXPERIMENT = {
    "l1": ("L1", "l1"),
    "psnr": ("PSNR", "psnr"),
    "ssim": ("SSIM", "ssim"),
    "lpips_alex": ("LPIPS-alex", "lpips"),
    "lpips_vgg": ("LPIPS-vgg", "lpips"),
}
"""Columns of an experiment's result: key in the file -> name and metric."""
DIGITS = {
    "psnr": 2, "fid": 2, "akd": 3, "training_minutes": 1, "training_hours": 2, "render_ms": 1, "render_seconds": 3,
    "params_millions": 2, "peak_memory_gb": 2, "resolution": 0, "warped_error": 4,
}  # fmt: skip
"""Decimals where the paper prints none; 3 for all others."""
LOWER_IS_BETTER = {
    "l1", "lpips", "fid", "frechet_face", "akd", "aed", "apd", "apd_asked", "jitter", "warped_error", "training_minutes",
    "training_hours", "render_ms", "render_seconds", "peak_memory_gb",
}  # fmt: skip
HIGHER_IS_BETTER = {"psnr", "ssim", "msssim", "csim", "csim_pairs"}
SUBSET = "{subset}"


@dataclass(frozen=True)
class Column:
    """One column: its name in the protocol and the paper, e.g. ``Facial / LPIPS``; ``digits`` are decimals of measured numbers."""

    name: str
    metric: str
    digits: int
    extra: bool = False
    measured: bool = True
    published: bool = False

    @property
    def group(self) -> str:
        return self.name.rpartition(" / ")[0]

    @property
    def heading(self) -> str:
        """Name without its group, with an arrow towards better and a dagger where the paper has no such column."""
        arrow = " ↓" if self.metric in LOWER_IS_BETTER else " ↑" if self.metric in HIGHER_IS_BETTER else ""
        return f"{self.name.rpartition(' / ')[2]}{arrow}{' †' if self.extra else ''}"


@dataclass
class Line:
    """One method. ``reason``: why it was not run; ``None`` when it was, or when only the paper has it (``listed`` is false)."""

    name: str
    measured: dict[str, Numbers] = field(default_factory=dict)
    published: dict[str, Published] = field(default_factory=dict)
    extra: bool = False
    reason: str | None = None
    listed: bool = True

    @property
    def heading(self) -> str:
        return self.name + (" †" if self.extra else "" if self.listed else " (published)")


@dataclass
class Table:
    """A table before it gets a format. ``warning``: why its numbers must not be compared with the paper's, or ``None``."""

    title: str
    name: str
    columns: list[Column]
    lines: list[Line]
    procedural: bool
    warning: str | None = None
    notes: list[str] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)

    def measured_text(self, line: Line, column: Column) -> str:
        """``-`` for what was not computed, nothing where only the paper has the method."""
        if not line.listed:
            return ""
        if line.reason:
            return "not run"
        numbers = line.measured.get(column.name)
        if numbers is None:
            return "-"
        failed = f" ({numbers['failures']} failed)" if numbers["failures"] else ""
        mean = finite(numbers["mean"])
        if mean is None:
            return numbers.get("text", "-") + failed
        spread = finite(numbers.get("spread"))
        return (
            f"{mean:.{column.digits}f}"
            + (f" ± {spread:.{column.digits}f}" if spread is not None else "")
            + failed
        )

    @staticmethod
    def published_text(line: Line, column: Column) -> str:
        """As printed."""
        cell = line.published.get(column.name)
        if cell is None:
            return ""
        return {"printed": cell.value, "dash": "-"}.get(cell.status, cell.status)


def finite(value: Any) -> float | None:
    """The number, or ``None`` where there is none."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


# ---- building ------------------------------------------------------------------------------------------------------------


def build_tables(results: Iterable[dict[str, Any]], published: str | Path | None = None) -> list[Table]:
    """One table per protocol, footage and kind of people; results that agree in these share it, the newest number counting.

    Args:
        results: from :func:`avatarzoo.evaluation.results.read_result`.
        published: another ``published.csv``.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for result in sorted(results, key=lambda r: (r["written"], str(r.get("method")))):
        groups.setdefault(_identity(result), []).append(result)
    tables = [
        protocol_table(group, published) if "protocol" in group[0] else experiment_table(group[0])
        for group in groups.values()
    ]
    return sorted(tables, key=lambda t: (t.procedural, t.name, t.title))


def _identity(result: dict[str, Any]) -> str:
    if "protocol" not in result:
        return f"experiment {id(result)}"
    protocol = result["protocol"]
    cases = {
        part: [(c["name"], c.get("group"), c.get("pictures")) for c in cases]
        for part, cases in result["cases"].items()
    }
    return repr(
        (protocol["name"], protocol["hash"], result["procedural"], result.get("size"), result["data"], cases)
    )


def protocol_table(results: Sequence[dict[str, Any]], published: str | Path | None = None) -> Table:
    """The table of results of one protocol on the same footage, oldest first."""
    last = results[-1]
    protocol, procedural = last["protocol"], any(r["procedural"] for r in results)
    printed = {} if procedural else _published(protocol, published)
    lines: dict[str, Line] = {}
    for result in results:
        for name, row in result["rows"].items():
            ran = row["state"] == "run"
            if ran or name not in lines:
                lines[name] = Line(
                    name, result["metrics"].get(name, {}), printed.get(name, {}), row["extra"],
                    None if ran else row["reason"],
                )  # fmt: skip
    for name, cells in printed.items():
        if name not in lines:
            lines[name] = Line(name, published=cells, listed=False)
    ordered = sorted(lines.values(), key=lambda line: (not line.listed, line.extra))
    return Table(
        title=protocol["title"],
        name=protocol["name"],
        columns=make_columns(protocol["columns"], ordered),
        lines=ordered,
        procedural=procedural,
        warning=data_warning(last),
        notes=footnotes(results, ordered, bool(printed)),
        results=list(results),
    )


def _published(protocol: dict[str, Any], path: str | Path | None) -> dict[str, dict[str, Published]]:
    """Printed numbers; none for a protocol that is no table of a paper, or where this installation has no file of them."""
    if not protocol["table"] or (path is None and not paper_numbers.PUBLISHED.is_file()):
        return {}
    return paper_numbers.published_table(protocol["paper"], protocol["table"], path)


def make_columns(listed: Sequence[dict[str, Any]], lines: Sequence[Line]) -> list[Column]:
    """The protocol's columns in its order, ``{subset}`` filled in; then what else was measured or printed."""
    seen = dict.fromkeys(
        name
        for source in ("measured", "published")
        for line in lines
        for name in getattr(line, source)
        if name != "*"
    )
    fixed = {entry["column"] for entry in listed if SUBSET not in entry["column"]}
    names: dict[str, dict[str, Any]] = {}
    for entry in listed:
        if SUBSET not in entry["column"]:
            names[entry["column"]] = entry
            continue
        subsets = [s for name in seen if name not in fixed and (s := _subset(entry["column"], name))]
        block = [e for e in listed if _template(e) == _template(entry)]
        for subset in dict.fromkeys(subsets):
            for e in block:
                names.setdefault(e["column"].replace(SUBSET, subset), e)
    columns = []
    for name in [*names, *(name for name in seen if name not in names)]:
        entry = names.get(name, {"metric": "", "extra": False})
        numbers = [line.measured[name] for line in lines if name in line.measured]
        printed = [cell for line in lines if (cell := line.published.get(name)) and cell.status == "printed"]
        if not numbers and not printed and name not in fixed:
            continue
        columns.append(
            Column(
                name,
                entry["metric"],
                _digits(entry["metric"], numbers, printed),
                entry["extra"],
                bool(numbers) or name in fixed,
                any(name in line.published for line in lines),
            )
        )
    return columns


def _template(entry: dict[str, Any]) -> str:
    group = entry["column"].rpartition(" / ")[0]
    return group if SUBSET in group else ""


def _subset(template: str, name: str) -> str | None:
    """What stands for ``{subset}`` in a column name that fits the template."""
    before, _, after = template.partition(SUBSET)
    fits = len(name) > len(before + after) and name.startswith(before) and name.endswith(after)
    return name[len(before) : len(name) - len(after)] if fits else None


def _digits(metric: str, numbers: Sequence[Numbers], printed: Sequence[Published]) -> int:
    """Decimals as the paper prints; up to two more where the smallest number would show fewer than two digits."""
    usual = max((len(cell.value.partition(".")[2]) for cell in printed), default=DIGITS.get(metric, 3))
    means = [abs(mean) for n in numbers if (mean := finite(n["mean"]))]
    if not means or metric == "resolution":
        return usual
    return min(max(usual, 1 - math.floor(math.log10(min(means)))), usual + 2)


def experiment_table(result: dict[str, Any]) -> Table:
    """The table of one ``avatarzoo fit`` or ``test`` of an experiment."""
    lines = [Line(name, _named(numbers)) for name, numbers in result["metrics"].items()]
    name = str(result.get("method", "experiment"))
    return Table(
        f"{name}, an experiment", name, experiment_columns(lines), lines, result["procedural"],
        notes=footnotes([result], lines, False), results=[result],
    )  # fmt: skip


def _named(numbers: dict[str, Numbers]) -> dict[str, Numbers]:
    return {EXPERIMENT.get(key, (key,))[0]: values for key, values in numbers.items()}


def experiment_columns(lines: Sequence[Line]) -> list[Column]:
    return [
        Column(name, metric, DIGITS.get(metric, 4))
        for name, metric in EXPERIMENT.values()
        if any(name in line.measured for line in lines)
    ]


# ---- text ----------------------------------------------------------------------------------------------------------------


def render_table(
    paths: Iterable[str | Path], form: Format = "markdown", published: str | Path | None = None
) -> str:
    """Result files as text.

    Raises:
        BadResultError: a file cannot be read.
        UsageError: CSV of procedural and other results at once: they would stand in one table with published numbers.
    """
    tables = build_tables([read_result(path) for path in paths], published)
    if form == "csv":
        if len({table.procedural for table in tables}) > 1:
            raise UsageError(
                "Results on made-up people and published numbers must not stand in one table; name the files of one kind."
            )
        return csv_text(tables)
    return "\n\n".join((markdown if form == "markdown" else latex)(table) for table in tables)


def markdown_table(rows: dict[str, dict[str, Numbers]]) -> str:
    """The console table of an experiment; rows: name -> metric -> ``{"mean": float or None, "failures": int}``.

    A metric that was not computed shows a dash; failed pictures are counted in their own column.
    """
    lines = [
        Line(name, _named({k: {**n, "failures": 0} for k, n in numbers.items()}))
        for name, numbers in rows.items()
    ]
    table = Table("", "", experiment_columns(lines), lines, procedural=False)
    grid = [["", *(column.heading for column in table.columns), "failed pictures"]]
    for line in lines:
        failed = max((n["failures"] for n in rows[line.name].values()), default=0)
        grid.append([line.name, *(table.measured_text(line, c) for c in table.columns), str(failed)])
    return markdown_grid(grid)
