"""Image metrics per picture: a pure function ``(B,)`` and a torchmetrics Metric that averages pictures, beside each other.

Pictures are RGB in [0, 1]. A picture on which a metric cannot be computed (not finite, empty mask) is counted, never scored as
perfect. With a mask, :mod:`avatarzoo.metrics.regions` says what is measured.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

import torch

from avatarzoo.metrics.base import AvatarMetric, Images, Masks, PerImage
from avatarzoo.metrics.regions import Region, composite, masked_mean
from avatarzoo.metrics.ssim import SSIMPreset, find_preset, ms_ssim_per_image, ssim_per_image

PSNR_CAP = 100.0
"""PSNR of identical pictures, instead of infinity (an error of 1e-5)."""
LPIPS_CHUNK = 4
"""Pictures at a time: VGG keeps 0.3 GB of features for each pair of 512x512."""

L1Reduction = Literal["mean", "channel_sum"]
L1Range = Literal["0..1", "-1..1"]


def l1_per_image(
    prediction: Images,
    target: Images,
    mask: Masks | None = None,
    reduction: L1Reduction = "mean",
    value_range: L1Range = "0..1",
) -> PerImage:
    """Mean absolute error over the pixels (of the mask).

    Args:
        reduction: mean over the three channels, or their sum. value_range: the scale on which the error is told; pictures are
            given in [0, 1] either way.

    Raises:
        ValueError: no such reduction or range.

    Note:
        Gaussian Déjà-vu prints L1 on an unknown scale: 0.90 to 2.09 times the RMSE that its PSNR implies, where a mean over the
        same pixels in [0, 1] cannot exceed 1. Never compare with it without saying so.
    """
    return masked_mean((prediction - target).abs_(), mask) * _l1_scale(reduction, value_range)


def _l1_scale(reduction: str, value_range: str) -> int:
    reductions, ranges = {"mean": 1, "channel_sum": 3}, {"0..1": 1, "-1..1": 2}
    if reduction not in reductions or value_range not in ranges:
        raise ValueError(
            f"L1 has the reductions {', '.join(reductions)} and the ranges {', '.join(ranges)}, "
            f"not {reduction!r} and {value_range!r}."
        )
    return reductions[reduction] * ranges[value_range]


def psnr_per_image(prediction: Images, target: Images, mask: Masks | None = None) -> PerImage:
    """Peak signal-to-noise ratio in dB of each picture (data range 1) over the pixels (of the mask), capped at 100."""
    mse = masked_mean((prediction - target).square_(), mask)
    return (-10 * torch.log10(mse)).clamp_max(PSNR_CAP)


class PerImageMetric(AvatarMetric):
    """Mean over pictures of a per-picture measure, of a region where a mask is given.

    Args:
        region: what a mask means, ``composite`` or ``masked`` (:mod:`avatarzoo.metrics.regions`).
        background: grey level of both pictures outside the mask with ``composite``; white by default, as in Gaussian Déjà-vu.
    """

    def __init__(self, region: Region = "composite", background: float = 1.0) -> None:
        super().__init__()
        if region not in ("composite", "masked"):
            raise ValueError(f"A region is 'composite' or 'masked', not {region!r}.")
        self.region, self.background = region, background

    def score(self, prediction: Images, reference: Images, mask: Masks | None) -> PerImage:
        if mask is not None and self.region == "composite":
            prediction, reference = (composite(x, mask, self.background) for x in (prediction, reference))
            mask = None
        return self.measure(prediction, reference, mask)

    @abstractmethod
    def measure(self, prediction: Images, reference: Images, mask: Masks | None) -> PerImage:
        """The values ``(B,)``; ``mask`` is given where only its pixels count."""


class L1(PerImageMetric):
    """Mean absolute error, see :func:`l1_per_image`."""

    higher_is_better = False

    def __init__(
        self,
        reduction: L1Reduction = "mean",
        value_range: L1Range = "0..1",
        region: Region = "composite",
        background: float = 1.0,
    ) -> None:
        super().__init__(region, background)
        _l1_scale(reduction, value_range)
        self.reduction, self.value_range = reduction, value_range
        variant = [x for x in (reduction, value_range) if x not in ("mean", "0..1")]
        self.label = f"L1 ({', '.join(variant)})" if variant else "L1"

    def measure(self, prediction: Images, reference: Images, mask: Masks | None) -> PerImage:
        return l1_per_image(prediction, reference, mask, self.reduction, self.value_range)


class PSNR(PerImageMetric):
    """PSNR per picture, then the mean (pooling all pixels first reads 3-4 dB lower)."""

    label = "PSNR"
    higher_is_better = True

    def measure(self, prediction: Images, reference: Images, mask: Masks | None) -> PerImage:
        return psnr_per_image(prediction, reference, mask)


class SSIM(PerImageMetric):
    """Structural similarity; the presets are those of :func:`~avatarzoo.metrics.ssim.ssim_per_image`."""

    higher_is_better = True

    def __init__(
        self, preset: SSIMPreset = "valid", region: Region = "composite", background: float = 1.0
    ) -> None:
        super().__init__(region, background)
        find_preset(preset)
        self.preset = preset
        self.label = f"SSIM ({preset})"

    def measure(self, prediction: Images, reference: Images, mask: Masks | None) -> PerImage:
        return ssim_per_image(prediction, reference, mask, self.preset)


class WholePictureMetric(PerImageMetric):
    """A measure without a value per pixel: a region can only be composited.

    Raises:
        ValueError: ``region`` is ``masked``.
    """

    def __init__(self, region: Region = "composite", background: float = 1.0) -> None:
        super().__init__(region, background)
        if region != "composite":
            raise ValueError(
                f"{type(self).__name__} has no value per pixel to average over a mask; use region='composite'."
            )


class MSSSIM(WholePictureMetric):
    """Multi-scale structural similarity, see :func:`~avatarzoo.metrics.ssim.ms_ssim_per_image`."""

    label = "MS-SSIM"
    higher_is_better = True

    def measure(self, prediction: Images, reference: Images, mask: Masks | None) -> PerImage:
        return ms_ssim_per_image(prediction, reference)


class LPIPS(WholePictureMetric):
    """LPIPS 0.1 with real backbone weights.

    Raises:
        MissingAssetError: the weights are not on this machine.
    """

    higher_is_better = False

    def __init__(
        self,
        net: Literal["alex", "vgg"] = "alex",
        region: Region = "composite",
        background: float = 1.0,
    ) -> None:
        from avatarzoo.perception.lpips import load_lpips

        super().__init__(region, background)
        self.network = load_lpips(net)
        self.label = f"LPIPS ({net})"

    @torch.no_grad()
    def measure(self, prediction: Images, reference: Images, mask: Masks | None) -> PerImage:
        pairs = zip(prediction.clamp(0, 1).split(LPIPS_CHUNK), reference.clamp(0, 1).split(LPIPS_CHUNK))
        return torch.cat([self.network(a, b, normalize=True).flatten() for a, b in pairs])
