"""Sound of a file as samples."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

from avatarzoo.errors import BadVideoError

RATE = 16000
"""Hertz; what speech networks take."""


def decode_samples(path: str | Path, start: float = 0.0, stop: float | None = None) -> np.ndarray:
    """Mono float32 samples ``(N,)`` in [-1, 1] at :data:`RATE` hertz, of a sound file or a video.

    Args:
        start, stop: seconds from the beginning of the sound track (``None``: to its end).

    Raises:
        BadVideoError: cannot be read, or has no sound between ``start`` and ``stop``.
    """
    path = Path(path)
    try:
        with av.open(str(path), metadata_errors="ignore") as container:
            if not container.streams.audio:
                raise BadVideoError(f"{path} has no sound; use a file with a sound track.")
            resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)
            parts, total = [], 0
            wanted = None if stop is None else round(stop * RATE)
            for frame in container.decode(container.streams.audio[0]):
                for piece in resampler.resample(frame):
                    parts.append(piece.to_ndarray().reshape(-1))
                    total += len(parts[-1])
                if wanted is not None and total >= wanted:
                    break
            else:
                parts += [piece.to_ndarray().reshape(-1) for piece in resampler.resample(None)]
    except (av.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadVideoError(f"The sound of {path} cannot be read ({reason}); convert it to wav.") from error
    samples = np.concatenate([*parts, np.zeros(0, np.float32)])[round(start * RATE) : wanted]
    if len(samples) == 0:
        raise BadVideoError(f"{path} has no sound from second {start:g} on; use a longer sound track.")
    return samples.astype(np.float32).clip(-1, 1)
