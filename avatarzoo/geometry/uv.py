"""Texture space: the fixed linear map from vertices to texels, baking pictures into textures, overlaps.

Convention: the centre of texel (row i, column j) of S x S is u = (j + 0.5) / S, v = 1 - (i + 0.5) / S.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from avatarzoo.geometry.camera import Camera, project
from avatarzoo.geometry.mesh import vertex_normals
from avatarzoo.geometry.raster import rasterize_projected


class UVAtlas(NamedTuple):
    """Which point of the surface every texel shows; computed once per mesh topology and texture size.

    The N texels that show a face ("valid") are listed row by row.

    Attributes:
        mask: ``(S, S)`` bool, valid texels.
        face_id: ``(S, S)`` int64, -1 outside the charts.
        barycentrics: ``(S, S, 3)``, zeros outside.
        pixels: ``(N,)`` flat index ``i S + j`` of each valid texel.
        corners: ``(N, 3)`` vertex indices of its face.
        weights: ``(N, 3)`` its barycentrics.
    """

    mask: Bool[Tensor, "s s"]
    face_id: Int[Tensor, "s s"]
    barycentrics: Float[Tensor, "s s 3"]
    pixels: Int[Tensor, " n"]
    corners: Int[Tensor, "n 3"]
    weights: Float[Tensor, "n 3"]

    @property
    def size(self) -> int:
        return self.mask.shape[0]

    def to(self, device: torch.device | str) -> UVAtlas:
        return UVAtlas(*(x.to(device) for x in self))

    def points(self, attributes: Float[Tensor, "b v c"]) -> Float[Tensor, "b n c"]:
        """Vertex attributes (positions, normals, ...) at the valid texels; differentiable."""
        batch, count, channels = attributes.shape
        # one fused gather-and-mix for the whole batch: channels of all pictures side by side
        wide = attributes.transpose(0, 1).reshape(count, batch * channels)
        mixed = F.embedding_bag(
            self.corners, wide, per_sample_weights=self.weights.to(attributes.dtype), mode="sum"
        )
        return mixed.view(-1, batch, channels).transpose(0, 1)

    def image(self, values: Float[Tensor, "b n c"], fill: float = 0.0) -> Float[Tensor, "b c s s"]:
        """Values of the valid texels laid out as a texture."""
        batch, _, channels = values.shape
        canvas = values.new_full((batch, channels, self.size * self.size), fill)
        return canvas.index_copy(2, self.pixels, values.transpose(1, 2)).unflatten(2, self.mask.shape)

    def gather(self, texture: Float[Tensor, "b c s s"]) -> Float[Tensor, "b n c"]:
        """The valid texels of a texture; inverse of :meth:`image`."""
        return texture.flatten(2).index_select(2, self.pixels).transpose(1, 2)

    def matrix(self, vertex_count: int) -> Tensor:
        """The map as a sparse CSR matrix ``(N, V)``: ``matrix @ vertices`` are the texels' points."""
        rows = torch.arange(0, 3 * len(self.pixels) + 1, 3, device=self.pixels.device)
        columns, order = self.corners.sort(1)
        values = self.weights.gather(1, order)
        return torch.sparse_csr_tensor(
            rows,
            columns.flatten(),
            values.flatten(),
            (len(self.pixels), vertex_count),
            check_invariants=True,
        )


def uv_atlas(
    uv: Float[Tensor, "t 2"],
    uv_faces: Int[Tensor, "f 3"],
    faces: Int[Tensor, "f 3"],
    size: int,
    keep: Int[Tensor, " k"] | None = None,
) -> UVAtlas:
    """Rasterise the charts of a mesh.

    Args:
        uv: texture coordinates in [0, 1], v = 1 on top.
        uv_faces: corners of each face in ``uv``.
        faces: corners of the same faces among the vertices.
        size: S.
        keep: indices of the faces to draw (the skin, say), or all; ``face_id`` counts all either way.

    Raises:
        ValueError: ``uv_faces`` and ``faces`` of different length.
    """
    if uv_faces.shape != faces.shape:
        raise ValueError(
            f"{len(uv_faces)} uv faces do not pair with {len(faces)} faces; they must be the same triangles."
        )
    keep = torch.arange(len(faces), device=uv.device) if keep is None else keep
    drawn = rasterize_projected(
        _on_raster(uv, size)[None], uv_faces[keep], (size, size), perspective=False, near=-torch.inf
    )
    local, barycentrics = drawn.face_id[0], drawn.barycentrics[0]
    mask = local >= 0
    face_id = torch.where(mask, keep[local.clamp_min(0)], -1)
    pixels = mask.flatten().nonzero()[:, 0]
    corners = faces[face_id.flatten()[pixels]]
    return UVAtlas(mask, face_id, barycentrics, pixels, corners, barycentrics.flatten(0, 1)[pixels])


