"""A table as Markdown, LaTeX (booktabs) or CSV."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from avatarzoo.evaluation.table_notes import PROCEDURAL

if TYPE_CHECKING:
    from avatarzoo.evaluation.table import Column, Line, Table

WIDEST = 10
"""Number columns of one Markdown table; a wider one is split by the columns' groups."""
LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "±": r"$\pm$", "↓": r"$\downarrow$", "↑": r"$\uparrow$", "†": r"$^{\dagger}$", "“": "``", "”": "''", "°": r"$^{\circ}$",
    "×": r"$\times$", "–": "--", "…": r"\ldots{}", "σ": r"$\sigma$", "λ": r"$\lambda$", "α": r"$\alpha$", "β": r"$\beta$",
}  # fmt: skip
CSV_FIELDS = (
    "protocol", "version", "row", "column", "source", "value", "std", "spread", "count", "failures", "label", "extra",
    "comparable", "written", "commit", "note",
)  # fmt: skip


# ---- Markdown ------------------------------------------------------------------------------------------------------------


def markdown(table: Table) -> str:
    """Heading, warning, one or more grids, notes."""
    parts = [f"### {table.title}"]
    if table.procedural or table.warning:
        parts.append(f"**{label(table)}{table.warning or PROCEDURAL}**")
    for group, columns in blocks(table.columns):
        if group is not None:
            parts.append(f"**{group or 'All'}**")
        parts.append(markdown_grid(grid(table, columns, short=group is not None)))
    parts.append("\n".join(f"- {note}" for note in table.notes))
    return "\n\n".join(part for part in parts if part)


def label(table: Table) -> str:
    return "PROCEDURAL. " if table.procedural else ""


def blocks(columns: Sequence[Column]) -> list[tuple[str | None, list[Column]]]:
    """All columns under ``None`` where they fit beside each other, else by group, in order."""
    if sum(c.measured + c.published for c in columns) <= WIDEST:
        return [(None, list(columns))]
    groups: dict[str, list[Column]] = {}
    for column in columns:
        groups.setdefault(column.group, []).append(column)
    return list(groups.items()) if len(groups) > 1 else [(None, list(columns))]


def grid(table: Table, columns: Sequence[Column], short: bool) -> list[list[str]]:
    """Heading and lines; lines of published methods that have nothing in these columns are left out."""
    heading = [""]
    for column in columns:
        name = f"{column.group} / {column.heading}" if column.group and not short else column.heading
        heading += [name] * column.measured
        heading += [f"{name.rstrip(' †')} published"] * column.published
    return [heading, *([line.heading, *cells(table, line, columns)] for line in shown(table, columns))]


def shown(table: Table, columns: Sequence[Column]) -> list[Line]:
    measured = any(c.measured for c in columns)
    return [
        line
        for line in table.lines
        if (line.listed and measured) or any(c.name in line.published for c in columns)
    ]


def cells(table: Table, line: Line, columns: Sequence[Column]) -> list[str]:
    texts: list[str] = []
    for column in columns:
        texts += [table.measured_text(line, column)] * column.measured
        texts += [table.published_text(line, column)] * column.published
    return texts


def markdown_grid(rows: Sequence[Sequence[str]]) -> str:
    """Aligned cells; the first row is the heading."""
    rows = [[cell.replace("|", r"\|").replace("\n", " ") for cell in row] for row in rows]
    widths = [max(3, *(len(row[i]) for row in rows)) for i in range(len(rows[0]))]
    texts = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths)) + " |" for row in rows]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([texts[0], rule, *texts[1:]])


# ---- LaTeX ---------------------------------------------------------------------------------------------------------------


def escape(text: str) -> str:
    """Text for LaTeX."""
    return "".join(LATEX.get(character, character) for character in text)


def latex(table: Table) -> str:
    """A ``table*`` that needs the packages booktabs and graphicx."""
    width = sum(c.measured + c.published for c in table.columns)
    body = [r"\begin{tabular}{l" + "c" * width + "}", r"\toprule", *_latex_groups(table.columns)]
    heading = grid(table, table.columns, short=True)[0]
    body += [_latex_line(heading), r"\midrule"]
    body += [
        _latex_line([line.heading, *cells(table, line, table.columns)])
        for line in shown(table, table.columns)
    ]
    body += [r"\bottomrule", r"\end{tabular}"]
    if width > WIDEST:
        body = [r"\resizebox{\textwidth}{!}{%", *body, "}"]
    warning = rf" \textbf{{{escape(table.warning)}}}" if table.warning else ""
    lines = [
        r"\begin{table*}", r"\centering", rf"\caption{{{escape(label(table) + table.title)}.{warning}}}", *body,
        r"\par\footnotesize\raggedright", *(escape(note) + r"\par" for note in table.notes), r"\end{table*}",
    ]  # fmt: skip
    return "\n".join(lines)


def _latex_groups(columns: Sequence[Column]) -> list[str]:
    """The line of groups above the headings, where there are any."""
    if not any(c.group for c in columns):
        return []
    texts, rules, at = [""], [], 2
    for group, members in itertools.groupby(columns, key=lambda c: c.group):
        span = sum(c.measured + c.published for c in members)
        texts.append(rf"\multicolumn{{{span}}}{{c}}{{{escape(group)}}}")
        rules += [rf"\cmidrule(lr){{{at}-{at + span - 1}}}"] if group else []
        at += span
    return [" & ".join(texts) + r" \\", "".join(rules)]


def _latex_line(texts: Sequence[str]) -> str:
    return " & ".join(escape(text) for text in texts) + r" \\"


# ---- CSV -----------------------------------------------------------------------------------------------------------------


def csv_text(tables: Iterable[Table]) -> str:
    """Long form, one number a line, unrounded; sources are measured, procedural, published and ``not run``."""
    file = io.StringIO()
    writer = csv.DictWriter(file, CSV_FIELDS, lineterminator="\n")
    writer.writeheader()
    for table in tables:
        last = table.results[-1]
        facts = {
            "protocol": table.name, "version": last.get("protocol", {}).get("version"), "written": last["written"],
            "commit": last["commit"], "comparable": "no" if table.procedural or table.warning else "yes",
        }  # fmt: skip
        for line in table.lines:
            writer.writerows({**facts, "row": line.name, **entry} for entry in _entries(table, line))
    return file.getvalue()


def _entries(table: Table, line: Line) -> list[dict[str, object]]:
    entries: list[dict[str, object]] = []
    if line.reason:
        entries.append({"source": "not run", "note": line.reason, "extra": line.extra})
    extra = {column.name: column.extra for column in table.columns}
    for name, numbers in line.measured.items():
        value = numbers["mean"] if numbers["mean"] is not None else numbers.get("text")
        entries.append(
            {
                "column": name,
                "source": "procedural" if table.procedural else "measured",
                "value": value,
                "extra": line.extra or extra.get(name, False),
                **{key: numbers.get(key) for key in ("std", "spread", "count", "failures", "label")},
            }
        )
    blank = {"written": "", "commit": "", "comparable": "", "extra": False}
    for name, cell in line.published.items():
        if cell.status == "printed":
            entry = {"column": name, "source": "published", "value": cell.value, "note": cell.note}
            entries.append({**entry, **blank})
    return entries
