"""The encoder: the average at the start, with every head, for any generator."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from avatarzoo.models.nofaplusplus.encoder import HEADS, CodeEncoder, average_codes
from avatarzoo.priors.small_prior import small_prior


def tiny(head: str, codes: int = 12, width: int = 16) -> CodeEncoder:
    torch.manual_seed(0)
    encoder = CodeEncoder(codes, width, head, 64, 8, (1, 1, 2, 1), (1, 2, 2, 2), 4, head_attention=2)
    nn.init.normal_(encoder.average)
    return encoder


def wake(encoder: CodeEncoder) -> None:
    """Last layers as after some training."""
    for module in encoder.head.modules():
        if isinstance(weight := getattr(module, "weight", None), nn.Parameter) and not weight.any():
            nn.init.normal_(weight, std=0.5)


@pytest.mark.parametrize("head", HEADS)
def test_it_starts_as_the_average(head: str) -> None:
    encoder = tiny(head)
    assert torch.equal(encoder(torch.rand(2, 3, 80, 80)), encoder.average.expand(2, -1, -1))


@pytest.mark.parametrize("head", HEADS)
def test_gradients_reach_every_parameter(head: str) -> None:
    encoder = tiny(head)
    wake(encoder)
    codes = encoder(torch.rand(2, 3, 64, 64))
    assert codes.shape == (2, 12, 16)
    (codes - encoder.average).square().sum().backward()
    silent = [n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent
    assert "average" in encoder.state_dict()
    assert not encoder.average.requires_grad


@pytest.mark.parametrize("head", HEADS)
def test_the_first_step_moves_the_codes(head: str) -> None:
    encoder, image = tiny(head), torch.rand(2, 3, 64, 64)
    optimiser = torch.optim.Adam(encoder.parameters(), 1e-2)
    target = encoder.average + 1
    before = (encoder(image) - target).square().mean()
    before.backward()
    optimiser.step()
    assert (encoder(image) - target).square().mean() < before


@pytest.mark.parametrize("head", HEADS)
def test_people_get_codes_of_their_own(head: str) -> None:
    """Pictures do not depend on their batch, and every code depends on its picture and differs from its neighbours."""
    encoder = tiny(head).eval()
    wake(encoder)
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        codes = encoder(images) - encoder.average
        assert torch.allclose(codes[:1], encoder(images[:1]) - encoder.average, atol=1e-5)
    assert ((codes[0] - codes[1]).abs().amax(-1) > 1e-4).all()
    assert ((codes[:, 1:] - codes[:, :-1]).abs().amax(-1) > 1e-4).all()


def test_pictures_of_any_size_are_pooled() -> None:
    encoder = tiny("query").eval()
    wake(encoder)
    small = torch.rand(1, 3, 64, 64)
    large = small.repeat_interleave(2, 2).repeat_interleave(2, 3)
    with torch.no_grad():
        assert torch.allclose(encoder(large), encoder(small), atol=1e-5)


def test_codes_of_the_small_prior() -> None:
    prior = small_prior()
    label = torch.zeros(1, 25)
    average = average_codes(prior, label, samples=2500)
    assert average.shape == (1, prior.code_count, prior.config.code_dim)
    assert torch.equal(average, average_codes(prior, label, samples=2500))
    mean = prior.codes(torch.randn(1, 48), label, truncation=0)
    spread = (prior.codes(torch.randn(500, 48), label.expand(500, -1)) - mean).square().mean().sqrt()
    assert (average - mean).square().mean().sqrt() < 0.2 * spread
    encoder = tiny("query", prior.code_count, prior.config.code_dim)
    encoder.average.copy_(average)
    with torch.no_grad():
        planes = prior.planes(encoder(torch.rand(1, 3, 128, 128)))
        assert torch.equal(planes, prior.planes(average))


def test_wrong_heads_are_refused() -> None:
    with pytest.raises(ValueError, match="query, fpn, goae"):
        tiny("vit")
    with pytest.raises(ValueError, match="more than 7 codes"):
        tiny("goae", codes=6)


@pytest.mark.parametrize("head", HEADS)
def test_full_size(head: str) -> None:
    with torch.device("meta"):
        codes = CodeEncoder(head=head)(torch.empty(2, 3, 512, 512))
    assert codes.shape == (2, 14, 512)
