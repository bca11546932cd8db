"""Networks as files that other runtimes read: ONNX, or torch's own exported programs, each with its facts as JSON beside it."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from avatarzoo.files import atomic_path
from avatarzoo.optional import require

OPSET = 18
PROGRAM_FORMAT = "avatarzoo-program-1"
NETWORK_FORMATS = {".onnx": "onnx", ".pt2": "torch-export"}
"""Suffixes of network files."""


@dataclass
class Program:
    """A network of tensors only.

    Attributes:
        network: takes the inputs by name and returns a tuple.
        inputs: an example of each, of one row; the first dimension is the batch.
        outputs: names, in the order of the tuple.
        facts: JSON-able; whatever a caller in another language has to know.
        exact: inputs that have to stay float32 up to the first table that they look up.
    """

    network: nn.Module
    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]
    facts: dict[str, Any] = field(default_factory=dict)
    exact: tuple[str, ...] = ()


def write_program(program: Program, path: str | Path, batch: int | Literal["dynamic"] = 1) -> Path:
    """Write ``path`` (.onnx or .pt2) and its facts as .json beside it; each appears complete or not at all.

    Args:
        batch: rows of every call, or ``"dynamic"``.

    Raises:
        MissingExtraError: ONNX without the packages it is written with.
        OutputError: the folder cannot be written.
    """
    path = Path(path)
    kind = NETWORK_FORMATS[path.suffix]
    if kind == "onnx":
        for package in ("onnx", "onnxscript"):
            require(package, "export")
    facts = {"format": PROGRAM_FORMAT, "file": path.name, "kind": kind, "batch": batch, **program.facts}
    with atomic_path(path) as partial, quiet():
        exported = traced(program, batch)
        if kind == "onnx":
            facts |= write_onnx(exported, program, partial, batch)
        else:
            torch.export.save(exported, partial)
    with atomic_path(path.with_suffix(".json")) as partial:
        partial.write_text(json.dumps(facts, indent=2) + "\n")
    return path


def traced(program: Program, batch: int | Literal["dynamic"]) -> torch.export.ExportedProgram:
    """The network as a graph without Python."""
    rows = 2 if batch == "dynamic" else batch  # an example of one row would be taken for a constant
    given = {k: v.expand(rows, *v.shape[1:]).contiguous() for k, v in program.inputs.items()}
    shapes = None
    if batch == "dynamic":
        shapes = {name: {0: torch.export.Dim("batch", min=1)} for name in given}
    with torch.no_grad():
        return torch.export.export(program.network.eval(), (), given, dynamic_shapes=shapes)


def write_onnx(
    exported: torch.export.ExportedProgram,
    program: Program,
    path: Path,
    batch: int | Literal["dynamic"],
) -> dict[str, Any]:
    """One self-contained file; returns what TensorRT has to be told."""
    written = torch.onnx.export(
        exported,
        input_names=list(program.inputs),
        output_names=list(program.outputs),
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    assert written is not None
    written.save(path, external_data=False)
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    limits = (
        {"min": 1, "opt": 1, "max": 4} if batch == "dynamic" else dict.fromkeys(("min", "opt", "max"), batch)
    )
    profile = {k: {n: [rows, *v.shape[1:]] for n, rows in limits.items()} for k, v in program.inputs.items()}
    return {
        "opset": OPSET,
        "tensorrt": {
            "static_shapes": batch != "dynamic",
            "profile": profile,
            "fp16": "all layers but those in keep_float32, whose results are positions in a table",
            "keep_float32": up_to_tables(graph, program.exact),
        },
    }


def up_to_tables(graph: Any, inputs: tuple[str, ...]) -> list[str]:
    """Names of the nodes between ``inputs`` and the first Gather on every way."""
    reached, names = set(inputs), []
    for node in graph.node:  # in the order of execution
        if reached & set(node.input) and node.op_type != "Gather":
            names.append(node.name)
            reached |= set(node.output)
    return names


@contextmanager
def quiet() -> Iterator[None]:
    """The exporters' remarks about themselves are of no use to who exports an avatar."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
