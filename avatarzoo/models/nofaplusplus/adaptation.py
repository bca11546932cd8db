"""Stage 5 of NOFA++, fast adaptation (section 3.4): the refined feature F_e of one picture is optimised, no network is."""

from __future__ import annotations

from typing import NamedTuple

import torch
from tqdm import tqdm

from avatarzoo.models.nofaplusplus.deformation import Prepared
from avatarzoo.models.nofaplusplus.generator import HeadGenerator, Volume
from avatarzoo.models.nofaplusplus.objective import HeadLoss, psnr
from avatarzoo.models.nofaplusplus.pairs import Shown

PATIENCE, LEAST_GAIN = 20, 0.01
"""Adaptation ends when the best loss has not fallen by one percent for so many steps."""


class Schedule(NamedTuple):
    """How F_e is optimised; the paper states weights only.

    Attributes:
        steps: at most. rate: Adam's, falling to zero along a cosine.
        reconstruction, depth: weights of equation 14.
        resolution, samples: of the volume-rendered picture, None for the prior's own.
    """

    steps: int = 200
    rate: float = 1e-2
    reconstruction: float = 1.0
    depth: float = 1.0
    resolution: int | None = None
    samples: tuple[int, int] | None = None


class Adapted(NamedTuple):
    """The fine volume of the best step, and the loss of every step; the first is that of the prediction."""

    volume: Volume
    losses: list[float]


def adapt_feature(
    networks: HeadGenerator,
    loss: HeadLoss,
    shown: Shown,
    own: Prepared,
    schedule: Schedule,
    quiet: bool = False,
) -> Adapted:
    """Equation 14: I_s is source and driver; depth stays near that of the prediction. Codes, and with them the upper blocks, stay.

    Works within ``torch.inference_mode``.

    Args:
        own: the source's identity and expression. quiet: no progress bar.
    """
    with torch.inference_mode(False), torch.enable_grad():
        # tensors that were made in inference mode take no part in derivatives; their copies do
        image, label = shown.image.clone(), shown.label.clone()
        worn = Prepared(*(None if x is None else x.clone() for x in own))
        with torch.no_grad():
            halfway = networks.encode(image)
            predicted = networks.fuse(halfway, image, label, worn)
            sizes = schedule.resolution, schedule.samples
            depth = networks.render(networks.volume(halfway, predicted), label, worn, *sizes).depth
        fused = predicted.clone().requires_grad_()
        optimiser = torch.optim.Adam([fused], schedule.rate)
        decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, schedule.steps)
        best, losses = (float("inf"), fused.detach()), []
        last_gain = 0, float("inf")
        bar = tqdm(range(schedule.steps), desc="Adaptation", unit="step", leave=False, disable=quiet)
        for step in bar:
            view = networks.render(networks.volume(halfway, fused), label, worn, *sizes)
            likeness = loss.reconstruction(view.rgb, image)
            value = schedule.reconstruction * likeness + schedule.depth * (view.depth - depth).square().mean()
            losses.append(float(value.detach()))
            if losses[-1] < best[0]:
                best = losses[-1], fused.detach().clone()
            if losses[-1] < last_gain[1] * (1 - LEAST_GAIN):
                last_gain = step, losses[-1]
            if step - last_gain[0] >= PATIENCE:
                break
            bar.set_postfix(loss=f"{losses[-1]:.4f}", psnr=f"{float(psnr(view.rgb, image)):.1f}")
            (gradient,) = torch.autograd.grad(value, fused)
            fused.grad = torch.nan_to_num(gradient)
            optimiser.step()
            decay.step()
        with torch.no_grad():
            return Adapted(_detached(networks.volume(halfway, best[1])), losses)


def _detached(volume: Volume) -> Volume:
    return Volume(*(x.detach() for x in volume))
