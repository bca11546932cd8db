"""Made-up people who come again are drawn once."""

from __future__ import annotations

from collections.abc import Callable

import torch

from avatarzoo.models.made_up_people import KeptPictures
from avatarzoo.models.nofaplusplus import NOFAPlusPlus
from avatarzoo.models.nofaplusplus.made_up import make_up
from avatarzoo.priors.cameras import frontal_label


def test_pictures_are_kept_by_number_not_by_row() -> None:
    drawn, asked = KeptPictures(), []

    def draw(rows: torch.Tensor) -> torch.Tensor:
        asked.append(rows.tolist())
        return (rows[:, None, None, None] + 1).expand(-1, 3, 2, 2) / 255

    first = drawn(torch.tensor([7, 5]), draw)
    second = drawn(torch.tensor([5, 9, 7]), draw)
    assert asked == [[0, 1], [1]]
    assert torch.equal(first.flip(0), second[[0, 2]])
    assert (second[:, 0, 0, 0] * 255).round().tolist() == [2, 2, 1]


def test_kept_people_are_those_that_would_be_drawn(make: Callable[..., NOFAPlusPlus]) -> None:
    prior, drawn = make().generator.prior, KeptPictures()
    latent = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    labels = frontal_label(6, prior.config).view(3, 2, 25)
    fresh = make_up(prior, latent, labels)
    for order in ([0, 1, 2], [2, 0, 1]):
        kept = make_up(prior, latent[order], labels[order], numbers=torch.tensor(order), drawn=drawn)
        assert torch.allclose(kept.codes, fresh.codes[order], atol=1e-5)
        assert (kept.source - fresh.source[order]).abs().max() <= 0.5 / 255 + 1e-6
    assert len(drawn.pictures) == 3
    assert fresh.source.std() > 0.001
