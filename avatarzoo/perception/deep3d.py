"""Deep3DFaceRecon_pytorch's coefficients, with the weights and landmarks that a user has from its authors.

Written from descriptions of the published network and alignment (Deng et al. 2019, "Accurate 3D face reconstruction with
weakly-supervised learning"). The 3D model behind the coefficients (BFM) is not needed to compare them. Two releases of the
weights exist; published AED and APD numbers use the first (2021), not the one of 2023-04-25.
"""

from __future__ import annotations

import pickle
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from avatarzoo import assets
from avatarzoo.errors import MissingAssetError, UnsafeCheckpointError
from avatarzoo.geometry.crop import Crop
from avatarzoo.perception.faces import to_uint8

SIZE = 224
SCALE = 102.0
"""Pixels of the crop for one unit of the standard landmarks."""
HEADS = (80, 64, 80, 3, 27, 2, 1)
"""identity, expression, texture, angles, lighting, translation in the picture plane, depth."""
FIVE_OF_68 = ((36, 39), (42, 45), (30,), (48,), (54,))
"""Points of the 68 whose means are the five: the eyes' corners, nose tip, mouth corners; image left first."""


class Deep3DCoefficients(NamedTuple):
    """The 257 numbers; angles in radians, translation in the model's unit (decimetres) before a camera at distance 10."""

    identity: Float[Tensor, "b 80"]
    expression: Float[Tensor, "b 64"]
    texture: Float[Tensor, "b 80"]
    angles: Float[Tensor, "b 3"]
    lighting: Float[Tensor, "b 27"]
    translation: Float[Tensor, "b 3"]


def split(coefficients: Float[Tensor, "b 257"]) -> Deep3DCoefficients:
    """Name the parts of the network's output."""
    return Deep3DCoefficients(*coefficients.split((80, 64, 80, 3, 27, 3), dim=1))


class Deep3DNetwork(nn.Module):
    """ResNet-50 without its classifier and seven 1x1 convolutions; RGB in [0, 1] in, 257 coefficients out."""

    def __init__(self) -> None:
        from torchvision.models import resnet50

        super().__init__()
        self.backbone = resnet50()
        self.backbone.fc = nn.Identity()
        self.final_layers = nn.ModuleList(nn.Conv2d(2048, width, 1) for width in HEADS)

    def forward(self, crops: Float[Tensor, "b 3 224 224"]) -> Float[Tensor, "b 257"]:
        features = self.backbone(crops)[:, :, None, None]
        return torch.cat([layer(features) for layer in self.final_layers], 1).flatten(1)


def load_deep3d() -> Deep3DNetwork:
    """The frozen network with the user's ``epoch_20.pth``.

    The file holds optimiser and network; ``net_recon`` is the network, its keys ``backbone.*`` (as in torchvision) and
    ``final_layers.N.*``. These names are from descriptions, the file itself could not be seen here: others are refused.

    Raises:
        MissingAssetError: the file is not here, or is not this network.
        UnsafeCheckpointError: it holds more than tensors and plain values.
    """
    path = assets.find("deep3d")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UnsafeCheckpointError(
            f"{path} holds objects besides tensors, and they were not loaded; take epoch_20.pth from its authors."
        ) from error
    except (RuntimeError, EOFError) as error:
        raise MissingAssetError(f"{path} is damaged ({error}); get it again from its publisher.") from error
    network = Deep3DNetwork()
    try:
        network.load_state_dict(content["net_recon"])
    except (KeyError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0][:200]
        raise MissingAssetError(
            f"{path} is not Deep3DFaceRecon_pytorch's checkpoint with the ResNet-50 under net_recon ({reason}); "
            "take epoch_20.pth from its authors."
        ) from error
    return network.eval().requires_grad_(False)


def standard_landmarks() -> Float[np.ndarray, "5 3"]:
    """Five points of the authors' 68 standard 3D landmarks: eyes, nose tip, mouth corners; image left first, y up.

    Raises:
        MissingAssetError: the file is not here, or does not hold them.
    """
    from scipy.io import loadmat

    path = assets.find("deep3d-landmarks")
    try:
        points = np.asarray(loadmat(path, variable_names=["lm"])["lm"], np.float64)
        return np.stack([points[list(rows)].mean(0) for rows in FIVE_OF_68]).reshape(5, 3)
    except (KeyError, ValueError, IndexError, TypeError, NotImplementedError) as error:
        raise MissingAssetError(
            f"{path} does not hold 68 landmarks under lm ({error}); take similarity_Lm3D_all.mat from its authors."
        ) from error


def alignment(points: Float[np.ndarray, "b 5 2"], standard: Float[np.ndarray, "5 3"]) -> Crop:
    """The 224x224 crop of each face: upright, centred where the standard face's origin falls, 102 pixels a unit.

    Pose from orthography and scaling: the affine camera that takes the standard points to the seen ones in the least-squares
    sense; its scale is the mean length of its two rows. The published code rounds crops to whole pixels, we do not.
    """
    homogeneous = np.concatenate([standard, np.ones((5, 1))], 1)
    camera = np.stack([np.linalg.lstsq(homogeneous, p * [1.0, -1.0], rcond=None)[0].T for p in points])
    scale = np.linalg.norm(camera[:, :, :3], axis=2).mean(1)
    centre = camera[:, :, 3] * [1.0, -1.0]
    zoom = (SCALE / scale)[:, None, None]
    matrix = np.concatenate([zoom * np.eye(2), SIZE / 2 - zoom * centre[..., None]], 2)
    return Crop(torch.from_numpy(matrix), SIZE)


@torch.no_grad()
def estimate(
    network: nn.Module,
    pictures: Float[Tensor, "b 3 h w"],
    points: Float[np.ndarray, "b 5 2"],
    standard: Float[np.ndarray, "5 3"],
) -> Float[Tensor, "b 257"]:
    """Coefficients of each picture on the CPU, NaN where ``points`` are not finite.

    Args:
        pictures: RGB in [0, 1]. standard: of :func:`standard_landmarks`.
        points: eyes, nose tip, mouth corners in pixels, image left first.
    """
    out = torch.full((len(pictures), sum(HEADS)), torch.nan)
    found = np.flatnonzero(np.isfinite(points).all((1, 2)))
    if not len(found):
        return out
    crop = alignment(points[found], standard)
    shots = enumerate(to_uint8(pictures[found]))
    cut = np.stack([crop.picture(shot, k, border="black") for k, shot in shots])
    device = next(network.parameters()).device
    out[found] = network(torch.from_numpy(cut).to(device).permute(0, 3, 1, 2) / 255).float().cpu()
    return out
