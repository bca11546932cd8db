"""Result files: the numbers of one run with everything needed to trust or repeat them.

``result_schema.json`` beside this file says what they hold; no file that breaks it is written or read.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from avatarzoo.errors import BadResultError
from avatarzoo.files import atomic_path

RESULT_FORMAT = "avatarzoo-result-2"
SCHEMA = Path(__file__).with_name("result_schema.json")
PACKAGES = ("avatarzoo", "torch", "lightning", "torchmetrics", "lpips", "mediapipe", "numba", "gsplat")


def environment() -> dict[str, Any]:
    """Versions, device and commit of this run."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    cuda = torch.cuda.is_available()
    return {
        "versions": versions,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name() if cuda else _processor(),
        "threads": torch.get_num_threads(),
        "commit": _commit(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        if info.is_file()
        else []
    )
    return f"CPU {names[0] if names else platform.processor() or platform.machine()}"


def _commit() -> str | None:
    """Commit of the source tree this package runs from, with ``+`` when it has uncommitted changes."""
    folder = Path(__file__).resolve().parent
    try:
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, timeout=10
        )
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "-uno"], cwd=folder, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if head.returncode:
        return None
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "")


def config_hash(config: Any) -> str:
    """First 16 hex digits of the sha256 of a configuration's canonical JSON."""
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()[:16]


def write_result(path: str | Path, result: dict[str, Any]) -> Path:
    """Write one result as JSON, atomically, with format, time and environment added; NaN and infinity become null.

    Raises:
        BadResultError: the result breaks the schema; nothing is written.
        OutputError: the folder cannot be written, or the disk is full.
    """
    stamp = {
        "format": RESULT_FORMAT,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        **environment(),
    }
    content = plain({**stamp, **result})
    check_result(content, str(path))
    with atomic_path(path) as temporary:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


def read_result(path: str | Path) -> dict[str, Any]:
    """Read a result file.

    Raises:
        BadResultError: no such file, no JSON, or it breaks the schema; the message names file and place.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise BadResultError(
            f"{path} cannot be read ({error.strerror}); name a result file written by avatarzoo test."
        ) from error
    except ValueError as error:  # also of bytes that are no text
        raise BadResultError(f"{path} is no JSON ({error}); write it again with avatarzoo test.") from error
    check_result(content, str(path))
    return content


def check_result(content: Any, name: str) -> None:
    """Compare with the schema.

    Raises:
        BadResultError: it breaks the schema; the message names ``name`` and the first place.
    """
    found = content.get("format") if isinstance(content, dict) else None
    if found != RESULT_FORMAT:
        told = f"has the format {found!r}" if found else "names no format"
        raise BadResultError(f"{name} {told}, not {RESULT_FORMAT!r}; run avatarzoo test again to write it.")
    problems = sorted(_validator().iter_errors(content), key=lambda e: [str(p) for p in e.absolute_path])
    if problems:
        place = " / ".join(str(p) for p in problems[0].absolute_path) or "the top level"
        raise BadResultError(
            f"{name} is no valid result: at {place}, {problems[0].message[:300]}; correct it or write it again."
        )


@functools.cache
def _validator() -> Any:
    import jsonschema

    return jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))


def plain(value: Any) -> Any:
    """JSON values only: NaN and infinity become ``None``; tuples lists; tensors and NumPy values numbers; the rest text."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):  # tensors, NumPy arrays and scalars
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | None) else str(value)
