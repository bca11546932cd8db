"""Trackers: video or landmarks in, head parameters out."""

from importlib import import_module
from typing import Any

_HOMES = {
    "cached_track": "pipeline",
    "track_video": "pipeline",
    "MonocularVideoDataModule": "monocular",
    "PortraitVideoDataModule": "portrait_video",
    "SpeechVideoDataModule": "speech_video",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:  # the pipeline brings video, perception and solver along: only who asks for it waits
        return getattr(import_module(f"avatarzoo.trackers.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
