"""StyleGAN2's generator (Karras et al. 2020): mapping network, synthesis blocks with a skip picture, synthesis network.

The state dict has one entry per published entry, the constant resampling filters included, so that published weights load strictly.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avatarzoo.networks.modulation import Noise, SynthesisLayer, ToRGB
from avatarzoo.networks.ops import EqualLinear, normalise_moment, prepare, resampling_filter, upsample


def channels_at(resolution: int, base: int = 32768, most: int = 512) -> int:
    """StyleGAN2's channel table."""
    return min(base // resolution, most)


class MappingNetwork(nn.Module):
    """Latent and label to the intermediate code w.

    Args:
        latent_dim: width of z; 0 for a label-only mapping (the discriminator's).
        label_dim: width of the conditioning label; 0 without one.
        code_dim: width of w.
        layers: number of layers.
        rate: learning-rate multiplier of the layers.
        track_mean: keep the running mean of w, which truncation needs.
    """

    mean_code: Tensor

    def __init__(
        self,
        latent_dim: int,
        label_dim: int,
        code_dim: int,
        layers: int = 8,
        rate: float = 0.01,
        track_mean: bool = True,
    ) -> None:
        super().__init__()
        self.latent_dim, self.label_dim = latent_dim, label_dim
        if label_dim:
            self.embed_label = EqualLinear(label_dim, code_dim)
        width = latent_dim + (code_dim if label_dim else 0)
        widths = [width] + [code_dim] * layers
        self.layers = nn.ModuleList(EqualLinear(a, b, rate=rate, activate=True) for a, b in pairwise(widths))
        if track_mean:
            self.register_buffer("mean_code", torch.zeros(code_dim))

    def forward(self, latent: Tensor | None, label: Tensor | None) -> Float[Tensor, "b w"]:
        """``latent (B, latent_dim)`` and ``label (B, label_dim)``; pass None for the one that the network does not have."""
        parts = []
        if latent is not None and self.latent_dim:
            parts.append(normalise_moment(latent.float()))
        if label is not None and self.label_dim:
            parts.append(normalise_moment(self.embed_label(label.float())))
        code = torch.cat(parts, 1)
        for layer in self.layers:
            code = layer(code)
        return code

    @torch.no_grad()
    def update_mean(self, code: Float[Tensor, "b w"], decay: float = 0.998) -> None:
        """Move the running mean towards this batch's; EG3D does it in the discriminator's forward pass only."""
        self.mean_code.lerp_(code.detach().mean(0).to(self.mean_code), 1 - decay)

    def truncate(self, codes: Float[Tensor, "b n w"], psi: float, cutoff: int | None = None) -> Tensor:
        """Pull the first ``cutoff`` codes (None: all) towards the mean; ``psi`` 1 changes nothing, 0 gives the mean."""
        if psi == 1:
            return codes
        pulled = self.mean_code.lerp(codes, psi)
        return pulled if cutoff is None else torch.cat([pulled[:, :cutoff], codes[:, cutoff:]], 1)


class Stage(NamedTuple):
    """What a synthesis network has between two layers: features and the picture summed so far (None before the first)."""

    x: Float[Tensor, "b c h w"]
    picture: Float[Tensor, "b p h2 w2"] | None


class SynthesisBlock(nn.Module):
    """Two modulated convolutions and a skip picture at one resolution.

    Args:
        inputs: input channels; 0 makes the first block, which starts from a learned constant and has one convolution.
        outputs: output channels.
        code_dim: width of the codes.
        resolution: side of the output.
        picture_channels: channels of the skip picture.
        up: 2 doubles the size of features and picture, 1 keeps it (first block of the smaller super-resolutions).
        clamp: largest absolute value of every layer's output, or None.
        half: dtype of the convolutions. ``float16`` acts on CUDA only, as in the original; ``bfloat16`` everywhere.
            The picture is always summed in float32.
    """

    resample_filter: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        code_dim: int,
        resolution: int,
        picture_channels: int,
        up: int = 2,
        clamp: float | None = None,
        half: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.first, self.up, self.half_dtype = inputs == 0, up, half
        self.codes_used = 1 if self.first else 2
        self.register_buffer("resample_filter", resampling_filter())
        if self.first:
            self.constant = nn.Parameter(torch.randn(outputs, resolution, resolution))
        else:
            self.conv0 = SynthesisLayer(inputs, outputs, code_dim, resolution, up=up, clamp=clamp)
        self.conv1 = SynthesisLayer(outputs, outputs, code_dim, resolution, clamp=clamp)
        self.to_rgb = ToRGB(outputs, picture_channels, code_dim, clamp=clamp)

    def begin(
        self,
        x: Tensor | None,
        codes: Float[Tensor, "b n w"],
        noise: Noise = "const",
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "b c h w"]:
        """The first half: the constant, or conv0."""
        if self.first:
            return self.constant.expand(len(codes), *self.constant.shape)
        assert x is not None
        return self.conv0(prepare(x, self.half_dtype), codes[:, 0], noise, generator)

    def finish(
        self,
        x: Float[Tensor, "b c h w"],
        picture: Tensor | None,
        codes: Float[Tensor, "b n w"],
        noise: Noise = "const",
        generator: torch.Generator | None = None,
    ) -> Stage:
        """The second half: conv1, then the picture is doubled (if this block doubles) and this block's share is added.

        ``codes`` are this block's: one per convolution, then the one of the picture.
        """
        x = self.conv1(prepare(x, self.half_dtype), codes[:, self.codes_used - 1], noise, generator)
        share = self.to_rgb(x, codes[:, self.codes_used]).float()
        if picture is None:
            return Stage(x, share)
        return Stage(x, (upsample(picture, self.resample_filter) if self.up == 2 else picture) + share)

    def forward(
        self,
        x: Tensor | None,
        picture: Tensor | None,
        codes: Float[Tensor, "b n w"],
        noise: Noise = "const",
        generator: torch.Generator | None = None,
    ) -> Stage:
        """Both halves."""
        return self.finish(self.begin(x, codes, noise, generator), picture, codes, noise, generator)


class SynthesisNetwork(nn.Module):
    """Blocks from 4 x 4 to ``resolution``; the output is the skip picture.

    A *site* names a place between two layers: ``"b64"`` is behind block 64, ``"b64.conv0"`` inside it, between its two
    convolutions (the picture is then still the one of block 32). ``forward_from(codes, site, *forward_until(codes, site))``
    equals ``forward(codes)``; a method that edits features puts its edit between the two.

    Args:
        code_dim: width of the codes.
        resolution: side of the output, a power of two from 8.
        picture_channels: channels of the output.
        channel_base, channel_max: see :func:`channels_at`.
        clamp, half: of every block, see :class:`SynthesisBlock`.
    """

    def __init__(
        self,
        code_dim: int,
        resolution: int,
        picture_channels: int,
        channel_base: int = 32768,
        channel_max: int = 512,
        clamp: float | None = None,
        half: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.resolutions = [2**i for i in range(2, resolution.bit_length())]
        widths = [0] + [channels_at(r, channel_base, channel_max) for r in self.resolutions]
        self.blocks = nn.ModuleDict(
            {
                str(r): SynthesisBlock(i, o, code_dim, r, picture_channels, clamp=clamp, half=half)
                for r, i, o in zip(self.resolutions, widths, widths[1:])
            }
        )

    @property
    def codes(self) -> int:
        """Number of codes: one per convolution and one for the last picture; a picture shares the next convolution's."""
        return 2 * len(self.resolutions)

    @property
    def sites(self) -> list[str]:
        """Every site, in the order of computation."""
        return [
            f"b{r}{half}" for r in self.resolutions for half in (".conv0", "") if (r, half) != (4, ".conv0")
        ]

    def forward(
        self,
        codes: Float[Tensor, "b n w"],
        noise: Noise = "const",
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "b p r r"]:
        """The picture."""
        *_, (_, last) = self.walk(codes, noise=noise, generator=generator)
        assert last.picture is not None
        return last.picture

    def walk(
        self,
        codes: Float[Tensor, "b n w"],
        noise: Noise = "const",
        generator: torch.Generator | None = None,
        start: Stage | None = None,
        after: str | None = None,
    ) -> Iterator[tuple[str, Stage]]:
        """Every site and what is there, from the one behind ``after`` (None: from the beginning)."""
        skip = 0 if after is None else self._index(after) + 1
        x, picture = (None, None) if start is None else start
        for site in self.sites[skip:]:
            resolution = int(site.removeprefix("b").removesuffix(".conv0"))
            block, own = self._block(resolution, codes)
            if site.endswith(".conv0"):
                x = block.begin(x, own, noise, generator)
            else:
                x = block.begin(None, own) if block.first else x
                assert x is not None
                x, picture = block.finish(x, picture, own, noise, generator)
            yield site, Stage(x, picture)

    def forward_until(
        self,
        codes: Float[Tensor, "b n w"],
        site: str,
        noise: Noise = "const",
        generator: torch.Generator | None = None,
    ) -> Stage:
        """Features and picture at ``site``; later layers are not computed.

        Raises:
            ValueError: there is no such site.
        """
        self._index(site)
        return next(stage for name, stage in self.walk(codes, noise, generator) if name == site)

    def forward_from(
        self,
        codes: Float[Tensor, "b n w"],
        site: str,
        x: Float[Tensor, "b c h w"],
        picture: Float[Tensor, "b p h2 w2"] | None,
        noise: Noise = "const",
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "b p r r"]:
        """The picture from features and picture at ``site``; earlier layers are not computed. Raises as :meth:`forward_until`."""
        here = Stage(x, picture)
        *_, last = here, *(stage for _, stage in self.walk(codes, noise, generator, here, site))
        assert last.picture is not None
        return last.picture

    def _index(self, site: str) -> int:
        if site not in self.sites:
            raise ValueError(f"there is no site {site!r}; the sites are {', '.join(self.sites)}")
        return self.sites.index(site)

    def _block(self, resolution: int, codes: Tensor) -> tuple[SynthesisBlock, Tensor]:
        """A block and its two or three codes: block 4 uses 0 and 1, block 8 uses 1, 2 and 3, block 16 uses 3, 4 and 5, ..."""
        block = self.blocks[str(resolution)]
        assert isinstance(block, SynthesisBlock)
        first = max(0, 2 * self.resolutions.index(resolution) - 1)
        return block, codes[:, first : first + block.codes_used + 1]
