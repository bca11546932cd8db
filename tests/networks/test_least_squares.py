"""Ridge regression as an optimiser."""

from __future__ import annotations

from copy import deepcopy

import torch

from avatarzoo.networks.least_squares import LeastSquares


def rows(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(count, 6, generator=random), torch.randn(count, 2, generator=random)


def weight() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.zeros(6, 2))


def test_the_gradient_is_zero_at_the_answer():
    answer, (features, target) = weight(), rows(50)
    optimiser = LeastSquares(answer, ridge=0.1)
    for part in range(0, 50, 10):
        optimiser.add(features[part : part + 10], target[part : part + 10])
        optimiser.step()
    loss = (features @ answer - target).square().sum(1).mean() + 0.1 * answer.square().sum()
    loss.backward()
    assert answer.grad is not None
    assert answer.grad.abs().max() < 1e-6
    assert answer.abs().max() > 0.01


def test_a_truth_is_found_and_the_same_rows_again_change_nothing():
    answer, (features, _) = weight(), rows(50)
    truth = torch.arange(12.0).reshape(6, 2)
    optimiser = LeastSquares(answer, ridge=1e-7)
    optimiser.add(features, features @ truth)
    optimiser.step()
    torch.testing.assert_close(answer.detach(), truth, atol=1e-4, rtol=0)
    before = answer.detach().clone()
    optimiser.add(features, features @ truth)
    optimiser.step()
    torch.testing.assert_close(answer.detach(), before, atol=1e-4, rtol=0)


def test_a_checkpoint_goes_on_where_it_stopped():
    parts, whole, resumed = [rows(9, seed) for seed in range(2)], weight(), weight()
    first, second = LeastSquares(whole, 0.1), LeastSquares(resumed, 0.1)
    first.add(*parts[0])
    second.load_state_dict(deepcopy(first.state_dict()))
    for optimiser in (first, second):
        optimiser.add(*parts[1])
        optimiser.step()
    assert whole.abs().max() > 0
    assert torch.equal(whole, resumed)
