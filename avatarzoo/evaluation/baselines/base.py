"""What all baselines share: plain hyper-parameters, a head model, checks of what they are given."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from avatarzoo.errors import UsageError
from avatarzoo.geometry.camera import Camera
from avatarzoo.heads import load_head
from avatarzoo.heads.base import HeadParams
from avatarzoo.models.base import AvatarModule, AvatarState


class Baseline(AvatarModule):
    """A method without parameters.

    Args:
        head: name of the head model; head_file: the user's own model file, where the head needs one.
        background: grey level behind the head in the sources, ``None`` where they keep their background.
    """

    def __init__(
        self, head: str = "procedural", head_file: str | None = None, background: float | None = 1.0
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.head = load_head(head, head_file)

    def keep(self, tensors: dict[str, Tensor], **facts: Any) -> AvatarState:
        """A state of this method and head model."""
        return AvatarState(type(self).__name__, tensors, {"head": self.head.signature, **facts})

    def sources(
        self,
        images: Float[Tensor, "b 3 h w"] | None,
        params: HeadParams | None,
        cameras: Camera | None,
    ) -> tuple[Float[Tensor, "b 3 h w"], HeadParams, Camera]:
        """What :meth:`reconstruct` was given, one camera per picture.

        Raises:
            UsageError: no picture, or one without its tracking, or numbers that do not fit.
        """
        if images is None or params is None or cameras is None or not len(images):
            raise UsageError(
                f"{type(self).__name__} needs at least one source picture with its head parameters and camera."
            )
        count = len(images)
        if params.batch != count or cameras.batch not in (1, count):
            raise UsageError(
                f"{count} source pictures came with {params.batch} rows of parameters and {cameras.batch} cameras; "
                "give as many of each (or one camera)."
            )
        w2c, k = cameras.world_to_camera.expand(count, 4, 4), cameras.intrinsics.expand(count, 3, 3)
        return images, params, Camera(w2c, k, cameras.size)
