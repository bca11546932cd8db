import pytest
import torch
import torch.nn.functional as F

from avatarzoo.networks.feature_generator import FeatureGenerator
from avatarzoo.networks.haar_discriminator import HaarDiscriminator
from avatarzoo.networks.styleunet import StyleUNet
from avatarzoo.networks.styleunet_layers import Channels, StyledConv, StyleMapping

SMALL = {"channel_max": 8}


def test_channel_table():
    published = [Channels()(side) for side in (4, 32, 64, 128, 256, 512, 1024)]
    assert published == [512, 512, 512, 256, 128, 64, 32]
    assert [Channels(1, 100)(side) for side in (8, 64, 128, 512)] == [100, 100, 100, 32]
    assert Channels(most=1).half(64) == 1


@pytest.mark.parametrize(("r", "s"), [(32, 16), (32, 64), (64, 64), (64, 256), (128, 64)])
def test_sides(r, s):
    network = StyleUNet(r, s, **SMALL)
    noise = network.draw_noise(2)
    assert [x.shape[-1] for x in noise] == network.noise_sides
    assert network.noise_sides[-1] == s // 2
    assert network(torch.randn(2, 3, r, r), torch.randn(2, 64), noise).shape == (2, 3, s, s)


@pytest.mark.parametrize(
    ("r", "s", "message"),
    [(48, 64, "powers of two, not 48"), (16, 64, "do not fit"), (256, 64, "do not fit")],
)
def test_impossible_sides_are_refused(r, s, message):
    with pytest.raises(ValueError, match=message):
        StyleUNet(r, s, **SMALL)


def test_samples_do_not_mix():
    network = StyleUNet(32, 64, **SMALL, input_channels=5)
    image, style, noise = torch.randn(3, 5, 32, 32), torch.randn(3, 64), network.draw_noise(3)
    together = network(image, style, noise)
    alone = network(image[1:2], style[1:2], [x[1:2] for x in noise])
    torch.testing.assert_close(together[1:2], alone, rtol=1e-4, atol=1e-5)


def test_style_and_noise_change_the_picture():
    network = StyleUNet(32, 64, **SMALL)
    image, style, noise = torch.randn(1, 3, 32, 32), torch.randn(1, 64), network.draw_noise(1)
    base = network(image, style)
    assert not torch.allclose(base, network(image, -style))
    torch.testing.assert_close(base, network(image, style, noise))  # strengths start at zero
    for conv in network.unet.decoder.convs:
        torch.nn.init.constant_(conv.noise_strength, 0.1)
    assert not torch.allclose(base, network(image, style, noise))
    drawn = [network.draw_noise(1, torch.Generator().manual_seed(3))[0] for _ in range(2)]
    assert torch.equal(*drawn)


def test_styled_convolution_by_hand():
    layer = StyledConv(3, 4, 64)
    torch.nn.init.normal_(layer.bias)
    torch.nn.init.constant_(layer.noise_strength, 0.5)
    x, code, noise = torch.randn(2, 3, 6, 6), torch.randn(2, 64), torch.randn(1, 1, 6, 6)
    out = layer(x, code, noise)
    for n in range(2):
        weight = layer.weight * layer.style(code[n : n + 1])[0][:, None, None] / 27**0.5
        weight = weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        y = F.conv2d(x[n : n + 1], weight, layer.bias, padding=1) + 0.5 * noise
        torch.testing.assert_close(out[n : n + 1], F.leaky_relu(y, 0.2), rtol=1e-4, atol=1e-5)


def test_mapping_sees_directions_only():
    mapping, style = StyleMapping(64), torch.randn(2, 64)
    torch.testing.assert_close(mapping(style), mapping(3 * style))


@pytest.mark.parametrize("size", [8, 16, 32])
def test_feature_generator(size):
    network = FeatureGenerator(size, **SMALL)
    feature, skip = network(torch.randn(2, 64))
    assert feature.shape == (2, network.channels, size, size)
    assert skip.shape == (2, 12, size, size)
    (feature.square().mean() + skip.mean()).backward()
    assert network.constant.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="not 24"):
        FeatureGenerator(24)


@pytest.mark.parametrize("batch", [1, 3, 5, 8])
def test_discriminator_takes_any_batch(batch):
    network = HaarDiscriminator(32, 6, **SMALL)
    assert network(torch.randn(batch, 6, 32, 32)).shape == (batch, 1)


def test_discriminator_differentiates_twice():
    network = HaarDiscriminator(32, 3, **SMALL)
    picture = torch.randn(4, 3, 32, 32, requires_grad=True)
    (slope,) = torch.autograd.grad(network(picture).sum(), picture, create_graph=True)
    slope.square().sum().backward()
    without = {name for name, p in network.named_parameters() if p.grad is None}
    assert without <= {name for name, _ in network.named_parameters() if name.endswith("bias")}
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())
    assert network.from_bands[0].weight.grad.abs().sum() > 0


def test_discriminator_groups_are_the_largest_that_divide():
    """A batch of 6 forms groups of three: pictures 0, 2, 4 and 1, 3, 5."""
    network = HaarDiscriminator(16, 3, **SMALL)
    pictures = torch.randn(6, 3, 16, 16)
    both = network(pictures)
    torch.testing.assert_close(both[::2], network(pictures[::2]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(both[1::2], network(pictures[1::2]), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="not 8"):
        HaarDiscriminator(8)
