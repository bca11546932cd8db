"""The avatar's part of the live loop: what the driver does, drawn by any method."""

from __future__ import annotations

import inspect

import numpy as np
import torch

from avatarzoo.apps.live_loop import Shot
from avatarzoo.apps.live_paste import HeadSquare, chained, feathered, head_colour, paste
from avatarzoo.data.video import fit_height
from avatarzoo.errors import UsageError
from avatarzoo.geometry.camera import Camera
from avatarzoo.heads.base import HeadParams
from avatarzoo.models.base import AvatarModule, AvatarState
from avatarzoo.trackers.live import LiveFit
from avatarzoo.trackers.live_driving import Driven, Driving

Window = tuple[int, int]
WINDOWS = ("foreground", "background")


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


class LivePicture:
    """Picture and fit to what is shown: the avatar alone, beside the driver, or in the driver's picture.

    Args:
        paste_back: lay the avatar over the driver's picture; the driving must then keep the driver's own pose.
        ground: see :func:`ground_of`.
        side_by_side: the driver's crop to the left.
    """

    def __init__(
        self,
        avatar: Avatar,
        driving: Driving,
        paste_back: bool = False,
        ground: float | None = 1.0,
        side_by_side: bool = False,
    ) -> None:
        self.avatar, self.driving, self.ground = avatar, driving, ground
        self.paste_back, self.side_by_side = paste_back, side_by_side
        self.square = HeadSquare()

    def __call__(self, shot: Shot, fit: LiveFit) -> np.ndarray:
        """uint8 RGB."""
        driven = self.driving(fit, shot.time)
        if not self.paste_back:
            out = to_bytes(self.avatar.draw(driven.params, driven.camera)[0])
            driver = fit.crop.picture(shot.picture, border="black") if self.side_by_side else None
        elif driven.presence == 0:
            out, driver = shot.picture, shot.picture if self.side_by_side else None
        else:
            out = self.pasted(shot.picture, fit, driven)
            driver = shot.picture if self.side_by_side else None
        return out if driver is None else np.concatenate([fit_height(driver, out.shape[0]), out], 1)

    def pasted(self, picture: np.ndarray, fit: LiveFit, driven: Driven) -> np.ndarray:
        """The driver's picture with the avatar's head; it fades out while no face is seen."""
        square = self.square(fit.crop, fit.landmarks, picture.shape[:2])
        rgb, alpha = self.avatar.draw(driven.params, square.camera(driven.camera))
        head = rgb if self.ground is None else head_colour(rgb, alpha, self.ground)
        soft = feathered(alpha) * np.float32(driven.presence)
        return paste(picture, head, soft, chained(fit.crop, square))


def to_bytes(rgb: np.ndarray) -> np.ndarray:
    """``(S, S, 3)`` in [0, 1] to uint8."""
    return (rgb * 255).round().astype(np.uint8)
