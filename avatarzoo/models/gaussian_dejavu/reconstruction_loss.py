"""The loss of the reconstruction network (paper Eq. 4-8) and its schedule (supplement section 5.1)."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avatarzoo.losses.perceptual import PerceptualLoss
from avatarzoo.losses.photometric import l1, ms_ssim_loss
from avatarzoo.losses.regularizers import view_spread, weighted_norm
from avatarzoo.models.gaussian_dejavu.uv_gaussians import POSITION, SCALE, UVGaussianMap

ReconstructionPreset = Literal["avatarzoo", "paper"]
PRESETS: dict[str, dict[str, float]] = {
    # section 4.2
    "paper": {"rgb": 1.0, "lpips": 0.5, "ssim": 0.05, "position": 0.5, "scale": 5e-5, "view": 0.1},
    # ours: no perceptual weights needed; positions are held less, for short trainings; scales more, because ``surface`` starts
    # without holes and pictures of few pixels do not show the holes that shrinking Gaussians leave
    "avatarzoo": {"rgb": 1.0, "lpips": 0.0, "ssim": 0.1, "position": 0.02, "scale": 1e-2, "view": 0.05},
}
FACE_WEIGHT = 10.0
"""What M_mu is everywhere in the ablation with uniform weights (supplement section 6.3): its value on the face."""


class ReconstructionLoss(nn.Module):
    """``L = L_photo + lambda_mu L_mu + lambda_s L_s + lambda_view L_view`` (Eq. 8), each term already weighted.

    Args:
        preset: loss weights; overrides: single weights that replace the preset's (``None`` keeps it).
        uniform_weights: the same position weight everywhere instead of the map M_mu.

    Raises:
        MissingAssetError: LPIPS is asked for and the VGG weights are not on this machine.
    """

    def __init__(
        self, preset: ReconstructionPreset, overrides: dict[str, float | None], uniform_weights: bool = False
    ) -> None:
        super().__init__()
        self.weights = PRESETS[preset] | {k: float(v) for k, v in overrides.items() if v is not None}
        self.uniform_weights = uniform_weights
        self.perceptual = PerceptualLoss("vgg") if self.weights["lpips"] > 0 else None

    def photometric(self, rendered: Float[Tensor, "b 3 h w"], target: Tensor) -> dict[str, Tensor]:
        """Eq. 4. MS-SSIM uses as many scales as the picture has room for: four at 128 pixels."""
        w = self.weights
        terms = {"rgb": w["rgb"] * l1(rendered, target)}
        if w["ssim"] > 0:
            terms["ssim"] = w["ssim"] * ms_ssim_loss(rendered, target)
        if self.perceptual is not None:
            terms["lpips"] = w["lpips"] * self.perceptual(rendered.clamp(0, 1), target)
        return terms

    def regularizers(
        self, offsets: Float[Tensor, "b n 13"], uv_map: UVGaussianMap, people: int | None
    ) -> dict[str, Tensor]:
        """Eq. 5, 6 and 7.

        Args:
            offsets: of pictures that are grouped by person.
            people: number of groups; ``None`` for single pictures, which have no view term.
        """
        w, terms = self.weights, {}
        batch, pixels = len(offsets), uv_map.size**2
        weight = uv_map.position_weight
        if self.uniform_weights:
            weight = torch.full_like(weight, FACE_WEIGHT)
        flat, area = offsets.flatten(0, 1), batch * pixels
        if w["position"] > 0:
            terms["position"] = w["position"] * weighted_norm(flat[:, POSITION], weight.repeat(batch), area)
        if w["scale"] > 0:
            one = torch.ones_like(weight).repeat(batch)  # Eq. 6 has no weight map
            terms["scale"] = w["scale"] * weighted_norm(flat[:, SCALE], one, area)
        if people is not None and w["view"] > 0:
            # released code: mean over all pixels of the map; ours: over those that are Gaussians, since the others are never seen
            groups = offsets.unflatten(0, (people, -1)).unbind()
            terms["view"] = w["view"] * torch.stack([view_spread(group) for group in groups]).mean()
        return terms


class Moment(NamedTuple):
    """What the schedule says of a step.

    Attributes:
        resolution: pixels at which pictures are compared.
        lr: learning rate on identities with several views; portraits: that on real portraits, 0 where they rest.
    """

    resolution: int
    lr: float
    portraits: float


class ProgressiveSchedule:
    """Resolution rises in stages; the learning rate decays within each and is reset when the next begins.

    Real portraits learn at a fraction of the rate and rest during the first stage (supplement section 5.1: "When rendering at
    128 x 128, we do not fine-tune on real data"), unless there is only one stage.

    Args:
        resolutions: one for each stage (paper: 128, then up to 512; we double).
        stage_steps: length of each stage but the last, which goes on to the end.
        lr, decay, decay_every: rate ``lr * decay ** (steps in the stage // decay_every)``.
        portrait_rate: share of it for real portraits.
    """

    def __init__(
        self,
        resolutions: list[int],
        stage_steps: int,
        lr: float,
        decay: float,
        decay_every: int,
        portrait_rate: float,
    ) -> None:
        self.resolutions, self.stage_steps = resolutions, stage_steps
        self.lr, self.decay, self.decay_every, self.portrait_rate = lr, decay, decay_every, portrait_rate

    def at(self, step: int) -> Moment:
        last = len(self.resolutions) - 1
        stage = min(step // self.stage_steps, last)
        lr = self.lr * self.decay ** ((step - stage * self.stage_steps) // self.decay_every)
        rests = stage == 0 and last > 0
        return Moment(self.resolutions[stage], lr, 0.0 if rests else lr * self.portrait_rate)
