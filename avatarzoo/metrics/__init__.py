"""torchmetrics suite; every metric is a pure function and a Metric."""

from avatarzoo.metrics.base import AvatarMetric
from avatarzoo.metrics.distribution import FID, FrechetDistance
from avatarzoo.metrics.image import L1, LPIPS, MSSSIM, PSNR, SSIM, PerImageMetric

__all__ = [
    "FID",
    "L1",
    "LPIPS",
    "MSSSIM",
    "PSNR",
    "SSIM",
    "AvatarMetric",
    "FrechetDistance",
    "PerImageMetric",
]
