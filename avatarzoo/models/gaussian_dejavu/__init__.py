"""Gaussian Deja-vu (Yan et al. 2024): UV Gaussians on a head model."""

from avatarzoo.models.gaussian_dejavu.module import GaussianDejaVu

__all__ = ["GaussianDejaVu"]
