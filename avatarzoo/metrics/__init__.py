"""torchmetrics suite; every metric is a pure function and a Metric."""

from avatarzoo.metrics.base import AvatarMetric
from avatarzoo.metrics.coefficients import AED, APD, CoefficientEstimator, Coefficients
from avatarzoo.metrics.distribution import FID, FrechetDistance
from avatarzoo.metrics.face_distribution import FaceFrechetDistance
from avatarzoo.metrics.identity import CSIM, PairwiseCSIM
from avatarzoo.metrics.image import L1, LPIPS, MSSSIM, PSNR, SSIM, PerImageMetric
from avatarzoo.metrics.landmarks import AKD, Jitter
from avatarzoo.metrics.temporal import WarpedError

__all__ = [
    "AED",
    "AKD",
    "APD",
    "CSIM",
    "FID",
    "L1",
    "LPIPS",
    "MSSSIM",
    "PSNR",
    "SSIM",
    "AvatarMetric",
    "CoefficientEstimator",
    "Coefficients",
    "FaceFrechetDistance",
    "FrechetDistance",
    "Jitter",
    "PairwiseCSIM",
    "PerImageMetric",
    "WarpedError",
]
