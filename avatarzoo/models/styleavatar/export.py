"""A person's folded network as a program for other runtimes: renders of the head model in, picture and mask out (paper section 3.4).

Time code, noise, person and both windows are constants of the program; the renders' margin is added inside.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avatarzoo.errors import UsageError
from avatarzoo.models.base import AvatarState
from avatarzoo.models.program import Program
from avatarzoo.models.styleavatar.conditions import Conditions
from avatarzoo.models.styleavatar.folded import FoldedPortrait, folded_portrait
from avatarzoo.models.styleavatar.module import StyleAvatar
from avatarzoo.models.styleavatar.windows import centre
from avatarzoo.networks.double_styleunet import GATE_GAIN
from avatarzoo.networks.folded_double import Backdrop, FoldedDoubleStyleUNet

Window = tuple[int, int]
SEES = {
    "full": ("render", "uv"),
    "no_neural_texture": ("render",),
    "single": ("render",),
    "dvp": ("render",),
    "dnr": ("uv",),
}
"""The conditions that each variant is drawn from."""
MEANING = {
    "render": "texture render of the head under the fixed light, RGB, centred (not moved by the window); -1 where nothing is drawn",
    "uv": "texture coordinates u and v of the face region, 1 in the third channel there; -1 elsewhere; centred",
    "image": "RGB picture of the window, clamp to [-1, 1]",
    "mask": "1 = background, one value for each cell; alpha = 0.5 - 0.5 * clip({gain} * mask, -1, 1)",
}


class PortraitProgram(nn.Module):
    """A :class:`FoldedPortrait` with its windows.

    Args:
        portrait: is taken over; windows other than these cannot be drawn with it afterwards.
        foreground, background: corners of the windows in cells.
    """

    def __init__(self, portrait: FoldedPortrait, foreground: Window, background: Window) -> None:
        super().__init__()
        self.portrait, self.foreground = portrait, foreground
        shown = portrait.backdrop(background)
        for name in Backdrop._fields:
            value = None if shown is None else getattr(shown, name).detach().clone()
            self.register_buffer(f"backdrop_{name}", value)
        if isinstance(portrait.image, FoldedDoubleStyleUNet):
            portrait.image.forget_background()

    def forward(
        self, render: Float[Tensor, "b 3 r r"] | None = None, uv: Float[Tensor, "b 3 r r"] | None = None
    ) -> tuple[Tensor, ...]:
        shown = Backdrop(*(getattr(self, f"backdrop_{name}") for name in Backdrop._fields))
        image, mask = self.portrait.draw(Conditions(render, uv), self.foreground, shown)  # type: ignore[arg-type]
        return (image,) if mask is None else (image, mask)


def program_of(
    module: StyleAvatar,
    state: AvatarState,
    foreground: Window | None = None,
    background: Window | None = None,
) -> Program:
    """The inference network of a person.

    Args:
        foreground, background: corners ``(x, y)`` of the windows in cells, 0 to G / 2; the centre where not given (the
            background: where the foreground is).

    Raises:
        UsageError: a window reaches beyond the wide picture.
    """
    portrait = folded_portrait(module, state)
    grid, size = portrait.grid, portrait.output_size
    foreground = foreground or (centre(grid),) * 2
    background = background or foreground
    for name, window in (("foreground", foreground), ("background", background)):
        if not all(0 <= at <= grid // 2 for at in window):
            raise UsageError(
                f"The {name} window {window} leaves the wide picture; corners lie between 0 and {grid // 2}."
            )
    sees = SEES[portrait.variant]
    network = PortraitProgram(portrait.cpu(), foreground, background)
    outputs = ("image", "mask") if portrait.has_mask else ("image",)
    facts = {
        "method": type(module).__name__,
        "variant": portrait.variant,
        "head": state.meta["head"],
        "render_size": 2 * grid,
        "output_size": size,
        "trained_on_background": None if state.tensors["ground"].isnan() else float(state.tensors["ground"]),
        "inputs": {name: described(name, [3, 2 * grid, 2 * grid]) for name in sees},
        "outputs": {"image": described("image", [3, size, size])},
        "windows": {
            "unit": f"cells of {size // grid} pixels of the picture, 2 pixels of a render",
            "grid": grid,
            "foreground": foreground,
            "background": background if portrait.has_mask else None,
            "centre": centre(grid),
            "range": [0, grid // 2],
        },
    }
    if portrait.has_mask:
        facts["outputs"]["mask"] = described("mask", [1, grid, grid])
    example = torch.zeros(1, 3, 2 * grid, 2 * grid)
    exact = tuple(name for name in sees if name == "uv")
    return Program(network, dict.fromkeys(sees, example), outputs, facts, exact)


def described(name: str, shape: list[int]) -> dict[str, Any]:
    """A tensor's facts; the batch comes in front of the shape of a row."""
    meaning = MEANING[name].format(gain=GATE_GAIN)
    return {"row": shape, "type": "float32", "range": [-1, 1], "meaning": meaning}
