"""Generative 3D priors."""

from avatarzoo.priors.eg3d import FeatureView, TriPlaneGenerator, TriPlaneImage
from avatarzoo.priors.eg3d_config import RELEASED, EG3DConfig
from avatarzoo.priors.keys import official_key_map

__all__ = [
    "RELEASED",
    "EG3DConfig",
    "FeatureView",
    "TriPlaneGenerator",
    "TriPlaneImage",
    "official_key_map",
]
