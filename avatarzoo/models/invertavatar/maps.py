"""What a head model tells the animatable prior: driving maps of the driven head, and where a picture shows the texture (section 3).

Made by our own rasteriser at the time of driving, for the whole batch and on any device; no files beside the head model's own.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from avatarzoo.data.eg3d_views import eg3d_labels
from avatarzoo.data.procedural_people import HEAD_CENTRE, UNITS_PER_METRE
from avatarzoo.geometry.camera import Camera
from avatarzoo.geometry.raster import rasterize_projected
from avatarzoo.geometry.uv import UVAtlas, unwrap, uv_atlas
from avatarzoo.heads.base import HeadModel, HeadParams
from avatarzoo.priors.animatable_config import AnimatableConfig
from avatarzoo.render.mesh import interpolate

VIEW_AXES = ((0, 1, 2), (0, 2, 1), (2, 1, 0))
"""World axes along columns, rows and towards the viewer of the view of each plane; the viewer stands on the positive side."""
UNTEXTURED = ("mouth", "gums", "teeth", "neck")
"""Face regions without texture: the paper's head model has no inside of the mouth, and the neck does not follow the face."""
BEHIND = -1.0
"""Faces further back than this behind the eyes, in distances between them, carry no texture (the released mask: face and ears)."""
GRAZING = 0.1
"""Cosine between normal and view below which a texel counts as unseen (released code)."""


class HeadMaps(nn.Module):
    """Driving maps and unwrapped pictures of one head model.

    Args:
        head: any head model; kept outside of the module's own state.
        config: of the prior.
        side: of the maps and of unwrapped pictures; None: the planes'.
        views: orthographic views, 1 for the frontal plane alone (the released model), 3 for all planes (the paper's text).
        official: texels count as seen by their normal alone, as in the released code; else they must pass the z-test, too.
    """

    def __init__(
        self,
        head: HeadModel,
        config: AnimatableConfig,
        side: int | None = None,
        views: int = 1,
        official: bool = False,
    ) -> None:
        super().__init__()
        self.heads, self.config, self.views, self.official = (
            [head],
            config,
            views,
            official,
        )  # a list hides it
        self.side = side or config.plane_resolution
        kept = textured_faces(head)
        known = torch.zeros(len(head.faces), dtype=torch.bool)
        known[kept.cpu()] = True
        self.register_buffer("known", known, persistent=False)
        atlas = uv_atlas(head.uv.cpu(), head.uv_faces.cpu(), head.faces.cpu(), self.side, kept.cpu())
        for name, value in atlas._asdict().items():
            self.register_buffer(f"atlas_{name}", value, persistent=False)

    @property
    def head(self) -> HeadModel:
        return self.heads[0]

    @property
    def atlas(self) -> UVAtlas:
        return UVAtlas(*(getattr(self, f"atlas_{name}") for name in UVAtlas._fields))

    def labels(self, params: HeadParams, camera: Camera) -> Float[Tensor, "b 25"]:
        """EG3D labels of cameras as the head sees them: its motion lies in the camera."""
        return eg3d_labels(params, camera)

    @torch.no_grad()
    def driving(self, params: HeadParams) -> Float[Tensor, "b v s s 3"]:
        """``(u, v, mask)`` maps of heads with their motion taken away, as :meth:`AnimatableTriPlaneGenerator.animate` reads them.

        Rows grow with the plane's second axis. The inside of the mouth hides what is behind it and is not textured, so that the mask
        has a hole there. paper: no gradients to the vertices, either.
        """
        head = self.head
        vertices = head(params.in_head_frame())
        world = (vertices - vertices.new_tensor(HEAD_CENTRE)) * (UNITS_PER_METRE * 2 / self.config.box)
        return torch.stack([self._view(world, plane) for plane in range(self.views)], 1)

    def _view(self, world: Float[Tensor, "b v 3"], plane: int) -> Float[Tensor, "b s s 3"]:
        """One view; ``world`` in shares of half the box."""
        column, row, depth = VIEW_AXES[plane]
        left, top = 2 * self.config.face_left[plane] - 1, 2 * self.config.face_top[plane] - 1
        x, y = (world[..., column] - left) * self.side, (world[..., row] - top) * self.side
        points = torch.stack([x, y, -world[..., depth]], -1)
        head = self.head
        seen = rasterize_projected(
            points, head.faces, (self.side, self.side), perspective=False, near=-torch.inf
        )
        mask = (seen.face_id >= 0) & self.known[seen.face_id.clamp_min(0)]
        # what surrounds the head stays one piece, so that only the mouth counts as a hole
        mask = F.pad(mask[:, 1:-1, 1:-1], (1, 1, 1, 1), value=False)
        uv = interpolate(seen, head.faces, head.uv[None].to(world), head.uv_faces).permute(0, 2, 3, 1)
        places = torch.cat([2 * uv[..., :1] - 1, 1 - 2 * uv[..., 1:]], -1)
        return torch.cat([places * mask[..., None], mask[..., None].to(places)], -1)

    @torch.no_grad()
    def texture_frames(
        self,
        image: Float[Tensor, "b 3 h w"],
        coarse: Float[Tensor, "b 3 h w"],
        params: HeadParams,
        camera: Camera,
    ) -> Float[Tensor, "b 7 s s"]:
        """Frames as E_tex reads them: picture and residual in texture space, and where the picture shows the texture.

        Args:
            image, coarse: picture and its coarse reconstruction, in [-1, 1]; the residual is coarse minus picture
                (paper: the other sign; released code: this one).
            params, camera: of the picture.

        Unseen texels are 1 in the picture and -1 in the residual, as in the released code.
        """
        both = torch.cat([image, coarse - image], 1)
        slack = torch.inf if self.official else 2e-3
        texture, weight = unwrap(both, self.head(params), self.head.faces, camera, self.atlas, slack)
        seen = (weight > GRAZING).to(texture)
        unseen = texture.new_tensor([1.0] * 3 + [-1.0] * 3)[:, None, None]
        return torch.cat([texture * seen + unseen * (1 - seen), seen], 1)


def textured_faces(head: HeadModel) -> Int[Tensor, " k"]:
    """Faces that carry the driven texture: the front of the head with its eyes, without neck and inside of the mouth."""
    eyes = head.joints(head.zeros(1))
    left, right = eyes["eye_left"][0], eyes["eye_right"][0]
    unit, depth = (left - right).norm(), (left[2] + right[2]) / 2
    kept = head.v_template[head.faces][..., 2].mean(1) > depth + BEHIND * unit
    for name, faces in head.face_regions.items():
        if name.startswith(UNTEXTURED):
            kept[faces] = False
    return kept.nonzero()[:, 0]
