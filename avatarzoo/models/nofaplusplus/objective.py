"""NOFA++'s losses (section 3.4). Pictures are RGB in [0, 1], not clamped; squared errors are taken in [-1, 1], EG3D's own range."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from avatarzoo.errors import AvatarZooError, MissingAssetError, MissingExtraError
from avatarzoo.losses.multiscale import multiscale_loss
from avatarzoo.losses.perceptual import PerceptualLoss
from avatarzoo.models.nofaplusplus.regions import RegionBoxes, aligned_faces, cut
from avatarzoo.priors.eg3d import TriPlaneImage

Perceptual = Literal["vgg", "alex", "multiscale", "none"]
Identity = Literal["facenet", "none"]
SMALLEST_CROP = 64
"""Eyes and mouths are compared at this side or a quarter of the picture's; LPIPS needs as much."""


class HeadLoss:
    """The terms of equations 5 to 13.

    The paper prints norms without squares; mean squared errors are used.

    Args:
        perceptual: the network behind LPIPS: ``vgg`` (the usual one in training; the paper does not say) or ``alex``, both of which
            need weights; ``multiscale``, a documented stand-in that needs none; ``none``.
        identity: ``facenet`` or ``none``. paper: ArcFace; its usual files are ONNX, through which no gradient flows here, so
            FaceNet takes its place.
    """

    def __init__(self, perceptual: Perceptual = "vgg", identity: Identity = "facenet") -> None:
        self.perceptual, self.identity = perceptual, identity
        self.lpips: PerceptualLoss | None = None
        self.recogniser: torch.nn.Module | None = None

    def prepare(self, device: torch.device, weights: dict[str, float]) -> None:
        """Read the weights that terms with a weight above 0 need.

        Raises:
            MissingAssetError: weights are not on this machine; nothing takes their place unasked.
            MissingExtraError: the face recognition package is not installed.
        """
        if self.perceptual in ("vgg", "alex") and any(
            weights.get(k, 0) > 0 for k in ("lpips", "rec", "bbox")
        ):
            try:
                self.lpips = PerceptualLoss(self.perceptual).to(device)
            except MissingAssetError as error:
                raise _advised(
                    error, "--model.perceptual multiscale, a stand-in that is no perceptual loss, or none"
                ) from error
        if self.identity == "facenet" and weights.get("id", 0) > 0:
            from avatarzoo.perception.face_embedding import FaceNet

            try:
                network = FaceNet().network
            except (MissingAssetError, MissingExtraError) as error:
                raise _advised(error, "--model.identity none") from error
            self.recogniser = network.to(device).requires_grad_(False).eval()

    def compare(self, made: Float[Tensor, "b 3 s s"], true: Float[Tensor, "b 3 s s"]) -> Float[Tensor, ""]:
        """LPIPS, or what stands in for it."""
        if self.perceptual == "none":
            return made.new_zeros(())
        if self.perceptual == "multiscale":
            return multiscale_loss(made, true)
        assert self.lpips is not None, "prepare() reads the weights"
        return self.lpips(made, true)

    def synthetic(
        self, made: TriPlaneImage, true: TriPlaneImage, weights: dict[str, float]
    ) -> dict[str, Tensor]:
        """Equations 5 to 8, weighted: LPIPS and L2 sum source and target, final and raw; depth sums source and target.

        ``made`` and ``true`` hold both views of everybody.
        """
        terms = {}
        if weights.get("lpips", 0) > 0 and self.perceptual != "none":
            both = self.compare(made.rgb, true.rgb) + self.compare(made.raw, true.raw)
            terms["lpips"] = 2 * weights["lpips"] * both
        if weights.get("l2", 0) > 0:
            terms["l2"] = 2 * weights["l2"] * (squared(made.rgb, true.rgb) + squared(made.raw, true.raw))
        if weights.get("depth", 0) > 0:
            terms["depth"] = 2 * weights["depth"] * (made.depth - true.depth).square().mean()
        return terms

    def video(
        self,
        made: Float[Tensor, "b 3 s s"],
        true: Float[Tensor, "b 3 s s"],
        boxes: RegionBoxes,
        weights: dict[str, float],
        mouth_only: bool = False,
    ) -> dict[str, Tensor]:
        """Equations 10 to 13, weighted."""
        terms = {}
        if weights.get("rec", 0) > 0:
            terms["rec"] = weights["rec"] * self.reconstruction(made, true)
        if weights.get("bbox", 0) > 0:
            terms["bbox"] = weights["bbox"] * self.local(made, true, boxes, mouth_only)
        if weights.get("id", 0) > 0 and self.identity != "none":
            terms["id"] = weights["id"] * self.otherness(made, true, boxes)
        return terms

    def reconstruction(self, made: Tensor, true: Tensor) -> Float[Tensor, ""]:
        """Equation 10: L2 and LPIPS."""
        return squared(made, true) + self.compare(made, true)

    def local(
        self, made: Tensor, true: Tensor, boxes: RegionBoxes, mouth_only: bool = False
    ) -> Float[Tensor, ""]:
        """Equation 11, summed over the mouth and (unless ``mouth_only``) both eyes."""
        side = max(SMALLEST_CROP, made.shape[-1] // 4)
        regions = [boxes.mouth] if mouth_only else [boxes.mouth, boxes.eyes]
        parts = [self.reconstruction(cut(made, box, side), cut(true, box, side)) for box in regions]
        return torch.stack(parts).sum()

    def otherness(self, made: Tensor, true: Tensor, boxes: RegionBoxes) -> Float[Tensor, ""]:
        """Equation 12: one minus the cosine of two face embeddings."""
        assert self.recogniser is not None, "prepare() reads the weights"
        faces = [aligned_faces(picture, boxes, 160) for picture in (made, true)]
        seen = [self.recogniser((face * 255 - 127.5) / 128) for face in faces]
        return 1 - F.cosine_similarity(seen[0], seen[1].detach()).mean()


def squared(made: Tensor, true: Tensor) -> Float[Tensor, ""]:
    """Mean squared error in [-1, 1]."""
    return 4 * (made - true).square().mean()


def psnr(made: Float[Tensor, "b 3 s s"], true: Float[Tensor, "b 3 s s"]) -> Float[Tensor, ""]:
    """Mean over pictures, data range 1."""
    error = (made.detach().clamp(0, 1) - true.clamp(0, 1)).square().mean((1, 2, 3))
    return -10 * error.clamp_min(1e-10).log10().mean()


def boxes_psnr(made: Tensor, true: Tensor, boxes: RegionBoxes) -> Float[Tensor, ""]:
    """Mean PSNR of mouths and of eyes, where expressions show."""
    pairs = [
        (cut(made, box, SMALLEST_CROP), cut(true, box, SMALLEST_CROP)) for box in (boxes.mouth, boxes.eyes)
    ]
    return torch.stack([psnr(*pair) for pair in pairs]).mean()


def _advised(error: AvatarZooError, way: str) -> AvatarZooError:
    return type(error)(f"{error} Or choose {way}.")
