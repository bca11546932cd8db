"""The error of codes in pixels: nothing for the truth, about 1 for the average, and what is not seen counts little."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from avatarzoo.models import made_up_people
from avatarzoo.models.nofaplusplus import NOFAPlusPlus
from avatarzoo.models.nofaplusplus.made_up import code_error, draw_people


def test_seen_and_unseen_errors(make: Callable[..., NOFAPlusPlus], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made_up_people, "PEOPLE", 64)
    prior = make().generator.prior
    error = code_error(prior)
    codes, _ = draw_people(prior, 1.0, seed=0)
    layers = prior.code_count
    true, mean = (x[:, None].expand(-1, layers, -1) for x in (codes, codes.mean(0).expand_as(codes)))
    assert error(true, true) == 0
    assert error(mean, true) == pytest.approx(1, rel=1e-3)
    directions = torch.linalg.svd(error.response, full_matrices=False)[0]
    step = codes.std()
    seen, unseen = (error(true + step * directions[:, i], true) for i in (0, -1))
    assert seen > 5 * unseen > 0


def test_the_regression_says_what_changes_in_pictures(
    make: Callable[..., NOFAPlusPlus], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two people who differ little the error goes with the difference of their pictures."""
    monkeypatch.setattr(made_up_people, "PEOPLE", 64)
    prior = make().generator.prior
    error = code_error(prior, truncation=0.2)
    codes, pictures = draw_people(prior, 0.2, seed=9)
    layers = codes[:, None].expand(-1, prior.code_count, -1)
    said = torch.stack([error(layers[i : i + 1], layers[i + 1 : i + 2]) for i in range(40)])
    true = (pictures[:-1] - pictures[1:]).square().mean(1)[:40]
    assert torch.corrcoef(torch.stack([said, true]))[0, 1] > 0.8
