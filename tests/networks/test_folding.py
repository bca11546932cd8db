"""Folded networks draw what the trained ones draw."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from avatarzoo.networks.double_styleunet import DoubleStyleUNet, look_up
from avatarzoo.networks.feature_generator import Features
from avatarzoo.networks.folded_double import FoldedDoubleStyleUNet, look_up_rows, rows_at
from avatarzoo.networks.folding import FoldedStyleUNet, block_basis, blocks_of
from avatarzoo.networks.haar import haar_merge, haar_split
from avatarzoo.networks.styleunet import StyleUNet

SIDES = pytest.mark.parametrize(("r", "s"), [(32, 64), (64, 64), (64, 32), (128, 256)])


def lively(network: torch.nn.Module) -> torch.nn.Module:
    """Biases and noise strengths as after training, so that their errors show."""
    draws = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith(("bias", "noise_strength", "mask_bias")):
                parameter += 0.1 * torch.randn(parameter.shape, generator=draws)
    return network.eval()


def test_blocks_are_the_bands_in_another_basis() -> None:
    bands = torch.randn(2, 12, 4, 4)
    blocks = torch.einsum("oi,bihw->bohw", block_basis(), bands)
    assert torch.allclose(F.pixel_shuffle(blocks, 2), haar_merge(bands), atol=1e-6)
    assert torch.allclose(blocks_of(bands), blocks, atol=1e-6)
    assert torch.allclose(block_basis().t() @ block_basis(), torch.eye(12), atol=1e-6)
    noise = torch.randn(1, 16, 4, 4)
    merged = haar_merge(haar_merge(noise))
    assert torch.allclose(F.pixel_shuffle(blocks_of(noise, 2), 4), merged, atol=1e-6)
    assert torch.allclose(haar_split(haar_split(merged)), noise, atol=1e-6)


def test_looked_up_rows_are_nearest_neighbours() -> None:
    """Corners, halfway points between texels and points outside included."""
    texture = torch.randn(1, 5, 8, 8)
    line = torch.cat([torch.linspace(-1.2, 1.2, 50), torch.arange(-8, 9) / 8])
    uv = torch.stack(torch.meshgrid(line, line, indexing="xy"))[None]
    rows = F.pad(texture[0].flatten(1).t(), (0, 0, 0, 1))
    inside = torch.rand(1, 1, 67, 67) > 0.3
    assert torch.equal(look_up_rows(rows, rows_at(uv, inside, 8)), look_up(texture, uv) * inside)


@SIDES
@torch.no_grad()
def test_styleunet(r: int, s: int) -> None:
    torch.manual_seed(0)
    network = lively(StyleUNet(r, s, channel_max=16))
    image, style, noise = torch.rand(2, 3, r, r), torch.randn(1, 64), network.draw_noise(1)
    for given in (noise, None):
        full = network(image, style.expand(2, -1), given)
        assert torch.allclose(FoldedStyleUNet(network, style, given)(image), full, atol=2e-6)


@pytest.mark.parametrize(
    ("r", "s", "parts"),
    [
        (32, 64, "all"),
        (64, 64, "all"),
        (64, 32, "all"),
        (128, 128, "all"),
        (32, 64, "no noise"),
        (32, 64, "no face"),
    ],
)
@torch.no_grad()
def test_double_styleunet(r: int, s: int, parts: str) -> None:
    torch.manual_seed(0)
    network = lively(DoubleStyleUNet(r, s, channel_max=16))
    g, c = network.grid, network.feature_channels
    style, noise = torch.randn(1, 64), None if parts == "no noise" else network.draw_noise(1)
    face = None if parts == "no face" else Features(torch.randn(1, c, g, g), torch.randn(1, 12, g, g))
    back = Features(torch.randn(1, c, 2 * g, 2 * g), torch.randn(1, 12, 2 * g, 2 * g))
    folded = FoldedDoubleStyleUNet(network, style, face, back, noise)
    render, uv = torch.rand(2, 3, r, r) * 2 - 1, torch.rand(2, 2, g, g) * 2 - 1
    mask_face = (torch.rand(2, 1, g, g) > 0.3).float()
    given = render, style.expand(2, -1), uv, mask_face, face

    def window(x: float, y: float) -> Features:
        return Features(*(f[..., int(y) : int(y) + g, int(x) : int(x) + g] for f in back))

    for x, y in ((0, g // 2), (g // 4, g // 4), (g // 4 + 1, g // 2 - 1), (g // 2, 0)):
        offset = torch.tensor([[x, y]])
        behind = window(x + 1, y + 2)
        full = network(*given, behind, noise, offset.expand(2, -1))
        corner = offset + g // 4
        for at in (corner, corner.expand(2, -1), (x + g // 4, y + g // 4)):
            shown = folded.backdrop(torch.tensor([[x + 1, y + 2]]))
            image, mask = folded(render, rows_at(uv, mask_face > 0, g), at, shown)
            assert torch.allclose(image, full.image, atol=5e-6)
            assert full.mask is not None
            assert torch.allclose(mask, full.mask, atol=5e-6)
