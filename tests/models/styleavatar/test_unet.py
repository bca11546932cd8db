"""The plain U-Net of the ablation study."""

from __future__ import annotations

import pytest
import torch

from avatarzoo.models.styleavatar.unet import UNet


@pytest.mark.parametrize(("input_size", "output_size"), [(32, 64), (16, 64), (32, 32), (8, 16)])
def test_sides(input_size: int, output_size: int) -> None:
    network = UNet(5, input_size, output_size, channel_max=8)
    picture = network(torch.rand(2, 5, input_size, input_size))
    assert picture.shape == (2, 3, output_size, output_size)
    picture.sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_detail_passes_by_the_bottleneck() -> None:
    """A change of one pixel is seen sharply: the skip connections carry it."""
    torch.manual_seed(0)
    network, flat = UNet(3, 32, 32, channel_max=8), torch.zeros(1, 3, 32, 32)
    dot = flat.clone()
    dot[..., 16, 16] = 5
    change = (network(dot) - network(flat)).abs().sum(1)[0]
    near = change[13:20, 13:20].mean()
    assert near > 2 * change.mean()
