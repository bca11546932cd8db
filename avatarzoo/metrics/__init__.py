"""torchmetrics suite; every metric is a pure function and a Metric."""

from avatarzoo.metrics.image import L1, LPIPS, PSNR, SSIM, PerImageMetric

__all__ = ["L1", "LPIPS", "PSNR", "SSIM", "PerImageMetric"]
