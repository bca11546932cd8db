"""LPIPS networks with their published weights (the linear layers come with the lpips package, the backbone with the assets)."""

from __future__ import annotations

import contextlib
import io
from typing import Literal

import torch
from torch import nn

from avatarzoo import assets

BACKBONES = {"vgg": "vgg16", "alex": "alexnet"}


def load_lpips(backbone: Literal["vgg", "alex"]) -> nn.Module:
    """A frozen LPIPS 0.1 network.

    Raises:
        MissingAssetError: the torchvision weights of the backbone are not on this machine.
        ValueError: there is no such backbone.
    """
    if backbone not in BACKBONES:
        raise ValueError(f"LPIPS has the backbones {', '.join(BACKBONES)}, not {backbone!r}.")
    path = assets.find(BACKBONES[backbone])
    import lpips  # slow: pulls in torchvision's models

    with contextlib.redirect_stdout(io.StringIO()):
        network = lpips.LPIPS(net=backbone, pretrained=True, pnet_rand=True, verbose=False)
    features = {
        k.removeprefix("features."): v
        for k, v in torch.load(path, weights_only=True).items()
        if k.startswith("features.")
    }
    own = network.net.state_dict()
    # lpips cuts the torchvision features into slices that keep the layer's number as the last part but one of the key
    loaded = {key: features[key.split(".", 1)[1]] for key in own}
    network.net.load_state_dict(loaded, strict=True)
    return network.eval().requires_grad_(False)
