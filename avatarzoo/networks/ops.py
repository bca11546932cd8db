"""Resampling filters, equalised layers and activations of StyleGAN2 (Karras et al. 2020) in plain torch.

Everything here is an ordinary torch operation without data-dependent control flow, so it compiles, exports and differentiates twice
on any device; nothing is built at installation.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

LEAK = 0.2
LEAKY_GAIN = math.sqrt(2)
"""Gain that keeps the second moment through a leaky rectifier of slope 0.2."""


def resampling_filter() -> Float[Tensor, "4 4"]:
    """The separable binomial filter [1, 3, 3, 1], normalised to sum 1."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return torch.outer(taps, taps) / 64


def upfirdn(
    x: Float[Tensor, "b c h w"],
    kernel: Float[Tensor, "kh kw"],
    up: int = 1,
    down: int = 1,
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    gain: float = 1.0,
) -> Float[Tensor, "b c h2 w2"]:
    """Zero-stuff by ``up``, pad, filter, keep every ``down``-th sample.

    Args:
        x: pictures or features.
        kernel: the filter, convolved (not correlated).
        up, down: integer factors.
        padding: left, right, top, bottom, after zero-stuffing; negative numbers crop.
        gain: factor on the result; ``up * up`` keeps brightness when zeros are stuffed.
    """
    b, c, h, w = x.shape
    if up > 1:
        x = F.pad(x.reshape(b, c, h, 1, w, 1), (0, up - 1, 0, 0, 0, up - 1)).reshape(b, c, h * up, w * up)
    if any(padding):
        x = F.pad(x, padding)
    return F.conv2d(x, depthwise(kernel.flip(0, 1), x, gain), stride=down, groups=c)


def blur(
    x: Float[Tensor, "b c h w"],
    kernel: Float[Tensor, "4 4"],
    padding: int,
    stride: int = 1,
    gain: float = 1.0,
    bias: Float[Tensor, " c"] | None = None,
) -> Float[Tensor, "b c h2 w2"]:
    """:func:`upfirdn` without zero-stuffing, with the same padding on every side; ``bias`` is added to the result."""
    weight = depthwise(kernel.flip(0, 1), x, gain)
    return F.conv2d(x, weight, bias, stride=stride, padding=padding, groups=x.shape[1])


def upsample(x: Float[Tensor, "b c h w"], kernel: Float[Tensor, "4 4"]) -> Float[Tensor, "b c 2*h 2*w"]:
    """Twice the size: ``upfirdn(x, kernel, up=2, padding=(2, 1, 2, 1), gain=4)`` as one transposed convolution."""
    return F.conv_transpose2d(x, depthwise(kernel, x, 4.0), stride=2, padding=1, groups=x.shape[1])


def depthwise(kernel: Tensor, x: Tensor, gain: float) -> Tensor:
    """``kernel`` times ``gain`` as the weight of a depthwise convolution of ``x``."""
    return (kernel * gain).to(x.dtype).expand(x.shape[1], 1, *kernel.shape)


def resize(x: Float[Tensor, "b c h w"], size: int, antialias: bool = True) -> Float[Tensor, "b c s s"]:
    """Bilinear resize to a square; the identity when the size is already right.

    ``antialias`` matters where pictures shrink; enlarged ones are the same without, in a third of the time on a CPU.
    """
    if x.shape[-2:] == (size, size):
        return x
    shrinks = size < max(x.shape[-2:])
    return F.interpolate(
        x, (size, size), mode="bilinear", align_corners=False, antialias=antialias and shrinks
    )


def activate(x: Float[Tensor, "b c h w"], clamp: float | None = None) -> Float[Tensor, "b c h w"]:
    """Leaky rectifier, then clamp, in the memory of ``x``, which the caller must own.

    Gains are positive, so layers fold theirs (and sqrt(2)) into the weight and bias in front of it.
    """
    x = F.leaky_relu(x, LEAK, inplace=True)
    if clamp is None:
        return x
    # the rectifier's derivative is computed from its output, which then must not be overwritten
    return x.clamp(-clamp, clamp) if torch.is_grad_enabled() else x.clamp_(-clamp, clamp)


def prepare(x: Float[Tensor, "b c h w"], half: torch.dtype | None) -> Float[Tensor, "b c h w"]:
    """``x`` in the dtype and memory layout in which convolutions run.

    ``half`` is taken where it is usable: ``float16`` on CUDA only, as in the original, ``bfloat16`` everywhere. Channels are last
    except in float32 on CUDA; on CPUs that halves the time of transposed convolutions and of the resampling filter.
    """
    dtype = torch.float32 if half is None or (half == torch.float16 and not x.is_cuda) else half
    first = x.is_cuda and dtype == torch.float32
    return x.to(dtype, memory_format=torch.contiguous_format if first else torch.channels_last)


def normalise_moment(x: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
    """Unit second moment of every row."""
    return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()


class EqualLinear(nn.Module):
    """Linear layer with an equalised learning rate.

    The stored weight is N(0, 1) / ``rate``; it acts as ``weight * rate / sqrt(inputs)``, and the bias as ``bias * rate``.

    Args:
        inputs, outputs: sizes.
        rate: learning-rate multiplier.
        bias: value the effective bias starts with.
        activate: leaky rectifier with gain sqrt(2) behind it.
    """

    def __init__(
        self, inputs: int, outputs: int, rate: float = 1.0, bias: float = 0.0, activate: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), bias / rate))
        self.rate, self.gain, self.activate = rate, rate / math.sqrt(inputs), activate

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        y = F.linear(x, self.weight.to(x.dtype) * self.gain, self.bias.to(x.dtype) * self.rate)
        return F.leaky_relu(y, LEAK) * LEAKY_GAIN if self.activate else y
