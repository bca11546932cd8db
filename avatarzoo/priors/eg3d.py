"""EG3D's generator (Chan et al. 2022): latent to tri-planes, planes to any view, view to the final picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avatarzoo.networks.modulation import Noise
from avatarzoo.networks.stylegan2 import MappingNetwork, SynthesisBlock, SynthesisNetwork
from avatarzoo.networks.superresolution import SuperResolution
from avatarzoo.priors.eg3d_config import FFHQ, EG3DConfig
from avatarzoo.priors.rays import camera_rays
from avatarzoo.priors.triplanes import Decoder, sample_planes
from avatarzoo.priors.volume import Field, Sampling, render_cameras

Warp = Callable[[Float[Tensor, "b n 3"], slice], Float[Tensor, "b n 3"]]
"""World points on rays to the world points where the planes are asked (a deformation field)."""


class FeatureView(NamedTuple):
    """A volume-rendered view of side R: features in [-1, 1] (first three: RGB), depth in world units, opacity in [0, 1]."""

    features: Float[Tensor, "b c r r"]
    depth: Float[Tensor, "b 1 r r"]
    opacity: Float[Tensor, "b 1 r r"]


class TriPlaneImage(NamedTuple):
    """A generated view.

    Attributes:
        rgb: final picture of side S.
        raw: volume-rendered picture of side R, which the super-resolution started from.
        depth, opacity: of the volume-rendered picture.
    """

    rgb: Float[Tensor, "b 3 s s"]
    raw: Float[Tensor, "b 3 r r"]
    depth: Float[Tensor, "b 1 r r"]
    opacity: Float[Tensor, "b 1 r r"]


class TriPlaneGenerator(nn.Module):
    """The pretrained prior of NOFA++ and the ancestor of Next3D.

    ``generator(generator.codes(z, label), label)`` is a picture. Cameras are EG3D's 25-number labels
    (:func:`avatarzoo.geometry.camera.to_eg3d` makes one from a camera). Rendering is deterministic unless ``jitter`` is given.

    Args:
        config: sizes and conventions; :data:`avatarzoo.priors.eg3d_config.RELEASED` has the published ones.
    """

    def __init__(self, config: EG3DConfig = FFHQ) -> None:
        super().__init__()
        self.config = config
        self.mapping = MappingNetwork(
            config.latent_dim, config.label_dim, config.code_dim, config.mapping_layers
        )
        self.backbone = SynthesisNetwork(
            config.code_dim,
            config.plane_resolution,
            3 * config.plane_channels,
            config.channel_base,
            config.channel_max,
        )
        self.decoder = Decoder(config.plane_channels, config.plane_channels, rate=config.decoder_rate)
        self.superresolution = SuperResolution(
            config.superresolution,
            config.plane_channels,
            config.code_dim,
            config.antialias,
            torch.float16 if config.half else None,
        )
        self.neural_resolution = config.neural_resolution

    @property
    def code_count(self) -> int:
        """Number of codes of a person."""
        return self.backbone.codes

    def codes(
        self,
        latent: Float[Tensor, "b z"],
        label: Float[Tensor, "b 25"],
        truncation: float = 1.0,
        cutoff: int | None = None,
        update_mean: bool = False,
    ) -> Float[Tensor, "b n w"]:
        """One code per layer.

        Args:
            latent: N(0, 1) numbers.
            label: camera that the identity is conditioned on, usually a frontal one (the view itself may be another).
            truncation: 1 none, 0 the mean face.
            cutoff: number of codes that are truncated; None: all.
            update_mean: let the running mean follow this batch (training of the discriminator).
        """
        label = label * (self.config.label_scale if self.config.pose_conditioning else 0.0)
        code = self.mapping(latent, label)
        if update_mean:
            self.mapping.update_mean(code)
        codes = code[:, None].repeat(1, self.code_count, 1)
        return self.mapping.truncate(codes, truncation, cutoff)

    def planes(
        self,
        codes: Float[Tensor, "b n w"],
        noise: Noise = "const",
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "b 3 c h w"]:
        """The tri-planes of a person, which do not depend on the view; keep them to render many views."""
        return self.split(self.backbone(codes, noise, generator))

    def split(self, picture: Float[Tensor, "b c3 h w"]) -> Float[Tensor, "b 3 c h w"]:
        """The backbone's picture as three planes."""
        return picture.unflatten(1, (3, -1))

    def query(
        self, planes: Float[Tensor, "b 3 c h w"], points: Float[Tensor, "b n 3"]
    ) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b n c"]]:
        """Raw density and colour features at world points; softplus(raw - 1) is the density that the renderer integrates."""
        return self.decoder(sample_planes(planes, points, self.config.box, self.config.plane_axes))

    def render(
        self,
        planes: Float[Tensor, "b 3 c h w"],
        label: Float[Tensor, "b 25"],
        resolution: int | None = None,
        jitter: torch.Generator | None = None,
        chunk: int | None = None,
        warp: Warp | None = None,
        samples: tuple[int, int] | None = None,
    ) -> FeatureView:
        """Volume-render a view.

        Args:
            planes: of :meth:`planes`.
            label: the camera.
            resolution: side of the view; None: ``self.neural_resolution``.
            jitter: None for the middles of all sampling intervals, a generator for random places (training).
            chunk: rays of each view computed at a time, to save memory; does not change the result.
            warp: applied to all points of both passes before planes are asked; rays stay straight. It is told whose points it gets:
                a slice of the batch.
            samples: on a ray in the first and in the second pass; None: the configuration's.
        """
        config = self.config
        resolution = resolution or self.neural_resolution
        coarse, fine = samples or (config.coarse_samples, config.fine_samples)
        sampling = Sampling(coarse, fine, config.depth_range, config.box, config.white_background)
        rays = camera_rays(label.float(), resolution)

        def field_of(rows: slice) -> Field:
            return lambda points: self.query(planes[rows], points if warp is None else warp(points, rows))

        view = render_cameras(field_of, rays, sampling, jitter, chunk)
        maps = [m.transpose(1, 2).unflatten(2, (resolution, resolution)) for m in view]
        return FeatureView(*maps)

    def synthesise(
        self,
        codes: Float[Tensor, "b n w"],
        label: Float[Tensor, "b 25"],
        planes: Float[Tensor, "b 3 c h w"] | None = None,
        resolution: int | None = None,
        noise: Noise = "const",
        jitter: torch.Generator | None = None,
        chunk: int | None = None,
    ) -> TriPlaneImage:
        """A view with both pictures in the network's range, about [-1, 1] and not clamped: for adversarial losses and comparisons.

        The arguments are those of :meth:`codes`' result, :meth:`planes` and :meth:`render`; given ``planes`` are used instead of
        computing them. ``jitter`` also draws the noise of ``noise="random"``.
        """
        if planes is None:
            planes = self.planes(codes, noise, jitter)
        features, depth, opacity = self.render(planes, label, resolution, jitter, chunk)
        raw = features[:, :3]
        rgb = self.superresolution(raw, features, codes[:, -1])
        return TriPlaneImage(rgb, raw, depth, opacity)

    def forward(
        self,
        codes: Float[Tensor, "b n w"],
        label: Float[Tensor, "b 25"],
        planes: Float[Tensor, "b 3 c h w"] | None = None,
        resolution: int | None = None,
        noise: Noise = "const",
        jitter: torch.Generator | None = None,
        chunk: int | None = None,
    ) -> TriPlaneImage:
        """:meth:`synthesise` with both pictures as RGB in [0, 1], not clamped so that losses keep their gradients."""
        view = self.synthesise(codes, label, planes, resolution, noise, jitter, chunk)
        return TriPlaneImage((view.rgb + 1) / 2, (view.raw + 1) / 2, view.depth, view.opacity)

    def use_half(self, dtype: torch.dtype | None, backbone: bool = False) -> TriPlaneGenerator:
        """Choose the dtype of the convolutions and return self.

        Args:
            dtype: ``float16`` (CUDA only, the published choice), ``bfloat16`` or None for float32.
            backbone: the backbone too; published networks keep it in float32.
        """
        for network in (self.superresolution, self.backbone) if backbone else (self.superresolution,):
            for block in network.modules():
                if isinstance(block, SynthesisBlock):
                    block.half_dtype = dtype
        return self
