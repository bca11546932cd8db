"""The cost recorder with a clock and a device that the tests turn by hand."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from avatarzoo.evaluation import costs
from avatarzoo.evaluation.costs import Costs


class Clock:
    now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(costs, "time", clock)
    return clock


def test_scoring_is_not_training(clock: Clock) -> None:
    record = Costs()
    clock.now += 1000
    with record.training():
        clock.now += 5
        with record.paused():
            clock.now += 70
        clock.now += 2
        assert record.training_seconds == 7
    clock.now += 1000
    with record.paused():
        clock.now += 1000  # the clock stood before, so it does not run after
    clock.now += 1000
    with record.training():
        clock.now += 1
    assert record.as_dict()["training_seconds"] == 8


def test_time_before_a_failure_counts_as_training_but_not_as_rendering(clock: Clock) -> None:
    record = Costs()
    with pytest.raises(RuntimeError), record.training(), record.paused():
        raise RuntimeError
    assert record.started is None
    with pytest.raises(RuntimeError), record.rendering():
        raise RuntimeError
    assert record.render_seconds == []


def test_render_time_leaves_the_warm_up_out(clock: Clock) -> None:
    record = Costs()
    for seconds, pictures in ((9.0, 1), (0.5, 4), (0.25, 1)):
        with record.rendering(pictures):
            clock.now += seconds
        if pictures == 1 and seconds == 9.0:
            assert record.as_dict()["render_ms_per_picture"] is None
    assert record.as_dict()["render_ms_per_picture"] == pytest.approx(150.0)
    assert record.as_dict()["render_pictures"] == 5


def test_cuda_work_is_waited_for(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """Rendering on CUDA returns at once; the clock moves while one waits."""
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3 * 2**20)
    pending = [0.0]

    def synchronize(device: torch.device) -> None:
        clock.now += pending.pop() if pending else 0.0

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    record = Costs("cuda")
    for _ in range(2):
        pending[:] = []
        with record.rendering():
            pending[:] = [0.02]
    assert record.render_ms == pytest.approx(20)
    assert record.peak_memory() == (3.0, "CUDA memory allocated")


def test_parameters_without_losses_and_frozen_ones_apart() -> None:
    module = nn.Module()
    module.net, module.prior, module.loss = nn.Linear(3, 2), nn.Linear(1, 1), nn.Linear(100, 100)
    module.prior.requires_grad_(False)
    record = Costs()
    record.count(module)
    assert record.as_dict()["parameters"] == 10
    assert record.as_dict()["parameters_trainable"] == 8


def test_memory_on_the_cpu_is_the_process_peak() -> None:
    before = costs.resident_peak()
    block = torch.ones(64 * 2**20)  # 256 MiB
    assert costs.resident_peak() >= max(before, block.nbytes)
    record = Costs().as_dict()
    assert record["peak_memory_mib"] > 256
    assert "resident" in record["peak_memory_kind"]


def test_it_goes_into_json() -> None:
    assert json.loads(json.dumps(Costs().as_dict()))["training_seconds"] is None


def test_judges_and_running_averages_are_not_counted():
    module = torch.nn.ModuleDict(
        {k: torch.nn.Linear(3, 2) for k in ("generator", "average", "discriminator", "loss")}
    )
    record = Costs()
    record.count(module)
    assert record.parameters["parameters"] == 8
