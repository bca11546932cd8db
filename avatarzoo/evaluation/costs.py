"""What a method costs: training time, render time, parameters, memory."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

LOSS_PREFIXES = ("loss.", "discriminator.", "average.")
"""Submodules that judge pictures, or are copies that follow the trained ones: no part of a method's size."""


class Costs:
    """Recorder of one run's costs.

    Training time is what lies inside :meth:`training`, less what lies inside :meth:`paused` (scoring, writing files). Render
    time is wall time inside :meth:`rendering` with the device's work finished on both sides; the first call is warm-up.
    On a device other than CUDA, memory is the largest resident size that the process has had since it started.

    Args:
        device: where the method runs.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.seconds = 0.0
        self.started: float | None = None
        self.render_seconds: list[float] = []
        self.render_pictures: list[int] = []
        self.parameters: dict[str, int] = {}
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def start(self) -> None:
        """Let the training clock run; nothing happens if it does."""
        if self.started is None:
            self._wait()
            self.started = time.perf_counter()

    def stop(self) -> None:
        """Hold the training clock; nothing happens if it stands."""
        if self.started is not None:
            self._wait()
            self.seconds += time.perf_counter() - self.started
            self.started = None

    @contextmanager
    def training(self) -> Iterator[None]:
        """What happens inside is training."""
        self.start()
        try:
            yield
        finally:
            self.stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside is no training; a clock that ran before runs on afterwards."""
        running = self.started is not None
        self.stop()
        try:
            yield
        finally:
            if running:
                self.start()

    @contextmanager
    def rendering(self, pictures: int = 1) -> Iterator[None]:
        """What happens inside renders so many pictures; a call that fails does not count."""
        self._wait()
        before = time.perf_counter()
        yield
        self._wait()
        self.render_seconds.append(time.perf_counter() - before)
        self.render_pictures.append(pictures)

    @property
    def training_seconds(self) -> float:
        """So far, also while the clock runs."""
        return self.seconds + (time.perf_counter() - self.started if self.started is not None else 0.0)

    @property
    def render_ms(self) -> float | None:
        """Milliseconds per picture without the first call; ``None`` before a second one."""
        pictures = sum(self.render_pictures[1:])
        return 1000 * sum(self.render_seconds[1:]) / pictures if pictures else None

    def count(self, module: nn.Module, leave_out: tuple[str, ...] = LOSS_PREFIXES) -> None:
        """Note a method's number of parameters; those whose name begins with one of ``leave_out`` belong to losses."""
        own = [p for name, p in module.named_parameters() if not name.startswith(leave_out)]
        self.parameters = {
            "parameters": sum(p.numel() for p in own),
            "parameters_trainable": sum(p.numel() for p in own if p.requires_grad),
        }

    def peak_memory(self) -> tuple[float, str]:
        """MiB, and what they measure."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**20, "CUDA memory allocated"
        return resident_peak() / 2**20, "resident memory of the process since its start"

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers for a result file; what was not recorded is ``None``."""
        memory, kind = self.peak_memory()
        return {
            "training_seconds": round(self.training_seconds, 3) or None,
            "render_ms_per_picture": None if self.render_ms is None else round(self.render_ms, 3),
            "render_pictures": sum(self.render_pictures[1:]),
            "parameters": self.parameters.get("parameters"),
            "parameters_trainable": self.parameters.get("parameters_trainable"),
            "peak_memory_mib": round(memory, 1),
            "peak_memory_kind": kind,
            "device": str(self.device),
        }

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def resident_peak() -> float:
    """Bytes of the largest resident size of this process so far; NaN where the platform does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
