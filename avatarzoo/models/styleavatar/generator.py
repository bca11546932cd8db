"""Figure 2 of StyleAvatar and the networks of its ablation study: one class, one code path for training, test and export."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from avatarzoo.models.styleavatar.conditions import Conditions, lookup_inputs
from avatarzoo.models.styleavatar.unet import UNet
from avatarzoo.models.styleavatar.windows import crop_background, crop_condition
from avatarzoo.networks.double_styleunet import DoubleStyleUNet, Noises, look_up
from avatarzoo.networks.feature_generator import FeatureGenerator, Features
from avatarzoo.networks.styleunet import StyleUNet

Variant = Literal["full", "single", "dvp", "dnr", "no_neural_texture"]

NOISE_SEED = 0
"""Of the noise that every avatar keeps for inference."""


class Person(NamedTuple):
    """What the feature generators make of an identity code: computed once per person, then kept.

    Attributes:
        face: neural texture in UV space; ``None`` in variants without one.
        back: background features, not yet windowed; ``None`` in variants without a background of their own.
    """

    face: Features | None
    back: Features | None

    def rows(self, index: Int[Tensor, " b"]) -> Person:
        """One entry per picture."""
        return Person(*(None if f is None else Features(*(x[index] for x in f)) for f in self))


class PortraitImage(NamedTuple):
    """Picture in [-1, 1], not clamped, and background mask in [-1, 1] (1 = background), ``None`` where a variant has none."""

    image: Float[Tensor, "b 3 s s"]
    mask: Float[Tensor, "b 1 g g"] | None


class PortraitGenerator(nn.Module):
    """Everything that draws a portrait.

    ``full``: DoubleStyleUNet with face texture and background. ``no_neural_texture``: without the face texture ("Ours w/o NT").
    ``single``: one StyleUNet on the texture render ("Single-StyleUNet"). ``dvp``: a plain U-Net on the texture render
    ("DVP (Ours)"). ``dnr``: a plain U-Net on the neural texture of the face, looked up by the UV render ("DNR (Ours)").

    Args:
        variant: see above.
        input_size, output_size: R and S in pixels, powers of two.
        channel_multiplier, channel_max: see :class:`~avatarzoo.networks.styleunet_layers.Channels`.
        style_dim: width of both codes.

    Attributes:
        noise_0, noise_1...: the noise of inference, fixed for good (paper section 3.3: a fixed noise for the background; the
            released code draws it anew in every test run).
    """

    def __init__(
        self,
        variant: Variant = "full",
        input_size: int = 256,
        output_size: int = 1024,
        channel_multiplier: float = 2,
        channel_max: int = 512,
        style_dim: int = 64,
    ) -> None:
        super().__init__()
        self.variant, self.output_size, self.grid = variant, output_size, input_size // 2
        width = {"channel_multiplier": channel_multiplier, "channel_max": channel_max}
        sides = {"input_size": input_size, "output_size": output_size}

        def features() -> FeatureGenerator:
            return FeatureGenerator(self.grid, style_dim=style_dim, **width)

        self.face = features() if variant in ("full", "dnr") else None
        self.back = features() if variant in ("full", "no_neural_texture") else None
        if variant == "single":
            self.image: nn.Module = StyleUNet(style_dim=style_dim, **sides, **width)
        elif variant == "dvp":
            self.image = UNet(3, **sides, **width)
        elif variant == "dnr":
            assert self.face is not None
            self.image = UNet(self.face.channels, self.grid, output_size, **width)
        else:
            self.image = DoubleStyleUNet(style_dim=style_dim, **sides, **width)
        for i, noise in enumerate(self.draw_noise(1, torch.Generator().manual_seed(NOISE_SEED)) or ()):
            self.register_buffer(f"noise_{i}", noise)
        self.train()

    @property
    def has_mask(self) -> bool:
        """Whether the variant tells the person from the background."""
        return self.back is not None

    def train(self, mode: bool = True) -> PortraitGenerator:
        """Features are normalised by their own statistics always, as they were in training (released code, fact sheet 1.3)."""
        super().train(mode)
        for network in (self.face, self.back):
            if network is not None:
                network.norm.track_running_stats = False
                network.norm.train()
        return self

    def draw_noise(
        self, batch: int, generator: torch.Generator | None = None, rank: int = 0, world: int = 1
    ) -> tuple[Tensor, ...] | None:
        """Fresh noise for the image network, ``None`` for variants without noise.

        That of process ``rank`` are its rows of a batch of ``world`` times as many.
        """
        if isinstance(self.image, UNet):
            return None
        return tuple(n[rank::world] for n in self.image.draw_noise(batch * world, generator))  # type: ignore[operator]

    @property
    def fixed_noise(self) -> tuple[Tensor, ...] | None:
        """The noise of inference."""
        names = [name for name in self._buffers if name.startswith("noise_")]
        return tuple(getattr(self, name) for name in names) or None

    def features(self, codes: Float[Tensor, "n 64"]) -> Person:
        """Static features of n people; each is normalised by itself, so that no person's depend on who else is in the batch."""
        made = []
        for network in (self.face, self.back):
            rows = None if network is None else [network(code[None]) for code in codes]
            made.append(None if rows is None else Features(*(torch.cat(x) for x in zip(*rows))))
        return Person(*made)

    def forward(
        self,
        conditions: Conditions,
        person: Person,
        style: Float[Tensor, "b 64"],
        foreground: Int[Tensor, "b 2"],
        background: Int[Tensor, "b 2"] | None = None,
        noise: tuple[Tensor, ...] | None = None,
    ) -> PortraitImage:
        """The picture inside a window of the wide portrait.

        Args:
            conditions: renders of the head model, centred.
            person: of :meth:`features`, one row or B.
            style: time code.
            foreground, background: corners of their windows in cells (paper figure 4: they may differ at inference);
                ``None``: the background moves with the foreground.
            noise: see :meth:`draw_noise`; ``None``: no noise.
        """
        if self.variant in ("single", "dvp"):
            render = crop_condition(conditions.render, foreground)
            image = self.image(render) if self.variant == "dvp" else self.image(render, style, noise)
            return PortraitImage(image, None)
        uv, mask_face = lookup_inputs(crop_condition(conditions.uv, foreground))
        face, back = (None if f is None else _shared(f, len(uv)) for f in person)
        if self.variant == "dnr":
            assert face is not None
            return PortraitImage(self.image(look_up(face.feature, uv) * mask_face), None)
        if back is not None:
            window = foreground if background is None else background
            back = Features(*(crop_background(x, window) for x in back))
        noises = None if noise is None else Noises(*noise)
        drawn = self.image(conditions.render, style, uv, mask_face, face, back, noises, foreground)
        return PortraitImage(drawn.image, drawn.mask)


def _shared(features: Features, batch: int) -> Features:
    return Features(*(x.expand(batch, -1, -1, -1) for x in features))
