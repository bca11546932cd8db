"""Convolutional gated recurrent unit (Ballas et al. 2016): a memory of feature maps."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


class ConvGRU(nn.Module):
    """h' = (1 - z) h + z tanh(candidate of x and r h), with gates r and z in (0, 1) from x and h; 3x3 convolutions.

    paper (InvertAvatar, eq. 6): z h + (1 - z) o; released code: the weights of z the other way round, which only names the gate
    differently; we follow the code so that its weights load. The memory stays in (-1, 1).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gates = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1)
        self.candidate = nn.Conv2d(2 * channels, channels, 3, padding=1)

    @torch.no_grad()
    def start_open(self, update: float = 0.7) -> None:
        """Let the memory begin as a running mean of what is observed, ``update`` being the share of the newest observation (ours)."""
        channels = self.candidate.out_channels
        for layer in (self.gates, self.candidate):
            assert layer.bias is not None
            layer.weight.mul_(0.1)
            layer.bias.zero_()
        assert self.gates.bias is not None
        self.gates.bias[channels:] = math.log(update / (1 - update))
        own = torch.arange(channels)
        self.candidate.weight[own, own, 1, 1] += 1

    def step(self, x: Float[Tensor, "b c h w"], memory: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The memory after one more observation."""
        reset, update = self.gates(torch.cat([x, memory], 1)).sigmoid().chunk(2, 1)
        candidate = self.candidate(torch.cat([x, reset * memory], 1)).tanh()
        return memory.lerp(candidate, update)

    def forward(
        self, frames: Float[Tensor, "b t c h w"], memory: Float[Tensor, "b c h w"] | None = None
    ) -> Float[Tensor, "b c h w"]:
        """The memory after all frames, in their order; ``memory`` None starts from zeros."""
        if memory is None:
            memory = torch.zeros_like(frames[:, 0])
        for x in frames.unbind(1):
            memory = self.step(x, memory)
        return memory
