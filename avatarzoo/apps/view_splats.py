"""Gaussian avatars drawn by the browser itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt32

from avatarzoo.geometry.rotations import quaternion_to_matrix
from avatarzoo.render.gaussians import Gaussians


def covariances(gaussians: Gaussians) -> Float[torch.Tensor, "n 3 3"]:
    """Of the first set."""
    axes = quaternion_to_matrix(gaussians.quaternions[0]) * gaussians.scales[0, :, None]
    return axes @ axes.transpose(1, 2)


def packed(gaussians: Gaussians) -> UInt32[np.ndarray, "n 8"]:
    """viser's layout, of the first set: centre (3 floats), a free word, covariance (6 halves), RGBA (4 bytes)."""
    means = gaussians.means[0].float().numpy()
    out = np.zeros((len(means), 8), np.uint32)
    out[:, :3] = np.ascontiguousarray(means).view(np.uint32)
    half = covariances(gaussians).reshape(-1, 9)[:, [0, 1, 2, 4, 5, 8]].numpy().astype(np.float16)
    out[:, 4:7] = np.ascontiguousarray(half).view(np.uint32)
    rgba = torch.cat([gaussians.colors[0], gaussians.opacities[0, :, None]], 1).clamp(0, 1).numpy()
    out[:, 7:] = (rgba * 255).round().astype(np.uint8).view(np.uint32)
    return out


class Splats:
    """The splats in one browser.

    Args:
        scene: viser's scene of that browser.
    """

    def __init__(self, scene: Any) -> None:
        self.scene = scene
        self.nodes: dict[int, Any] = {}

    def show(self, found: dict[int, Gaussians]) -> None:
        """These avatars, by number, and no others."""
        for number in set(self.nodes) - set(found):
            self.nodes.pop(number).remove()
        for number, gaussians in found.items():
            if number in self.nodes:
                self.nodes[number].buffer = packed(gaussians)
            else:
                self.nodes[number] = self.add(f"/avatar_{number}", gaussians)

    def add(self, name: str, gaussians: Gaussians) -> Any:
        return self.scene.add_gaussian_splats(
            name,
            centers=gaussians.means[0].float().numpy(),
            covariances=covariances(gaussians).numpy(),
            rgbs=gaussians.colors[0].clamp(0, 1).numpy(),
            opacities=gaussians.opacities[0, :, None].numpy(),
        )
