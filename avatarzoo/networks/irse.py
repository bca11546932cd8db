"""The 50-layer residual network with squeeze and excitation that face recognition made common (IR-SE-50: Deng et al. 2019,
Hu et al. 2018), as the body of encoders: features at chosen depths, no identity head.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate

from jaxtyping import Float
from torch import Tensor, nn

Stages = tuple[tuple[int, int], ...]
"""Channels and number of units of every stage; the first unit of a stage halves the picture."""
STAGES: Stages = ((64, 3), (128, 4), (256, 14), (512, 3))
"""Of the published network."""


class SqueezeExcitation(nn.Module):
    """Scale every channel by what the mean of all channels says."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, channels // reduction, 1, bias=False)
        self.excite = nn.Conv2d(channels // reduction, channels, 1, bias=False)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        mean = x.mean((2, 3), keepdim=True)
        return x * self.excite(self.squeeze(mean).relu()).sigmoid()


class ResidualUnit(nn.Module):
    """BatchNorm, two 3x3 convolutions, squeeze and excitation, beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.shortcut: nn.Module = (
            nn.MaxPool2d(1, stride)
            if inputs == outputs
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        )
        self.residual = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False),
            nn.PReLU(outputs),
            nn.Conv2d(outputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            SqueezeExcitation(outputs),
        )

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h2 w2"]:
        return self.residual(x) + self.shortcut(x)


class IRSE50(nn.Module):
    """Pictures of side S to features of side S/2, S/4, S/8 and S/16.

    Args:
        inputs: channels of the pictures.
        stages: four; fewer channels and units than the published make a network for small pictures.
    """

    def __init__(self, inputs: int = 3, stages: Stages = STAGES) -> None:
        super().__init__()
        first = stages[0][0]
        self.stem = nn.Sequential(
            nn.Conv2d(inputs, first, 3, 1, 1, bias=False), nn.BatchNorm2d(first), nn.PReLU(first)
        )
        units, width = [], first
        for channels, count in stages:
            for i in range(count):
                units.append(ResidualUnit(width, channels, 2 if i == 0 else 1))
                width = channels
        self.units = nn.ModuleList(units)

    def forward(self, x: Float[Tensor, "b i s s"], taps: Sequence[int]) -> list[Float[Tensor, "b c h w"]]:
        """Outputs of the units whose indices (ascending, from 0) are in ``taps``; later units are not computed."""
        features = []
        x = self.stem(x)
        for unit in self.units[: taps[-1] + 1]:
            x = unit(x)
            features.append(x)
        return [features[i] for i in taps]


def last_units(stages: Stages) -> list[int]:
    """Index of the last unit of every stage."""
    return [total - 1 for total in accumulate(count for _, count in stages)]


@contextmanager
def batch_statistics(*networks: nn.Module) -> Iterator[None]:
    """Inside, every BatchNorm2d below ``networks`` uses the mean and variance of the current batch; stored ones stay untouched.

    The released few-shot script of InvertAvatar runs its decoders so. The result then depends on which frames are in one call.
    """
    layers = [m for network in networks for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    before = [(layer.training, layer.track_running_stats) for layer in layers]
    for layer in layers:
        layer.training, layer.track_running_stats = True, False
    try:
        yield
    finally:
        for layer, (training, track) in zip(layers, before):
            layer.training, layer.track_running_stats = training, track
