"""Condition renders of all training frames, made once: drawing the head costs more than a look-up at every step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatarzoo.data.frames import FrameStore
from avatarzoo.models.styleavatar.conditions import ConditionRenderer, Conditions

CHUNK = 16
"""Frames drawn at a time."""


class ConditionCache:
    """9 R^2 bytes a frame in main memory: bytes for the texture render, half precision for the UV render.

    Args:
        renderer: draws the conditions.
        frames: of training.
        video: ``(T,)`` which video each frame belongs to.
        identity: ``(n, i)`` the head shape of each video; frames are drawn with it, not with their own (paper section 3.1).
        device: where frames are drawn.
        progress: told how far it is.
    """

    def __init__(
        self,
        renderer: ConditionRenderer,
        frames: FrameStore,
        video: Int[Tensor, " t"],
        identity: Float[Tensor, "n i"],
        device: torch.device,
        progress: Callable[[str], None] = print,
    ) -> None:
        count, side = len(frames), renderer.size
        progress(f"Rendering the conditions of {count} training frames")
        self.render = torch.empty(count, 3, side, side, dtype=torch.uint8)
        self.uv = torch.empty(count, 3, side, side, dtype=torch.float16)
        for rows in torch.arange(count).split(CHUNK):
            params = frames.params.rows(rows)._replace(identity=identity.cpu()[video[rows]])
            made = renderer(params.to(device), frames.cameras(rows).to(device))
            self.render[rows] = ((made.render + 1) * 127.5).round().byte().cpu()
            self.uv[rows] = made.uv.half().cpu()
        places = zip(video.tolist(), frames.index.tolist())
        self.places = {place: row for row, place in enumerate(places)}

    def __call__(self, video: Int[Tensor, " b"], index: Int[Tensor, " b"]) -> Conditions:
        """Those of frames with these numbers in these videos, on the device of ``index``."""
        rows = torch.tensor([self.places[place] for place in zip(video.tolist(), index.tolist())])
        render, uv = (x[rows].to(index.device, non_blocking=True).float() for x in (self.render, self.uv))
        return Conditions(render / 127.5 - 1, uv)


def videos_of(frames: FrameStore) -> Int[Tensor, " t"]:
    """Which video each frame belongs to; all to the first where the frames do not say."""
    return getattr(frames, "video", torch.zeros(len(frames), dtype=torch.long))
