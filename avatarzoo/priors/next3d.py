"""Next3D (Sun et al. 2023), the baseline of InvertAvatar's Tables 1 and 5: texture on all planes, two U-Nets for the mouth."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from avatarzoo.networks.modulation import Noise
from avatarzoo.networks.ops import resize
from avatarzoo.networks.stylegan2 import MappingNetwork, SynthesisNetwork
from avatarzoo.priors.driving import Driving, look_up, read_driving
from avatarzoo.priors.eg3d import TriPlaneGenerator, TriPlaneImage
from avatarzoo.priors.next3d_config import RELEASED_NEXT3D, Next3DConfig
from avatarzoo.priors.next3d_unet import ConditionedSynthesis
from avatarzoo.priors.next3d_views import TexturedTopology, crop, driving_views, mouth_box, paste


class Next3DPerson(NamedTuple):
    """What does not change while a person is driven."""

    texture: Float[Tensor, "b c h w"]
    static: Float[Tensor, "b 3 c h w"]


class Next3DGenerator(TriPlaneGenerator):
    """EG3D with a neural texture on a head mesh, rasterised to the front, side and top plane and blended into static planes.

        person = generator.person(codes)
        planes = generator.animate(codes, person, vertices, landmarks)
        picture = generator(codes, label, planes).rgb

    Layers, counts and entries are the released network's; the joints inside the two U-Nets are not known from public text (see
    :class:`~avatarzoo.priors.next3d_unet.ConditionedSynthesis`), and pictures were not compared.

    Args:
        config: sizes and conventions.
        topology: of the driving head; None leaves room for the one in a published file (FLAME).
    """

    config: Next3DConfig

    def __init__(
        self, config: Next3DConfig = RELEASED_NEXT3D, topology: TexturedTopology | None = None
    ) -> None:
        super().__init__(config)
        side = config.plane_resolution
        self.texture_backbone = SynthesisNetwork(
            config.code_dim, side, config.plane_channels, config.channel_base, config.channel_max
        )
        self.mouth_backbone = ConditionedSynthesis(config, side // 4, 4)
        self.neural_blending = ConditionedSynthesis(config, side, side // 8)
        # never used, but trained files hold them and the published count includes them
        self.texture_mapping, self.mouth_mapping, self.blending_mapping = (
            MappingNetwork(config.latent_dim, config.label_dim, config.code_dim, config.mapping_layers)
            for _ in range(3)
        )
        self.topology = TexturedTopology() if topology is None else topology

    @property
    def code_count(self) -> int:
        """The first half is the static planes', the mouth's and the super-resolution's, the second half the texture's."""
        return 2 * self.backbone.codes

    def person(
        self,
        codes: Float[Tensor, "b n w"],
        noise: Noise = "const",
        generator: torch.Generator | None = None,
    ) -> Next3DPerson:
        """Neural texture and static planes."""
        texture = self.texture_backbone(codes[:, self.backbone.codes :], noise, generator)
        return Next3DPerson(texture, self.planes(codes, noise, generator))

    def animate(
        self,
        codes: Float[Tensor, "b n w"],
        person: Next3DPerson,
        vertices: Float[Tensor, "b v 3"],
        landmarks: Float[Tensor, "b 68 3"],
        noise: Noise = "const",
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "b 3 c h w"]:
        """Tri-planes of a person with the head of ``vertices`` and ``landmarks`` (metres, y up, face towards +z)."""
        config, side = self.config, self.config.plane_resolution
        maps = driving_views(vertices, self.topology, side, config.view_scale, config.view_shift)
        front, left, right, top = (read_driving(view) for view in maps.unbind(1))
        drawn = [rasterised(person.texture, view, side) for view in (front, left, right, top)]
        box = mouth_box(landmarks, config.view_scale, config.view_shift, config.mouth_margin)
        mouth = self.mouth_backbone(crop(drawn[0], box, side // 4), codes, noise, generator)
        stitched = paste(drawn[0], resize(mouth, side // 4), box)
        stitched = self.neural_blending(stitched, codes, noise, generator)
        # as in the released code the sides share a plane, whose coverage is the first one's
        driven = torch.stack([stitched, drawn[1] + drawn[2], drawn[3]], 1)
        alpha = torch.stack([front.filled, left.filled, top.filled], 1)
        return driven * alpha + person.static * (1 - alpha)

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
        """As :meth:`TriPlaneGenerator.synthesise`; the super-resolution takes the last code of the first half."""
        own = codes[:, : self.backbone.codes]
        return super().synthesise(own, label, planes, resolution, noise, jitter, chunk)


def rasterised(texture: Float[Tensor, "b c s s"], view: Driving, side: int) -> Float[Tensor, "b c r r"]:
    """The texture as a view shows it, zero where it does not."""
    return look_up(texture, view, side) * view.alpha