def uv_overlap(uv: Float[Tensor, "t 2"], uv_faces: Int[Tensor, "f 3"], size: int) -> Int[Tensor, "s s"]:
    """How many triangles cover each texel's centre; an atlas without overlaps has no texel above 1."""
    from avatarzoo.geometry.raster_torch import count_layers

    return count_layers(_on_raster(uv, size), uv_faces, (size, size))


def unwrap(
    image: Float[Tensor, "b c h w"],
    vertices: Float[Tensor, "b v 3"],
    faces: Int[Tensor, "f 3"],
    camera: Camera,
    atlas: UVAtlas,
    tolerance: float = 2e-3,
) -> tuple[Float[Tensor, "b c s s"], Float[Tensor, "b 1 s s"]]:
    """Bake pictures into texture space.

    Args:
        image: seen by ``camera``.
        tolerance: metres a point may lie behind the z-buffer and still count as visible (plus one pixel of slope).

    Returns:
        Texture (zeros where unseen), and a weight per texel: the cosine between normal and view where the
        point passes the z-test, else 0. Means over pictures weighted with it favour the frontal view.
    """
    points = atlas.points(vertices)
    seen = project(points, camera)
    height, width = camera.size
    grid = (seen[..., :2] / seen.new_tensor([width / 2, height / 2]) - 1)[:, None]
    drawn = rasterize_projected(project(vertices, camera), faces, camera.size)
    front = F.grid_sample(drawn.depth[:, None], grid, mode="nearest", align_corners=False)[:, 0, 0]
    w2c = camera.world_to_camera
    eye = -(w2c[:, :3, :3].transpose(1, 2) @ w2c[:, :3, 3:])[..., 0]
    normals = F.normalize(atlas.points(vertex_normals(vertices, faces)), dim=-1)
    cosine = (normals * F.normalize(eye[:, None] - points, dim=-1)).sum(-1).clamp_min(0)
    # the z-buffer was sampled up to half a pixel away, where a slanted surface has another depth
    footprint = seen[..., 2] / camera.intrinsics[:, 0, :1]
    slack = tolerance + footprint * (1 - cosine**2).clamp_min(0).sqrt() / cosine.clamp_min(0.02)
    visible = (front > 0) & (seen[..., 2] > 0) & (seen[..., 2] <= front + slack)
    weight = cosine * visible
    colors = F.grid_sample(image, grid, mode="bilinear", align_corners=False, padding_mode="border")[:, :, 0]
    colors = colors.transpose(1, 2) * (weight > 0)[..., None]
    return atlas.image(colors), atlas.image(weight[..., None])


def extend_texture(
    texture: Float[Tensor, "b c s s"], mask: Float[Tensor, "b 1 s s"], steps: int = 4
) -> Float[Tensor, "b c s s"]:
    """Grow known texels (mask > 0) by means of known neighbours: bilinear lookups then see no holes."""
    known = (mask > 0).to(texture.dtype)
    texture = texture * known
    for _ in range(steps):
        total = F.avg_pool2d(texture, 3, 1, 1, divisor_override=1)
        count = F.avg_pool2d(known, 3, 1, 1, divisor_override=1)
        texture = torch.where(known > 0, texture, total / count.clamp_min(1))
        known = (count > 0).to(texture.dtype)
    return texture


def _on_raster(uv: Tensor, size: int) -> Tensor:
    """Texture coordinates as raster points (x px, y px, depth 0)."""
    return torch.stack([uv[:, 0] * size, (1 - uv[:, 1]) * size, torch.zeros_like(uv[:, 0])], 1)
