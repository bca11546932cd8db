"""Checkpoints that are whole or not there: written beside and renamed, read back, checked when loaded, the one before kept."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from avatarzoo.errors import BadCheckpointError, OutputError
from avatarzoo.files import atomic_path

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"


class VerifiedCheckpoints(TorchCheckpointIO):
    """Lightning's files (torch's zip format, whose records carry checksums) on local disks."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Appears under its name when it is complete; the last checkpoint becomes the previous one only then.

        Raises:
            OutputError: the disk is full or cannot be written; older checkpoints stay.
        """
        path = Path(path)
        with atomic_path(path) as temporary:
            write(checkpoint, temporary, path)
            if path.name == LAST and path.exists():
                keep(path, path.with_name(PREVIOUS))

    def load_checkpoint(self, path: str | Path, *args: Any, **options: Any) -> dict[str, Any]:
        """Raises BadCheckpointError: the file is damaged."""
        if Path(path).is_file():
            verify(path)
        return super().load_checkpoint(path, *args, **options)


class LastCheckpoint(ModelCheckpoint):
    """Writes ``last.ckpt`` every so many steps, and after the last one.

    A training that was stopped has written its own checkpoint; at this moment Lightning would note down that all is done.
    """

    def __init__(self, folder: Path, every: int) -> None:
        super().__init__(
            folder, save_top_k=0, save_last=True, every_n_train_steps=every, enable_version_counter=False
        )

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if trainer.global_step >= trainer.max_steps:
            super().on_train_end(trainer, module)


def write(checkpoint: dict[str, Any], temporary: Path, path: Path) -> None:
    """To the disk itself, and read back."""
    try:
        with temporary.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        verify(temporary)
    except (
        OSError,
        RuntimeError,
        BadCheckpointError,
    ) as error:  # torch turns a full disk into RuntimeErrors of many kinds
        free = shutil.disk_usage(path.parent).free / 1e9
        cause = error.__context__ if isinstance(error.__context__, OSError) else error
        reason = getattr(cause, "strerror", None) or str(error).splitlines()[0][:150]
        raise OutputError(
            f"The checkpoint {path} cannot be written ({reason}; {free:.1f} GB free); the one before it is kept: make room and go on "
            "with --ckpt_path last."
        ) from error


def keep(path: Path, other: Path) -> None:
    """The file under another name, too; ``path`` is never away."""
    other.unlink(missing_ok=True)
    try:
        os.link(path, other)
    except OSError:  # a file system without links
        shutil.copyfile(path, other)


def verify(path: str | Path) -> None:
    """Compare all checksums.

    Raises:
        BadCheckpointError: the file is cut off or altered.
    """
    try:
        with zipfile.ZipFile(path) as file:
            bad = file.testzip()
    except (OSError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        raise BadCheckpointError(f"The checkpoint {path} is cut off or no checkpoint ({error}).") from error
    if bad is not None:
        raise BadCheckpointError(f"The checkpoint {path} is damaged (in {bad}).")


def newest(folder: Path) -> Path | None:
    """The last checkpoint of a run that is whole; None where there is none at all.

    Raises:
        BadCheckpointError: every one is damaged.
    """
    found = [folder / name for name in (LAST, PREVIOUS) if (folder / name).is_file()]
    said: list[str] = []
    for path in found:
        try:
            verify(path)
        except BadCheckpointError as error:
            said.append(str(error))
            continue
        if said:
            print(f"{said[0]} Going on from {path}, the one before it.")
        return path
    if found:
        raise BadCheckpointError(
            f"{said[0]} There is no other to go on from; start anew without --ckpt_path."
        )
    return None
