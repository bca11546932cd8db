"""What a personalised avatar was shown in training, kept in its checkpoint: how it looks at rest, and how far its face went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from avatarzoo.geometry.camera import Camera
from avatarzoo.heads.base import HeadParams
from avatarzoo.heads.transfer import median

SHARE = 0.01
"""Of the training frames lies below the range's lower end, number by number, and as many above its upper."""
FIELDS = ("rest", "low", "high")


class Seen(NamedTuple):
    """Facts of the training frames.

    Attributes:
        rest: the median parameters, 1 row. low, high: the range of each number, 1 row.
        camera: of the first frame. sources: sha256 of the videos, where known.
    """

    rest: HeadParams
    low: HeadParams
    high: HeadParams
    camera: Camera
    sources: tuple[str, ...] = ()

    @classmethod
    def of_data(cls, data: Any) -> Seen | None:
        """What a data module with one person's tracked frames shows; ``None`` for any other."""
        if not hasattr(data, "training_params") or not hasattr(data, "frames"):
            return None
        params: HeadParams = data.training_params()
        low, high = (
            HeadParams(*(x.float().quantile(q, 0, keepdim=True) for x in params)) for q in (SHARE, 1 - SHARE)
        )
        named = data.describe().get("source_sha256") or ()
        sources = [named] if isinstance(named, str) else named
        camera = data.frames.camera.rows([0])
        return cls(median(params), low, high, camera, tuple(s for s in sources if s))

    def plain(self) -> dict[str, Any]:
        """As tensors, numbers and text, for a checkpoint."""
        return {
            **{name: getattr(self, name)._asdict() for name in FIELDS},
            "camera": [self.camera.world_to_camera, self.camera.intrinsics],
            "size": list(self.camera.size),
            "sources": list(self.sources),
        }

    @classmethod
    def from_plain(cls, stored: Mapping[str, Any]) -> Seen:
        """Inverse of :meth:`plain`."""
        rest, low, high = (HeadParams(**cpu(stored[name])) for name in FIELDS)
        pose, lens = (x.cpu() for x in stored["camera"])
        height, width = stored["size"]
        return cls(rest, low, high, Camera(pose, lens, (height, width)), tuple(stored["sources"]))


def cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.as_tensor(x).cpu() for name, x in tensors.items()}
