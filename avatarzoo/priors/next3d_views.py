"""Next3D's rasterisation (Sun et al. 2023, section 3.2): a head mesh with texture coordinates in orthographic views, and its mouth."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from avatarzoo.geometry.raster import rasterize_projected
from avatarzoo.render.mesh import interpolate

VIEWS = ((0, 1, 2), (2, 1, 0), (2, 1, 0), (0, 2, 1))
"""World axes along columns, rows and towards the viewer, of the front, both sides and the top."""
SIGNS = ((1, 1, 1), (-1, 1, 1), (1, 1, -1), (1, -1, 1))
LIPS, CORNERS = slice(48, 60), (48, 54)
"""Of the 68 landmarks: the outer lip, the corners of the mouth."""
FLAME_SIZES = (9976, 5118)
GRID_FACES = 122_990
"""Triangles of the texture grid that the published files carry along (not used)."""


class TexturedTopology(nn.Module):
    """Triangles of a head and of its texture, under the entries that the published file has.

    ``uv_mask (1, 1, h, w)`` is 1 on the texels that drive (face and eyes); it is not part of the published file and all 1 here
    until somebody sets it.

    Args:
        faces: F triangles of the mesh, counter-clockwise seen from outside; None leaves FLAME-sized room for a published file.
        uv: texture coordinates in [0, 1], v = 1 on top.
        uv_faces: triangles between texture coordinates.
    """

    faces: Tensor
    uv: Tensor
    uv_faces: Tensor
    texture_places: Tensor
    uv_mask: Tensor

    def __init__(
        self,
        faces: Int[Tensor, "f 3"] | None = None,
        uv: Float[Tensor, "t 2"] | None = None,
        uv_faces: Int[Tensor, "f 3"] | None = None,
    ) -> None:
        super().__init__()
        count, places = FLAME_SIZES
        faces = torch.zeros(count, 3, dtype=torch.long) if faces is None else faces
        uv_faces = torch.zeros(count, 3, dtype=torch.long) if uv_faces is None else uv_faces
        uv = torch.zeros(places, 2) if uv is None else uv
        looked_up = torch.cat([uv * 2 - 1, torch.ones_like(uv[:, :1])], 1) * uv.new_tensor([1, -1, 1])
        self.register_buffer("grid_faces", torch.zeros(1, GRID_FACES, 3, dtype=torch.long))
        self.register_buffer("faces", faces[None])
        self.register_buffer("uv", uv[None])
        self.register_buffer("texture_places", looked_up[None])
        self.register_buffer("uv_faces", uv_faces[None])
        self.register_buffer("corner_places", looked_up[uv_faces][None])
        self.register_buffer("uv_mask", torch.ones(1, 1, 256, 256), persistent=False)


def driving_views(
    vertices: Float[Tensor, "b v 3"],
    topology: TexturedTopology,
    side: int,
    scale: float = 5.0,
    shift: float = 0.01,
) -> Float[Tensor, "b 4 h w 3"]:
    """Driving maps (u, v, mask) of the front, both sides and the top, as :func:`~avatarzoo.priors.driving.read_driving` takes them.

    Visibility is not differentiated.

    Args:
        vertices: head model, metres, y up, face towards +z.
        topology: its triangles and texture.
        side: of the views.
        scale, shift: see :class:`avatarzoo.priors.next3d_config.Next3DConfig`.
    """
    points = torch.stack([seen(vertices.detach(), view, scale, shift) for view in range(len(VIEWS))], 1)
    raster = torch.cat([(points[..., :2] + 1) * (side / 2), points[..., 2:]], -1).flatten(0, 1)
    # rows grow with +y: every view is mirrored, and with it the sense of the triangles
    faces, uv_faces = (f[0][:, [0, 2, 1]] for f in (topology.faces, topology.uv_faces))
    fragments = rasterize_projected(
        raster, faces, (side, side), perspective=False, cull_backfaces=True, near=-float("inf")
    )
    places = interpolate(fragments, faces, topology.texture_places[..., :2], uv_faces).permute(0, 2, 3, 1)
    driving = F.grid_sample(
        topology.uv_mask.expand(len(places), -1, -1, -1), places, padding_mode="border", align_corners=False
    )[:, 0]
    mask = driving * fragments.covered
    return torch.cat([places, mask[..., None]], -1).unflatten(0, (len(vertices), -1))


def seen(vertices: Float[Tensor, "b v 3"], view: int, scale: float, shift: float) -> Float[Tensor, "b v 3"]:
    """Column and row in [-1, 1] and depth of a view; the shift moves rows alone."""
    (across, down, near), signs = VIEWS[view], SIGNS[view]
    moved = vertices[..., down] + (0.0, shift, -shift)[down]
    return scale * torch.stack(
        [signs[0] * vertices[..., across], signs[1] * moved, -signs[2] * vertices[..., near]], -1
    )


def mouth_box(
    landmarks: Float[Tensor, "b 68 3"], scale: float = 5.0, shift: float = 0.01, margin: float = 1.2
) -> Float[Tensor, "b 3"]:
    """Centre column, centre row and half side of the square round the mouth in the front view, in [-1, 1].

    Centred between the corners of the mouth, ``margin`` times as large as the outer lip. (Released code: rounded to pixels,
    sample by sample on the CPU.)
    """
    places = seen(landmarks, 0, scale, shift)[..., :2]
    lips = places[:, LIPS]
    extent = (lips.amax(1) - lips.amin(1)).amax(1)
    centre = places[:, CORNERS].mean(1)
    return torch.cat([centre, (margin * extent / 2)[:, None]], 1)


def crop(x: Float[Tensor, "b c h w"], box: Float[Tensor, "b 3"], side: int) -> Float[Tensor, "b c s s"]:
    """The square of a picture, resampled bilinearly."""
    return F.grid_sample(x, square_grid(box, side), align_corners=False)


def paste(
    x: Float[Tensor, "b c h w"], patch: Float[Tensor, "b c s s"], box: Float[Tensor, "b 3"]
) -> Float[Tensor, "b c h w"]:
    """The picture with the patch in the square; pixels whose centre lies outside stay as they are."""
    whole = box.new_tensor([0.0, 0.0, 1.0]).expand_as(box)
    grid = (square_grid(whole, x.shape[-1]) - box[:, None, None, :2]) / box[:, None, None, 2:]
    inside = (grid.abs().amax(-1) <= 1)[:, None]
    patch = F.grid_sample(patch, grid, padding_mode="border", align_corners=False)
    return torch.where(inside, patch, x)


def square_grid(box: Float[Tensor, "b 3"], side: int) -> Float[Tensor, "b s s 2"]:
    """Pixel centres of a square patch in the coordinates of the picture."""
    line = (2 * torch.arange(side, device=box.device, dtype=box.dtype) + 1) / side - 1
    rows, columns = torch.meshgrid(line, line, indexing="ij")
    return box[:, None, None, :2] + box[:, None, None, 2:] * torch.stack([columns, rows], -1)
