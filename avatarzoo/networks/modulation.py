"""Modulated convolution (StyleGAN2, section 2.2) in three equivalent forms, and the layers made of it."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from avatarzoo.networks.ops import LEAKY_GAIN, EqualLinear, activate, blur, resampling_filter

Form = Literal["auto", "fused", "grouped", "scaled"]
"""How a modulated convolution is computed.

* ``fused``: the style goes into the weight, one ordinary convolution per sample;
* ``grouped``: the same weights as one grouped convolution for the whole batch;
* ``scaled``: activations are scaled before and after one shared convolution; the weight stays constant, which exporters and
  quantisers want;
* ``auto``: ``fused`` for one sample whose activations outnumber the weights, else ``scaled``.

They agree up to rounding (about 1e-5 on EG3D's features).
"""

Noise = Literal["const", "random", "none"]
"""Noise of synthesis layers: the stored picture, a fresh draw, or nothing."""


def modulated_convolution(
    x: Float[Tensor, "b i h w"],
    weight: Float[Tensor, "o i k k"],
    style: Float[Tensor, "b i"],
    demodulate: bool = True,
    up: int = 1,
    kernel: Float[Tensor, "4 4"] | None = None,
    form: Form = "auto",
    gain: float = 1.0,
    bias: Float[Tensor, " o"] | None = None,
) -> Float[Tensor, "b o h2 w2"]:
    """Convolve with a weight whose input channels are scaled by ``style``, each output channel normalised to unit length.

    Args:
        x: features; half precision is kept from overflowing by normalising weight and style by their largest entries first.
        weight: shared weight with odd side, without gain.
        style: scale of each input channel.
        demodulate: normalise the output channels.
        up: 1, or 2 for a transposed convolution followed by ``kernel``.
        kernel: resampling filter, needed for ``up=2``.
        form: see :data:`Form`.
        gain: factor on the weight.
        bias: added to the result.
    """
    if x.dtype == torch.float16 and demodulate:
        # any factor per output channel or per sample cancels in the demodulation
        weight = weight / weight.abs().amax((1, 2, 3), keepdim=True) / math.sqrt(weight[0].numel())
        style = style / style.abs().amax(1, keepdim=True)
    if form == "auto":
        form = "fused" if len(x) == 1 and x.numel() > weight.numel() else "scaled"
    bias = None if bias is None else bias.to(x.dtype)
    if form == "scaled":
        scaled = x * style.to(x.dtype)[:, :, None, None]
        if not demodulate:
            return convolve(scaled, weight * gain, up, kernel, bias)
        length = style.square() @ weight.square().sum((2, 3)).t()
        factor = (gain * (length + 1e-8).rsqrt()).to(x.dtype)[:, :, None, None]
        y = convolve(scaled, weight, up, kernel)
        return y * factor if bias is None else torch.addcmul(bias[:, None, None], y, factor)
    own = weight[None] * (gain * style)[:, None, :, None, None]
    if demodulate:
        own = own * gain * (own.square().sum((2, 3, 4), keepdim=True) + gain**2 * 1e-8).rsqrt()
    if form == "grouped":
        together = x.reshape(1, -1, *x.shape[2:])
        biases = None if bias is None else bias.repeat(len(x))
        y = convolve(together, own.flatten(0, 1), up, kernel, biases, groups=len(x))
        return y.reshape(len(x), -1, *y.shape[2:])
    parts = [convolve(x[i : i + 1], own[i], up, kernel, bias) for i in range(len(x))]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def convolve(
    x: Float[Tensor, "b i h w"],
    weight: Float[Tensor, "o ig k k"],
    up: int = 1,
    kernel: Float[Tensor, "4 4"] | None = None,
    bias: Float[Tensor, " o"] | None = None,
    groups: int = 1,
) -> Float[Tensor, "b o h2 w2"]:
    """Convolution that keeps the size, or doubles it (``up=2``): transposed with stride 2, then the resampling filter."""
    weight = weight.to(x.dtype)
    if up == 1:
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2, groups=groups)
    if kernel is None:
        raise ValueError("up=2 needs the resampling filter")
    split = weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
    wide = F.conv_transpose2d(x, split, stride=2, groups=groups)
    return blur(wide, kernel, padding=1, gain=4.0, bias=bias)


class SynthesisLayer(nn.Module):
    """Modulated 3x3 convolution, noise, bias, leaky rectifier.

    Args:
        inputs, outputs: channels.
        code_dim: width of the latent code.
        resolution: side of the output in pixels (of the stored noise).
        up: 2 doubles the size.
        clamp: largest absolute output, or None.
    """

    resample_filter: Tensor
    noise: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        code_dim: int,
        resolution: int,
        up: int = 1,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.style = EqualLinear(code_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise", torch.randn(resolution, resolution))
        self.register_buffer("resample_filter", resampling_filter())
        self.up, self.clamp = up, clamp
        self.form: Form = "auto"

    def forward(
        self,
        x: Float[Tensor, "b i h w"],
        code: Float[Tensor, "b n"],
        noise: Noise = "const",
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "b o r r"]:
        """``noise="random"`` draws from ``generator`` (None: torch's own)."""
        y = modulated_convolution(
            x,
            self.weight,
            self.style(code),
            up=self.up,
            kernel=self.resample_filter,
            form=self.form,
            gain=LEAKY_GAIN,
            bias=self.bias * LEAKY_GAIN,
        )
        if noise == "const":
            y = y.add_((self.noise * (self.noise_strength * LEAKY_GAIN)).to(y.dtype))
        elif noise == "random":
            drawn = torch.randn(len(y), 1, *y.shape[2:], generator=generator, device=y.device)
            y = y.add_((drawn * (self.noise_strength * LEAKY_GAIN)).to(y.dtype))
        return activate(y, self.clamp)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution without demodulation to ``outputs`` picture channels."""

    def __init__(self, inputs: int, outputs: int, code_dim: int, clamp: float | None = None) -> None:
        super().__init__()
        self.style = EqualLinear(code_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.gain, self.clamp = 1 / math.sqrt(inputs), clamp
        self.form: Form = "auto"

    def forward(self, x: Float[Tensor, "b i h w"], code: Float[Tensor, "b n"]) -> Float[Tensor, "b o h w"]:
        style = self.style(code) * self.gain
        y = modulated_convolution(x, self.weight, style, demodulate=False, form=self.form, bias=self.bias)
        return y if self.clamp is None else y.clamp(-self.clamp, self.clamp)
