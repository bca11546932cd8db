"""The throughput script: it runs on a CPU at a reduced size, and on CUDA the device is kept busy (issue bar 5)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.autograd import DeviceType

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "speed" / "reconstruction.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("reconstruction_speed", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(torch.cuda.is_available(), reason="there the next test measures")
def test_it_runs_on_a_cpu(script, monkeypatch, capsys) -> None:
    monkeypatch.setattr(script, "GRID", (2, 1))
    sizes = ["--size", "48", "--batch", "2", "--map", "32", "--width", "4", "--steps", "2"]
    assert script.main(sizes) == 0
    assert "pictures/s" in capsys.readouterr().out
    assert script.main([*sizes, "--require-busy", "1.1"]) == 1


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_paper_sizes_keep_a_gpu_busy(script) -> None:
    assert script.main(["--require-busy", "0.9"]) == 0


def test_busy_time_is_a_union(script) -> None:
    """Overlapping kernels count once, gaps and the launching thread not at all."""
    spans = [(0, 2e6, True), (1e6, 3e6, True), (5e6, 6e6, True), (1e6, 1.5e6, True), (0, 9e6, False)]
    events = [
        SimpleNamespace(
            time_range=SimpleNamespace(start=a, end=b), device_type=DeviceType.CUDA if on else DeviceType.CPU
        )
        for a, b, on in spans
    ]
    assert script.union(SimpleNamespace(events=lambda: events)) == pytest.approx(4.0)
