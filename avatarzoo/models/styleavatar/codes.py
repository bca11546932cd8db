"""Latent codes of time and identity (paper section 3.2; released code: NeRF's embedding with 32 octaves, fact sheet 1.6)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

WIDTH = 64
FRAMES_PER_UNIT = 5000
"""Frame numbers are divided by this: the one video length that paper section 3.4 assumes for every video."""
VIDEOS_PER_UNIT = 10
INFERENCE_TIME = 0.5
"""The time that the released code fixes for inference (frame 2500)."""


def embed(value: Float[Tensor, " b"]) -> Float[Tensor, "b 64"]:
    """The value itself, then its sine and cosine at the frequencies 2^0, 2^1, ..., 2^31; the last cosine is left out.

    The argument of the high octaves is known to float32 only, which the sine itself (in float64) must not worsen.
    """
    value = value.float()
    octaves = 2.0 ** torch.arange(WIDTH // 2, device=value.device)
    angles = (value[:, None] * octaves).double()
    waves = torch.stack([angles.sin(), angles.cos()], -1).flatten(1).float()
    return torch.cat([value[:, None], waves], 1)[:, :WIDTH]


def time_code(frame: Int[Tensor, " b"], frames_per_unit: int = FRAMES_PER_UNIT) -> Float[Tensor, "b 64"]:
    """Code of a frame number of the video."""
    return embed(frame.float() / frames_per_unit)


def identity_code(video: Int[Tensor, " b"]) -> Float[Tensor, "b 64"]:
    """Code of a person: the index of the video in pre-training, 0 for a single video."""
    return embed(video.float() / VIDEOS_PER_UNIT)


def inference_code(batch: int, device: torch.device | str | None = None) -> Float[Tensor, "b 64"]:
    """The fixed time code of inference (paper section 3.4)."""
    return embed(torch.full((batch,), INFERENCE_TIME, device=device))
