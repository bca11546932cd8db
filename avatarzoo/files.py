"""Files that appear complete or not at all, and the folders of the user's that they may lie in."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from avatarzoo.errors import OutputError


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary name beside ``path`` (same suffix) that becomes ``path`` if the block ends well.

    Otherwise it vanishes.

    Raises:
        OutputError: the folder cannot be written, or the disk is full.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(suffix=path.suffix, prefix=f".{path.stem}.", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written ({error.strerror or error}); free some space or choose another place."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def file_hash(path: str | Path) -> str:
    """sha256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def user_folder(variable: str, windows: tuple[str, str], mac: str, linux: tuple[str, str]) -> Path:
    """``$variable``, or else avatarzoo's folder in one that the platform keeps for the user (not created here).

    Args:
        windows, linux: the platform's own variable, and the folder where that is not set. mac: the folder.
    """
    if given := os.environ.get(variable):
        return Path(given).expanduser()
    if sys.platform == "darwin":
        base = mac
    else:
        name, usual = windows if sys.platform == "win32" else linux
        base = os.environ.get(name) or usual
    return Path(base).expanduser() / "avatarzoo"
