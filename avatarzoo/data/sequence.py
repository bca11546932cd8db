"""``TrackedSequence`` v1: a video of one head, tracked, as a folder.

    frames/000000.png    the square crop, RGB
    masks/000000.png     head mask, 8 bit, soft (absent when tracked without matting)
    parsing/000000.png   label map, see :class:`avatarzoo.perception.regions.Region` (absent likewise)
    params.npz           head parameters, landmarks, camera, validity, one row per frame
    sequence.json        what it is, which head it belongs to, where it comes from

Every frame of the source has a row, also those without a face (``valid`` is false there: parameters are
interpolated, masks are empty), so that sound and picture stay together. The folder is built under
``<name>.partial`` and renamed when complete.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, Self
from zipfile import BadZipFile

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from avatarzoo.errors import BadSequenceError, HeadModelMismatchError
from avatarzoo.geometry.camera import Camera
from avatarzoo.heads.base import HeadModel, HeadParams
from avatarzoo.perception.regions import FEATURES

FORMAT, VERSION = "avatarzoo-sequence", 1
INFO, PARAMS, FRAMES, MASKS, PARSING = "sequence.json", "params.npz", "frames", "masks", "parsing"
FEATURE_MARGIN = 5
"""Pixels (odd) by which the facial features are grown, so that their edges count as features."""

Rows = int | slice | Sequence[int] | np.ndarray | Tensor


class TrackedSequence:
    """An opened sequence; pictures are read when asked for.

    Attributes:
        path: its folder.
        info: contents of ``sequence.json``.
        params: head parameters in the world frame, T rows.
        camera: the one fixed camera of the crop, batch 1.
        landmarks: ``(T, 478, 2)`` crop pixels, NaN where no face was seen.
        frame_numbers: ``(T,)`` numbers in the source video.
        valid: ``(T,)`` bool, whether the frame shows the tracked face.
        error: ``(T,)`` landmark error in % of the face height, NaN where not valid.
    """

    def __init__(self, path: Path, info: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        self.path, self.info = path, info
        self.params = HeadParams(*(torch.from_numpy(arrays[name]) for name in HeadParams._fields))
        size = int(info["crop"]["size"])
        self.camera = Camera(
            torch.from_numpy(arrays["world_to_camera"]), torch.from_numpy(arrays["intrinsics"]), (size, size)
        )
        self.landmarks, self.frame_numbers = arrays["landmarks"], arrays["frame_numbers"]
        self.valid, self.error = arrays["valid"], arrays["error"]

    @classmethod
    def open(cls, path: str | Path) -> TrackedSequence:
        """Open a finished sequence: its folder, or ``shard-000000.tar/NAME`` (see :mod:`avatarzoo.data.shards`).

        Raises:
            BadSequenceError: not a sequence folder, unfinished, damaged or of an unknown format version.
        """
        path = Path(path)
        if path.parent.suffix == ".tar":
            from avatarzoo.data.shards import open_clip  # which reads sequences

            return open_clip(path)
        if not (path / INFO).is_file():
            partial = partial_path(path)
            if partial.exists() and not path.exists():
                raise BadSequenceError(
                    f"{path} is not finished; run the same avatarzoo track command again to continue."
                )
            raise BadSequenceError(
                f"{path} is not a tracked sequence (it holds no {INFO});"
                f" make one with: avatarzoo track VIDEO {path}."
            )
        return cls.parsed(path, (path / INFO).read_bytes(), path / PARAMS)

    @classmethod
    def parsed(cls, path: Path, info_file: bytes, params_file: Path | BinaryIO) -> Self:
        """From the contents of its two files.

        Raises:
            BadSequenceError: see :meth:`open`.
        """
        try:
            info = json.loads(info_file)
            known = info["format"] == FORMAT and info["version"] == VERSION
        except (ValueError, KeyError, TypeError) as error:
            raise BadSequenceError(f"{path / INFO} is damaged ({error}); track the video again.") from error
        if not known:
            raise BadSequenceError(
                f"{path} has format {info['format']} {info['version']}, but {FORMAT} {VERSION} is wanted;"
                " update avatarzoo or track the video again."
            )
        try:
            with np.load(params_file, allow_pickle=False) as file:
                return cls(path, info, dict(file))
        except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
            raise BadSequenceError(
                f"{path / PARAMS} is missing or damaged; track the video again."
            ) from error

    @classmethod
    def create(
        cls,
        path: str | Path,
        head: HeadModel,
        params: HeadParams,
        camera: Camera,
        landmarks: np.ndarray,
        images: Iterable[np.ndarray],
        masks: Iterable[np.ndarray] = (),
        parsing: Iterable[np.ndarray] = (),
        *,
        fps: float,
        **fields: Any,
    ) -> TrackedSequence:
        """Write a whole sequence at once (made-up actors, converted data).

        Args:
            images: T uint8 RGB ``(H, W, 3)``; masks, parsing: T uint8 ``(H, W)``, or none.
            The rest as in :meth:`SequenceWriter.finish`.
        """
        from avatarzoo.data.sequence_writer import SequenceWriter  # the writer opens what it has written

        writer = SequenceWriter(path)
        for kind, pictures in ((FRAMES, images), (MASKS, masks), (PARSING, parsing)):
            writer.write_all(kind, enumerate(pictures))
        return writer.finish(head, params, camera, landmarks, fps=fps, **fields)

    def __len__(self) -> int:
        return len(self.valid)

    @property
    def fps(self) -> float:
        return float(self.info["fps"])

    @property
    def size(self) -> int:
        """Side of the square pictures in pixels."""
        return self.camera.size[0]

    @property
    def has_masks(self) -> bool:
        return self.info["mask"]["rule"] != "none"

    def check_head(self, head: HeadModel) -> None:
        """Raise :class:`HeadModelMismatchError` unless fitted with this very head model file."""
        mine, theirs = self.info["head"], head.signature
        if mine != theirs:
            raise HeadModelMismatchError(
                f"{self.path} was tracked with the head {describe(mine)}, not {describe(theirs)};"
                " choose that head or track the video again with yours."
            )

    def images(self, indices: Rows) -> UInt8[Tensor, "n 3 h w"]:
        """RGB crops of these rows."""
        return torch.from_numpy(self._read(FRAMES, indices)).permute(0, 3, 1, 2)

    def masks(self, indices: Rows) -> UInt8[Tensor, "n h w"]:
        """Soft head masks, 0 to 255.

        Raises:
            BadSequenceError: tracked without matting.
        """
        return torch.from_numpy(self._read(MASKS, indices))

    def parsing(self, indices: Rows) -> UInt8[Tensor, "n h w"]:
        """Label maps; see :class:`avatarzoo.perception.regions.Region`."""
        return torch.from_numpy(self._read(PARSING, indices))

    def features(self, indices: Rows) -> UInt8[Tensor, "n h w"]:
        """255 on brows, eyes, nose and lips (grown by a few pixels), 0 elsewhere."""
        table = np.zeros(256, np.uint8)
        table[list(FEATURES)] = 255
        kernel = np.ones((FEATURE_MARGIN, FEATURE_MARGIN), np.uint8)
        return torch.from_numpy(self._read(PARSING, indices, lambda x: cv2.dilate(table[x], kernel)))

    def picture(self, kind: str, row: int) -> np.ndarray:
        """uint8: RGB ``(H, W, 3)`` for frames, else ``(H, W)``.

        Raises:
            BadSequenceError: missing or damaged.
        """
        return read_picture(self.path / kind, row, kind)

    def _read(
        self, kind: str, indices: Rows, after: Callable[[np.ndarray], np.ndarray] = lambda x: x
    ) -> np.ndarray:
        if kind != FRAMES and not self.has_masks:
            raise BadSequenceError(
                f"{self.path} was tracked without matting; track it again without --no-matting."
            )
        rows = np.atleast_1d(
            np.arange(len(self))[indices if not isinstance(indices, Tensor) else indices.numpy()]
        )

        def load(row: int) -> np.ndarray:
            return after(self.picture(kind, row))

        if len(rows) < 4:
            return np.stack([load(r) for r in rows])
        with ThreadPoolExecutor(2) as pool:
            return np.stack(list(pool.map(load, rows)))


def read_picture(folder: Path, row: int, kind: str) -> np.ndarray:
    path = folder / f"{row:06d}.png"
    data = np.fromfile(path, np.uint8) if path.is_file() else np.zeros(0, np.uint8)
    return decoded(data, path, kind)


def decoded(data: np.ndarray, path: Path, kind: str) -> np.ndarray:
    """A picture from the bytes of its file."""
    flag = cv2.IMREAD_COLOR_RGB if kind == FRAMES else cv2.IMREAD_GRAYSCALE
    picture = cv2.imdecode(data, flag) if len(data) else None
    if picture is None:
        raise BadSequenceError(f"{path} is missing or damaged; track the video again.")
    return picture


def partial_path(path: Path) -> Path:
    """Where a sequence grows before it is complete."""
    return path.parent / f"{path.name}.partial"


def describe(signature: Mapping[str, str]) -> str:
    return f"{signature['name']} {signature['version']} ({signature['hash'][:8]})"
