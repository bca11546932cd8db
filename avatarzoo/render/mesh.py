"""Mesh rasterisation without a compiled extension: which face a pixel sees, and attributes carried to pixels.

Backends: ``numba`` (CPU), ``torch`` (CUDA, also CPU), ``reference`` (brute force in float64, the tests' oracle); all
give the same faces. A pixel is covered where its centre lies inside a triangle; centres exactly on a shared edge
belong to one of the two triangles by the top-left rule; at equal depth the lower face index wins. Visibility is not
differentiated: gradients reach attributes through :func:`interpolate`.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from avatarzoo.geometry.camera import Camera, project

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


def rasterize_mesh(
    vertices: Float[Tensor, "b v 3"],
    faces: Int[Tensor, "f 3"],
    camera: Camera,
    *,
    orthographic: bool = False,
    cull_backfaces: bool = False,
    backend: Backend = "auto",
) -> MeshFragments:
    """Rasterise one mesh topology, B sets of vertices (or 1, shared) seen by B cameras (or 1, shared).

    Args:
        vertices: world, metres.
        faces: counter-clockwise seen from outside.
        orthographic: read the intrinsics as pixels per metre, ``x px = fx X + cx``; any depth is drawn.
        cull_backfaces: drop triangles seen from behind.

    Raises:
        ValueError: shapes that do not fit together, or a backend that cannot serve the tensors' device.
    """
    batch = max(len(vertices), camera.batch)
    if {len(vertices), camera.batch} - {1, batch}:
        raise ValueError(
            f"{len(vertices)} meshes do not fit {camera.batch} cameras; give as many, or one for all."
        )
    if orthographic:
        w2c, k = camera.world_to_camera, camera.intrinsics
        seen = vertices @ w2c[:, :3, :3].transpose(1, 2) + w2c[:, None, :3, 3]
        image = seen[..., :2] @ k[:, :2, :2].transpose(1, 2) + k[:, None, :2, 2]
        points = torch.cat([image, seen[..., 2:]], -1)
    else:
        points = project(vertices, camera)
    near = -float("inf") if orthographic else NEAR
    return rasterize_projected(
        points,
        faces,
        camera.size,
        perspective=not orthographic,
        cull_backfaces=cull_backfaces,
        near=near,
        backend=backend,
    )


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


def _backend(name: Backend, device: torch.device):
    if name == "auto":
        name = "numba" if device.type == "cpu" else "torch"
    if name == "numba":
        if device.type != "cpu":
            raise ValueError(
                f"the numba mesh backend needs CPU tensors, these are on {device}; use backend='auto'."
            )
        from avatarzoo.render import mesh_cpu  # numba takes most of a second to import

        return mesh_cpu.rasterize
    if name == "torch":
        from avatarzoo.render import mesh_torch

        return mesh_torch.rasterize
    if name == "reference":
        from avatarzoo.render import mesh_reference

        return mesh_reference.rasterize
    raise ValueError(f"unknown mesh backend {name!r}; choose auto, numba, torch or reference.")


def interpolate(
    fragments: MeshFragments,
    faces: Int[Tensor, "f 3"],
    attributes: Float[Tensor, "b v c"],
    attribute_faces: Int[Tensor, "f 3"] | None = None,
) -> Float[Tensor, "b c h w"]:
    """Carry vertex attributes to pixels; differentiable in ``attributes``, zeros on the background.

    Args:
        attributes: ``(B, V, C)``, or ``(1, V, C)`` shared by all pictures.
        attribute_faces: corners in attribute space where it differs from ``faces`` (uv with seams).
    """
    corners = faces if attribute_faces is None else attribute_faces
    batch, height, width = fragments.face_id.shape
    count, channels = attributes.shape[1:]
    if len(attributes) not in (1, batch):
        raise ValueError(
            f"{len(attributes)} sets of attributes do not fit {batch} pictures; give 1 or {batch}."
        )
    flat = fragments.face_id.flatten()
    pixel = (flat >= 0).nonzero()[:, 0]
    index = corners.to(flat.device)[flat[pixel]]
    if len(attributes) > 1:
        index = index + (pixel // (height * width) * count)[:, None]
    weights = fragments.barycentrics.flatten(0, 2)[pixel].to(attributes.dtype)
    values = F.embedding_bag(index, attributes.flatten(0, 1), per_sample_weights=weights, mode="sum")
    image = values.new_zeros(batch * height * width, channels).index_copy(0, pixel, values)
    return image.view(batch, height, width, channels).permute(0, 3, 1, 2)


def texture_lookup(
    texture: Float[Tensor, "b c ht wt"], uv_image: Float[Tensor, "b 2 h w"], mask: Tensor | None = None
) -> Float[Tensor, "b c h w"]:
    """Bilinear lookup at texture coordinates, v = 1 on top; beyond the rim the border texel counts.

    Args:
        texture: ``(B or 1, C, Ht, Wt)``; texel (i, j) has its centre at u = (j + 0.5) / Wt, v = 1 - (i + 0.5) / Ht.
        uv_image: as :func:`interpolate` gives it for ``uv[None]`` and ``uv_faces``.
        mask: ``(B, 1, H, W)``; multiplies the result; without it the background shows texel u = v = 0.
    """
    grid = torch.stack([uv_image[:, 0] * 2 - 1, 1 - uv_image[:, 1] * 2], -1)
    if len(texture) == 1:
        texture = texture.expand(len(uv_image), -1, -1, -1)
    colors = F.grid_sample(texture, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return colors if mask is None else colors * mask


def coverage(fragments: MeshFragments, supersampling: int = 1) -> Float[Tensor, "b 1 h w"]:
    """Coverage in [0, 1]: hard, or soft (box average) for fragments drawn ``supersampling`` times too large."""
    hard = fragments.covered[:, None].to(fragments.depth.dtype)
    return hard if supersampling == 1 else F.avg_pool2d(hard, supersampling)
