"""EG3D's super-resolution of the volume-rendered features (Chan et al. 2022, section 4.3): two synthesis blocks on one code."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avatarzoo.networks.ops import resampling_filter, resize
from avatarzoo.networks.stylegan2 import SynthesisBlock

Variant = Literal["8XDC", "8X", "4X", "2X"]

CLAMP = 256.0


class Layout(NamedTuple):
    """Sizes of a super-resolution network."""

    output: int  # side of the result
    work: int  # side to which raw features are resized first
    widths: tuple[int, int]  # channels of the two blocks
    up: tuple[int, int]  # factors of the two blocks
    shrink: bool  # whether raw features larger than `work` are resized too
    spare_filter: bool  # the published state dict holds an unused filter at the top


LAYOUTS: dict[Variant, Layout] = {
    "8XDC": Layout(512, 128, (256, 128), (2, 2), True, False),
    "8X": Layout(512, 128, (128, 64), (2, 2), True, True),
    "4X": Layout(256, 128, (128, 64), (1, 2), False, True),
    "2X": Layout(128, 64, (128, 64), (1, 2), True, True),
}


class SuperResolution(nn.Module):
    """Raw RGB and features to the final picture, in the network's range (about [-1, 1], not clamped).

    Args:
        variant: the published class; its output side is ``LAYOUTS[variant].output``. The legacy ``Deepfp32`` is ``4X`` with
            ``antialias=False`` and ``half=None``.
        inputs: feature channels.
        code_dim: width of the code.
        antialias: of the resize to the working size.
        half: dtype of the convolutions, see :class:`avatarzoo.networks.stylegan2.SynthesisBlock`.
    """

    def __init__(
        self,
        variant: Variant = "8XDC",
        inputs: int = 32,
        code_dim: int = 512,
        antialias: bool = True,
        half: torch.dtype | None = torch.float16,
    ) -> None:
        super().__init__()
        self.layout, self.antialias = LAYOUTS[variant], antialias
        if self.layout.spare_filter:
            self.register_buffer("resample_filter", resampling_filter())
        side, blocks = self.layout.work, []
        for width, up in zip(self.layout.widths, self.layout.up):
            side *= up
            # the published networks clamp whether or not they run in half precision
            blocks.append(SynthesisBlock(inputs, width, code_dim, side, 3, up=up, clamp=CLAMP, half=half))
            inputs = width
        self.blocks = nn.ModuleList(blocks)

    def forward(
        self,
        rgb: Float[Tensor, "b 3 r r"],
        features: Float[Tensor, "b c r r"],
        code: Float[Tensor, "b w"],
    ) -> Float[Tensor, "b 3 s s"]:
        """The arguments are left untouched (the original 2X writes into its raw picture when it is 64 wide)."""
        if features.shape[-1] < self.layout.work or self.layout.shrink:
            features = resize(features, self.layout.work, self.antialias)
            rgb = resize(rgb, self.layout.work, self.antialias)
        codes = code[:, None].expand(-1, 3, -1)
        x, picture = features, rgb
        for block in self.blocks:
            x, picture = block(x, picture, codes, noise="none")
        return picture
