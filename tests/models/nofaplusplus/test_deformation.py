"""The deformation field: identity at the start, what each network sees, its place in front of the planes."""

from __future__ import annotations

import pytest
import torch

from avatarzoo.models.nofaplusplus.deformation import DeformationField, positional_encoding
from avatarzoo.priors.rays import camera_rays
from avatarzoo.priors.small_prior import small_prior
from avatarzoo.priors.volume import Sampling, render_rays

VARIANTS = [(True, True), (False, True), (True, False), (False, False)]


def tiny(weighted: bool = True, identity_condition: bool = True, moved: bool = True) -> DeformationField:
    torch.manual_seed(0)
    field = DeformationField(
        5, 4, 1.0, 2, 16, 4, 8, 2, weighted=weighted, identity_condition=identity_condition
    )
    if moved:
        for network in (field.displacement_net, field.weight_net):
            if network is not None:
                torch.nn.init.normal_(network.last.weight, std=0.3)
                torch.nn.init.normal_(network.first.weight, std=0.3)
    return field


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    points = torch.rand(2, 7, 3, generator=g) - 0.5
    return points, torch.randn(2, 5, generator=g), torch.randn(2, 4, generator=g)


def test_encoding_is_the_published_one() -> None:
    x = torch.tensor([[0.25, -0.5, 1.0]])
    encoded = positional_encoding(x, 2)
    assert encoded.shape == (1, 15)
    pi = torch.pi
    assert torch.allclose(encoded[:, 3:6], (pi * x).sin())
    assert torch.allclose(encoded[:, 12:15], (2 * pi * x).cos())


@pytest.mark.parametrize(("weighted", "identity_condition"), VARIANTS)
def test_it_starts_as_the_identity(weighted: bool, identity_condition: bool) -> None:
    field = tiny(weighted, identity_condition, moved=False)
    points, identity, expression = inputs()
    assert torch.equal(field(points, field.prepare(identity, expression)), points)


def test_before_training_who_a_person_is_has_no_effect() -> None:
    """But it learns: with other weights behind it, gradients arrive."""
    for network in (tiny(moved=False).displacement_net, tiny(moved=False).weight_net):
        assert network is not None
        who = network.first.weight[:, network.points : network.points + 5]
        assert (who == 0).all()
        torch.nn.init.normal_(network.last.weight)
        points, identity = (
            torch.randn(1, 6, network.points),
            torch.randn(1, network.first.in_features - network.points),
        )
        network(points, network.prepare(identity)).sum().backward()
        assert network.first.weight.grad[:, network.points : network.points + 5].any(0).all()


@pytest.mark.parametrize(("weighted", "identity_condition"), VARIANTS)
def test_gradients_reach_every_parameter(weighted: bool, identity_condition: bool) -> None:
    field = tiny(weighted, identity_condition)
    points, identity, expression = inputs()
    field(points, field.prepare(identity, expression)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in field.parameters())


def test_the_first_step_moves_the_field() -> None:
    field = tiny(moved=False)
    points, identity, expression = inputs()
    field(points, field.prepare(identity, expression)).square().sum().backward()
    assert field.displacement_net.last.weight.grad.abs().sum() > 0


def test_conditions_reach_what_the_paper_says() -> None:
    """D sees identity and expression, W the identity only."""
    field = tiny()
    points, identity, expression = inputs()
    before = field.deformation(points, field.prepare(identity, expression))
    smile = field.deformation(points, field.prepare(identity, expression + 1))
    other = field.deformation(points, field.prepare(identity + 1, expression))
    assert not torch.allclose(smile.offset, before.offset)
    assert torch.equal(smile.weight, before.weight)
    assert not torch.allclose(other.offset, before.offset)
    assert not torch.allclose(other.weight, before.weight)
    assert before.weight.shape == (2, 7, 1)
    assert ((before.weight > 0) & (before.weight < 1)).all()


def test_ablations_leave_out_what_they_say() -> None:
    points, identity, expression = inputs()
    blind = tiny(identity_condition=False)
    assert torch.equal(
        blind(points, blind.prepare(identity, expression)),
        blind(points, blind.prepare(identity + 1, expression)),
    )
    unweighted = tiny(weighted=False)
    deformation = unweighted.deformation(points, unweighted.prepare(identity, expression))
    assert (deformation.weight == 1).all()
    assert not any("weight_net" in name for name in unweighted.state_dict())


def test_split_first_layer_equals_the_whole_one() -> None:
    field = tiny()
    points, identity, expression = inputs()
    network, encoded = field.displacement_net, positional_encoding(points * 2, 2)
    condition = torch.cat([identity, expression], 1)
    x = network.first(torch.cat([encoded, condition[:, None].expand(-1, 7, -1)], -1)).relu()
    for i, layer in enumerate(network.hidden, start=1):
        x = layer(torch.cat([x, encoded], -1) if i == 2 else x).relu()
    offset = field.deformation(points, field.prepare(identity, expression)).offset
    assert torch.allclose(network.last(x) / 2, offset, atol=1e-6)


def test_in_front_of_the_planes() -> None:
    """At the start pictures do not change by a bit, in both passes and for every chunk; a moved field changes them."""
    generator = small_prior()
    torch.manual_seed(0)
    planes = torch.randn(2, 3, 16, 8, 8)
    label = torch.zeros(2, 25)
    label[:, :16] = torch.tensor([1, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1, 2.7, 0, 0, 0, 1], dtype=torch.float)
    label[:, 16:] = torch.tensor([4.2647, 0, 0.5, 0, 4.2647, 0.5, 0, 0, 1])
    rays, sampling = camera_rays(label, 8), Sampling(8, 8, (2.3, 3.1))
    _, identity, expression = inputs()

    def render(field: DeformationField | None, chunk: int | None = None) -> torch.Tensor:
        warp = (lambda p: p) if field is None else lambda p: field(p, field.prepare(identity, expression))
        return render_rays(lambda p: generator.query(planes, warp(p)), rays, sampling, chunk=chunk).features

    with torch.no_grad():
        plain = render(None)
        assert torch.equal(render(tiny(moved=False)), plain)
        assert torch.allclose(render(tiny(), chunk=24), render(tiny()), atol=1e-5)
        assert not torch.allclose(render(tiny()), plain, atol=1e-2)


def test_full_size() -> None:
    with torch.device("meta"):
        field = DeformationField()
        moved = field(torch.empty(2, 4096 * 96, 3), field.prepare(torch.empty(2, 80), torch.empty(2, 64)))
    assert moved.shape == (2, 4096 * 96, 3)
    assert field.displacement_net.first.in_features == 39 + 144
    assert field.weight_net.first.in_features == 39 + 80
