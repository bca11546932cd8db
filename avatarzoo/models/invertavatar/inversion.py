"""InvertAvatar's inference (figure 3): pictures of a person to features of the prior, features and a driving map to any view."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avatarzoo.geometry.camera import Camera
from avatarzoo.heads.base import HeadParams
from avatarzoo.models.invertavatar.maps import HeadMaps
from avatarzoo.networks.inversion_encoders import InversionEncoders, Modulation
from avatarzoo.networks.ops import resize
from avatarzoo.networks.unet import Memory
from avatarzoo.priors.animatable import AnimatableTriPlaneGenerator, PersonFeatures
from avatarzoo.priors.cameras import frontal_label
from avatarzoo.priors.feature_levels import Levels, levels

TextureInput = Literal["uv", "posed", "none"]
"""What E_tex reads: pictures in texture space, or as they are (ablation of table 4), or there is no E_tex."""
TriPlaneOutput = Literal["modulation", "offsets", "none"]
"""What E_tri changes: scale and shift of the static features, or shift alone (ablation of table 4), or there is no E_tri."""

SMALLEST = 8
"""Side of the first block with two convolutions, between which E_tri acts; a sixteenth of the side of small planes lies below."""


class Sketch(NamedTuple):
    """How views are drawn that are only compared: side of the rendered volume, samples a ray in both passes; None: the prior's."""

    resolution: int | None = None
    samples: tuple[int, int] | None = None


class Frames(NamedTuple):
    """T pictures of each of B people, one person after the other: EG3D's crops in [0, 1], parameters, cameras and their labels."""

    image: Float[Tensor, "bt 3 s s"]
    params: HeadParams
    camera: Camera
    label: Float[Tensor, "bt 25"]

    def rows(self, index: Tensor) -> Frames:
        return Frames(self.image[index], self.params.rows(index), self.camera.rows(index), self.label[index])

    def window(self, people: int, start: int, end: int) -> Frames:
        """Pictures ``start`` to ``end`` of every person."""
        rows = torch.arange(len(self.image), device=self.image.device).view(people, -1)[:, start:end]
        return self.rows(rows.flatten())


class Memories(NamedTuple):
    """What the recurrent decoders know of people; see :data:`~avatarzoo.networks.unet.Memory`."""

    texture: Memory | None
    triplane: Memory | None

    def detached(self) -> Memories:
        return Memories(*(None if m is None else [x.detach() for x in m] for m in self))


class Person(NamedTuple):
    """B people: W+ codes, texture and static features, and the memories that these came from."""

    codes: Float[Tensor, "b n w"]
    features: PersonFeatures
    memories: Memories

    def repeated(self, count: int) -> Person:
        """Every person ``count`` times, one after the other; without memories."""
        texture, static = (Levels(*(x.repeat_interleave(count, 0) for x in part)) for part in self.features)
        return Person(
            self.codes.repeat_interleave(count, 0), PersonFeatures(texture, static), Memories(None, None)
        )


class Corrections(NamedTuple):
    """What the second stage changes: additions to texture levels, modulations of the static backbone; None changes nothing."""

    offsets: list[Tensor] | None
    modulations: list[Modulation] | None
    memories: Memories


class Drawn(NamedTuple):
    """Views in the network's range, about [-1, 1]: picture, rendered features (the first three: RGB), opacity; driven planes."""

    image: Float[Tensor, "b 3 s s"]
    features: Float[Tensor, "b c r r"]
    opacity: Float[Tensor, "b 1 r r"]
    planes: Float[Tensor, "b 3 c h w"]


