"""The classical 3D morphable model baseline: the head model wearing a texture baked from the source pictures."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from avatarzoo.evaluation.baselines.baking import bake, spread, texture_of
from avatarzoo.evaluation.baselines.base import Baseline
from avatarzoo.evaluation.baselines.copies import resized
from avatarzoo.geometry.camera import Camera
from avatarzoo.geometry.raster import MeshFragments
from avatarzoo.geometry.uv import UVAtlas, uv_atlas
from avatarzoo.heads.base import HeadParams
from avatarzoo.models.base import AvatarImage, AvatarState
from avatarzoo.render.mesh import rasterize_mesh, texture_lookup


class TexturedHead(Baseline):
    """The person's head model with the mean colour that the sources show on it, under the wanted expression, pose and camera.

    Nothing is optimised: hair is paint on the scalp, light is baked in. Surface that the sources mostly show outside the head (a neck
    that was cut away) is left out. Where sources keep their background (``background=None``) the first one stays behind the head,
    and hair, clothes and whatever else the model lacks is that picture's.

    Args:
        uv_size: side of the texture. views: most source pictures baked, spread evenly over all.
        supersampling: pictures are drawn at this multiple of their size and averaged.
    """

    def __init__(
        self,
        head: str = "procedural",
        head_file: str | None = None,
        background: float | None = 1.0,
        uv_size: int = 512,
        views: int = 48,
        supersampling: int = 2,
    ) -> None:
        super().__init__(head, head_file, background)
        self._atlas: UVAtlas | None = None

    @property
    def atlas(self) -> UVAtlas:
        """The surface point of each texel, on the head's device."""
        if self._atlas is None:
            head = self.head
            self._atlas = uv_atlas(
                head.uv.cpu(), head.uv_faces.cpu(), head.faces.cpu(), self.hparams["uv_size"]
            )
        return self._atlas.to(self.head.v_template.device)

    @torch.no_grad()
    def reconstruct(self, images=None, params=None, cameras=None) -> AvatarState:
        """See :meth:`AvatarModule.reconstruct`.

        Raises:
            UsageError: no source picture.
        """
        images, params, cameras = self.sources(images, params, cameras)
        device = self.head.v_template.device
        person = params.identity.mean(0, keepdim=True).to(device)
        rows = spread(len(images), self.hparams["views"])
        baked = bake(
            self.head,
            self.atlas,
            images[rows].to(device),
            params.rows(rows).to(device)._replace(identity=person.expand(len(rows), -1)),
            cameras.rows(rows).to(device),
            self.hparams["background"],
        )
        tensors = {"identity": person, "texture": texture_of(self.head, self.atlas, baked)}
        if self.hparams["background"] is None:
            tensors["backdrop"] = images[:1]
        return self.keep(tensors)

    @torch.no_grad()
    def animate(self, state: AvatarState, params: HeadParams, camera: Camera) -> AvatarImage:
        """See :meth:`AvatarModule.animate`; not differentiable.

        Raises:
            HeadModelMismatchError: the state belongs to another head model.
        """
        self.check_head(state.meta["head"])
        head, factor = self.head, self.hparams["supersampling"]
        texture = state.tensors["texture"].to(params.identity)
        identity = state.tensors["identity"].to(params.identity).expand(params.batch, -1)
        height, width = camera.size
        fine = camera.resized(height * factor, width * factor)
        fragments = rasterize_mesh(head(params._replace(identity=identity)), head.faces, fine)
        # one by one: a picture's pixels then stay in the processor's cache
        pictures = [MeshFragments(*(x[i : i + 1] for x in fragments)) for i in range(params.batch)]
        rgba = torch.cat([F.avg_pool2d(self._painted(texture, one), factor) for one in pictures])
        alpha = rgba[:, 3:]
        rgb = rgba[:, :3] + (1 - alpha) * self._ground(state, alpha)
        return AvatarImage(rgb.clamp(0, 1), alpha)

    def _painted(
        self, texture: Float[Tensor, "1 4 s s"], fragments: MeshFragments
    ) -> Float[Tensor, "b 4 h w"]:
        """Colour and coverage of the pixels that see opaque texels (only pixels on the mesh are looked up); zeros elsewhere."""
        faces = fragments.face_id.flatten()
        pixels = fragments.covered.flatten().nonzero()[:, 0]
        corners, weights = self.head.uv_faces[faces[pixels]], fragments.barycentrics.flatten(0, 2)[pixels]
        uv = F.embedding_bag(corners, self.head.uv, per_sample_weights=weights, mode="sum")
        seen = texture_lookup(texture, uv.T[None, :, None])[0, :, 0].T
        opaque = (seen[:, 3:] > 0.5).to(seen.dtype)
        colors = torch.cat([seen[:, :3] * opaque, opaque], 1)
        batch, height, width = fragments.face_id.shape
        canvas = colors.new_zeros(batch * height * width, 4).index_copy_(0, pixels, colors)
        return canvas.view(batch, height, width, 4).permute(0, 3, 1, 2)

    def _ground(self, state: AvatarState, alpha: Float[Tensor, "b 1 h w"]) -> Tensor:
        """What is seen beside the head: the grey level, or the first source picture."""
        level = self.hparams["background"]
        if level is not None:
            return alpha.new_tensor(level)
        return resized(state.tensors["backdrop"].to(alpha), alpha.shape[-2:])
