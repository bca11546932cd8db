"""Result files: the numbers of one run with everything needed to trust or repeat them."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from avatarzoo.files import atomic_path

RESULT_FORMAT = "avatarzoo-result-1"
PACKAGES = ("avatarzoo", "torch", "lightning", "torchmetrics", "mediapipe", "numba", "gsplat")


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


def file_hash(path: str | Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def write_result(path: str | Path, result: dict[str, Any]) -> Path:
    """Write one result as JSON, atomically, with format, time and environment added."""
    stamp = {
        "format": RESULT_FORMAT,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        **environment(),
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps({**stamp, **result}, indent=2, default=str) + "\n")
    return Path(path)
