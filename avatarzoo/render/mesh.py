"""Meshes seen by cameras: which face each pixel sees, and attributes of vertices and textures at pixels.

The rules of coverage and the backends are those of :mod:`avatarzoo.geometry.raster`. Visibility is not
differentiated: gradients reach attributes through :func:`interpolate`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from avatarzoo.geometry.camera import Camera, project
from avatarzoo.geometry.raster import NEAR, Backend, MeshFragments, pick_projected, rasterize_projected


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


def pick_mesh(
    vertices: Float[Tensor, "1 v 3"], faces: Int[Tensor, "f 3"], camera: Camera, places: Float[Tensor, "l 2"]
) -> tuple[Int[Tensor, " l"], Float[Tensor, "l 3"]]:
    """Back-project picture places ``(x, y)`` px to the surface of one mesh seen by one camera.

    Returns:
        Face indices, -1 where the ray misses, and barycentrics: the mix of world vertices seen there.
    """
    return pick_projected(project(vertices, camera)[0], faces, places)


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
        texture: ``(B or 1, C, Ht, Wt)``; texel (i, j) is at u = (j + 0.5) / Wt, v = 1 - (i + 0.5) / Ht.
        uv_image: as :func:`interpolate` gives it for ``uv[None]`` and ``uv_faces``.
        mask: ``(B, 1, H, W)``; multiplies the result; without it the background shows texel u = v = 0.
    """
    grid = torch.stack([uv_image[:, 0] * 2 - 1, 1 - uv_image[:, 1] * 2], -1)
    if len(texture) == 1:
        texture = texture.expand(len(uv_image), -1, -1, -1)
    colors = F.grid_sample(texture, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return colors if mask is None else colors * mask


def coverage(fragments: MeshFragments, supersampling: int = 1) -> Float[Tensor, "b 1 h w"]:
    """Coverage in [0, 1]: hard, or box-averaged for fragments drawn ``supersampling`` times too large."""
    hard = fragments.covered[:, None].to(fragments.depth.dtype)
    return hard if supersampling == 1 else F.avg_pool2d(hard, supersampling)
