"""Honest lower bounds: methods without parameters that answer every kind of case, so that every table has a floor.

They are :class:`avatarzoo.models.AvatarModule` like any method, deterministic, and run on a CPU. Sources are taken as given, already
composited on the protocol's background, which ``background`` names (``None``: pictures keep theirs).
"""

from avatarzoo.evaluation.baselines.base import Baseline
from avatarzoo.evaluation.baselines.copies import NearestSample, SourceCopy, landmark_pixels, nearest_rows
from avatarzoo.evaluation.baselines.people import ProceduralPeople
from avatarzoo.evaluation.baselines.speech import LoudnessMouth
from avatarzoo.evaluation.baselines.textured import TexturedHead

BASELINES: dict[str, type[Baseline]] = {
    kind.__name__: kind for kind in (SourceCopy, NearestSample, TexturedHead, ProceduralPeople, LoudnessMouth)
}
"""Class name -> class; what a protocol's rows may name."""

__all__ = [
    "BASELINES",
    "Baseline",
    "LoudnessMouth",
    "NearestSample",
    "ProceduralPeople",
    "SourceCopy",
    "TexturedHead",
    "landmark_pixels",
    "nearest_rows",
]
