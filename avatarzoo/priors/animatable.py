"""InvertAvatar's animatable 3D GAN (section 3.1): a person's textures, driven by a head model, blended into static tri-planes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from avatarzoo.networks.inversion_encoders import Modulation
from avatarzoo.networks.modulation import Noise
from avatarzoo.networks.ops import resize
from avatarzoo.networks.stylegan2 import MappingNetwork, Stage, SynthesisNetwork
from avatarzoo.priors.animatable_config import RELEASED_ANIMATABLE, AnimatableConfig
from avatarzoo.priors.driving import Driving, look_up, read_driving
from avatarzoo.priors.eg3d import FeatureView, TriPlaneGenerator, Warp
from avatarzoo.priors.feature_levels import Edits, Levels, levels
from avatarzoo.priors.rays import Rays, camera_rays
from avatarzoo.priors.volume import Field, Sampling, render_cameras

PICTURES = (0, 5)
"""Entries of :class:`Levels` that are pictures; a static one holds all planes side by side."""


class PersonFeatures(NamedTuple):
    """What does not change while a person is driven; keep it to animate many frames."""

    texture: Levels
    static: Levels


class AnimatableTriPlaneGenerator(TriPlaneGenerator):
    """EG3D with a texture generator and a face generator beside the static one, all on the same W+ code.

        person = generator.person(codes)
        planes = generator.animate(codes, person, maps)
        picture = generator(codes, label, planes).rgb

    ``maps`` are driving maps ``(B, V, H, W, 3)`` of V views: (u, v, mask) per pixel of an orthographic view of the driven head,
    one view per driven plane. paper: textures are rasterised to the tri-plane; released code: the frontal view into the first
    plane alone (V = 1), which its weights were trained for; V = 3 drives all planes. ``label`` is the render camera, which may
    differ from the one that codes are conditioned on.

    Args:
        config: sizes and conventions.
    """

    config: AnimatableConfig

    def __init__(self, config: AnimatableConfig = RELEASED_ANIMATABLE) -> None:
        super().__init__(config)
        self.texture_backbone, self.face_backbone = (
            SynthesisNetwork(
                config.code_dim,
                config.plane_resolution,
                config.plane_channels,
                config.channel_base,
                config.channel_max,
            )
            for _ in range(2)
        )
        # never used, but trained files hold them and the published count includes them
        self.texture_mapping, self.face_mapping = (
            MappingNetwork(config.latent_dim, config.label_dim, config.code_dim, config.mapping_layers)
            for _ in range(2)
        )

    @torch.no_grad()
    def begin_with(self, heads: TriPlaneGenerator) -> AnimatableTriPlaneGenerator:
        """Take over a trained EG3D and return self (paper: training starts from one).

        Texture and face generators copy the backbone, too, except the layers of their pictures, which have fewer channels and stay
        random, as in the released code. Sizes must be the same.
        """
        for name in ("mapping", "backbone", "decoder", "superresolution"):
            getattr(self, name).load_state_dict(getattr(heads, name).state_dict())
        own = heads.backbone.state_dict()
        for network in (self.texture_backbone, self.face_backbone):
            state = network.state_dict()
            network.load_state_dict({k: own[k] if own[k].shape == v.shape else v for k, v in state.items()})
        return self

    def person(
        self,
        codes: Float[Tensor, "b n w"],
        offsets: list[Tensor] | None = None,
        modulations: list[Modulation] | None = None,
        noise: Noise = "const",
        generator: torch.Generator | None = None,
    ) -> PersonFeatures:
        """Texture and static features.

        Args:
            codes: W+ codes of all networks.
            offsets: of E_tex, added to the first texture levels.
            modulations: of E_tri, for blocks of the static backbone.
            noise, generator: of the synthesis layers.
        """
        texture = levels(self.texture_backbone, codes, noise=noise, generator=generator)
        texture = texture if offsets is None else texture.plus(offsets)
        edits = None if modulations is None else self.modulating(modulations)
        return PersonFeatures(texture, levels(self.backbone, codes, edits, noise, generator))

    def modulating(self, modulations: list[Modulation]) -> Edits:
        """Edits that apply E_tri's modulations behind the first convolution of the blocks of their sides."""
        return {f"b{m.scale.shape[-1]}.conv0": _modulated(m) for m in modulations}

    def animate(
        self,
        codes: Float[Tensor, "b n w"],
        person: PersonFeatures,
        maps: Float[Tensor, "b v h w 3"],
        noise: Noise = "const",
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "b 3 c h w"]:
        """Tri-planes of a person with the driven face in them; see the class for ``maps``."""
        planes = self.split(person.static.picture)
        driven = []
        for plane, view in enumerate(maps.unbind(1)):
            driving = read_driving(view, self.config.upper_mouth)
            face = self.face(codes, person, driving, plane, noise, generator)
            driven.append(self.blend(planes[:, plane], face, driving, plane))
        return torch.cat([torch.stack(driven, 1), planes[:, len(driven) :]], 1)

    def face(
        self,
        codes: Float[Tensor, "b n w"],
        person: PersonFeatures,
        driving: Driving,
        plane: int = 0,
        noise: Noise = "const",
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "b c h w"]:
        """The face generator's picture of one view, conditioned at 1/8, 1/4 and 1/2 of its side."""
        coarse, eighth, quarter, half = (self.condition(person, driving, i, plane) for i in range(4))
        sites = [f"b{r}" for r in self.face_backbone.resolutions[-4:-1]]
        edits = {
            sites[0]: lambda stage: Stage(_overlay(stage.x, eighth), _overlay(stage.picture, coarse)),
            sites[1]: lambda stage: Stage(_overlay(stage.x, quarter), stage.picture),
            sites[2]: lambda stage: Stage(_overlay(stage.x, half), stage.picture),
        }
        return levels(self.face_backbone, codes, edits, noise, generator).picture

    def condition(
        self, person: PersonFeatures, driving: Driving, level: int, plane: int = 0
    ) -> Float[Tensor, "b c1 r r"]:
        """Driven texture over static features at one level, and as last channel where that is to be trusted."""
        texture, static = person.texture[level], person.static[level]
        if level in PICTURES:
            static = self.split(static)[:, plane]
        side = static.shape[-1]
        top, left, size = self.box(side, plane)
        static = resize(static[..., top : top + size, left : left + size], side)
        alpha, trusted = resize(driving.alpha, side), resize(driving.trusted, side)
        blended = look_up(texture, driving, side) * alpha + static * (1 - alpha)
        return torch.cat([blended, trusted], 1)

    def box(self, side: int, plane: int = 0) -> tuple[int, int, int]:
        """Top, left and size in pixels of the driven square on a plane of that side."""
        top, left = self.config.face_top[plane], self.config.face_left[plane]
        return int(top * side), int(left * side), side // 2

    def blend(
        self,
        static: Float[Tensor, "b c h w"],
        face: Float[Tensor, "b c h w"],
        driving: Driving,
        plane: int = 0,
    ) -> Float[Tensor, "b c h w"]:
        """The face pasted into its square of the static plane, where the driven surface or the mouth covers it."""
        top, left, size = self.box(static.shape[-1], plane)
        alpha, square = resize(driving.filled, size), (..., slice(top, top + size), slice(left, left + size))
        blended = static.clone()
        blended[square] = resize(face, size) * alpha + static[square] * (1 - alpha)
        return blended

    def rays(self, label: Float[Tensor, "b 25"], resolution: int) -> Rays:
        """Rays of the render camera."""
        return camera_rays(label.float(), resolution, self.config.ray_place)

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
        """As :meth:`TriPlaneGenerator.render`, with the depth range round each camera's distance from the origin."""
        config, resolution = self.config, resolution or self.neural_resolution
        rays = self.rays(label, resolution)
        distance = rays.origins.norm(dim=1)
        distance = distance.mean().expand_as(distance) if config.shared_range else distance
        limits = [
            (distance + shift)[:, None, None].expand(-1, rays.directions.shape[1], 1)
            for shift in (-config.range_before, config.range_behind)
        ]
        sampling = Sampling(
            *(samples or (config.coarse_samples, config.fine_samples)),
            box=config.box,
            white_background=config.white_background,
            closed=config.closed_samples,
        )

        def field_of(rows: slice) -> Field:
            return lambda points: self.query(planes[rows], points if warp is None else warp(points, rows))

        view = render_cameras(field_of, rays, sampling, jitter, chunk, (limits[0], limits[1]))
        return FeatureView(*(m.transpose(1, 2).unflatten(2, (resolution, resolution)) for m in view))


def _overlay(x: Tensor | None, condition: Tensor) -> Tensor:
    """Features of the condition where its last channel trusts them."""
    assert x is not None
    given, trusted = condition[:, :-1], condition[:, -1:]
    return given * trusted + x * (1 - trusted)


def _modulated(modulation: Modulation):
    return lambda stage: Stage(modulation.apply(stage.x), stage.picture)
