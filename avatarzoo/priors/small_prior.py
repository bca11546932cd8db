"""The priors that come with avatarzoo: small generators of made-up heads, for quickstarts and tests."""

from __future__ import annotations

from pathlib import Path

from avatarzoo.priors.animatable import AnimatableTriPlaneGenerator
from avatarzoo.priors.eg3d import TriPlaneGenerator
from avatarzoo.priors.generator_file import load_generator

WEIGHTS = Path(__file__).parent / "weights"
SMALL_PRIOR = WEIGHTS / "small_prior.safetensors"
SMALL_ANIMATABLE_PRIOR = WEIGHTS / "small_animatable_prior.safetensors"


def small_prior() -> TriPlaneGenerator:
    """A generator of 128-pixel portraits (raw 64) with 48 latent numbers, in evaluation mode.

    It knows the faces of :class:`avatarzoo.data.ProceduralActor`, at rest and on white, and nothing about real people; results made
    with it must say so. ``benchmarks/small_prior`` has the recipe, the log and the scores. Cameras are those of
    :func:`avatarzoo.data.procedural_people.portrait_labels`: they look at the origin (``camera_pivot`` of its configuration).

    Raises:
        MissingAssetError, BadCheckpointError: the installation is incomplete or damaged.
    """
    return load_generator(SMALL_PRIOR)


def small_animatable_prior() -> AnimatableTriPlaneGenerator:
    """As :func:`small_prior`, with faces that a driving map moves: InvertAvatar's generator, small.

    ``benchmarks/small_animatable_prior`` has the recipe; driving maps are those of the procedural head.

    Raises:
        MissingAssetError, BadCheckpointError: the installation is incomplete or damaged.
    """
    generator = load_generator(SMALL_ANIMATABLE_PRIOR)
    assert isinstance(generator, AnimatableTriPlaneGenerator)
    return generator
