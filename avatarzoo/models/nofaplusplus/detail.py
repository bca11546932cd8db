"""NOFA++'s detail network (section 3.2): what the coarse picture misses, fused into a feature of the generator.

The order of use, with ``site`` a place in the backbone::

    stage = begin(backbone, codes, site)                      # lower blocks, once
    coarse = finish(backbone, codes, site, stage, feature(stage, site))
    fused = detail(source - coarse_picture).apply(feature(stage, site))
    fine = finish(backbone, codes, site, stage, fused)        # upper blocks again

Fast adaptation optimises ``fused``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from avatarzoo.networks.modulation import Noise
from avatarzoo.networks.stylegan2 import Stage, SynthesisNetwork

PLANES = "planes"
"""The site behind everything: the planes themselves."""
INSIDE_B64 = "b64.conv0"
"""The default site. paper: "intermediate feature" of the generator; this one is HFGI's, where its residual comes from."""
SLOPE = 0.2


class Fusion(NamedTuple):
    """F_e = gamma F_c + eta with ``gamma = 1 + gain`` and ``eta = shift``."""

    gain: Float[Tensor, "b c h w"]
    shift: Float[Tensor, "b c h w"]

    def apply(self, coarse: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The fused feature; ``coarse`` itself when both maps are zero."""
        return coarse * (1 + self.gain) + self.shift


def begin(
    backbone: SynthesisNetwork, codes: Float[Tensor, "b n w"], site: str = INSIDE_B64, noise: Noise = "const"
) -> Stage:
    """What the backbone has at ``site``; later layers are not computed. Raises as :func:`feature_shape`."""
    feature_shape(backbone, site)
    return backbone.forward_until(codes, backbone.sites[-1] if site == PLANES else site, noise)


def feature(stage: Stage, site: str = INSIDE_B64) -> Float[Tensor, "b c h w"]:
    """F_c: the part of a stage that details are fused into."""
    if site != PLANES:
        return stage.x
    assert stage.picture is not None
    return stage.picture


def finish(
    backbone: SynthesisNetwork,
    codes: Float[Tensor, "b n w"],
    site: str,
    stage: Stage,
    fused: Float[Tensor, "b c h w"],
    noise: Noise = "const",
) -> Float[Tensor, "b p r r"]:
    """The backbone's picture with ``fused`` in place of F_c; earlier layers are not computed."""
    if site == PLANES:
        return fused
    return backbone.forward_from(codes, site, fused, stage.picture, noise)


def feature_shape(backbone: SynthesisNetwork, site: str = INSIDE_B64) -> tuple[int, int]:
    """Channels and side of F_c at ``site``.

    Raises:
        ValueError: the backbone has no such site, or it is the one behind the last block, whose features nothing reads.
    """
    sites = [*backbone.sites[:-1], PLANES]
    if site not in sites:
        raise ValueError(f"details cannot be fused at {site!r}; the sites are {', '.join(sites)}")
    side = backbone.resolutions[-1] if site == PLANES else int(site.removeprefix("b").split(".")[0])
    block = backbone.blocks[str(side)]
    weight = block.to_rgb.weight if site == PLANES else block.conv1.weight
    return weight.shape[0], side


class Unit(nn.Module):
    """Two 3x3 convolutions beside a shortcut.

    Not normalised, unlike HFGI's and GOAE's: batches hold a picture or a few, and how large a residual is matters.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, 1, 1)
        self.second = nn.Conv2d(outputs, outputs, 3, stride, 1)
        self.stride, same = stride, (inputs, stride) == (outputs, 1)
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h2 w2"]:
        y = self.second(F.leaky_relu(self.first(F.leaky_relu(x, SLOPE)), SLOPE))
        # not a stride of the 1x1 convolution: oneDNN's gradient of that, with under 16 channels, writes beyond its memory (torch 2.11)
        kept = x[..., :: self.stride, :: self.stride]
        return (y + self.shortcut(kept)) * 0.5**0.5


def head(inputs: int, outputs: int) -> nn.Sequential:
    """A light network whose output starts at zero."""
    last = nn.Conv2d(outputs, outputs, 3, 1, 1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, 1, 1), nn.LeakyReLU(SLOPE), last)


class DetailNetwork(nn.Module):
    """C with gamma and eta: a residual picture to a :class:`Fusion`, which starts as the identity.

    Sizes are not stated in the paper; the defaults follow GOAE's trunk and HFGI's heads.

    Args:
        channels, side: of F_c, see :func:`feature_shape`.
        picture: side to which residuals are pooled, ``side`` times a power of two.
        width: channels at full side; they double with every halving.
        width_max: largest number of channels.
        units: per halving (at least one, of stride 2), and at full side if there is no halving.

    Raises:
        ValueError: no power of two leads from ``picture`` to ``side``.
    """

    def __init__(
        self,
        channels: int = 512,
        side: int = 64,
        picture: int = 512,
        width: int = 64,
        width_max: int = 256,
        units: int = 3,
    ) -> None:
        super().__init__()
        halvings = max(picture // side, 1).bit_length() - 1
        if side << halvings != picture:
            raise ValueError(f"residuals of side {picture} cannot be halved to features of side {side}")
        self.picture = picture
        trunk: list[nn.Module] = [nn.Conv2d(3, width, 3, 1, 1)]
        inputs = width
        for stage in range(max(halvings, 1)):
            outputs = min(width << stage, width_max)
            strides = [2 if halvings else 1] + [1] * (units - 1)
            trunk += [Unit(inputs if i == 0 else outputs, outputs, s) for i, s in enumerate(strides)]
            inputs = outputs
        self.trunk = nn.Sequential(*trunk)
        self.gain, self.shift = head(inputs, channels), head(inputs, channels)
        for module in self.trunk.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, SLOPE)

    def forward(self, residual: Float[Tensor, "b 3 s s"]) -> Fusion:
        """``residual``: source minus coarse picture, both RGB in [0, 1], so within [-1, 1]."""
        x = self.trunk(F.adaptive_avg_pool2d(residual, self.picture))
        return Fusion(self.gain(x), self.shift(x))
