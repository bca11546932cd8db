"""Gaussian splatting: one function, four backends."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from avatarzoo.geometry.camera import Camera
from avatarzoo.render.gaussians import GaussianImage, Gaussians

Backend = Literal["auto", "torch", "cpu", "gsplat", "inria"]


def rasterize_gaussians(
    gaussians: Gaussians,
    camera: Camera,
    background: Float[Tensor, "3"] | Float[Tensor, "b 3"] | None = None,
    backend: Backend = "auto",
) -> GaussianImage:
    """Render 3D Gaussians (Kerbl et al. 2023), differentiable in the Gaussians and in the background.

    Convention: Inria's rasteriser (see :mod:`.splat_reference`); quaternions are normalised inside. A Gaussian with a number
    that is not finite is skipped by "torch" and "cpu" (the CUDA libraries make no promise).

    Args:
        gaussians: leading dimension 1 (shared by all cameras) or B.
        camera: B cameras without skew, same device.
        background: RGB, white if not given.
        backend: "auto" takes gsplat on CUDA and the numba tiles ("cpu") on the CPU; "torch" is the slow reference, of any
            float type; "inria" is diff-gaussian-rasterization (non-commercial licence, installed by the user).

    Raises:
        MissingExtraError: the backend's package is not installed.
        ValueError: shapes, devices or the backend's name do not fit.
    """
    _check(gaussians, camera, backend)
    device = gaussians.means.device
    if backend == "auto":
        backend = "gsplat" if device.type == "cuda" else "cpu"
    rgb, alpha = _renderer(backend, device)(gaussians, camera)
    rgb, alpha = rgb.to(gaussians.means.dtype), alpha.to(gaussians.means.dtype)
    if background is None:
        return GaussianImage(rgb + (1 - alpha), alpha)
    colour = background.to(rgb).reshape(-1, 3, 1, 1)
    return GaussianImage(rgb + (1 - alpha) * colour, alpha)


def _renderer(backend: str, device: torch.device):
    """The backend's ``render(gaussians, camera) -> (premultiplied rgb, alpha)``."""
    needed = {"cpu": "cpu", "gsplat": "cuda", "inria": "cuda"}.get(backend, device.type)
    if device.type != needed:
        raise ValueError(
            f'Backend "{backend}" renders {needed} tensors, but the Gaussians are on {device}; '
            'move them or take backend "torch".'
        )
    if backend == "torch":
        from avatarzoo.render.splat_reference import render
    elif backend == "cpu":
        from avatarzoo.render.splat_cpu import render
    elif backend == "gsplat":
        from avatarzoo.render.splat_gsplat import render
    else:
        from avatarzoo.render.splat_inria import render
    return render


def _check(gaussians: Gaussians, camera: Camera, backend: str) -> None:
    if backend not in get_args(Backend):
        raise ValueError(
            f'Unknown splatting backend "{backend}"; choose one of {", ".join(get_args(Backend))}.'
        )
    leading, count = gaussians.means.shape[:2]
    expected = [(3,), (4,), (3,), (), (3,)]
    for name, x, tail in zip(Gaussians._fields, gaussians, expected):
        if x.shape != (leading, count, *tail):
            raise ValueError(
                f"Gaussians.{name} must have shape {(leading, count, *tail)}, not {tuple(x.shape)}."
            )
    if leading not in (1, camera.batch):
        raise ValueError(
            f"{leading} sets of Gaussians do not fit {camera.batch} cameras; give 1 set or {camera.batch}."
        )
    if camera.world_to_camera.device != gaussians.means.device:
        raise ValueError(
            f"Camera is on {camera.world_to_camera.device}, Gaussians on {gaussians.means.device}; move one."
        )
