import pytest
import torch

from avatarzoo.networks import Discriminator, DualDiscriminator
from avatarzoo.networks.discriminator import append_deviation

SMALL = {"channel_base": 256, "channel_max": 16}


def test_deviation_is_that_of_every_nth_picture():
    x = torch.randn(8, 3, 4, 4)
    channel = append_deviation(x, 4)[:, 3]
    for i in range(8):
        group = x[i % 2 :: 2]
        expected = (group.var(0, correction=0) + 1e-8).sqrt().mean()
        torch.testing.assert_close(channel[i], expected.expand(4, 4))
    assert append_deviation(x[:2], 4)[0, 3].max() > 0  # a small batch is one group


def test_a_batch_that_does_not_split_is_refused():
    with pytest.raises(ValueError, match="batch of 6 does not split into groups of 4"):
        append_deviation(torch.randn(6, 3, 4, 4), 4)


def test_public_range_is_zero_to_one():
    network = DualDiscriminator(32, label_dim=25, **SMALL)
    image, raw, label = torch.rand(4, 3, 32, 32), torch.rand(4, 3, 16, 16), torch.randn(4, 25)
    torch.testing.assert_close(
        network(image, raw, label), network.score_pair(2 * image - 1, 2 * raw - 1, label)
    )


def test_logits_depend_on_raw_picture_and_label():
    network = DualDiscriminator(32, label_dim=25, **SMALL)
    image, raw, label = torch.rand(4, 3, 32, 32), torch.rand(4, 3, 16, 16), torch.randn(4, 25)
    base = network(image, raw, label)
    assert not torch.allclose(base, network(image, raw.flip(3), label))
    assert not torch.allclose(base, network(image, raw, label.flip(0)))


def test_unconditional_network_and_second_derivatives():
    network = Discriminator(32, label_dim=0, **SMALL)
    x = torch.randn(4, 3, 32, 32, requires_grad=True)
    logits = network.score(x, None)
    assert logits.shape == (4, 1)
    (slope,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    slope.square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())
    assert network.blocks["32"].conv0.weight.grad.abs().sum() > 0
