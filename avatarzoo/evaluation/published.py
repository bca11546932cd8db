"""The numbers printed in the papers' tables, from ``benchmarks/published.csv``."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from avatarzoo.errors import UsageError

PUBLISHED = Path(__file__).resolve().parents[2] / "benchmarks" / "published.csv"
"""Lies in a source checkout; an installed package has none."""

PAPERS = ("gaussian_dejavu", "gaussian_dejavu_supplement", "nofaplusplus", "invertavatar", "styleavatar")
STATUSES = ("printed", "dash", "missing")
NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")
TICKS = ("yes", "no", "N/A")
TICK_TABLES = {("gaussian_dejavu", "table1")}
"""Tables of supported features: ticks instead of numbers."""


class Published(NamedTuple):
    """One cell of a published table.

    Attributes:
        paper: one of :data:`PAPERS`.
        table: ``table1``, ``table2``, ...
        row: the method as printed, without citation numbers.
        column: the metric, or ``GROUP / METRIC``; the unit of times and parameter counts stands in its name. ``*`` where
            a missing table's columns are unknown.
        value: as printed, trailing zeros included; empty unless the status is ``printed``.
        status: ``printed``; ``dash`` where the table prints "-"; ``missing`` where our copy of the paper lacks the cell.
        note: what is odd about the cell, or empty.
    """

    paper: str
    table: str
    row: str
    column: str
    value: str
    status: str
    note: str

    @property
    def number(self) -> float | None:
        """The value as a number; ``None`` for ticks, dashes and missing cells."""
        return None if self.status != "printed" or self.value in TICKS else float(self.value)


COLUMNS = Published._fields


def load_published(path: str | Path | None = None) -> list[Published]:
    """Every cell of ``path`` (the checkout's ``benchmarks/published.csv`` by default), in the file's order.

    Raises:
        UsageError: the file is absent or no such table, or a line has an unknown paper or status, a key that came before,
            a printed value that is no number, or a value although nothing is printed.
    """
    path = Path(path or PUBLISHED)
    if not path.is_file():
        raise UsageError(
            f"{path} does not exist: name a copy of the repository's benchmarks/published.csv with --published FILE."
        )
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            lines = [(reader.line_num, cells) for cells in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(
            f"{path} is no CSV text ({error}): name another file with --published FILE."
        ) from error
    if tuple(header) != COLUMNS:
        raise UsageError(
            f"{path} needs the columns {', '.join(COLUMNS)} in its first line, not {', '.join(header)!r}."
        )
    entries: dict[tuple[str, ...], Published] = {}
    for number, cells in lines:
        problem = _problem(cells)
        if not problem and tuple(cells[:4]) in entries:
            problem = f"{' / '.join(cells[:4])} comes a second time"
        if problem:
            raise UsageError(f"{path}, line {number}: {problem}; correct the line.")
        entries[tuple(cells[:4])] = Published(*cells)
    return list(entries.values())


def published_table(
    paper: str, table: str, path: str | Path | None = None
) -> dict[str, dict[str, Published]]:
    """One published table as row -> column -> cell, in printed order; a row lacks the columns it has no cell in.

    Raises:
        UsageError: no such paper or table, or see :func:`load_published`.
    """
    entries = [entry for entry in load_published(path) if entry.paper == paper]
    if not entries:
        raise UsageError(f"No published numbers of {paper}; the papers are {', '.join(PAPERS)}.")
    tables = sorted({entry.table for entry in entries})
    if table not in tables:
        raise UsageError(
            f"{paper} has no {table}; the tables with published numbers are {', '.join(tables)}."
        )
    rows: dict[str, dict[str, Published]] = {}
    for entry in entries:
        if entry.table == table:
            rows.setdefault(entry.row, {})[entry.column] = entry
    return rows


def _problem(cells: Sequence[str]) -> str | None:
    """What is wrong with one line, or ``None``."""
    if len(cells) != len(COLUMNS):
        return f"{len(cells)} fields instead of {len(COLUMNS)}"
    entry = Published(*cells)
    empty = [name for name in ("table", "row", "column") if not getattr(entry, name)]
    if entry.paper not in PAPERS:
        return f"paper {entry.paper!r} is none of {', '.join(PAPERS)}"
    if empty:
        return f"empty {empty[0]}"
    if entry.status not in STATUSES:
        return f"status {entry.status!r} is none of {', '.join(STATUSES)}"
    if entry.status != "printed":
        return f"the status is {entry.status!r} but the value is {entry.value!r}" if entry.value else None
    if (entry.paper, entry.table) in TICK_TABLES:
        return None if entry.value in TICKS else f"{entry.value!r} is none of {', '.join(TICKS)}"
    return None if NUMBER.fullmatch(entry.value) else f"{entry.value!r} is no number"
