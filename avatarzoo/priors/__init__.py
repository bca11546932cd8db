"""Generative 3D priors."""

from avatarzoo.priors.animatable import AnimatableTriPlaneGenerator, PersonFeatures
from avatarzoo.priors.animatable_config import AnimatableConfig
from avatarzoo.priors.checkpoints import ImportedCheckpoint, ImportedModule, import_checkpoint
from avatarzoo.priors.eg3d import FeatureView, TriPlaneGenerator, TriPlaneImage
from avatarzoo.priors.eg3d_config import RELEASED, EG3DConfig
from avatarzoo.priors.generator_file import load_generator, save_generator
from avatarzoo.priors.keys import official_key_map
from avatarzoo.priors.next3d import Next3DGenerator
from avatarzoo.priors.next3d_config import Next3DConfig
from avatarzoo.priors.released import load_eg3d
from avatarzoo.priors.released_invertavatar import InvertAvatarCheckpoint, load_invertavatar, load_next3d
from avatarzoo.priors.released_styleavatar import StyleAvatarCheckpoint, load_styleavatar
from avatarzoo.priors.small_prior import small_animatable_prior, small_prior

__all__ = [
    "RELEASED",
    "AnimatableConfig",
    "AnimatableTriPlaneGenerator",
    "EG3DConfig",
    "FeatureView",
    "ImportedCheckpoint",
    "ImportedModule",
    "InvertAvatarCheckpoint",
    "Next3DConfig",
    "Next3DGenerator",
    "PersonFeatures",
    "StyleAvatarCheckpoint",
    "TriPlaneGenerator",
    "TriPlaneImage",
    "import_checkpoint",
    "load_eg3d",
    "load_generator",
    "load_invertavatar",
    "load_next3d",
    "load_styleavatar",
    "official_key_map",
    "save_generator",
    "small_animatable_prior",
    "small_prior",
]
