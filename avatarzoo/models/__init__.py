"""The methods; each folder reads like its paper."""

from avatarzoo.models.base import AvatarImage, AvatarModule, AvatarState
from avatarzoo.models.gaussian_dejavu import GaussianDejaVu

__all__ = ["AvatarImage", "AvatarModule", "AvatarState", "GaussianDejaVu"]
