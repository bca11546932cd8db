"""InvertAvatar's losses (appendix A.2, equations 2 and 3) and their weights. Pictures are in the network's range, about [-1, 1]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from avatarzoo.errors import AvatarZooError, MissingAssetError, MissingExtraError
from avatarzoo.losses.multiscale import multiscale_loss
from avatarzoo.losses.perceptual import PerceptualLoss
from avatarzoo.models.invertavatar.inversion import Drawn, Person
from avatarzoo.networks.ops import resize

Stage = Literal["latent", "image", "recurrent"]
"""E_latent; E_tex and E_tri on single pictures; both with recurrent decoders."""
Preset = Literal["avatarzoo", "paper", "official_release"]
Perceptual = Literal["alex", "vgg", "multiscale", "none"]
Identity = Literal["facenet", "none"]

LATENT = {"l1": 1.0, "lpips": 0.5, "id": 0.25, "code": 1.0, "delta": 0.0, "raw": 0.0, "raw_lpips": 0.0}
SECOND = {"l1": 1.0, "lpips": 1.0, "tri": 0.001, "tex": 0.001, "raw": 1.0, "raw_lpips": 0.0, "adv": 0.1}
RELEASED_SECOND = {**SECOND, "tex": 0.0, "raw_lpips": 1.0}
WEIGHTS: dict[Preset, dict[Stage, dict[str, float]]] = {
    "paper": {"latent": LATENT, "image": SECOND, "recurrent": SECOND},
    "official_release": {
        "latent": {**LATENT, "delta": 1e-3, "raw": 1.0, "raw_lpips": 1.0},
        "image": RELEASED_SECOND,
        "recurrent": RELEASED_SECOND,
    },
    # ours: no published weights are needed; codes are learned from made-up people without drawing what is predicted; features weigh
    # more; for short trainings on few people
    "avatarzoo": {
        "latent": {**dict.fromkeys(LATENT, 0.0), "codes": 1.0},
        "image": {**SECOND, "tri": 0.05, "tex": 0.05, "adv": 0.0},
        "recurrent": {**SECOND, "tri": 0.05, "tex": 0.05, "adv": 0.0},
    },
}
"""Weights by the terms' names. ``code`` is the adversarial loss on codes, ``adv`` the one on pictures, which a run switches on;
``codes`` (ours) the error of made-up people's codes as pictures show it (:class:`~avatarzoo.models.made_up_people.CodeError`);
``delta`` the size of the codes' offsets from the first, ``raw_lpips`` the perceptual loss on volume-rendered pictures."""
COMPARED = ("l1", "lpips", "id", "raw", "raw_lpips")
"""Terms for which views have to be drawn."""
PERCEPTUAL: dict[Preset, Perceptual] = {
    "paper": "alex",
    "official_release": "alex",
    "avatarzoo": "multiscale",
}
RATES: dict[Preset, dict[Stage, float]] = {
    "paper": {"latent": 1e-4, "image": 1e-4, "recurrent": 1e-4},
    "official_release": {"latent": 4e-5, "image": 2.5e-5, "recurrent": 2.5e-5},
    "avatarzoo": {"latent": 5e-4, "image": 5e-4, "recurrent": 5e-4},
}
DISCRIMINATOR_RATES: dict[Preset, dict[Stage, float]] = {
    "paper": {"latent": 1e-4, "image": 1e-3, "recurrent": 1e-3},
    "official_release": {"latent": 2e-5, "image": 1e-3, "recurrent": 1e-3},
    "avatarzoo": {"latent": 1e-4, "image": 1e-3, "recurrent": 1e-3},
}
LARGEST = 256
"""Pictures are compared at this side (released code)."""
FACE = (32 / 256, 220 / 256, 35 / 256, 223 / 256)
"""Left, right, top, bottom of the face in EG3D's crops, as the released identity loss cuts it."""


