"""A discriminator that has won is noticed, once, and goes back to where it was well."""

from __future__ import annotations

import pytest
import torch

from avatarzoo.models.styleavatar.watchdog import DiscriminatorWatchdog

BALANCED = (0.7, 1.38)
WON = (12.0, 0.001)


def duel() -> tuple[torch.nn.Linear, torch.optim.Optimizer]:
    torch.manual_seed(0)
    judge = torch.nn.Linear(3, 1)
    optimizer = torch.optim.AdamW(judge.parameters())
    judge(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return judge, optimizer


def test_balanced_play_is_left_alone() -> None:
    judge, optimizer = duel()
    watchdog = DiscriminatorWatchdog(patience=5)
    assert not any(watchdog.attend(*BALANCED, judge, optimizer) for _ in range(300))
    assert watchdog.alarms == 0


def test_a_short_win_is_left_alone() -> None:
    judge, optimizer = duel()
    watchdog = DiscriminatorWatchdog(patience=50)
    for step in range(400):
        assert not watchdog.attend(*(WON if step % 40 < 10 else BALANCED), judge, optimizer)


@pytest.mark.parametrize("losses", [WON, (20.0, 1.4), (float("nan"), float("nan"))])
def test_a_collapse_restores_the_last_healthy_state(losses: tuple[float, float]) -> None:
    judge, optimizer = duel()
    watchdog = DiscriminatorWatchdog(patience=5)
    for _ in range(10):
        watchdog.attend(*BALANCED, judge, optimizer)
    healthy = judge.weight.detach().clone()
    news = []
    for _ in range(400):
        with torch.no_grad():
            judge.weight.add_(1.0)
        news.append(watchdog.attend(*losses, judge, optimizer))
        if news[-1]:
            break
    assert "last healthy state" in str(news[-1])
    assert torch.equal(judge.weight, healthy)
    assert not optimizer.state
    assert watchdog.attend(*losses, judge, optimizer) is None  # patience starts anew


def test_actions() -> None:
    for action, word in (("stop", "training stops"), ("none", None)):
        judge, optimizer = duel()
        watchdog = DiscriminatorWatchdog(action, patience=3)  # type: ignore[arg-type]
        before = judge.weight.detach().clone()
        news = [watchdog.attend(*WON, judge, optimizer) for _ in range(3)]
        assert watchdog.alarms == 1
        assert torch.equal(judge.weight, before)
        assert (word in str(news[-1])) if word else news[-1] is None


def test_resumes_in_the_middle_of_an_alarm() -> None:
    """Its state goes through a checkpoint; the alarm comes at the same step."""
    judge, optimizer = duel()
    one = DiscriminatorWatchdog(patience=8)
    for _ in range(5):
        one.attend(*WON, judge, optimizer)
    two = DiscriminatorWatchdog(patience=8)
    two.load_state_dict(one.state_dict())
    for _ in range(2):
        assert two.attend(*WON, judge, optimizer) is None
    assert two.attend(*WON, judge, optimizer)
