"""Predictions on disk: 8-bit PNG files, one folder per case, complete or absent."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatarzoo.errors import BadSequenceError
from avatarzoo.files import atomic_path

MANIFEST = "manifest.json"
WORKERS = 2
FAST = [cv2.IMWRITE_PNG_COMPRESSION, 1]


def write_pictures(
    folder: Path, batches: Iterable[Tensor], facts: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """Write batches ``(B, 3, H, W)`` in [0, 1] as ``000000.png``... and a manifest; the folder appears when complete.

    Args:
        facts: asked when all pictures are made; stored in the manifest, which is returned.

    Values that are not finite become black, and their numbers stand in the manifest: they are failures, not pictures.
    """
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    count, broken = 0, []
    with ThreadPoolExecutor(WORKERS) as pool:
        for batch in batches:
            finite = torch.isfinite(batch).flatten(1).all(1).cpu().tolist()
            broken += [count + i for i, fine in enumerate(finite) if not fine]
            pixels = (
                (batch.nan_to_num(0, 0, 0).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
            )
            names = [partial / f"{count + i:06d}.png" for i in range(len(pixels))]
            list(pool.map(_write, names, pixels))
            count += len(pixels)
    with atomic_path(partial / MANIFEST) as temporary:
        manifest = {"count": count, "broken": broken, **facts()}
        temporary.write_text(json.dumps(manifest, indent=1, default=str))
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)
    return manifest


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """What was written with the pictures, or ``None`` where nothing is complete."""
    try:
        return json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return None


def read_pictures(
    folder: Path, rows: Int[Tensor, "b"], size: tuple[int, int], broken: Iterable[int] = ()
) -> Float[Tensor, "b 3 h w"]:
    """Pictures of these numbers in [0, 1]; those that were ``broken`` are NaN.

    Raises:
        BadSequenceError: a picture is missing, damaged or of another size.
    """
    numbers, lost = rows.tolist(), set(broken)
    with ThreadPoolExecutor(WORKERS) as pool:
        pixels = np.stack(list(pool.map(lambda n: _read(folder / f"{n:06d}.png", size), numbers)))
    pictures = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(255)
    for i, number in enumerate(numbers):
        if number in lost:
            pictures[i] = torch.nan
    return pictures


def _write(path: Path, pixels: np.ndarray) -> None:
    if not cv2.imwrite(str(path), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), FAST):
        raise OSError(f"{path} cannot be written.")


def _read(path: Path, size: tuple[int, int]) -> np.ndarray:
    data = np.fromfile(path, np.uint8) if path.is_file() else np.zeros(0, np.uint8)
    pixels = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if len(data) else None
    if pixels is None:
        raise BadSequenceError(f"{path} is missing or damaged; predictions need one picture per frame.")
    if pixels.shape[:2] != size:
        raise BadSequenceError(
            f"{path} is {pixels.shape[1]}x{pixels.shape[0]}, the protocol asks for {size[1]}x{size[0]}; resize the predictions."
        )
    return pixels
