"""Source and target pictures of the same people as EG3D sees them."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from avatarzoo.data.batch import AvatarBatch
from avatarzoo.data.eg3d_views import eg3d_crop, eg3d_labels
from avatarzoo.geometry.camera import Camera
from avatarzoo.heads.base import HeadParams


class Shown(NamedTuple):
    """EG3D's crops of b heads: pictures in [0, 1], parameters, the crops' cameras and their labels."""

    image: Float[Tensor, "b 3 s s"]
    params: HeadParams
    camera: Camera
    label: Float[Tensor, "b 25"]

    def rolled(self) -> Shown:
        """Every row in the place of the row before it."""
        turned = torch.arange(len(self.image)).roll(-1)
        return Shown(
            self.image[turned], self.params.rows(turned), self.camera.rows(turned), self.label[turned]
        )


class Pair(NamedTuple):
    source: Shown
    target: Shown


def pair_of(batch: dict[str, Any], side: int, background: float) -> Pair:
    """A batch of clip pairs; or frames of one person, each of which drives the one before it.

    Args:
        batch: ``{"source", "target"}`` of EG3D's crops, or one AvatarBatch of any pictures, which are cropped here.
        side: of the pictures. background: grey level beside the crop.
    """
    if "source" in batch:
        return Pair(*(as_cropped(batch[name]) for name in ("source", "target")))
    shown = cropped(batch["image"], batch["params"], batch["camera"], side, background)
    return Pair(shown, shown.rolled())


def as_cropped(batch: AvatarBatch) -> Shown:
    """Pictures that are EG3D's crops already."""
    label = eg3d_labels(batch["params"], batch["camera"])
    return Shown(batch["image"], batch["params"], batch["camera"], label)


def cropped(
    images: Float[Tensor, "b 3 h w"], params: HeadParams, camera: Camera, side: int, background: float
) -> Shown:
    """EG3D's crops of tracked pictures on a plain background."""
    return as_cropped(eg3d_crop(images, None, params, camera, side, background))
