"""Trackers: video or landmarks in, head parameters out."""

from typing import Any

__all__ = ["cached_track", "track_video"]


def __getattr__(name: str) -> Any:
    if name in __all__:  # the pipeline brings video, perception and solver along: only who asks for it waits
        from avatarzoo.trackers import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
