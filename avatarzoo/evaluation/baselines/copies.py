"""Baselines that show source pictures as they are: the first one, or the one nearest to what is asked for."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from avatarzoo.errors import UsageError
from avatarzoo.evaluation.baselines.base import Baseline
from avatarzoo.geometry.camera import Camera, project
from avatarzoo.heads.base import HeadModel, HeadParams
from avatarzoo.metrics.novelty import nearest_sample
from avatarzoo.models.base import AvatarImage, AvatarState

CHUNK = 64
"""Heads posed at a time."""


class SourceCopy(Baseline):
    """Shows the first source picture whatever is asked for: the floor of reenactment, the ceiling of CSIM."""

    @torch.no_grad()
    def reconstruct(self, images=None, params=None, cameras=None) -> AvatarState:
        """See :meth:`AvatarModule.reconstruct`.

        Raises:
            UsageError: no source picture.
        """
        images, *_ = self.sources(images, params, cameras)
        return self.keep({"pictures": to_bytes(images[:1])})

    @torch.no_grad()
    def animate(self, state: AvatarState, params: HeadParams, camera: Camera) -> AvatarImage:
        """See :meth:`AvatarModule.animate`; alpha is one everywhere."""
        self.check_head(state.meta["head"])
        return show(state.tensors["pictures"].expand(params.batch, -1, -1, -1), params, camera)

    def speak(
        self, state: AvatarState, samples: Float[Tensor, " n"], rate: int, fps: float, frames: int
    ) -> Float[Tensor, "t e"]:
        """Neutral: the picture stays the same whatever is heard."""
        return torch.zeros(frames, self.head.n_expression)


class NearestSample(Baseline):
    """Shows the source picture that comes nearest to what is asked for: what memory alone achieves (StyleAvatar section 4.2).

    Args:
        by: ``landmarks`` compares the head's projected landmarks; ``parameters`` is StyleAvatar's "Nearest Sample", translation,
            rotation and expression with equal weight, each over its standard deviation.
    """

    def __init__(
        self,
        head: str = "procedural",
        head_file: str | None = None,
        background: float | None = 1.0,
        by: Literal["landmarks", "parameters"] = "landmarks",
    ) -> None:
        super().__init__(head, head_file, background)
        if by not in ("landmarks", "parameters"):
            raise UsageError(f"NearestSample can go by landmarks or by parameters, not by {by!r}.")

    @torch.no_grad()
    def reconstruct(self, images=None, params=None, cameras=None) -> AvatarState:
        """See :meth:`AvatarModule.reconstruct`; all pictures are kept.

        Raises:
            UsageError: no source picture, or, going by parameters, sources that do not move.
        """
        images, params, cameras = self.sources(images, params, cameras)
        tensors = {"pictures": to_bytes(images), "identity": params.identity.mean(0, keepdim=True)}
        if self.hparams["by"] == "parameters":
            tensors |= {f"params.{name}": x for name, x in params._asdict().items()}
            self._nearest(tensors, params.rows(0), cameras)
        else:
            person = params._replace(identity=tensors["identity"].expand(params.batch, -1))
            tensors["points"] = landmark_pixels(self.head, person, cameras) / _extent(cameras)
        return self.keep(tensors)

    @torch.no_grad()
    def animate(self, state: AvatarState, params: HeadParams, camera: Camera) -> AvatarImage:
        """See :meth:`AvatarModule.animate`; alpha is one everywhere."""
        self.check_head(state.meta["head"])
        rows = self._nearest(state.tensors, params, camera)
        return show(state.tensors["pictures"][rows.to(state.tensors["pictures"].device)], params, camera)

    def _nearest(self, tensors: dict[str, Tensor], params: HeadParams, camera: Camera) -> Int[Tensor, "b"]:
        """Rows of the sources nearest to the wanted ones."""
        if len(tensors["pictures"]) == 1:
            return torch.zeros(params.batch, dtype=torch.long)
        if self.hparams["by"] == "parameters":
            known = HeadParams(*(tensors[f"params.{name}"].cpu() for name in HeadParams._fields))
            try:
                return nearest_sample(params.to("cpu"), known)
            except ValueError as error:
                raise UsageError(f"NearestSample cannot go by parameters: {error}") from error
        person = params._replace(identity=tensors["identity"].to(params.identity).expand(params.batch, -1))
        points = landmark_pixels(self.head, person, camera) / _extent(camera)
        return nearest_rows(points, tensors["points"].cpu())


def landmark_pixels(head: HeadModel, params: HeadParams, camera: Camera) -> Float[Tensor, "t l 2"]:
    """Projected landmarks in pixels, on the CPU; computed where the head is.

    Args:
        camera: batch 1, or as many as rows of ``params``.
    """
    device = head.v_template.device
    points = []
    for rows in torch.arange(params.batch).split(CHUNK):
        seen = (camera if camera.batch == 1 else camera.rows(rows)).to(device)
        vertices = head(params.rows(rows).to(device))
        points.append(project(head.landmark_points(vertices), seen)[..., :2].cpu())
    return torch.cat(points)


def nearest_rows(points: Float[Tensor, "b l 2"], known: Float[Tensor, "t l 2"]) -> Int[Tensor, "b"]:
    """Which of the known sets of landmarks lies nearest to each wanted one (Euclidean over all points)."""
    distance = torch.cdist(  # directly: by matrix product float32 cannot tell neighbouring frames apart
        points.flatten(1), known.flatten(1), compute_mode="donot_use_mm_for_euclid_dist"
    )
    return distance.argmin(1)


def to_bytes(images: Float[Tensor, "b 3 h w"]) -> UInt8[Tensor, "b 3 h w"]:
    """Pictures as they are stored."""
    return (images.clamp(0, 1) * 255).round().byte()


def show(pictures: UInt8[Tensor, "b 3 h w"], params: HeadParams, camera: Camera) -> AvatarImage:
    """Stored pictures at the camera's size, where the parameters are."""
    rgb = resized(pictures.to(params.identity.device).float() / 255, camera.size)
    return AvatarImage(rgb, torch.ones_like(rgb[:, :1]))


def resized(images: Float[Tensor, "b 3 h w"], size: tuple[int, int]) -> Float[Tensor, "b 3 h2 w2"]:
    """Antialiased bilinear, untouched where the size is right."""
    if images.shape[-2:] == size:
        return images
    return F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)


def _extent(camera: Camera) -> Float[Tensor, "2"]:
    """Width and height: landmarks are compared as shares of the picture, whose size may change."""
    return torch.tensor([camera.size[1], camera.size[0]], dtype=torch.float32)
