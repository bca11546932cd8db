"""The VGG19 feature loss of image translation (Johnson et al. 2016; layers of pix2pixHD), with real weights or not at all."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avatarzoo.assets import find

SLICES = (2, 7, 12, 21, 30)
"""Ends of relu1_1, relu2_1, relu3_1, relu4_1 and relu5_1 in torchvision's ``vgg19().features``."""
LARGEST = 512
"""Pictures larger than this side are reduced first (StyleAvatar's released code compares at 512)."""


class VGG19Loss(nn.Module):
    """Mean absolute difference of five layers' features, summed (StyleAvatar Eq. 4, L_percep).

    Pictures are in [0, 1]; the network sees them in [-1, 1].
    paper: layers and normalisation not stated; released code: these layers, equal weights, no ImageNet normalisation;
    we follow the code because its loss weights belong to it.

    Raises:
        MissingAssetError: the weights are not on this machine; a feature loss with random weights is never used.
    """

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import vgg19

        weights = torch.load(find("vgg19"), map_location="cpu", weights_only=True)
        with torch.device("meta"):  # no random weights are drawn for what is replaced at once
            network = vgg19(weights=None)
        network.load_state_dict(weights, assign=True)
        self.slices = slices_of(network.features)

    def forward(
        self, rendered: Float[Tensor, "b 3 h w"], target: Float[Tensor, "b 3 h w"]
    ) -> Float[Tensor, ""]:
        made, wanted = (_reduced(x) * 2 - 1 for x in (rendered, target.detach()))
        distance = rendered.new_zeros(())
        for part in self.slices:
            made = part(made)
            with torch.no_grad():
                wanted = part(wanted)
            distance = distance + (made - wanted).abs().mean()
        return distance


def slices_of(features: nn.Sequential) -> nn.ModuleList:
    """Frozen consecutive parts of VGG19 that end at :data:`SLICES`."""
    for layer in features:
        if isinstance(layer, nn.ReLU):
            layer.inplace = False
    starts = (0, *SLICES[:-1])
    parts = [features[start:end] for start, end in zip(starts, SLICES)]
    return nn.ModuleList(parts).requires_grad_(False).eval()


def _reduced(pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    if max(pictures.shape[-2:]) <= LARGEST:
        return pictures
    # released code: bilinear for the fake, nearest for the real picture; both the same way here, or equal pictures would differ
    return nn.functional.interpolate(
        pictures, (LARGEST, LARGEST), mode="bilinear", align_corners=False, antialias=True
    )
