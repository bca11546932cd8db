"""Mattes of the whole person for a tracked sequence, whose own masks end at the head.

Made when first asked for and kept as ``mattes/000000.png`` in the sequence's folder, picture by picture, so that an
interrupted call is continued by the next.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import local

import cv2
import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor
from tqdm import tqdm

from avatarzoo.data.sequence import TrackedSequence, read_picture
from avatarzoo.files import atomic_path
from avatarzoo.geometry.crop import Crop
from avatarzoo.perception.landmarks import quiet_stderr
from avatarzoo.perception.matting import SelfieMatting

MATTES = "mattes"
WORKERS = 2


def person_mattes(
    sequence: TrackedSequence, rows: Int[Tensor, " n"], progress: bool = True
) -> UInt8[Tensor, "n h w"]:
    """Soft mattes, 0 to 255, of these rows; empty where the crop reaches beyond the filmed picture.

    Raises:
        OutputError: the sequence's folder cannot be written.
    """
    folder, numbers = sequence.path / MATTES, rows.tolist()
    missing = [row for row in numbers if not (folder / f"{row:06d}.png").is_file()]
    if missing:
        _make(sequence, folder, missing, progress)
    with ThreadPoolExecutor(WORKERS) as pool:
        return torch.from_numpy(
            np.stack(list(pool.map(lambda row: read_picture(folder, row, MATTES), numbers)))
        )


def filmed(sequence: TrackedSequence) -> UInt8[np.ndarray, "h w"]:
    """255 where the crop lies inside the source picture."""
    source, size = sequence.info["source"], sequence.size
    if "width" not in source or "height" not in source:
        return np.full((size, size), 255, np.uint8)
    crop = Crop(torch.tensor(sequence.info["crop"]["affine"])[None], size)
    return crop.picture(np.full((source["height"], source["width"]), 255, np.uint8), border="black")


def _make(sequence: TrackedSequence, folder: Path, rows: list[int], progress: bool) -> None:
    thread, mattings = local(), []
    keep = filmed(sequence).astype(np.float32)

    def work(row: int) -> None:
        if not hasattr(thread, "matting"):
            thread.matting = SelfieMatting()
            mattings.append(thread.matting)
        picture = sequence.images([row])[0].permute(1, 2, 0).contiguous().numpy()
        matte = (thread.matting(picture) * keep + 0.5).astype(np.uint8)
        with atomic_path(folder / f"{row:06d}.png") as temporary:
            temporary.write_bytes(cv2.imencode(".png", matte, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes())

    bar = tqdm(rows, desc=f"mattes of {sequence.path.name}", unit="frame", disable=not progress)
    with quiet_stderr(), ThreadPoolExecutor(WORKERS) as pool:
        try:
            for _ in pool.map(work, bar):
                pass
        finally:
            for matting in mattings:
                matting.close()
