"""Rasterisation of triangles that are already on the raster, without a compiled extension.

Backends: ``numba`` (CPU), ``torch`` (CUDA, also CPU) and ``reference`` (brute force in float64, the tests'
oracle); all give the same faces. A pixel is covered where its centre lies inside a triangle; centres exactly
on a shared edge belong to one of its two triangles by the top-left rule; at equal depth the lower face wins.

Pictures of meshes are made by :mod:`avatarzoo.render.mesh`; texture atlases by :mod:`avatarzoo.geometry.uv`.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

Backend = Literal["auto", "numba", "torch", "reference"]

NEAR = 1e-3
"""Metres. Triangles with a corner nearer than this or behind the camera are dropped whole (never clipped)."""


class MeshFragments(NamedTuple):
    """What each pixel sees.

    Attributes:
        face_id: ``(B, H, W)`` int64, -1 on the background.
        barycentrics: ``(B, H, W, 3)`` perspective-correct weights of the corners, zeros on the background.
        depth: ``(B, H, W)`` camera depth in metres, zero on the background.
    """

    face_id: Int[Tensor, "b h w"]
    barycentrics: Float[Tensor, "b h w 3"]
    depth: Float[Tensor, "b h w"]

    @property
    def covered(self) -> Tensor:
        """``(B, H, W)`` bool: pixels that see a face."""
        return self.face_id >= 0


def rasterize_projected(
    points: Float[Tensor, "b v 3"],
    faces: Int[Tensor, "f 3"],
    size: tuple[int, int],
    *,
    perspective: bool = True,
    cull_backfaces: bool = False,
    near: float = NEAR,
    backend: Backend = "auto",
) -> MeshFragments:
    """Rasterise points that are already on the raster, ``(x px, y px, depth)``, pixel centres at +0.5.

    Args:
        size: ``(height, width)``.
        perspective: interpolate 1 / depth; otherwise depth itself (orthographic views, UV space).
        near: triangles with a corner at or below this depth are dropped; ``-inf`` keeps all.
    """
    if points.ndim != 3 or points.shape[-1] != 3 or faces.ndim != 2 or faces.shape[-1] != 3:
        raise ValueError(
            f"points must be (B, V, 3) and faces (F, 3), not {tuple(points.shape)} and {tuple(faces.shape)}."
        )
    if perspective and near < 0:
        raise ValueError("a perspective view needs near >= 0; pass perspective=False for depths of any sign.")
    if len(faces) and not (int(faces.min()) >= 0 and int(faces.max()) < points.shape[1]):
        raise ValueError(f"faces index vertices outside 0..{points.shape[1] - 1}.")
    run = _backend(backend, points.device)
    return MeshFragments(
        *run(points.float(), faces.to(points.device), size, perspective, cull_backfaces, near)
    )


def pick_projected(
    points: Float[Tensor, "v 3"],
    faces: Int[Tensor, "f 3"],
    places: Float[Tensor, "l 2"],
    *,
    perspective: bool = True,
    near: float = NEAR,
) -> tuple[Int[Tensor, " l"], Float[Tensor, "l 3"]]:
    """Which point of the surface is seen at any places (not only pixel centres) of one picture.

    Args:
        points: as for :func:`rasterize_projected`, without the batch.
        places: ``(x, y)`` in pixels.

    Returns:
        Face indices, -1 where nothing is hit, and perspective-correct barycentrics. Takes ``L F`` bytes.
    """
    from avatarzoo.geometry import raster_torch

    return raster_torch.pick(points.detach(), faces, places, perspective, near)


def _backend(name: Backend, device: torch.device):
    if name == "auto":
        name = "numba" if device.type == "cpu" else "torch"
    if name == "numba":
        if device.type != "cpu":
            raise ValueError(
                f"the numba mesh backend needs CPU tensors, these are on {device}; use backend='auto'."
            )
        from avatarzoo.geometry import raster_cpu  # numba takes most of a second to import

        return raster_cpu.rasterize
    if name == "torch":
        from avatarzoo.geometry import raster_torch

        return raster_torch.rasterize
    if name == "reference":
        from avatarzoo.geometry import raster_reference

        return raster_reference.rasterize
    raise ValueError(f"unknown mesh backend {name!r}; choose auto, numba, torch or reference.")
