"""A checkpoint as safetensors and JSON, and back: what a model hub may hold, for neither file can carry code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from avatarzoo.errors import BadCheckpointError, BadSequenceError
from avatarzoo.files import atomic_path

FORMAT = "avatarzoo-portable-1"
WEIGHTS, CONFIG = "model.safetensors", "config.json"
TENSOR = "$tensor"
"""Key under which the configuration names a tensor that lies in the other file."""
LEFT_BEHIND = ("optimizer_states", "lr_schedulers", "loops", "callbacks", "MixedPrecision")
"""Of training alone."""


def write_portable(checkpoint: Path, folder: Path) -> dict[str, Any]:
    """Write ``model.safetensors`` and ``config.json`` of a checkpoint; returns the configuration.

    Raises:
        BadSequenceError: no such file, or no checkpoint of avatarzoo. OutputError: the folder cannot be written.
    """
    from avatarzoo.models import read_checkpoint

    content = read_checkpoint(checkpoint)
    tensors: dict[str, Tensor] = {}
    kept = {k: v for k, v in content.items() if k not in LEFT_BEHIND}
    config = {
        "format": FORMAT,
        "method": content["avatarzoo_method"],
        "checkpoint": taken_apart(kept, "", tensors),
    }
    with atomic_path(folder / WEIGHTS) as temporary:
        save_file({k: v.contiguous().clone() for k, v in tensors.items()}, temporary)
    with atomic_path(folder / CONFIG) as temporary:
        temporary.write_text(json.dumps(config, indent=1, ensure_ascii=False), encoding="utf-8")
    return config


def read_portable(folder: Path, checkpoint: Path) -> dict[str, Any]:
    """Write the checkpoint that :func:`write_portable` took apart; returns the configuration.

    Raises:
        BadCheckpointError: the files are missing, damaged or of another format. OutputError: it cannot be written.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if config["format"] != FORMAT:
            raise BadCheckpointError(
                f"{folder} holds {config['format']}, which this version cannot read; update avatarzoo."
            )
        content = put_together(config["checkpoint"], load_file(folder / WEIGHTS))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise BadCheckpointError(
            f"{folder} holds no avatar that avatarzoo push wrote ({type(error).__name__}: {error}); pull another."
        ) from error
    with atomic_path(checkpoint) as temporary:
        torch.save(content, temporary)
    return config


def taken_apart(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """``value`` for JSON, its tensors moved into ``tensors`` under their path.

    Raises:
        BadSequenceError: something that is neither a tensor nor plain.
    """
    if isinstance(value, Tensor):
        tensors[name] = value
        return {TENSOR: name}
    if isinstance(value, dict):
        if all(isinstance(k, str) for k in value):
            return {k: taken_apart(v, f"{name}/{k}" if name else k, tensors) for k, v in value.items()}
        raise BadSequenceError(f"{name} of this checkpoint has keys that are no names; train it again.")
    if isinstance(value, list | tuple):
        return [taken_apart(v, f"{name}/{i}", tensors) for i, v in enumerate(value)]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise BadSequenceError(f"{name} of this checkpoint is a {type(value).__name__}, which JSON cannot hold.")


def put_together(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Inverse of :func:`taken_apart`; tuples come back as lists."""
    if isinstance(value, dict):
        if set(value) == {TENSOR}:
            return tensors[value[TENSOR]]
        return {k: put_together(v, tensors) for k, v in value.items()}
    if isinstance(value, list):
        return [put_together(v, tensors) for v in value]
    return value
