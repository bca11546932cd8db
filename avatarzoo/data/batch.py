"""The one batch type of all methods: a dict of tensors and NamedTuples (they collate; dataclasses do not)."""

from __future__ import annotations

from typing import TypedDict

from jaxtyping import Float, Int
from torch import Tensor

from avatarzoo.geometry.camera import Camera
from avatarzoo.heads.base import HeadParams


class AvatarBatch(TypedDict, total=False):
    """Pictures of people with everything that was tracked on them.

    image: RGB in [0, 1], background already replaced where the data module was asked to.
    mask: the region that belongs to the avatar (head), soft, in [0, 1].
    features: the facial features (brows, eyes, nose, mouth) whose errors weigh more, in [0, 1].
    params: head parameters in the world frame.
    camera: fixed tracking camera; ``camera.after(rotation, translation)`` sees the head frame.
    index: frame numbers in the source video.
    video: which of several videos a frame belongs to, where the data module has several.
    """

    image: Float[Tensor, "b 3 h w"]
    mask: Float[Tensor, "b 1 h w"]
    features: Float[Tensor, "b 1 h w"]
    params: HeadParams
    camera: Camera
    index: Int[Tensor, "b"]
    video: Int[Tensor, "b"]
