"""A protocol: one published table as a file that says what is measured on what, and marks every choice the paper leaves open.

A table has one or more parts (self- and cross-reenactment, say); each part names its task, its data, its settings and the metrics
that fill its columns. Column names are those of ``benchmarks/published.csv``, so that printed numbers find their place beside ours.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from avatarzoo.errors import UsageError

Task = Literal[
    "reconstruction", "self_reenactment", "cross_reenactment", "few_shot", "novel_view", "audio_driven", "generation",
    "novelty", "convergence", "features",
]  # fmt: skip
Against = Literal["target", "driver", "source"]
KEEP = "keep"


@dataclass(frozen=True)
class MetricSpec:
    """One column.

    Attributes:
        column: its published name, without the part's group, e.g. ``LPIPS`` or ``Facial / L1``.
        metric: a name of :data:`avatarzoo.evaluation.scoring.METRICS`.
        options: keyword arguments of the metric (preset, net, norm...).
        region: ``full``, ``head`` or ``facial``.
        against: what it compares a prediction with; the metric's own choice by default.
        grouped: false for a column that all groups share (training time).
        extra: not a column of the paper; added by us.
    """

    column: str
    metric: str
    options: dict[str, Any] = field(default_factory=dict)
    region: Literal["full", "head", "facial"] = "full"
    against: Against | None = None
    grouped: bool = True
    extra: bool = False


@dataclass(frozen=True)
class DataSpec:
    """One set of pictures or clips.

    Attributes:
        layout: reader, a name of :data:`avatarzoo.data.layouts.LAYOUTS`.
        split: the set's own split; empty for all.
        select: which items: ``names`` (list), ``count``, ``seed``, ``identities``, ``first``, as in
            :func:`avatarzoo.data.layouts.select`.
        frames: most frames used of a clip (0: all).
        what: the paper's words on the set.
    """

    layout: str
    split: str = ""
    select: dict[str, Any] = field(default_factory=dict)
    frames: int = 0
    what: str = ""


@dataclass(frozen=True)
class Part:
    """Some columns of the table: one task on some data.

    Attributes:
        name: short, for folders; group: printed before the columns (``{subset}`` stands for the case's, e.g. the subject).
        data: role -> set; roles are the task's (``clips``, ``images``, ``sources``, ``drivers``, ``views``...).
        settings: the task's; see :mod:`avatarzoo.evaluation.tasks`.
    """

    name: str
    task: Task
    data: dict[str, DataSpec]
    metrics: tuple[MetricSpec, ...]
    group: str = ""
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """A line of the table that this project can fill.

    Attributes:
        row: its published name; ``method``: class in :mod:`avatarzoo.models`, or a baseline of :mod:`avatarzoo.evaluation.baselines`.
        fit: experiment config of a method that is trained on each person; empty for methods that need a checkpoint, or nothing.
        model: constructor arguments changed for this row (an ablation); trainer: likewise for the trainer.
        extra: not a row of the paper (our baselines).
    """

    row: str
    method: str
    fit: str = ""
    model: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)
    extra: bool = False


@dataclass(frozen=True)
class Choice:
    """Something the paper leaves open: what it says, what we do, and why."""

    choice: str
    paper: str
    ours: str
    why: str = ""


@dataclass(frozen=True)
class Picture:
    """How pictures are made.

    Attributes:
        size: side in pixels. background: grey level behind the head, or ``keep``. head: head model the data is tracked with
            (``--head`` replaces it). crop: in words.
    """

    size: int = 512
    background: float | str = 1.0
    head: str = "ict"
    crop: str = "square round the head, fixed over a clip (avatarzoo's tracker)"

    @property
    def ground(self) -> float | None:
        """Grey level, or ``None`` where the background stays."""
        return None if self.background == KEEP else float(self.background)


@dataclass(frozen=True)
class Twin:
    """The procedural twin: made-up people instead of the data set, tiny sizes; proves that the protocol runs.

    Attributes:
        people: made-up people per set. frames: of a clip. size: of pictures. settings: replaces settings of all parts.
        rows: replaces rows (methods with a smoke config, baselines).
    """

    people: int = 2
    frames: int = 24
    size: int = 128
    settings: dict[str, Any] = field(default_factory=dict)
    rows: tuple[Row, ...] = ()


@dataclass(frozen=True)
class Protocol:
    """One published table; see the module's text.

    Attributes:
        protocol: its name, the file's stem. version: raised whenever results would change.
        paper, table: as in ``published.csv`` (empty table: a figure or our own).
        seeds: trained rows run once per seed. max_failures: share of values of a column that may fail before the run is an error.
    """

    protocol: str
    version: int
    paper: str
    table: str
    title: str
    parts: tuple[Part, ...]
    rows: tuple[Row, ...] = ()
    picture: Picture = Picture()
    twin: Twin = Twin()
    seeds: tuple[int, ...] = (0,)
    max_failures: float = 0.05
    open_choices: tuple[Choice, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def hash(self) -> str:
        """16 hex digits over everything the file says; two results are comparable when they agree."""
        return hashlib.sha256(repr(dataclasses.asdict(self)).encode()).hexdigest()[:16]


NESTED: dict[tuple[type, str], type] = {
    (Protocol, "parts"): Part,
    (Protocol, "rows"): Row,
    (Protocol, "picture"): Picture,
    (Protocol, "twin"): Twin,
    (Protocol, "open_choices"): Choice,
    (Part, "data"): DataSpec,
    (Part, "metrics"): MetricSpec,
    (Twin, "rows"): Row,
}
METRIC_KEYS = {f.name for f in fields(MetricSpec)}


def load_protocol(path: str | Path) -> Protocol:
    """Read a protocol file.

    Raises:
        UsageError: no such file, no valid YAML, an unknown key or value, two parts that fill one column; the message names the place.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UsageError(
            f"There is no protocol {path}; avatarzoo test -c benchmarks/protocols lists them."
        ) from error
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is no valid YAML ({str(error).splitlines()[0]}); correct it.") from error
    protocol = build(Protocol, content, str(path))
    if protocol.protocol != path.stem:
        raise UsageError(
            f"{path} calls itself {protocol.protocol!r}; name the protocol after its file, {path.stem!r}."
        )
    filled: dict[tuple[str, str], str] = {}
    for part in protocol.parts:
        for spec in part.metrics:
            first = filled.setdefault((part.group or "", spec.column), part.name)
            if first != part.name:
                raise UsageError(
                    f"{path}: parts {first!r} and {part.name!r} both fill the column {spec.column!r}; give each its own group."
                )
    return protocol


def build(kind: type, content: Any, where: str) -> Any:
    """A dataclass from plain YAML values; strict.

    Raises:
        UsageError: an unknown or missing key, or a value that is not allowed.
    """
    if not isinstance(content, dict):
        raise UsageError(f"{where} must be a mapping of {', '.join(f.name for f in fields(kind))}.")
    if kind is MetricSpec:  # what is no field of the column is an option of the metric
        options = {k: v for k, v in content.items() if k not in METRIC_KEYS}
        content = {k: v for k, v in content.items() if k in METRIC_KEYS} | (
            {"options": options} if options else {}
        )
    known = {f.name: f for f in fields(kind)}
    if unknown := sorted(set(content) - set(known)):
        raise UsageError(f"{where} has no key {unknown[0]!r}; the keys are {', '.join(known)}.")
    values = {}
    for name, value in content.items():
        values[name] = _nested(kind, name, value, f"{where}: {name}")
        _check_literal(known[name], values[name], f"{where}: {name}")
    try:
        return kind(**values)
    except TypeError as error:
        raise UsageError(f"{where}: {error}; add what is missing.") from error


def _nested(kind: type, name: str, value: Any, where: str) -> Any:
    inner = NESTED.get((kind, name))
    if inner is None:
        return tuple(value) if isinstance(value, list) else value
    if inner is DataSpec and isinstance(value, dict):
        return {role: build(inner, spec, f"{where} {role}") for role, spec in value.items()}
    if isinstance(value, list):
        return tuple(build(inner, item, f"{where} {i + 1}") for i, item in enumerate(value))
    return build(inner, value, where)


def _check_literal(spec: dataclasses.Field, value: Any, where: str) -> None:
    names = {"Task": get_args(Task), 'Literal["full", "head", "facial"]': ("full", "head", "facial")}
    allowed = names.get(str(spec.type))
    if str(spec.type).startswith("Against"):
        allowed = (*get_args(Against), None)
    if allowed and value not in allowed:
        raise UsageError(f"{where} is {value!r}; it can be {', '.join(str(a) for a in allowed if a)}.")
