"""What stands below a table: what it was measured on and how, and what must not be read into it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avatarzoo.evaluation.table import Line

PROCEDURAL = (
    "Made-up people, tiny pictures: these numbers show that the protocol runs and say nothing about real people. "
    "Published numbers are left out on purpose."
)


def data_warning(result: dict[str, Any]) -> str | None:
    """Why a protocol's result cannot be compared with the paper's numbers: other data, or a part of them."""
    if result["procedural"]:
        return PROCEDURAL
    data = result["data"]
    if data.get("layout"):
        return f"Measured on {data_name(result)}, not on the paper's data: not comparable."
    if data.get("limit"):
        return f"Measured on at most {data['limit']} cases of each part, not on all of the paper's data: not comparable."
    return None


def data_name(result: dict[str, Any]) -> str:
    """The data in words: folder names, layout, what was counted."""
    data = result["data"]
    roles = data.get("roles") or {}
    names = ", ".join(name if role == "all" else f"{name} ({role})" for role, name in roles.items())
    return (names or "its own data") + (f" read as {data['layout']}" if data.get("layout") else "")


def footnotes(results: Sequence[dict[str, Any]], lines: Sequence[Line], published: bool) -> list[str]:
    """Notes of a table, most important first; results: oldest first."""
    notes = [*_missing_rows(lines), *_variants(lines)]
    if any(line.extra for line in lines) or _extra_columns(results[-1]):
        notes.append("† not in the paper's table; added by avatarzoo.")
    if published:
        notes.append("“published” columns and rows are as printed in the paper.")
    notes += [_provenance(result) for result in results]
    last = results[-1]
    if cases := last.get("cases"):
        notes.append("; ".join(_count(part, found) for part, found in cases.items()) + ".")
    if lost := last.get("lost_cases"):
        notes.append(
            f"{len(lost)} left out: " + "; ".join(f"{c['name']} ({c['reason'].rstrip('.')})" for c in lost[:5])
            + (f"; and {len(lost) - 5} more." if len(lost) > 5 else ".")
        )  # fmt: skip
    if len(last.get("seeds") or ()) > 1:
        seeds = ", ".join(str(seed) for seed in last["seeds"])
        notes.append(f"±: standard deviation over the seeds {seeds}, of methods trained here.")
    for choice in last.get("open_choices", ()):
        why = f" ({choice['why'].rstrip('.')})" if choice.get("why") else ""
        notes.append(
            f"Open in the paper, {choice['choice']}: {choice['paper']}. Here: {choice['ours']}{why}."
        )
    return _unique([*notes, *(note for result in results for note in result.get("notes", ()))])


def _missing_rows(lines: Sequence[Line]) -> list[str]:
    notes = [f"{line.name} was not run: {line.reason}" for line in lines if line.reason]
    if any(cell.column == "*" for line in lines for cell in line.published.values()):
        notes.append("The published numbers are missing in our copy of the paper.")
    return notes


def _variants(lines: Sequence[Line]) -> list[str]:
    """Which network or preset stands behind a column whose name does not say so."""
    labels: dict[str, list[str]] = {}
    for line in lines:
        for name, numbers in line.measured.items():
            label, column = numbers.get("label"), name.rpartition(" / ")[2]
            if label and label != column:
                labels.setdefault(f"{column} is {label}", []).append(name)
    return ["Measured " + "; ".join(labels) + "."] if labels else []


def _extra_columns(result: dict[str, Any]) -> bool:
    return any(column["extra"] for column in result.get("protocol", {}).get("columns", ()))


def _provenance(result: dict[str, Any]) -> str:
    commit = result["commit"]
    tree = (
        f"commit {commit[:10]}{' with uncommitted changes' if commit.endswith('+') else ''}"
        if commit
        else "no commit"
    )
    head = (result.get("head") or {}).get("name")
    protocol = result.get("protocol")
    parts = [
        f"Measured {result['written'][:10]} on {result['device']}",
        tree,
        *([f"head model {head}"] if head else []),
        *([f"pictures of {result['size']} px"] if "size" in result else []),
        *([f"protocol {protocol['name']} version {protocol['version']}"] if protocol else []),
    ]
    return ", ".join(parts) + "."


def _count(part: str, cases: Sequence[dict[str, Any]]) -> str:
    pictures = sum(case.get("pictures", 0) for case in cases)
    return f"{part}: {len(cases)} case{'s' if len(cases) != 1 else ''}, {pictures} pictures"


def _unique(notes: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(note if note.endswith((".", "!", "?")) else f"{note}." for note in notes))
