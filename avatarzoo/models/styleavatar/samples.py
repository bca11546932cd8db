"""From a batch of filmed frames to what one training step compares: windows of the wide portrait and their conditions."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from avatarzoo.data.batch import AvatarBatch
from avatarzoo.models.styleavatar.cache import ConditionCache
from avatarzoo.models.styleavatar.conditions import Conditions
from avatarzoo.models.styleavatar.objective import background_target
from avatarzoo.models.styleavatar.windows import centred, crop_wide, draw_offsets

Window = Literal["sample", "batch", "none"]


class Sample(NamedTuple):
    """Attributes:
    target: window of the filmed picture in [-1, 1]. valid: 1 where it was filmed.
    features: 1 on brows, eyes, nose and mouth. background: 1 where the matte shows no person. known: ``valid`` at its side.
    conditions: renders, not moved by the window. offset: corner of the window in cells.
    video, index: who, and which frame.
    """

    target: Float[Tensor, "b 3 s s"]
    valid: Float[Tensor, "b 1 s s"]
    features: Float[Tensor, "b 1 s s"]
    background: Float[Tensor, "b 1 g g"]
    known: Float[Tensor, "b 1 g g"]
    conditions: Conditions
    offset: Int[Tensor, "b 2"]
    video: Int[Tensor, " b"]
    index: Int[Tensor, " b"]


def make_sample(
    batch: AvatarBatch,
    cache: ConditionCache,
    grid: int,
    size: int,
    window: Window,
    step: int,
    seed: int,
    rank: int = 0,
    world: int = 1,
) -> Sample:
    """Windows at offsets that depend on ``seed`` alone; pictures are brought to side ``size``.

    paper: the wide crop is cut from a larger video; here the filmed square is the central window of a wide picture of which the rest
    is unknown, because tracked sequences end there; losses leave the unknown out.
    """
    index = batch["index"]
    video = batch.get("video", torch.zeros_like(index))
    offset = offsets(window, len(index), grid, step, seed, rank, world).to(index.device)
    keys = ("image", "mask", "features")
    image, mask, features = (_sized(batch[key], size) for key in keys)  # type: ignore[literal-required]
    filmed = torch.cat([image * 2 - 1, mask, features, torch.ones_like(mask)], 1)
    shown = crop_wide(F.pad(filmed, (size // 4,) * 4), offset, grid)
    target, mask, features, valid = shown.split([3, 1, 1, 1], 1)
    known = F.interpolate(valid, (grid, grid), mode="nearest")
    background = background_target(mask, grid)
    return Sample(target, valid, features, background, known, cache(video, index), offset, video, index)


def offsets(
    window: Window, batch: int, grid: int, step: int, seed: int, rank: int = 0, world: int = 1
) -> Int[Tensor, "b 2"]:
    """Corners of the windows of one step: for each sample, one for all (as published), or always centred.

    Those of process ``rank`` are its rows of a batch of ``world`` times as many.
    """
    if window == "none":
        return centred(batch, grid)
    generator = torch.Generator().manual_seed(seed)
    drawn = draw_offsets(batch * world if window == "sample" else 1, grid, step, generator)
    return drawn.expand(batch * world, 2)[rank::world]


def _sized(pictures: Tensor, size: int) -> Tensor:
    if pictures.shape[-2:] == (size, size):
        return pictures
    return F.interpolate(pictures, (size, size), mode="bilinear", align_corners=False, antialias=True)
