"""Light on meshes: Lambert, headlight and spherical harmonics, and plain pictures of shaded meshes."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from avatarzoo.geometry.camera import Camera
from avatarzoo.geometry.mesh import vertex_normals
from avatarzoo.geometry.spherical_harmonics import irradiance
from avatarzoo.render.mesh import coverage, interpolate, rasterize_mesh, texture_lookup


class DirectionalLight(NamedTuple):
    """One distant lamp and some light from everywhere.

    Attributes:
        direction: ``(B or 1, 3)``, towards the lamp, world frame, any length.
        color: ``(B or 1, 3)``.
        ambient: ``(B or 1, 3)``.
    """

    direction: Float[Tensor, "b 3"]
    color: Float[Tensor, "b 3"]
    ambient: Float[Tensor, "b 3"]


class ShadedMesh(NamedTuple):
    """Attributes: rgb ``(B, 3, H, W)`` over the background; mask ``(B, 1, H, W)``, soft if supersampled."""

    rgb: Float[Tensor, "b 3 h w"]
    mask: Float[Tensor, "b 1 h w"]


def lambert(normals: Float[Tensor, "b n 3"], light: DirectionalLight) -> Float[Tensor, "b n 3"]:
    """``ambient + color max(0, n . l)``."""
    direction = F.normalize(light.direction, dim=-1)
    cosine = (normals @ direction[..., None]).clamp_min(0)
    return light.ambient[:, None] + cosine * light.color[:, None]


def headlight(
    normals: Float[Tensor, "b n 3"], camera: Camera, ambient: float = 0.15
) -> Float[Tensor, "b n 3"]:
    """A white lamp at the camera, shining along its axis: ``ambient + (1 - ambient) max(0, n . -z)``."""
    towards = -camera.world_to_camera[:, 2, :3]
    light = DirectionalLight(
        towards, towards.new_full((1, 3), 1 - ambient), towards.new_full((1, 3), ambient)
    )
    return lambert(normals, light)


def shade(
    normals: Float[Tensor, "b n 3"], camera: Camera, light: DirectionalLight | Tensor | None
) -> Float[Tensor, "b n 3"]:
    """Light at unit normals: a lamp, ``(B or 1, 9, 3)`` spherical harmonics, or ``None``: the headlight."""
    if light is None:
        return headlight(normals, camera)
    if isinstance(light, DirectionalLight):
        return lambert(normals, light)
    return irradiance(normals, light).clamp_min(0)


def shade_mesh(
    vertices: Float[Tensor, "b v 3"],
    faces: Int[Tensor, "f 3"],
    camera: Camera,
    *,
    colors: Float[Tensor, "b v 3"] | None = None,
    texture: Float[Tensor, "b 3 ht wt"] | None = None,
    uv: Float[Tensor, "t 2"] | None = None,
    uv_faces: Int[Tensor, "f 3"] | None = None,
    light: DirectionalLight | Float[Tensor, "b 9 3"] | None = None,
    background: float = 1.0,
    supersampling: int = 1,
    cull_backfaces: bool = False,
) -> ShadedMesh:
    """Draw a lit mesh; differentiable in colours, texture and light, not in what is visible.

    Args:
        vertices: world, metres; B, or 1 for all cameras.
        colors: per vertex, in [0, 1]; a light grey if neither these nor a texture are given.
        texture: looked up with ``uv`` and ``uv_faces`` (:func:`texture_lookup`'s convention).
        light: see :func:`shade`; normals are interpolated and normalised per pixel.
        supersampling: draw at this multiple of the size and average (2 gives soft edges).

    Raises:
        ValueError: both colours and texture, or a texture without its coordinates.
    """
    if colors is not None and texture is not None:
        raise ValueError("give vertex colors or a texture, not both.")
    height, width = camera.size
    fine = camera.resized(height * supersampling, width * supersampling)
    fragments = rasterize_mesh(vertices, faces, fine, cull_backfaces=cull_backfaces)
    normals = interpolate(fragments, faces, vertex_normals(vertices, faces))
    normals = F.normalize(normals, dim=1).flatten(2).transpose(1, 2)
    lit = shade(normals, camera, light).transpose(1, 2).unflatten(2, fine.size)
    if texture is not None:
        if uv is None or uv_faces is None:
            raise ValueError("a texture needs uv and uv_faces.")
        albedo = texture_lookup(texture, interpolate(fragments, faces, uv[None], uv_faces))
    elif colors is not None:
        albedo = interpolate(fragments, faces, colors)
    else:
        albedo = lit.new_tensor(0.8)
    mask = coverage(fragments)
    rgb = (lit * albedo).clamp(0, 1) * mask + background * (1 - mask)
    if supersampling > 1:
        rgb, mask = F.avg_pool2d(rgb, supersampling), F.avg_pool2d(mask, supersampling)
    return ShadedMesh(rgb, mask)
