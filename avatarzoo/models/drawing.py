"""A person of any method as pictures in memory, one by one: what live and drive share."""

from __future__ import annotations

import inspect

import numpy as np
import torch

from avatarzoo.errors import UsageError
from avatarzoo.geometry.camera import Camera
from avatarzoo.heads import load_head
from avatarzoo.heads.base import HeadModel, HeadParams
from avatarzoo.models.base import AvatarModule, AvatarState

SIZE = 512
"""Side of pictures of methods without a size of their own."""
Window = tuple[int, int]


class Avatar:
    """A person of any method, drawn picture by picture.

    Args:
        windows: where the method's ``animate`` takes windows of the foreground and the background: their corners, in its cells.

    Raises:
        UsageError: windows for a method that has none.
    """

    def __init__(
        self, module: AvatarModule, state: AvatarState, windows: dict[str, Window] | None = None
    ) -> None:
        self.device, self.animate = module.device, module.animation(state)
        windows = windows or {}
        known = inspect.signature(module.animate).parameters
        if unknown := [name for name in windows if name not in known]:
            raise UsageError(
                f"{type(module).__name__} has no {' and '.join(unknown)} window; leave --{unknown[0]}-window out."
            )
        self.windows = {k: torch.tensor([v], device=module.device) for k, v in windows.items()}

    @torch.inference_mode()
    def draw(self, params: HeadParams, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
        """``(S, S, 3)`` and ``(S, S)`` float32 in [0, 1]: colours and alpha."""
        image = self.animate(params.to(self.device), camera.to(self.device), **self.windows)
        rgb = image.rgb[0].permute(1, 2, 0).clamp(0, 1)
        return rgb.float().cpu().numpy(), image.alpha[0, 0].clamp(0, 1).float().cpu().numpy()


def identity_of(state: AvatarState) -> torch.Tensor | None:
    """The avatar's own head shape ``(1, n)``, where its method keeps one."""
    identity = state.tensors.get("identity")
    return None if identity is None else identity[:1].float().cpu()


def ground_of(module: AvatarModule, state: AvatarState) -> float | None:
    """Grey level behind the head in the avatar's pictures; ``None`` where it is the filmed background."""
    trained = state.tensors.get("ground")
    if trained is not None and bool(trained.isnan()):
        return None
    return float(module.hparams.get("background", 1.0))


def picture_size(module: AvatarModule) -> int:
    """Side of the pictures that the method itself makes, else :data:`SIZE`."""
    return int(module.hparams.get("output_size", SIZE))


def head_on_cpu(module: AvatarModule) -> HeadModel:
    """The avatar's head model where trackers work: on the CPU, a second time if the avatar is elsewhere."""
    if module.device.type == "cpu":
        return module.head
    return load_head(module.hparams["head"], module.hparams["head_file"])


def to_bytes(rgb: np.ndarray) -> np.ndarray:
    """``(..., c)`` in [0, 1] to uint8."""
    return (rgb * 255).round().astype(np.uint8)
