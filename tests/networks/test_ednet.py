"""EDNet beyond its reference tensors: sizes, resizing, gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from avatarzoo.networks.ednet import Blur, EDNet


@pytest.fixture(scope="module")
def net() -> EDNet:
    torch.manual_seed(0)
    return EDNet(32, width=4)


@pytest.mark.parametrize("uv_size", [32, 20, 48])
@pytest.mark.parametrize("picture", [32, 50])
def test_offsets_have_the_size_of_the_position_map(net: EDNet, uv_size: int, picture: int) -> None:
    code = net.encode(torch.rand(2, 3, picture, picture))
    assert code.shape == (2, 32, 2, 2)
    assert net.decode(code, torch.rand(2, 3, uv_size, uv_size)).shape == (2, 13, uv_size, uv_size)


def test_forward_is_decode_of_encode(net: EDNet) -> None:
    picture, positions = torch.rand(1, 3, 40, 40), torch.rand(1, 3, 32, 32)
    assert torch.equal(net(picture, positions), net.decode(net.encode(picture), positions))


def test_the_position_map_matters_at_every_level(net: EDNet) -> None:
    code, positions = net.encode(torch.rand(1, 3, 32, 32)), torch.rand(1, 3, 32, 32)
    seen: list[int] = []
    hooks = [
        block.up.register_forward_hook(lambda m, i, o: seen.append((i[0].shape[-1], i[0][:, -3:]))) for block in net.decoder
    ]  # fmt: skip
    net.decode(code, positions)
    for hook in hooks:
        hook.remove()
    assert [side for side, _ in seen] == [2, 4, 8, 16]
    for side, part in seen:
        small = F.interpolate(positions, (side, side), mode="bilinear", align_corners=False)
        assert torch.equal(part, small)


def test_blur_keeps_constants_and_is_binomial() -> None:
    blur = Blur()
    assert torch.allclose(blur(torch.full((1, 2, 5, 5), 0.3)), torch.full((1, 2, 5, 5), 0.3))
    spike = torch.zeros(1, 1, 5, 5)
    spike[0, 0, 2, 2] = 16
    expected = torch.outer(torch.tensor([1.0, 2, 1]), torch.tensor([1.0, 2, 1]))
    assert torch.equal(blur(spike)[0, 0, 1:4, 1:4], expected)


def test_antialiasing_is_for_the_picture_alone() -> None:
    torch.manual_seed(0)
    soft, hard = EDNet(32, width=4, antialias=True), EDNet(32, width=4)
    soft.load_state_dict(hard.state_dict())
    fine = torch.rand(1, 3, 128, 128)
    assert (soft.encode(fine) - hard.encode(fine)).abs().max() > 1e-2
    code = hard.encode(fine)
    positions = torch.rand(1, 3, 100, 100)
    assert torch.equal(soft.decode(code, positions), hard.decode(code, positions))


def test_input_ranges_differ(net: EDNet) -> None:
    picture = torch.rand(1, 3, 32, 32)
    usual = net.encode(picture)
    net.input_range = "unit"
    try:
        assert (net.encode(picture) - usual).abs().max() > 1e-2
    finally:
        net.input_range = "uint8"


def test_every_weight_gets_a_gradient(net: EDNet) -> None:
    net(torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)).square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())
    assert sum(p.grad.abs().sum() > 0 for p in net.parameters()) >= 22


def test_a_texture_guides_the_decoder_and_reaches_the_offsets_at_its_own_size() -> None:
    torch.manual_seed(0)
    guided = EDNet(32, width=4, textures=2)
    code, positions, texture = (
        guided.encode(torch.rand(1, 3, 32, 32)),
        torch.rand(1, 3, 48, 48),
        torch.zeros(1, 2, 48, 48),
    )
    nothing = guided.decode(code, positions, texture)
    dot = texture.clone()
    dot[0, 1, 20, 30] = 1e-3
    change = (guided.decode(code, positions, dot) - nothing)[0]
    assert torch.allclose(change[:, 20, 30], 1e-3 * guided.skip.weight[:, 1, 0, 0], atol=3e-5)
    torch.nn.init.zeros_(guided.skip.weight)
    patterned = guided.decode(code, positions, torch.rand_like(texture))
    nothing = guided.decode(code, positions, texture)
    assert (patterned - nothing).abs().max() > 1e-2
    # normalisation takes a plain colour away: without the direct path it would never arrive
    assert (guided.decode(code, positions, texture + 1) - nothing).abs().max() < 1e-3


def test_a_texture_goes_with_its_network_only(net: EDNet) -> None:
    picture, positions = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    with pytest.raises(ValueError, match="texture"):
        net(picture, positions, torch.zeros(1, 5, 32, 32))
    with pytest.raises(ValueError, match="texture"):
        EDNet(32, width=4, textures=5)(picture, positions)


@pytest.mark.parametrize("size", [16, 100])
def test_sizes_that_cannot_be_halved_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="multiple of 16"):
        EDNet(size)
