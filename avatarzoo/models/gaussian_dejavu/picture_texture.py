"""What a picture shows of a head, laid out in texture space: a guide of the small reconstruction network (ours, not the paper's)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from avatarzoo.geometry.camera import Camera
from avatarzoo.geometry.spherical_harmonics import rgb_to_sh0
from avatarzoo.geometry.uv import UVAtlas, unwrap, uv_atlas
from avatarzoo.heads.base import HeadModel

TEXTURE_CHANNELS = 5
TOLERANCE = 3e-3
"""Metres behind the nearest surface at which a point still counts as seen; pixels of small pictures are as large."""
GRAZING = 0.25
"""Cosine between surface and view up to which a colour is not believed, since pixels at the outline mix with the background; it is
believed fully from twice that on."""
MIRROR_TRUST = 0.5
"""Weight of the other side of the face where a point itself is hidden; the rest comes from its surroundings."""


class PictureTexture(nn.Module):
    """Colours under the texels of a head, and where they were seen.

    Channels: 0:3 colours as degree-0 harmonics; where a texel is hidden, those of its mirror image on the other side of the head,
    where that is hidden too, those of its surroundings in the texture. 3 how well the texel is seen, 4 how well its mirror image:
    the cosine between surface and view, 0 where hidden.

    Args:
        head: any head model.
        size: side of the map.
        background: grey level behind the head in the pictures; where they show it, nothing is seen.
    """

    faces: Int[Tensor, "f 3"]
    mirror: Int[Tensor, "n"]

    def __init__(self, head: HeadModel, size: int, background: float = 1.0) -> None:
        super().__init__()
        self.background = background
        atlas = uv_atlas(head.uv, head.uv_faces, head.faces, size)
        for name, value in atlas._asdict().items():
            self.register_buffer(f"atlas_{name}", value, persistent=False)
        self.register_buffer("faces", head.faces, persistent=False)
        self.register_buffer("mirror", _mirror(atlas.points(head.v_template[None])[0]), persistent=False)

    @property
    def atlas(self) -> UVAtlas:
        return UVAtlas(*(getattr(self, f"atlas_{name}") for name in UVAtlas._fields))

    @torch.no_grad()
    def forward(
        self, images: Float[Tensor, "b 3 h w"], vertices: Float[Tensor, "b v 3"], camera: Camera
    ) -> Float[Tensor, "b 5 s s"]:
        """
        Args:
            images: RGB in [0, 1].
            vertices: the head that the pictures show, in the cameras' world.
            camera: of the pictures; a camera of another size is fitted to them.
        """
        atlas = self.atlas
        camera = camera.resized(*images.shape[-2:])
        layers = torch.cat([images, inside_outline(images, self.background)], 1)
        texture, weight = unwrap(layers, vertices, self.faces, camera, atlas, TOLERANCE)
        weight = weight * (texture[:, 3:] > 0.99)
        color, seen = rgb_to_sh0(atlas.gather(texture[:, :3])), atlas.gather(weight)
        there, seen_there = color[:, self.mirror], seen[:, self.mirror]
        own, there_too = (((x - GRAZING) / GRAZING).clamp(0, 1) for x in (seen, seen_there))
        other = (1 - own) * MIRROR_TRUST * there_too
        known = own + other
        mixed = (own * color + other * there) / known.clamp_min(1e-6)
        filled = spread(atlas.image(mixed), atlas.image(known))
        inside = atlas.mask.to(filled)
        return torch.cat([filled * inside, weight, atlas.image(seen_there)], 1)


def inside_outline(images: Float[Tensor, "b 3 h w"], background: float) -> Float[Tensor, "b 1 h w"]:
    """1 inside what stands before the plain background, a hundredth of the picture away from its outline; 0 elsewhere.

    Highlights as bright as the background are closed first.
    """
    there = ((images - background).abs().amax(1, keepdim=True) > 0.02).to(images)
    r = max(1, round(images.shape[-1] / 128))
    closed = F.max_pool2d(there, 4 * r + 1, 1, 2 * r)
    return -F.max_pool2d(-closed, 6 * r + 1, 1, 3 * r)


def spread(values: Float[Tensor, "b c s s"], weight: Float[Tensor, "b 1 s s"]) -> Float[Tensor, "b c s s"]:
    """Values where their weight is 1, those of the surroundings where it is 0: coarser and coarser weighted means."""
    if values.shape[-1] % 2 or values.shape[-1] < 4:
        mean = (values * weight).sum((2, 3), keepdim=True) / weight.sum((2, 3), keepdim=True).clamp_min(1e-6)
        return weight * values + (1 - weight) * mean
    total = F.avg_pool2d(weight, 2)
    coarse = spread(F.avg_pool2d(values * weight, 2) / total.clamp_min(1e-6), (4 * total).clamp_max(1))
    wide = F.interpolate(coarse, scale_factor=2.0, mode="bilinear", align_corners=False)
    return weight * values + (1 - weight) * wide


def _mirror(rest: Float[Tensor, "n 3"]) -> Int[Tensor, "n"]:
    """For each point of the rest head the one nearest to its mirror image."""
    from scipy.spatial import cKDTree

    flipped = rest * rest.new_tensor([-1.0, 1.0, 1.0])
    return torch.from_numpy(cKDTree(rest.cpu().numpy()).query(flipped.cpu().numpy())[1])
