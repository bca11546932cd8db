"""Next3D's "StyleUNet" (Sun et al. 2023, section 3.3): a StyleGAN2 synthesis network that also reads a feature picture."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avatarzoo.networks.discriminator import EqualConv
from avatarzoo.networks.modulation import Noise
from avatarzoo.networks.ops import blur, resampling_filter
from avatarzoo.networks.stylegan2 import Stage, SynthesisNetwork, channels_at
from avatarzoo.priors.eg3d_config import EG3DConfig
from avatarzoo.priors.feature_levels import edited_walk


class EncoderBlock(nn.Module):
    """Adds the picture of its side to the features from above, convolves, and halves the side."""

    resample_filter: Tensor

    def __init__(self, pictures: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.register_buffer("resample_filter", resampling_filter())
        self.from_rgb = EqualConv(pictures, inputs, 1, activate=False)
        self.conv1 = EqualConv(inputs, inputs, 3)
        self.conv2 = EqualConv(inputs, outputs, 3, down=2)

    def forward(
        self, x: Tensor | None, picture: Float[Tensor, "b p h w"]
    ) -> tuple[Float[Tensor, "b i h w"], Float[Tensor, "b o h2 w2"], Float[Tensor, "b p h2 w2"]]:
        """Skip features of this side, then features and picture of half the side."""
        lifted = self.from_rgb(picture)
        skip = self.conv1(lifted if x is None else x + lifted)
        return skip, self.conv2(skip), blur(picture, self.resample_filter, padding=1, stride=2)


class ConditionedSynthesis(nn.Module):
    """Picture and codes to a picture of the backbone's side.

    Sizes, layers and names are those of the released network, exact in the count of parameters and the names of all entries.
    How the parts are joined is stated nowhere outside of the code that we do not read: skip features are taken in front of
    each halving, and fused behind the first convolution of the block of their side (the deepest start the decoder). Not
    compared with reference tensors.

    Args:
        config: sizes of the backbone.
        inputs: side of the picture that is read.
        deepest: side of the deepest features; smaller blocks of the backbone exist and are not used.
    """

    def __init__(self, config: EG3DConfig, inputs: int, deepest: int) -> None:
        super().__init__()
        pictures = config.plane_channels
        self.synthesis = SynthesisNetwork(
            config.code_dim, config.plane_resolution, pictures, config.channel_base, config.channel_max
        )
        self.sides = [2**n for n in range(deepest.bit_length() - 1, inputs.bit_length())]
        widths = [channels_at(side, config.channel_base, config.channel_max) for side in self.sides]
        self.encoder = nn.ModuleList(EncoderBlock(pictures, i, o) for i, o in pairwise(reversed(widths)))
        # the deepest features alone, then what comes from below beside the skip
        joined = [widths[0], *(2 * width for width in widths[1:])]
        self.fusion = nn.ModuleList(EqualConv(i, o, 3) for i, o in zip(joined, widths))

    def encode(self, picture: Float[Tensor, "b p s s"]) -> list[Tensor]:
        """Features of every side, deepest first."""
        x, skips = None, []
        for block in self.encoder:
            skip, x, picture = block(x, picture)
            skips.append(skip)
        return [x, *reversed(skips)]

    def forward(
        self,
        picture: Float[Tensor, "b p s s"],
        codes: Float[Tensor, "b n w"],
        noise: Noise = "const",
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "b p r r"]:
        deepest, *skips = self.encode(picture)
        edits = {
            f"b{side}.conv0": _fusing(layer, skip)
            for side, layer, skip in zip(self.sides[1:], self.fusion[1:], skips)
        }
        start = Stage(self.fusion[0](deepest), None)
        walk = edited_walk(self.synthesis, codes, edits, noise, generator, start, f"b{self.sides[0]}")
        *_, (_, last) = walk
        assert last.picture is not None
        return last.picture


def _fusing(layer: nn.Module, skip: Tensor):
    return lambda stage: Stage(layer(torch.cat([stage.x, skip], 1)), stage.picture)
