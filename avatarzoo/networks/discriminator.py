"""StyleGAN2's residual discriminator with projection conditioning, and EG3D's dual discriminator (Chan et al. 2022, section 4.4)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from avatarzoo.networks.ops import LEAKY_GAIN, EqualLinear, activate, blur, prepare, resampling_filter, resize
from avatarzoo.networks.stylegan2 import MappingNetwork, channels_at

HALF_CLAMP = 256.0
BRANCH_GAIN = math.sqrt(0.5)


class EqualConv(nn.Module):
    """Convolution with an equalised learning rate, optionally halving the size behind the resampling filter.

    Args:
        inputs, outputs: channels.
        size: side of the weight, 1 or 3.
        down: 2 halves the size.
        activate: bias and leaky rectifier behind it; without, there is no bias either.
        clamp: largest absolute output, or None.
    """

    resample_filter: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        down: int = 1,
        activate: bool = True,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.bias = nn.Parameter(torch.zeros(outputs)) if activate else None
        self.register_buffer("resample_filter", resampling_filter())
        self.gain, self.down, self.clamp = 1 / math.sqrt(inputs * size * size), down, clamp

    def forward(self, x: Float[Tensor, "b i h w"], gain: float = 1.0) -> Float[Tensor, "b o h2 w2"]:
        """``gain`` scales the output and its clamp."""
        gain = gain if self.bias is None else gain * LEAKY_GAIN
        weight = (self.weight * (self.gain * gain)).to(x.dtype)
        bias = None if self.bias is None else (self.bias * gain).to(x.dtype)
        size = weight.shape[-1]
        if self.down == 1:
            x = F.conv2d(x, weight, bias, padding=size // 2)
        elif size == 1:
            x = F.conv2d(blur(x, self.resample_filter, padding=1, stride=2), weight, bias)
        else:
            x = F.conv2d(blur(x, self.resample_filter, padding=2), weight, bias, stride=2)
        if self.bias is None:
            return x
        return activate(x, None if self.clamp is None else self.clamp * gain / LEAKY_GAIN)


class DiscriminatorBlock(nn.Module):
    """Residual block that halves the size; the first of a network also lifts the picture to features."""

    resample_filter: Tensor

    def __init__(
        self, pictures: int, inputs: int, outputs: int, clamp: float | None, half: torch.dtype | None
    ) -> None:
        super().__init__()
        self.half_dtype = half
        self.register_buffer("resample_filter", resampling_filter())
        self.from_rgb = EqualConv(pictures, inputs, 1, clamp=clamp) if pictures else None
        self.conv0 = EqualConv(inputs, inputs, 3, clamp=clamp)
        self.conv1 = EqualConv(inputs, outputs, 3, down=2, clamp=clamp)
        self.skip = EqualConv(inputs, outputs, 1, down=2, activate=False)

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h/2 w/2"]:
        x = prepare(x, self.half_dtype)
        if self.from_rgb is not None:
            x = self.from_rgb(x)
        return self.skip(x, BRANCH_GAIN) + self.conv1(self.conv0(x), BRANCH_GAIN)


class DiscriminatorHead(nn.Module):
    """The 4 x 4 end: minibatch standard deviation, convolution, two linear layers; always float32."""

    def __init__(self, width: int, outputs: int, group: int) -> None:
        super().__init__()
        self.group = group
        self.conv = EqualConv(width + 1, width, 3, clamp=HALF_CLAMP)
        self.hidden = EqualLinear(width * 16, width, activate=True)
        self.output = EqualLinear(width, outputs)

    def forward(self, x: Float[Tensor, "b c 4 4"]) -> Float[Tensor, "b o"]:
        x = self.conv(append_deviation(x.float(), self.group))
        return self.output(self.hidden(x.flatten(1)))


def append_deviation(x: Float[Tensor, "b c h w"], group: int) -> Float[Tensor, "b c+1 h w"]:
    """Append one channel: the standard deviation over groups of ``group`` pictures, averaged over channels and places.

    Pictures i, i + n, i + 2n, ... form a group, n being the number of groups.

    Raises:
        ValueError: the batch is not a multiple of the group.
    """
    size = min(group, len(x))
    if len(x) % size:
        raise ValueError(
            f"a batch of {len(x)} does not split into groups of {size} (minibatch standard deviation)"
        )
    groups = x.unflatten(0, (size, -1))
    deviation = (groups - groups.mean(0)).square().mean(0).add(1e-8).sqrt().mean((1, 2, 3))
    channel = deviation.repeat(size)[:, None, None, None].expand(-1, 1, *x.shape[2:])
    return torch.cat([x, channel], 1)


class Discriminator(nn.Module):
    """Residual discriminator; one logit per picture.

    Args:
        resolution: side of the pictures.
        pictures: their channels.
        label_dim: width of the conditioning label; 0 for an unconditional network.
        channel_base, channel_max: see :func:`avatarzoo.networks.stylegan2.channels_at`.
        half_blocks: how many of the largest blocks run in ``half``.
        half: dtype of those; ``float16`` acts on CUDA only.
        group: pictures per group of the minibatch standard deviation.
        mapping_layers: layers of the label's mapping.
    """

    resample_filter: Tensor

    def __init__(
        self,
        resolution: int,
        pictures: int = 3,
        label_dim: int = 25,
        channel_base: int = 32768,
        channel_max: int = 512,
        half_blocks: int = 4,
        half: torch.dtype | None = torch.float16,
        group: int = 4,
        mapping_layers: int = 8,
    ) -> None:
        super().__init__()
        sides = [2**i for i in range(resolution.bit_length() - 1, 2, -1)]
        widths = [channels_at(r, channel_base, channel_max) for r in [*sides, 4]]
        self.blocks = nn.ModuleDict()
        for n, side in enumerate(sides):
            dtype = half if n < half_blocks else None
            picture = pictures if n == 0 else 0
            self.blocks[str(side)] = DiscriminatorBlock(picture, widths[n], widths[n + 1], HALF_CLAMP, dtype)
        width = widths[-1]
        self.mapping = (
            MappingNetwork(0, label_dim, width, layers=mapping_layers, track_mean=False)
            if label_dim
            else None
        )
        self.head = DiscriminatorHead(width, width if label_dim else 1, group)

    def score(
        self, pictures: Float[Tensor, "b c r r"], label: Float[Tensor, "b l"] | None
    ) -> Float[Tensor, "b 1"]:
        """Logits of pictures in the network's range [-1, 1]."""
        x = pictures
        for block in self.blocks.values():
            x = block(x)
        logits = self.head(x)
        if self.mapping is None:
            return logits
        projected = self.mapping(None, label)
        return (logits * projected).sum(1, keepdim=True) / math.sqrt(projected.shape[1])


class DualDiscriminator(Discriminator):
    """Sees the final picture and the raw one behind it, resized to the same side: six channels.

    The arguments are :class:`Discriminator`'s, ``pictures`` excepted.
    """

    def __init__(self, resolution: int, label_dim: int = 25, **options) -> None:
        super().__init__(resolution, pictures=6, label_dim=label_dim, **options)
        self.register_buffer("resample_filter", resampling_filter())

    def forward(
        self, image: Float[Tensor, "b 3 s s"], raw: Float[Tensor, "b 3 r r"], label: Float[Tensor, "b l"]
    ) -> Float[Tensor, "b 1"]:
        """Logits of RGB pictures in [0, 1]."""
        return self.score_pair(2 * image - 1, 2 * raw - 1, label)

    def score_pair(
        self, image: Float[Tensor, "b 3 s s"], raw: Float[Tensor, "b 3 r r"], label: Float[Tensor, "b l"]
    ) -> Float[Tensor, "b 1"]:
        """Logits of pictures in the network's range [-1, 1]; the published gradient penalty is on these arguments."""
        return self.score(torch.cat([image, resize(raw, image.shape[-1])], 1), label)
