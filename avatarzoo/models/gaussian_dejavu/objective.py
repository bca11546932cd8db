"""The loss of personalisation (paper Eq. 4-6 and 8 without the view term), with published and own presets."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avatarzoo.losses.perceptual import PerceptualLoss
from avatarzoo.losses.photometric import huber, l1, ms_ssim_loss
from avatarzoo.losses.regularizers import roughness, weighted_norm
from avatarzoo.models.gaussian_dejavu.uv_gaussians import UVGaussianMap

Preset = Literal["avatarzoo", "paper", "official_release"]

PRESETS: dict[str, dict[str, float | str]] = {
    # section 4.2
    "paper": {
        "rgb": "l1", "lambda_rgb": 1.0, "lambda_features": 0.0, "lambda_lpips": 0.5, "lambda_ssim": 0.05,
        "lambda_position": 0.5, "lambda_scale": 5e-5, "lambda_blend": 0.0, "lambda_rough": 0.0,
    },
    # fact sheet section 4: Huber instead of L1, facial features 10 times in stage 2, SSIM absent
    "official_release": {
        "rgb": "huber", "lambda_rgb": 1.0, "lambda_features": 10.0, "lambda_lpips": 0.05, "lambda_ssim": 0.0,
        "lambda_position": 0.5, "lambda_scale": 1e-5, "lambda_blend": 0.0, "lambda_rough": 0.0,
    },
    # ours: no perceptual weights needed; blendmaps are held near the global map so that they do not overfit
    "avatarzoo": {
        "rgb": "huber", "lambda_rgb": 1.0, "lambda_features": 0.0, "lambda_lpips": 0.0, "lambda_ssim": 0.0,
        "lambda_position": 1e-3, "lambda_scale": 1e-5, "lambda_blend": 1e-4, "lambda_rough": 0.1,
    },
}  # fmt: skip


class PersonalizationLoss(nn.Module):
    """``L = L_photo + lambda_mu L_mu + lambda_s L_s`` (Eq. 8) with the weights of a preset, each of which may be overridden.

    Raises:
        MissingAssetError: a preset or override asks for LPIPS and the VGG weights are not on this machine.
    """

    def __init__(self, preset: Preset, overrides: dict[str, float | None]) -> None:
        super().__init__()
        weights = PRESETS[preset] | {k: v for k, v in overrides.items() if v is not None}
        self.rgb = str(weights.pop("rgb"))
        self.weights: dict[str, float] = {k.removeprefix("lambda_"): float(v) for k, v in weights.items()}
        self.preset = preset
        self.perceptual = PerceptualLoss("vgg") if self.weights["lpips"] > 0 else None

    def photometric(
        self, rendered: Float[Tensor, "b 3 h w"], target: Tensor, features: Tensor, stage: int, step: int
    ) -> dict[str, Tensor]:
        """Weighted terms of Eq. 4."""
        w = self.weights
        terms = {"rgb": w["rgb"] * (l1 if self.rgb == "l1" else huber)(rendered, target)}
        if w["features"] > 0 and (stage == 2 or self.preset != "official_release"):
            terms["features"] = w["features"] * huber(rendered, target, features)
        if w["ssim"] > 0:
            terms["ssim"] = w["ssim"] * ms_ssim_loss(rendered, target)
        if self.perceptual is not None and self._uses_lpips(stage, step):
            terms["lpips"] = w["lpips"] * self.perceptual(rendered.clamp(0, 1), target)
        return terms

    def _uses_lpips(self, stage: int, step: int) -> bool:
        # released code: LPIPS joins stage 1 only after step 50; the paper has it from the start
        return self.preset != "official_release" or stage == 2 or step > 50

    def regularizers(
        self,
        delta: Float[Tensor, "b n 13"],
        residual: Float[Tensor, "b n 13"] | None,
        uv_map: UVGaussianMap,
    ) -> dict[str, Tensor]:
        """Weighted terms of Eq. 5 and 6 on the learnt (blended) delta, and ours that holds the blendmaps near the global map."""
        w, terms = self.weights, {}
        weights, pixels = uv_map.position_weight, uv_map.size**2
        mean = delta.mean(0) if len(delta) > 1 else delta[0]
        if w["position"] > 0:
            terms["position"] = w["position"] * weighted_norm(mean[:, 0:3], weights, pixels)
        if w["scale"] > 0:
            # paper: no map in Eq. 6; released code: weighted by the position map; we follow the code, whose weight is tuned to it
            terms["scale"] = w["scale"] * weighted_norm(mean[:, 3:6], weights, pixels)
        if w["rough"] > 0:
            terms["rough"] = w["rough"] * roughness(mean[:, 0:3], uv_map.neighbours)
        if residual is not None and w["blend"] > 0:
            terms["blend"] = w["blend"] * residual.square().sum(-1).mean()
        return terms


def psnr_of(rendered: Tensor, target: Tensor) -> Tensor:
    """PSNR of a batch for the progress bar, without clamping surprises."""
    return -10 * torch.log10((rendered.detach().clamp(0, 1) - target).square().mean())
