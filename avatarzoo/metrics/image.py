"""Image metrics per picture: a pure function ``(B,)`` and a torchmetrics Metric that averages pictures, beside each other.

Pictures are RGB in [0, 1]. A picture on which a metric cannot be computed (not finite) is counted, never scored as perfect.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torchmetrics.functional.image import structural_similarity_index_measure

from avatarzoo.metrics.base import AvatarMetric, Images, Masks, PerImage

PSNR_CAP = 100.0
"""PSNR of identical pictures, instead of infinity (an error of 1e-5)."""
SSIM_BORDER = 5
"""Half of the SSIM window."""


def l1_per_image(prediction: Images, target: Images) -> PerImage:
    """Mean absolute error over pixels and channels, range 0 to 1."""
    return (prediction - target).abs().flatten(1).mean(1)


def psnr_per_image(prediction: Images, target: Images) -> PerImage:
    """Peak signal-to-noise ratio in dB of each picture (data range 1), capped at 100."""
    mse = (prediction - target).square().flatten(1).mean(1)
    return (-10 * torch.log10(mse)).clamp_max(PSNR_CAP)


def ssim_per_image(prediction: Images, target: Images) -> PerImage:
    """SSIM with an 11-pixel Gaussian window, sigma 1.5, data range 1, over pixels whose window lies inside the picture.

    (Wang et al. 2004 and PointAvatar's script use such "valid" windows; torchmetrics alone averages reflected borders as well.)
    """
    full = structural_similarity_index_measure(
        prediction, target, data_range=1.0, reduction="none", return_full_image=True
    )[1]
    return full[..., SSIM_BORDER:-SSIM_BORDER, SSIM_BORDER:-SSIM_BORDER].flatten(1).mean(1)


class PerImageMetric(AvatarMetric):
    """Mean over pictures of a per-picture function."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def score(self, prediction: Images, reference: Images, mask: Masks | None) -> PerImage:
        return self.function(prediction, reference)


class L1(PerImageMetric):
    """Mean absolute error."""

    higher_is_better = False

    def __init__(self) -> None:
        super().__init__(l1_per_image)


class PSNR(PerImageMetric):
    """PSNR per picture, then the mean (pooling all pixels first reads 3-4 dB lower)."""

    higher_is_better = True

    def __init__(self) -> None:
        super().__init__(psnr_per_image)


class SSIM(PerImageMetric):
    """Structural similarity."""

    higher_is_better = True

    def __init__(self) -> None:
        super().__init__(ssim_per_image)


class LPIPS(PerImageMetric):
    """LPIPS with real backbone weights.

    Raises:
        MissingAssetError: the weights are not on this machine.
    """

    higher_is_better = False

    def __init__(self, backbone: Literal["alex", "vgg"] = "alex") -> None:
        from avatarzoo.perception.lpips import load_lpips

        network: nn.Module = load_lpips(backbone)

        def distance(prediction: Tensor, target: Tensor) -> Tensor:
            with torch.no_grad():
                return network(prediction.clamp(0, 1), target, normalize=True).flatten()

        super().__init__(distance)
