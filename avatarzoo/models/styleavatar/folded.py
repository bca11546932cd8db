"""Inference networks: a person's portrait for the fixed time code, with everything computed once that no frame changes."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from avatarzoo.geometry.camera import Camera
from avatarzoo.heads.base import HeadParams
from avatarzoo.models.base import AvatarImage, AvatarState
from avatarzoo.models.styleavatar.codes import inference_code
from avatarzoo.models.styleavatar.conditions import Conditions, lookup_inputs
from avatarzoo.models.styleavatar.generator import Person, PortraitGenerator, PortraitImage
from avatarzoo.models.styleavatar.module import StyleAvatar
from avatarzoo.models.styleavatar.portrait import composed, person_of
from avatarzoo.models.styleavatar.windows import centre
from avatarzoo.networks.double_styleunet import Noises
from avatarzoo.networks.feature_generator import Features
from avatarzoo.networks.folded_double import (
    Backdrop,
    Corner,
    FoldedDoubleStyleUNet,
    both,
    cut,
    look_up_rows,
    rows_at,
    rows_of,
)
from avatarzoo.networks.folding import FoldedStyleUNet


class FoldedPortrait(nn.Module):
    """A :class:`PortraitGenerator` for one person, one time code and the noise of inference; draws the same pictures faster.

    In float16 or bfloat16 (``.half()``, ``.bfloat16()``) pictures leave in that type; conditions always come in float32.

    Args:
        generator: weights; they are copied.
        person: of :meth:`PortraitGenerator.features`, one row.
        style: time code (1, 64); the fixed one of inference where not given.

    Attributes:
        grid: G, cells along the side of a window. output_size: S, side of the picture. has_mask: as of the generator.
    """

    texture: Tensor | None

    def __init__(
        self, generator: PortraitGenerator, person: Person, style: Float[Tensor, "1 64"] | None = None
    ) -> None:
        super().__init__()
        self.variant, self.grid, self.output_size = generator.variant, generator.grid, generator.output_size
        self.has_mask = generator.has_mask
        noise = generator.fixed_noise
        image: nn.Module = generator.image
        if style is None:
            style = inference_code(1, next(generator.parameters()).device)
        if self.variant == "single":
            self.image: nn.Module = FoldedStyleUNet(image, style, noise)  # type: ignore[arg-type]
        elif self.variant in ("dvp", "dnr"):
            self.image = copy.deepcopy(image).requires_grad_(False)
        else:
            assert person.back is not None
            noises = None if noise is None else Noises(*noise)
            wide = Features(*(enlarged(x) for x in person.back))
            self.image = FoldedDoubleStyleUNet(image, style, person.face, wide, noises)  # type: ignore[arg-type]
        face = person.face if self.variant == "dnr" else None
        self.register_buffer("texture", None if face is None else rows_of(face.feature))
        self.requires_grad_(False).eval()

    def backdrop(self, background: Corner) -> Backdrop | None:
        """What a window (its corner in cells of the wide picture) shows of the background: computed once where it stays."""
        if not isinstance(self.image, FoldedDoubleStyleUNet):
            return None
        return self.image.backdrop(both(background, lambda at: at + self.grid // 4))

    def forward(
        self, conditions: Conditions, foreground: Corner, background: Corner | None = None
    ) -> PortraitImage:
        """As :meth:`PortraitGenerator.forward`; windows may also be a pair of numbers for all samples."""
        backdrop = self.backdrop(foreground if background is None else background)
        return self.draw(conditions, foreground, backdrop)

    def draw(self, conditions: Conditions, foreground: Corner, backdrop: Backdrop | None) -> PortraitImage:
        """The picture in front of a :meth:`backdrop`."""
        if self.variant in ("single", "dvp"):
            render = cut_condition(conditions.render, foreground)
            image = self.image(render if self.variant == "single" else self._typed(render))
            return PortraitImage(image, None)
        places = None
        if self.variant != "no_neural_texture":
            uv, mask_face = lookup_inputs(cut_condition(conditions.uv, foreground))
            places = rows_at(uv, mask_face > 0, self.grid)
        if self.texture is not None and places is not None:
            return PortraitImage(self.image(look_up_rows(self.texture, places)), None)
        corner = both(foreground, lambda at: at + self.grid // 4)
        drawn = self.image(conditions.render, places, corner, backdrop)
        return PortraitImage(drawn.image, drawn.mask)

    def _typed(self, x: Tensor) -> Tensor:
        return x.to(next(self.image.parameters()).dtype)


def enlarged(features: Float[Tensor, "1 c g g"]) -> Float[Tensor, "1 c 2*g 2*g"]:
    """Background of which windows are cut, see :func:`~avatarzoo.models.styleavatar.windows.crop_background`."""
    return F.interpolate(features.detach(), scale_factor=2, mode="bilinear", align_corners=False)


def cut_condition(condition: Float[Tensor, "b c r r"], window: Corner) -> Float[Tensor, "b c r r"]:
    """:func:`~avatarzoo.models.styleavatar.windows.crop_condition`, also for a pair of numbers."""
    side = condition.shape[-1]
    wide = F.pad(condition, (side // 4,) * 4, value=-1.0)
    return cut(wide, both(window, lambda at: at * 2), side)


def folded_portrait(module: StyleAvatar, state: AvatarState) -> FoldedPortrait:
    """The inference network of a person, on the module's device."""
    generator = copy.deepcopy(module.average)
    prefix = "average."
    own = {k.removeprefix(prefix): v for k, v in state.tensors.items() if k.startswith(prefix)}
    unknown = generator.load_state_dict(own, strict=False).unexpected_keys
    assert not unknown, unknown
    person = person_of({k: v.to(module.device) for k, v in state.tensors.items()})
    return FoldedPortrait(generator, person)


Animation = Callable[..., AvatarImage]


def animation(module: StyleAvatar, state: AvatarState) -> Animation:
    """``module.animate`` for one state, on its folded network: takes ``params, camera, foreground, background``.

    Raises:
        HeadModelMismatchError: the state belongs to another head model.
    """
    module.check_head(state.meta["head"])
    network = folded_portrait(module, state)
    if module.device.type == "cpu":
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    identity = state.tensors["identity"].to(module.device)
    ground, level = state.tensors["ground"].to(module.device), module.hparams["background"]

    kept: dict[Corner, Backdrop | None] = {}

    def backdrop(window: Corner) -> Backdrop | None:
        if not isinstance(window, tuple):
            return network.backdrop(window)
        if window not in kept:
            kept.clear()
            kept[window] = network.backdrop(window)
        return kept[window]

    @torch.no_grad()
    def animate(
        params: HeadParams,
        camera: Camera,
        foreground: Int[Tensor, "b 2"] | None = None,
        background: Int[Tensor, "b 2"] | None = None,
    ) -> AvatarImage:
        params = params._replace(identity=identity.expand(params.batch, -1))
        conditions = module.renderer(params, camera)
        window = (centre(network.grid),) * 2 if foreground is None else common(foreground)
        drawn = network.draw(
            conditions, window, backdrop(window if background is None else common(background))
        )
        return composed(drawn, ground, level, camera.size)

    return animate


def common(windows: Int[Tensor, "b 2"]) -> Corner:
    """The corner that all samples share, as numbers, where they do."""
    corners = {(x, y) for x, y in windows.tolist()}
    return corners.pop() if len(corners) == 1 else windows
