"""Gaussian Deja-vu (Yan et al. 2024): UV Gaussians on a head model."""

from avatarzoo.models.gaussian_dejavu.module import GaussianDejaVu
from avatarzoo.models.gaussian_dejavu.reconstruction import GaussianReconstruction

__all__ = ["GaussianDejaVu", "GaussianReconstruction"]
