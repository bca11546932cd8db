"""The objective of StyleAvatar (paper Eq. 4), with published and own presets."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from avatarzoo.errors import MissingAssetError
from avatarzoo.losses.multiscale import multiscale_loss
from avatarzoo.losses.vgg19 import VGG19Loss

Preset = Literal["avatarzoo", "paper", "official_release"]
Perceptual = Literal["vgg19", "multiscale", "none"]

PRESETS: dict[str, dict[str, float | str | bool]] = {
    # Eq. 4 as printed: four terms, no weights; R1 is StyleGAN2's (section 3.3), gamma of the released code
    "paper": {
        "perceptual": "vgg19", "lambda_l1": 1.0, "lambda_perceptual": 1.0, "lambda_mask": 1.0, "lambda_gan": 1.0,
        "lambda_r1": 5.0, "lambda_features": 0.0, "fixed_background_noise": True, "average_ramp": False,
    },
    # fact sheet 2.1: the VGG term is computed and printed there, but not summed; here it is not computed
    "official_release": {
        "perceptual": "none", "lambda_l1": 1.0, "lambda_perceptual": 0.0, "lambda_mask": 3.0, "lambda_gan": 1.0,
        "lambda_r1": 5.0, "lambda_features": 0.0, "fixed_background_noise": False, "average_ramp": False,
    },
    # ours: needs no weights; pictures follow the video before they follow the discriminator
    "avatarzoo": {
        "perceptual": "multiscale", "lambda_l1": 1.0, "lambda_perceptual": 1.0, "lambda_mask": 1.0, "lambda_gan": 0.05,
        "lambda_r1": 5.0, "lambda_features": 0.0, "fixed_background_noise": True, "average_ramp": True,
    },
}  # fmt: skip


class PortraitLoss:
    """``L = L_1 + L_percep + L_mask + L_GAN`` (Eq. 4) with the weights of a preset, each of which may be overridden.

    Args:
        preset: ``paper``, ``official_release`` or ``avatarzoo``.
        overrides: ``lambda_*`` weights; ``None`` keeps the preset's.
        perceptual: ``vgg19`` (the paper's), ``multiscale`` (a documented stand-in that needs no weights), ``none``;
            ``None`` keeps the preset's.
    """

    def __init__(
        self, preset: Preset, overrides: dict[str, float | None], perceptual: Perceptual | None = None
    ) -> None:
        chosen = PRESETS[preset]
        weights = {k: v for k, v in chosen.items() if k.startswith("lambda_")}
        weights |= {k: v for k, v in overrides.items() if v is not None}
        self.weights: dict[str, float] = {k.removeprefix("lambda_"): float(v) for k, v in weights.items()}
        self.perceptual = str(perceptual or chosen["perceptual"])
        self.fixed_background_noise = bool(chosen["fixed_background_noise"])
        self.average_ramp = bool(chosen["average_ramp"])
        self.vgg19: VGG19Loss | None = None

    def prepare(self, device: torch.device) -> None:
        """Read the weights that the perceptual loss needs.

        Raises:
            MissingAssetError: ``vgg19`` is asked for and its weights are not on this machine; nothing takes its place unasked.
        """
        if self.perceptual == "vgg19" and self.weights["perceptual"] > 0:
            try:
                self.vgg19 = VGG19Loss().to(device)
            except MissingAssetError as error:
                raise MissingAssetError(
                    f"{error} Or choose --model.perceptual multiscale, a stand-in that is no perceptual loss, or none."
                ) from error

    @property
    def adversarial(self) -> bool:
        """Whether a discriminator is trained at all."""
        return self.weights["gan"] > 0

    def supervised(
        self,
        image: Float[Tensor, "b 3 s s"],
        mask: Float[Tensor, "b 1 g g"] | None,
        target: Float[Tensor, "b 3 s s"],
        background: Float[Tensor, "b 1 g g"],
        known: Float[Tensor, "b 1 g g"],
        features: Float[Tensor, "b 1 s s"],
    ) -> dict[str, Tensor]:
        """Weighted terms that compare with the video.

        Args:
            image, target: in [-1, 1], alike where nothing was filmed.
            mask: the network's background mask in [-1, 1], 1 = background; ``None`` for variants without one.
            background: 1 where the video shows background. known: 1 where something was filmed.
            features: 1 on brows, eyes, nose and mouth, where errors count ``1 + lambda_features`` times (L1 and ``multiscale``).
        """
        w = self.weights
        emphasis = 1 + w["features"] * features
        terms = {"l1": w["l1"] * (emphasis * (image - target)).abs().mean()}
        if w["perceptual"] > 0 and self.perceptual != "none":
            terms["perceptual"] = w["perceptual"] * self.compare((image + 1) / 2, (target + 1) / 2, emphasis)
        if mask is not None and w["mask"] > 0:
            terms["mask"] = w["mask"] * (((mask + 1) / 2 - background).abs() * known).mean()
        return terms

    def compare(
        self, image: Float[Tensor, "b 3 s s"], target: Float[Tensor, "b 3 s s"], emphasis: Tensor
    ) -> Float[Tensor, ""]:
        """The perceptual term on pictures in [0, 1]."""
        if self.perceptual == "multiscale":  # linear in the error up to its absolute values
            return multiscale_loss(emphasis * image, emphasis * target)
        assert self.vgg19 is not None, "prepare() reads the weights"
        return self.vgg19(image, target)


def background_target(mask: Float[Tensor, "b 1 s s"], side: int) -> Float[Tensor, "b 1 g g"]:
    """What the predicted mask is held against: 1 where the matte shows at most half a person (released code: alpha <= 127.5)."""
    return (F.interpolate(mask, (side, side), mode="nearest") <= 0.5).float()


def psnr_of(image: Tensor, target: Tensor) -> Tensor:
    """PSNR in decibels of pictures in [-1, 1], for the progress bar."""
    error = (image.detach().clamp(-1, 1) - target).square().mean() / 4
    return -10 * torch.log10(error)
