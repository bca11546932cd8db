"""A mouth that opens with the loudness of the sound."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from avatarzoo.errors import UsageError
from avatarzoo.evaluation.baselines.textured import TexturedHead
from avatarzoo.models.base import AvatarState

JAW = "jawOpen"
GAIN = 0.5
"""jawOpen at the loudest frames."""
QUIET, LOUD = 0.10, 0.90 + 0.05
"""Percentiles of the frames' loudness at which the mouth is closed and wide open."""
RELEASE = 0.04
"""Seconds in which a mouth that is no longer wanted open closes to 1 / e: it opens at once, and closes softly."""
SILENCE = 1e-4
"""A range of loudness below this (-80 dB of full scale) is no speech."""


class LoudnessMouth(TexturedHead):
    """:class:`TexturedHead` whose jaw follows the loudness of the sound: the floor of audio-driven tables.

    Raises:
        UsageError: the head model has no coefficient ``jawOpen``.
    """

    def speak(
        self, state: AvatarState, samples: Float[Tensor, " n"], rate: int, fps: float, frames: int
    ) -> Float[Tensor, "t e"]:
        """See :meth:`AvatarModule.speak`; all coefficients but ``jawOpen`` are neutral.

        Raises:
            UsageError: the head model has no coefficient ``jawOpen``, or there is no sound.
        """
        if JAW not in self.head.expression_names:
            raise UsageError(
                f"LoudnessMouth moves the coefficient {JAW}, which head model {self.head.name} lacks; "
                "choose --head ict or procedural."
            )
        samples = torch.as_tensor(samples).flatten().float()
        if not len(samples) or not torch.isfinite(samples).all():
            raise UsageError("The sound is empty or not finite; give mono samples between -1 and 1.")
        expression = torch.zeros(frames, self.head.n_expression, device=self.head.v_template.device)
        jaw = mouth_opening(loudness(samples.cpu(), rate, fps, frames), fps)
        expression[:, self.head.expression_names.index(JAW)] = GAIN * jaw.to(expression)
        return expression


def loudness(samples: Float[Tensor, " n"], rate: int, fps: float, frames: int) -> Float[Tensor, " t"]:
    """RMS of the sound under each picture, smoothed over its neighbours (1/4, 1/2, 1/4); silence after the end."""
    edges = (torch.arange(frames + 1) * rate / fps).round().long()
    energy = F.pad(samples.double().square().cumsum(0), (1, 0))
    spent = energy[edges.clamp_max(len(samples))].diff()
    rms = (spent / edges.diff().clamp_min(1)).clamp_min(0).sqrt()
    padded = F.pad(rms[None, None], (1, 1), mode="replicate")
    return F.conv1d(padded, rms.new_tensor([[[0.25, 0.5, 0.25]]]))[0, 0].float()


def mouth_opening(loud: Float[Tensor, " t"], fps: float) -> Float[Tensor, " t"]:
    """Loudness between its own percentiles as 0 to 1, closing no faster than :data:`RELEASE` allows."""
    low, high = loud.quantile(QUIET), loud.quantile(LOUD)
    if high - low < SILENCE:
        return torch.zeros_like(loud)
    wanted = ((loud - low) / (high - low)).clamp(0, 1).tolist()
    decay = float(torch.exp(torch.tensor(-1 / (fps * RELEASE))))
    opening, now = [], 0.0
    for target in wanted:
        now = max(target, now * decay)
        opening.append(now)
    return torch.tensor(opening)