class Inversion(nn.Module):
    """Prior, encoders and the head model's maps.

    Args:
        prior: G; its weights are not trained here.
        encoders: E_latent, E_tex, E_tri.
        maps: of the head model.
        texture, triplane: see :data:`TextureInput` and :data:`TriPlaneOutput`.
        sketch: of views in training, and of those whose difference from the pictures E_tex and E_tri read.
    """

    def __init__(
        self,
        prior: AnimatableTriPlaneGenerator,
        encoders: InversionEncoders,
        maps: HeadMaps,
        texture: TextureInput = "uv",
        triplane: TriPlaneOutput = "modulation",
        sketch: Sketch = Sketch(),  # noqa: B008 - a constant
    ) -> None:
        super().__init__()
        self.sketch = sketch
        self.prior, self.encoders, self.maps = prior, encoders, maps
        self.texture, self.triplane = texture, triplane

    @property
    def size(self) -> int:
        """Side of the pictures."""
        return self.prior.config.resolution

    def codes(self, image: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b n w"]:
        """W+ codes of pictures in [0, 1]: the first stage."""
        return self.encoders.codes(2 * image - 1)

    def frontal_codes(self, latent: Float[Tensor, "b z"], truncation: float) -> Float[Tensor, "b n w"]:
        """Codes of made-up people, conditioned on a frontal camera."""
        front = frontal_label(1, self.prior.config).to(latent).expand(len(latent), -1)
        return self.prior.codes(latent, front, truncation)

    def coarse(self, codes: Float[Tensor, "b n w"]) -> Person:
        """The people of codes, before the second stage."""
        return Person(codes, self.prior.person(codes), Memories(None, None))

    def draw(
        self,
        person: Person,
        label: Float[Tensor, "b 25"],
        maps: Float[Tensor, "b v s s 3"],
        sketch: Sketch = Sketch(),  # noqa: B008 - a constant
    ) -> Drawn:
        """One view of each person; texture and static features are given, the face is made for this expression."""
        planes = self.prior.animate(person.codes, person.features, maps)
        view = self.prior.render(planes, label, sketch.resolution, samples=sketch.samples)
        image = self.prior.superresolution(view.features[:, :3], view.features, person.codes[:, -1])
        return Drawn(image, view.features, view.opacity, planes)

    def views(self, person: Person, frames: Frames, sketched: bool = True) -> Drawn:
        """Every person in its frames, sketched or as they are animated: B times T views."""
        count = len(frames.label) // len(person.codes)
        shown = person.repeated(count) if count > 1 else person
        sketch = self.sketch if sketched else Sketch()
        return self.draw(shown, frames.label, self.maps.driving(frames.params), sketch)

    @torch.no_grad()
    def observations(
        self, coarse: Person, frames: Frames
    ) -> tuple[Float[Tensor, "b t 7 s s"], Float[Tensor, "b t 6 h w"]]:
        """What E_tex and E_tri read: frames and how the coarse people differ from them, always those of the first frame's code."""
        count = len(frames.label) // len(coarse.codes)
        picture, drawn = 2 * frames.image - 1, self.views(coarse, frames).image
        if self.texture == "posed":
            seen = torch.ones_like(picture[:, :1])
            texture = resize(torch.cat([picture, drawn - picture, seen], 1), self.maps.side)
        else:
            texture = self.maps.texture_frames(picture, drawn, frames.params, frames.camera)
        both = texture, torch.cat([picture, drawn - picture], 1)
        people = len(coarse.codes)
        return tuple(x.unflatten(0, (people, count)) for x in both)  # type: ignore[return-value]

    def correct(self, coarse: Person, frames: Frames, memories: Memories) -> Corrections:
        """What the frames say of the coarse people, going on from ``memories``."""
        texture_frames, triplane_frames = self.observations(coarse, frames)
        offsets: list[Tensor] | None = None
        modulations: list[Modulation] | None = None
        kept: list[Memory | None] = [None, None]
        if self.texture != "none":
            offsets, kept[0] = self.encoders.texture(texture_frames, memories.texture)
        if self.triplane != "none":
            modulations, kept[1] = self.encoders.triplane(triplane_frames, memories.triplane)
            if self.triplane == "offsets":
                modulations = [Modulation(torch.ones_like(m.scale), m.shift) for m in modulations]
        return Corrections(offsets, modulations, Memories(*kept))

    def corrected(self, coarse: Person, corrections: Corrections) -> Person:
        """The people of the second stage."""
        texture, static = coarse.features
        if corrections.offsets is not None:
            texture = texture.plus(corrections.offsets)
        if corrections.modulations is not None:
            reached = [m for m in corrections.modulations if m.scale.shape[-1] >= SMALLEST]
            edits = self.prior.modulating(reached)
            static = levels(self.prior.backbone, coarse.codes, edits)
        return Person(coarse.codes, PersonFeatures(texture, static), corrections.memories)

    def forward(
        self,
        frames: Frames,
        people: int,
        codes: Float[Tensor, "b n w"] | None = None,
        memories: Memories = Memories(None, None),  # noqa: B008 - a constant
        chunk: int = 4,
        supervised: int | None = None,
    ) -> Person:
        """People from their frames (section 3.4), ``chunk`` frames at a time (paper: at most 4).

        Args:
            people: B; the frames' rows are grouped by person.
            codes, memories: of an earlier call, to go on with more frames; without, the first frame gives the code.
            chunk: frames in a pass; the memory carries over. Memory use does not grow with the number of frames.
            supervised: of training, how many of the last passes keep gradients (paper: the rest only feeds the memory); None: all.
        """
        count = len(frames.label) // people
        if codes is None:
            codes = self.codes(frames.window(people, 0, 1).image)
        coarse = self.coarse(codes)
        starts = list(range(0, count, chunk))
        for number, start in enumerate(starts):
            trains = supervised is None or number >= len(starts) - supervised
            with torch.set_grad_enabled(torch.is_grad_enabled() and trains):
                corrections = self.correct(coarse, frames.window(people, start, start + chunk), memories)
            memories = corrections.memories
        return self.corrected(coarse, corrections)
