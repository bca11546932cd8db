"""What drives the networks: two renders of the head model (paper section 3.1, fact sheet 3.2)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from avatarzoo.geometry.camera import OPENGL_TO_OPENCV, Camera
from avatarzoo.geometry.mesh import vertex_normals
from avatarzoo.heads.base import HeadModel, HeadParams
from avatarzoo.models.styleavatar.coloring import color_head
from avatarzoo.render.mesh import interpolate, rasterize_mesh

BAND0 = math.pi / math.sqrt(4 * math.pi)
BAND1 = math.sqrt(math.pi)
BAND2 = 2 * math.pi / math.sqrt(8) * 3 * math.sqrt(5) / math.sqrt(12 * math.pi)
"""Factors a c of the public tracker's spherical harmonics: 1; x, y, z; products."""
FACE_LEVEL = -0.999


class Conditions(NamedTuple):
    """Renders in [-1, 1], -1 where nothing is drawn.

    Attributes:
        render: texture under the fixed light.
        uv: texture coordinates u and v, and 1 in the third channel, inside the face region; -1 elsewhere.
    """

    render: Float[Tensor, "b 3 r r"]
    uv: Float[Tensor, "b 3 r r"]


def fixed_light(normals: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 1"]:
    """White light of the public tracker: from all sides, from above and from the camera.

    Args:
        normals: unit normals, x right, y up, z towards the camera. (Released: in the tracker's own axes, of which the
            coefficients alone do not say where up and front are; ours light the face from above and in front.)
    """
    x, y, z = normals.unbind(-1)
    light = (0.8 + 0.1) * BAND0 + 0.2 * BAND1 * y + 0.2 * BAND1 * z - 0.1 * BAND2 * x * y
    return light[..., None]


class ConditionRenderer(nn.Module):
    """Texture render and UV render of a head, separate eyeballs included; holds no state of its own.

    Args:
        head: any head model with texture coordinates and landmarks.
        size: side R of the renders (paper: 256).

    Raises:
        MissingAssetError: the head has no texture coordinates or no landmark embedding; the message says how to get them.
    """

    colors: Tensor
    face: Tensor
    vertices: Tensor
    corners: Tensor
    uv: Tensor
    uv_faces: Tensor

    def __init__(self, head: HeadModel, size: int) -> None:
        super().__init__()
        self.head, self.size = head, size
        for name, value in color_head(head)._asdict().items():
            self.register_buffer(name, value.to(head.faces.device), persistent=False)
        self.register_buffer("uv", F.pad(head.uv * 2 - 1, (0, 1), value=1.0), persistent=False)
        self.register_buffer("uv_faces", head.uv_faces, persistent=False)

    @torch.no_grad()
    def forward(self, params: HeadParams, camera: Camera) -> Conditions:
        """Render B heads seen by B cameras (or 1) of any picture size, always in float32."""
        with torch.autocast(params.rotation.device.type, enabled=False):
            vertices = self.head(params)
            camera = camera.resized(self.size, self.size)
            fragments = rasterize_mesh(vertices, self.head.faces, camera, cull_backfaces=True)
            drawn = interpolate(fragments, self.corners, self._shade(vertices, camera))
            uv = interpolate(fragments, self.head.faces, self.uv[None], self.uv_faces)
            return Conditions(
                drawn[:, :3].clamp(0, 1) * 2 - 1, torch.where(drawn[:, 3:] > 0, uv.clamp(-1, 1), -1.0)
            )

    def _shade(self, vertices: Float[Tensor, "b v 3"], camera: Camera) -> Float[Tensor, "b n 4"]:
        """Lit colours of the corners, and where they lie in the face region."""
        axes = camera.world_to_camera[:, :3, :3].transpose(1, 2) * vertices.new_tensor(OPENGL_TO_OPENCV)
        light = fixed_light(vertex_normals(vertices, self.head.faces) @ axes)
        colors = light[:, self.vertices] * self.colors
        return torch.cat([colors, self.face[:, None].expand(len(colors), -1, 1)], -1)


def lookup_inputs(
    uv: Float[Tensor, "b 3 r r"],
) -> tuple[Float[Tensor, "b 2 g g"], Float[Tensor, "b 1 g g"]]:
    """Texture coordinates and face mask for the neural texture at half the side, the one path of training, test and export.

    Nearest sampling, as the released training has it (its test resizes bilinearly, which shifts by half a texel). The mask is
    eroded once by the cross of four neighbours; beyond the picture counts as face.
    """
    small = uv[:, :, ::2, ::2]
    outside = (small[:, 2:] <= FACE_LEVEL).to(uv.dtype)
    grown = torch.maximum(F.max_pool2d(outside, (1, 3), 1, (0, 1)), F.max_pool2d(outside, (3, 1), 1, (1, 0)))
    return small[:, :2], 1 - grown
