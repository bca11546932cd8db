"""Writes a :class:`avatarzoo.data.sequence.TrackedSequence` frame by frame."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from avatarzoo.data.sequence import (
    FORMAT,
    FRAMES,
    INFO,
    MASKS,
    PARAMS,
    PARSING,
    VERSION,
    TrackedSequence,
    partial_path,
    read_picture,
)
from avatarzoo.errors import BadSequenceError, OutputError
from avatarzoo.files import atomic_path
from avatarzoo.geometry.camera import Camera
from avatarzoo.heads.base import HeadModel, HeadParams


class SequenceWriter:
    """Fills ``<path>.partial`` frame by frame (finished frames survive a kill) and renames it at the end.

    Args:
        path: final folder; must not exist, or be empty.

    Raises:
        OutputError: the place cannot be written or is taken.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.partial = partial_path(self.path)
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise OutputError(
                f"{self.path} already exists and is not empty; choose another folder or delete it first."
            )
        self._prepare()

    def _prepare(self) -> None:
        try:
            for kind in (FRAMES, MASKS, PARSING):
                (self.partial / kind).mkdir(parents=True, exist_ok=True)
            for leftover in self.partial.rglob(".*"):  # half-written files of a run that was killed
                leftover.unlink()
        except OSError as error:
            raise OutputError(
                f"The folder {self.path} cannot be written ({error.strerror}); choose another place."
            ) from error

    def clear(self) -> None:
        """Throw away what an earlier, different run left unfinished."""
        shutil.rmtree(self.partial, ignore_errors=True)
        self._prepare()

    def read(self, kind: str, index: int) -> np.ndarray:
        """A finished picture: RGB for frames, else grey.

        Raises:
            BadSequenceError: not there, or damaged.
        """
        return read_picture(self.partial / kind, index, kind)

    def missing(self, kind: str, count: int) -> list[int]:
        """Which of the first ``count`` pictures of a kind are not there yet."""
        done = {entry.name for entry in os.scandir(self.partial / kind)}
        return [i for i in range(count) if f"{i:06d}.png" not in done]

    def write(self, kind: str, index: int, picture: np.ndarray) -> None:
        """One picture, uint8 RGB or grey, under its final name only when complete.

        Raises:
            OutputError: the disk is full or cannot be written; finished frames stay.
        """
        data = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR) if picture.ndim == 3 else picture
        good, encoded = cv2.imencode(".png", data, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        assert good
        with atomic_path(self.partial / kind / f"{index:06d}.png") as temporary:
            temporary.write_bytes(encoded.tobytes())

    def write_all(self, kind: str, pictures: Iterable[tuple[int, np.ndarray]]) -> None:
        for index, picture in pictures:
            self.write(kind, index, picture)

    def finish(
        self,
        head: HeadModel,
        params: HeadParams,
        camera: Camera,
        landmarks: np.ndarray,
        *,
        fps: float,
        valid: np.ndarray | None = None,
        error: np.ndarray | None = None,
        frame_numbers: np.ndarray | None = None,
        crop: Mapping[str, Any] | None = None,
        mask_rule: str | None = None,
        source: Mapping[str, Any] | None = None,
        consent: str | None = None,
        licence: str | None = None,
        **extra: Any,
    ) -> TrackedSequence:
        """Write parameters and description, and move the folder to its final name.

        Args:
            params: T rows; camera: batch 1, square; landmarks: ``(T, 478, 2)`` crop pixels.
            valid: ``(T,)`` bool, default all; error: ``(T,)`` %; frame_numbers: ``(T,)``, default 0, 1, ...
            crop: ``{"rule": str, "affine": 2 x 3 list, source pixels -> crop pixels}``;
                default: the picture as it is.
            mask_rule: how the masks were made; default ``"given"``, or ``"none"`` where there are none.
            source: ``{"name", "sha256"}`` and what else is known. consent, licence: free text.
            extra: further plain fields of ``sequence.json``.
        """
        count = params.batch
        valid = np.ones(count, bool) if valid is None else valid
        rows = {
            **{name: value.detach().cpu().float().numpy() for name, value in params._asdict().items()},
            "landmarks": np.asarray(landmarks, np.float32),
            "valid": np.asarray(valid, bool),
            "error": np.full(count, np.nan, np.float32) if error is None else np.asarray(error, np.float32),
            "frame_numbers": np.arange(count)
            if frame_numbers is None
            else np.asarray(frame_numbers, np.int64),
        }
        wrong = {name: len(value) for name, value in rows.items() if len(value) != count}
        if wrong or self.missing(FRAMES, count):
            raise BadSequenceError(
                f"{self.path}: {count} rows of parameters, but {wrong or 'missing frames'}."
            )
        has_masks = not self.missing(MASKS, count)
        rule = mask_rule or ("given" if has_masks else "none")
        size = camera.size[0]
        identity = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
        info = {
            "format": FORMAT,
            "version": VERSION,
            "head": head.signature,
            "frames": count,
            "fps": float(fps),
            "crop": {"rule": "none", "affine": identity, **(crop or {}), "size": size},
            "lost_frames": np.flatnonzero(~rows["valid"]).tolist(),
            "mask": {"rule": rule},
            "source": dict(source or {}),
            "consent": consent,
            "licence": licence,
            **extra,
        }
        camera_arrays = {
            "world_to_camera": camera.world_to_camera.cpu(),
            "intrinsics": camera.intrinsics.cpu(),
        }
        rows.update({name: value[:1].float().numpy() for name, value in camera_arrays.items()})
        with atomic_path(self.partial / PARAMS) as temporary:
            np.savez(temporary, **rows)
        with atomic_path(self.partial / INFO) as temporary:
            temporary.write_text(json.dumps(info, indent=2) + "\n")
        try:
            self.partial.replace(self.path)
        except OSError as error_:
            raise OutputError(
                f"{self.path} cannot be written ({error_.strerror}); choose another folder."
            ) from error_
        return TrackedSequence.open(self.path)
