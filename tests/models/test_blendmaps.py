"""Blending weights and the two stages (paper Eq. 9-11)."""

from __future__ import annotations

import pytest
import torch

from avatarzoo.models import GaussianDejaVu
from avatarzoo.models.gaussian_dejavu.blendmaps import BlendGate

KINDS = ("paper", "standardized", "clusters")


def speech(head, frames=80, groups=4):
    """Frames around a few typical expressions, and which one each belongs to."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.rand(groups, head.n_expression, generator=generator)
    group = torch.arange(frames) % groups
    noise = torch.randn(frames, head.n_expression, generator=generator)
    return centres[group] + 0.01 * noise, group


def fitted(head, kind, temperature=1.0, n_maps=4):
    gate = BlendGate(n_maps, head.n_expression)
    gate.fit(head, speech(head)[0], kind, temperature)
    return gate


@pytest.mark.parametrize("kind", KINDS)
def test_weights_sum_to_one_and_repeat(head, kind):
    expression, _ = speech(head)
    gate, again = fitted(head, kind), fitted(head, kind)
    weights = gate(expression)
    assert weights.shape == (80, 4)
    assert (weights >= 0).all()
    assert torch.allclose(weights.sum(1), torch.ones(80), atol=1e-6)
    assert torch.equal(gate.weight, again.weight)
    assert torch.equal(gate.bias, again.bias)


def test_paper_gate_is_softmax_of_the_first_coefficients(head):
    expression, _ = speech(head)
    for gate in (BlendGate(4, head.n_expression), fitted(head, "paper")):
        assert torch.allclose(gate(expression), torch.softmax(expression[:, :4], 1))
    used = fitted(head, "clusters")
    used.fit(head, expression, "paper", 1.0)
    assert torch.allclose(used(expression), torch.softmax(expression[:, :4], 1))


def test_clusters_give_each_typical_expression_its_own_map(head):
    expression, group = speech(head)
    gate = fitted(head, "clusters")
    chosen = gate(expression).argmax(1)
    owner = [chosen[group == g].unique().tolist() for g in range(4)]
    assert all(len(o) == 1 for o in owner)
    assert len({o[0] for o in owner}) == 4
    centres = torch.stack([expression[group == g].mean(0) for g in range(4)])
    assert gate(centres).amax(1).min() > 0.9


@pytest.mark.parametrize("kind", ["standardized", "clusters"])
def test_temperature_softens(head, kind):
    torch.manual_seed(0)
    expression = torch.rand(60, head.n_expression)

    def peak(temperature):
        gate = BlendGate(4, head.n_expression)
        gate.fit(head, expression, kind, temperature)
        return gate(expression).amax(1).mean()

    assert peak(0.5) > peak(1.0) + 0.02 > peak(4.0) + 0.04


def test_standardized_gate_does_not_care_about_scale(head):
    """Small coefficients that vary little still spread the weights; the paper's gate stays uniform."""
    expression = 0.02 * torch.rand(60, head.n_expression, generator=torch.Generator().manual_seed(0))
    peak = {}
    for kind in ("paper", "standardized"):
        gate = BlendGate(4, head.n_expression)
        gate.fit(head, expression, kind, 1.0)
        peak[kind] = float(gate(expression).amax(1).mean())
    assert peak["paper"] < 0.26
    assert peak["standardized"] > 0.45


def test_fewer_frames_than_maps(head):
    gate = BlendGate(6, head.n_expression)
    gate.fit(head, speech(head)[0][:3], "clusters", 1.0)
    assert torch.isfinite(gate(speech(head)[0])).all()


@pytest.fixture(scope="module")
def module():
    made = GaussianDejaVu(uv_size=32, n_blendmaps=3)
    torch.manual_seed(0)
    with torch.no_grad():
        made.global_delta.normal_()
        made.mean_offsets.normal_()
    return made


def test_stage_one_ignores_blendmaps(module):
    module.stage.fill_(1)
    total, delta, residual = module.offsets(torch.rand(2, module.head.n_expression))
    assert residual is None
    assert total.shape == (1, len(module.uv_map), 13)
    assert torch.equal(delta[0], module.global_delta)
    assert torch.allclose(total[0], module.mean_offsets + module.global_delta * module.gain)


def test_stage_two_starts_where_stage_one_ended(module):
    expression = torch.rand(2, module.head.n_expression)
    module.stage.fill_(1)
    first = module.offsets(expression)[0]
    module.stage.fill_(2)
    with torch.no_grad():
        module.blend_residual.zero_()
    second = module.offsets(expression)[0]
    assert second.shape == (2, len(module.uv_map), 13)
    assert torch.allclose(second, first.expand_as(second), atol=1e-6)


def test_equal_residuals_add_to_the_global_map(module):
    same = torch.randn(len(module.uv_map), 13)
    module.stage.fill_(2)
    with torch.no_grad():
        module.blend_residual.copy_(same.expand(3, -1, -1))
    _, delta, residual = module.offsets(torch.rand(2, module.head.n_expression))
    assert torch.allclose(residual, same.expand(2, -1, -1), atol=1e-5)
    assert torch.allclose(delta, (module.global_delta + same).expand(2, -1, -1), atol=1e-5)


def test_equation_eleven(module):
    """sum_i b_i B_i with B_i the full maps equals what is stored: global map plus weighted residuals."""
    module.stage.fill_(2)
    torch.manual_seed(1)
    with torch.no_grad():
        module.blend_residual.normal_()
    expression = torch.rand(2, module.head.n_expression)
    weights = module.gate(expression)
    full = module.global_delta + module.blend_residual
    expected = torch.einsum("bd,dnc->bnc", weights, full)
    assert torch.allclose(module.offsets(expression)[1], expected, atol=1e-5)
