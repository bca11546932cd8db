"""Structural similarity (Wang et al. 2004) and its multi-scale form (Wang et al. 2003) per picture, with data range 1.

Local means and variances come from separable windows, one depthwise convolution per axis.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from avatarzoo.metrics.base import Images, Masks, PerImage
from avatarzoo.metrics.regions import masked_mean

SSIMPreset = Literal["valid", "zero_padded", "torchmetrics", "skimage_uniform"]
C1, C2 = 0.01**2, 0.03**2
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five scales (Wang et al. 2003, section 4)."""


class Window(NamedTuple):
    """How local statistics are taken.

    Attributes:
        taps: weights along one axis, sum 1.
        border: ``valid`` keeps windows inside the picture, ``zeros`` and ``reflect`` extend it so that the map is as large.
        bessel: factor of variances; n / (n - 1) for sample variances of n pixels.
    """

    taps: tuple[float, ...]
    border: Literal["valid", "zeros", "reflect"] = "valid"
    bessel: float = 1.0


def _gaussian(size: int, sigma: float) -> tuple[float, ...]:
    weights = torch.exp(-((torch.arange(size, dtype=torch.float64) - size // 2) ** 2) / (2 * sigma**2))
    return tuple((weights / weights.sum()).tolist())


GAUSSIAN = _gaussian(11, 1.5)
PRESETS: dict[str, Window] = {
    "valid": Window(GAUSSIAN),
    "zero_padded": Window(GAUSSIAN, "zeros"),
    "torchmetrics": Window(GAUSSIAN, "reflect"),
    "skimage_uniform": Window((1 / 7,) * 7, bessel=49 / 48),
}


def find_preset(preset: str) -> Window:
    """The window of a preset.

    Raises:
        ValueError: there is none of that name.
    """
    if preset not in PRESETS:
        raise ValueError(f"There is no SSIM preset {preset!r}; choose one of {', '.join(PRESETS)}.")
    return PRESETS[preset]


def ssim_per_image(
    prediction: Images, target: Images, mask: Masks | None = None, preset: SSIMPreset = "valid"
) -> PerImage:
    """SSIM of each picture: the map's mean over channels and pixels (those of the mask).

    Args:
        preset: ``valid``: 11-pixel Gaussian window, sigma 1.5, only windows inside the picture (Wang et al. 2004; PointAvatar's
            script). ``zero_padded``: the same window over a picture with black surroundings, whole map (3D Gaussian Splatting,
            GaussianAvatars). ``torchmetrics``: mirrored surroundings, whole map. ``skimage_uniform``: 7x7 box, sample
            variances, windows inside the picture (scikit-image's defaults).

    Raises:
        ValueError: the picture is smaller than the window, or there is no such preset.
    """
    window = find_preset(preset)
    masks = [None] * len(prediction) if mask is None else mask.split(1)
    pairs = zip(
        prediction.split(1), target.split(1)
    )  # one at a time fits the processor's cache: three times as fast
    return torch.cat([_ssim(a, b, m, window) for (a, b), m in zip(pairs, masks)])


def _ssim(a: Images, b: Images, mask: Masks | None, window: Window) -> PerImage:
    luminance, contrast = _maps(a, b, window)
    values = luminance * contrast
    if mask is not None:  # a valid map is smaller than its picture by half a window on each side
        rows, columns = ((x - y) // 2 for x, y in zip(mask.shape[-2:], values.shape[-2:]))
        mask = mask[..., rows : rows + values.shape[-2], columns : columns + values.shape[-1]]
    return masked_mean(values, mask)


def ms_ssim_per_image(prediction: Images, target: Images) -> PerImage:
    """Multi-scale SSIM of each picture: five scales, each the 2x2 mean of the one before, ``valid`` windows.

    Per channel, the product of the mean contrast terms of scales 1 to 4 and the mean SSIM of scale 5, each to the power of
    its weight (a negative mean counts as 0); then the mean over channels.

    Raises:
        ValueError: a side is shorter than 176 pixels, so that the fifth scale is smaller than the window.
    """
    smallest = len(GAUSSIAN) * 2 ** (len(SCALE_WEIGHTS) - 1)
    if min(prediction.shape[-2:]) < smallest:
        raise ValueError(
            f"MS-SSIM needs pictures of at least {smallest}x{smallest} pixels, not "
            f"{prediction.shape[-2]}x{prediction.shape[-1]}; use SSIM or larger pictures."
        )
    return torch.cat([_ms_ssim(a, b) for a, b in zip(prediction.split(1), target.split(1))])


def _ms_ssim(a: Images, b: Images) -> PerImage:
    product = a.new_ones(a.shape[:2])
    for scale, weight in enumerate(SCALE_WEIGHTS):
        if scale:
            a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
        luminance, contrast = _maps(a, b, PRESETS["valid"])
        last = scale == len(SCALE_WEIGHTS) - 1
        mean = (luminance * contrast if last else contrast).flatten(2).mean(2)
        product = product * mean.clamp_min(0) ** weight
    return product.mean(1)


def _maps(a: Images, b: Images, window: Window) -> tuple[Tensor, Tensor]:
    """The luminance map and the contrast-structure map, ``(B, 3, h, w)``; their product is the SSIM map.

    Only four filtered planes are needed, because the variances enter as their sum.
    """
    if min(a.shape[-2:]) < len(window.taps):
        raise ValueError(
            f"SSIM needs pictures of at least {len(window.taps)} pixels a side, not {a.shape[-2]}x{a.shape[-1]}."
        )
    planes = torch.cat((a, b, a * a + b * b, a * b), dim=1)
    mean_a, mean_b, squares, products = _filter(planes, window).chunk(4, dim=1)
    mean_product = mean_a * mean_b
    mean_squares = (mean_a * mean_a).addcmul_(mean_b, mean_b)
    covariance = (products - mean_product).mul_(window.bessel)
    variances = (squares - mean_squares).mul_(window.bessel)
    luminance = mean_product.mul_(2).add_(C1).div_(mean_squares.add_(C1))
    return luminance, covariance.mul_(2).add_(C2).div_(variances.add_(C2))


def _filter(planes: Float[Tensor, "b c h w"], window: Window) -> Float[Tensor, "b c h2 w2"]:
    """Weighted mean of every window. Channels last, a CPU's depthwise convolution is twice as fast."""
    half, channels = len(window.taps) // 2, planes.shape[1]
    if window.border == "reflect":
        planes = F.pad(planes, (half,) * 4, mode="reflect")
    padding = half if window.border == "zeros" else 0
    taps = planes.new_tensor(window.taps).expand(channels, 1, 1, -1)
    planes = planes.contiguous(memory_format=torch.channels_last)
    rows = F.conv2d(planes, taps, padding=(0, padding), groups=channels)
    return F.conv2d(rows, taps.transpose(2, 3), padding=(padding, 0), groups=channels).contiguous()
