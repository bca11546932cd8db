"""The position map that tells the reconstruction network where the surface is (paper section 3.3, supplement section 4)."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor, nn

from avatarzoo.geometry.uv import uv_atlas
from avatarzoo.heads.base import HeadModel
from avatarzoo.models.gaussian_dejavu.mouth import mouth_patch


class PositionMap(nn.Module):
    """Surface points of a posed head without rigid motion, in metres, as a picture; zeros where the map shows no surface.

    Unlike the map of Gaussians it is not masked (released code): the neck is in it, and so is the mouth interior.

    Args:
        head: any head model.
        size: side of the map.
    """

    pixels: Int[Tensor, "n"]
    corners: Int[Tensor, "n 3"]
    barycentrics: Float[Tensor, "n 3"]

    def __init__(self, head: HeadModel, size: int) -> None:
        super().__init__()
        atlas = uv_atlas(head.uv, head.uv_faces, head.faces, size)
        self.size, self.patch = size, mouth_patch(head, size)
        for name, value in (
            ("pixels", atlas.pixels),
            ("corners", atlas.corners),
            ("barycentrics", atlas.weights),
        ):
            self.register_buffer(name, value, persistent=False)

    def forward(self, vertices: Float[Tensor, "b v 3"]) -> Float[Tensor, "b 3 s s"]:
        batch = len(vertices)
        wide = vertices.transpose(0, 1).flatten(1)  # all heads side by side: one fused gather-and-mix
        mixed = nn.functional.embedding_bag(
            self.corners, wide, per_sample_weights=self.barycentrics, mode="sum"
        )
        canvas = vertices.new_zeros(batch, 3, self.size * self.size)
        canvas = canvas.index_copy(2, self.pixels, mixed.view(-1, batch, 3).permute(1, 2, 0))
        if self.patch is not None:
            inside = self.patch.points(vertices).transpose(1, 2)
            canvas = canvas.index_copy(2, self.patch.pixels.to(canvas.device), inside)
        return canvas.unflatten(2, (self.size, self.size))


def at_pixels(
    uv_map: Float[Tensor, "b c s s"], pixels: Int[Tensor, "n"], size: int
) -> Float[Tensor, "b n c"]:
    """Values of a picture-shaped map at flat pixel indices of a map of ``size``.

    Raises:
        ValueError: the map has another size.
    """
    if uv_map.shape[-2:] != (size, size):
        raise ValueError(f"a map of {tuple(uv_map.shape[-2:])} has not the pixels of one of {size} x {size}.")
    return uv_map.flatten(2).index_select(2, pixels).transpose(1, 2).contiguous()


def most_frontal(
    rotation: Float[Tensor, "b 3 3"], world_to_camera: Float[Tensor, "b 4 4"]
) -> Int[Tensor, ""]:
    """Index of the view that sees most of the face: whose viewing direction is nearest to the head's own -z."""
    return (world_to_camera[:, :3, :3] @ rotation)[:, 2, 2].argmin()
