"""A method that costs nothing: a disc in the person's colour where the head is, as wide as the mouth is open."""

from __future__ import annotations

import torch

from avatarzoo.geometry.camera import project
from avatarzoo.heads import load_head
from avatarzoo.models.base import AvatarImage, AvatarModule, AvatarState


class Puppet(AvatarModule):
    """Reconstructs from pictures, makes people up and speaks; keeps what it was asked to draw."""

    takes_pictures = True

    def __init__(self, background: float = 1.0, speaks: bool = True) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.head, self.speaks = load_head("procedural"), speaks
        self.drawn: list = []

    def reconstruct(self, images=None, params=None, cameras=None) -> AvatarState:
        assert images is not None
        assert 0 <= images.min() <= images.max() <= 1
        assert images.shape[-2:] == cameras.size
        middle = images[0, :, 200:312, 200:312].mean((1, 2))
        return AvatarState("Puppet", {"colour": middle}, {"pictures": len(images)})

    def generate(self, seed: int) -> AvatarState:
        return AvatarState("Puppet", {"colour": torch.tensor([0.1 * seed, 0.0, 0.5])})

    def animate(self, state, params, camera) -> AvatarImage:
        self.drawn.append((params, camera))
        height, width = camera.size
        middle = project(params.translation[:, None], camera)[0, 0, :2]
        y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        radius = width * (0.2 + 0.1 * params.expression[0, 0])
        alpha = ((x - middle[0]) ** 2 + (y - middle[1]) ** 2 < radius**2).float()[None, None]
        colour = state.tensors["colour"][None, :, None, None]
        return AvatarImage(colour * alpha + float(self.hparams["background"]) * (1 - alpha), alpha)

    def speak(self, state, samples, rate, fps, frames):
        if not self.speaks:
            return super().speak(state, samples, rate, fps, frames)
        expression = torch.zeros(frames, self.head.n_expression)
        expression[:, 0] = samples.abs().mean() + torch.arange(frames) / (10 * frames)
        return expression