class InversionLoss:
    """Terms of equations 2 and 3, each weighted.

    Args:
        weights: of :data:`WEIGHTS`, single ones replaced.
        perceptual: the network behind LPIPS (released code: alex), both need weights; ``multiscale``, a documented stand-in that
            needs none; ``none``.
        identity: ``facenet`` or ``none``. paper and released code: an IR-SE-50 trained for recognition, which is not published with
            either; FaceNet takes its place.
    """

    def __init__(self, weights: dict[str, float], perceptual: Perceptual, identity: Identity) -> None:
        self.weights, self.perceptual, self.identity = weights, perceptual, identity
        self.lpips: PerceptualLoss | None = None
        self.recogniser: torch.nn.Module | None = None

    def prepare(self, device: torch.device) -> None:
        """Read the weights that terms with a weight above 0 need.

        Raises:
            MissingAssetError: weights are not on this machine; nothing takes their place unasked.
            MissingExtraError: the face recognition package is not installed.
        """
        wanted = max(self.weights.get(k, 0.0) for k in ("lpips", "raw_lpips"))
        if self.perceptual in ("alex", "vgg") and wanted > 0:
            try:
                self.lpips = PerceptualLoss(self.perceptual).to(device)  # type: ignore[arg-type]
            except MissingAssetError as error:
                raise _advised(
                    error, "--model.perceptual multiscale, a stand-in that is no perceptual loss, or none"
                ) from error
        if self.identity == "facenet" and self.weights.get("id", 0.0) > 0:
            from avatarzoo.perception.face_embedding import FaceNet

            try:
                network = FaceNet().network
            except (MissingAssetError, MissingExtraError) as error:
                raise _advised(error, "--model.identity none") from error
            self.recogniser = network.to(device).requires_grad_(False).eval()

    def compare(self, made: Float[Tensor, "b 3 h w"], true: Float[Tensor, "b 3 h w"]) -> Float[Tensor, ""]:
        """LPIPS, or what stands in for it."""
        made, true = (made + 1) / 2, (true + 1) / 2
        if self.perceptual == "none":
            return made.new_zeros(())
        if self.perceptual == "multiscale":
            return multiscale_loss(made, true)
        assert self.lpips is not None, "prepare() reads the weights"
        return self.lpips(made, true)

    def pictures(self, drawn: Drawn, target: Float[Tensor, "b 3 s s"]) -> dict[str, Tensor]:
        """Terms on photographs; ``raw`` then compares the first three rendered features with the small picture."""
        w, side = self.weights, min(LARGEST, target.shape[-1])
        made, true = resize(drawn.image, side), resize(target, side)
        raw, small = drawn.features[:, :3], resize(target, drawn.features.shape[-1])
        terms = {"l1": w["l1"] * (made - true).abs().mean(), "lpips": w["lpips"] * self.compare(made, true)}
        if w["raw"] > 0:
            terms["raw"] = w["raw"] * (raw - small).abs().mean()
        if w["raw_lpips"] > 0:
            terms["raw_lpips"] = w["raw_lpips"] * self.compare(raw, small)
        if w.get("id", 0.0) > 0 and self.identity != "none":
            terms["id"] = w["id"] * self.otherness(made, true)
        return terms

    def features(self, drawn: Drawn, person: Person, true: Drawn, true_person: Person) -> dict[str, Tensor]:
        """Terms on people of the prior, whose features are known: rendered features, planes, textures."""
        w = self.weights
        terms = self.pictures(drawn, true.image)
        if w["raw"] > 0:
            terms["raw"] = w["raw"] * (drawn.features - true.features).abs().mean()
        if w.get("tri", 0.0) > 0:
            terms["tri"] = w["tri"] * (drawn.planes - true.planes).abs().mean()
        if w.get("tex", 0.0) > 0:
            pairs = zip(person.features.texture[:4], true_person.features.texture[:4])
            terms["tex"] = w["tex"] * torch.stack([(a - b).abs().mean() for a, b in pairs]).sum()
        return terms

    def otherness(self, made: Float[Tensor, "b 3 s s"], true: Float[Tensor, "b 3 s s"]) -> Float[Tensor, ""]:
        """One minus the cosine of two face embeddings, of a fixed square of EG3D's crop."""
        assert self.recogniser is not None, "prepare() reads the weights"
        left, right, top, bottom = (round(x * made.shape[-1]) for x in FACE)
        faces = [resize(x[..., top:bottom, left:right], 160) for x in (made, true)]
        seen = [self.recogniser(face) for face in faces]
        return 1 - F.cosine_similarity(seen[0], seen[1].detach()).mean()


def loss_of(hp: Mapping[str, Any]) -> InversionLoss:
    """The loss that a module's hyper-parameters describe."""
    weights = dict(WEIGHTS[hp["preset"]][hp["stage"]])
    weights |= {
        k.removeprefix("lambda_"): float(v)
        for k, v in hp.items()
        if k.startswith("lambda_") and v is not None
    }
    return InversionLoss(weights, hp["perceptual"] or PERCEPTUAL[hp["preset"]], hp["identity"])


def psnr(made: Float[Tensor, "b 3 s s"], true: Float[Tensor, "b 3 s s"]) -> Float[Tensor, ""]:
    """Mean over pictures in the network's range."""
    error = (made.detach().clamp(-1, 1) - true).square().mean((1, 2, 3)) / 4
    return -10 * error.clamp_min(1e-10).log10().mean()


def _advised(error: AvatarZooError, way: str) -> AvatarZooError:
    return type(error)(f"{error} Or choose {way}.")
