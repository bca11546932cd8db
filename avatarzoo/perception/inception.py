"""The Inception network of the published FID, with its 2015 TensorFlow weights (network: torch-fidelity)."""

from __future__ import annotations

import io

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from avatarzoo import assets

FEATURES = 2048
SIDE = 299


class InceptionFeatures(nn.Module):
    """The 2048 pooled features that FID is defined on (Heusel et al. 2017).

    The published program reads 8-bit pictures and resizes them to 299x299 with TensorFlow 1's bilinear interpolation: corner
    aligned at the first pixel only and *without antialiasing*. That is the default here.

    Args:
        trunk: the network up to the pooled features, input ``(B, 3, 299, 299)`` in [-1, 1].
        antialias: resize with an antialiased bicubic filter instead, as Parmar et al. 2022 propose; such a number is not
            comparable with the published ones.
        quantise: round pictures to 8 bits first.
    """

    def __init__(self, trunk: nn.Module, antialias: bool = False, quantise: bool = True) -> None:
        super().__init__()
        self.trunk, self.antialias, self.quantise = trunk, antialias, quantise
        self.eval().requires_grad_(False)

    @torch.no_grad()
    def forward(self, pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2048"]:
        """Features of RGB pictures in [0, 1]."""
        levels = 255 * pictures.clamp(0, 1)
        levels = levels.round() if self.quantise else levels
        return self.trunk((self._resize(levels) - 128) / 128)

    def _resize(self, levels: Tensor) -> Tensor:
        if self.antialias:
            return F.interpolate(levels, (SIDE, SIDE), mode="bicubic", antialias=True)
        from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

        return interpolate_bilinear_2d_like_tensorflow1x(levels, (SIDE, SIDE), align_corners=False)


def load_inception(antialias: bool = False, quantise: bool = True) -> InceptionFeatures:
    """The frozen network; the arguments are those of :class:`InceptionFeatures`.

    Raises:
        MissingAssetError: the weights are not on this machine.
    """
    weights = torch.load(assets.find("inception"), weights_only=True, map_location="cpu")
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    # the library would unpickle the file without restrictions, so it gets a copy of the tensors that were read safely
    copy = io.BytesIO()
    torch.save(weights, copy)
    copy.seek(0)
    network = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=copy)
    *layers, _classifier = network.children()  # in the order in which they are applied
    return InceptionFeatures(nn.Sequential(*layers, nn.Flatten()), antialias, quantise)
