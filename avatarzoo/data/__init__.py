"""Data: tracked videos, made-up actors, batches."""

from importlib import import_module
from typing import Any

_HOMES = {
    "AvatarBatch": "batch",
    "FrameDataModule": "frames",
    "FrameStore": "frames",
    "HybridDataModule": "clip_pairs_modules",
    "PortraitFolder": "portraits",
    "PriorSamplesDataModule": "prior_samples",
    "ProceduralActor": "procedural",
    "ProceduralActorDataModule": "actor",
    "ProceduralClipPairsDataModule": "clip_pairs_modules",
    "ProceduralPeopleDataModule": "multiview_modules",
    "ProceduralPersonFramesDataModule": "person_frames",
    "ProceduralPortraitDataModule": "portrait_video",
    "ProceduralPortraits": "portraits",
    "TrackedClipPairsDataModule": "clip_pairs_modules",
    "TrackedFramesDataModule": "tracked_frames",
    "TrackedPersonFramesDataModule": "person_frames",
    "TrackedPortraitDataModule": "portrait_video",
    "TrackedPeopleDataModule": "multiview_modules",
    "TrackedSequence": "sequence",
    "TrackedSequenceDataModule": "monocular",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:  # readers of videos need no renderer, and the other way round
        return getattr(import_module(f"avatarzoo.data.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
