"""How long each stage of the live loop takes, in memory that does not grow with the running time."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

FASTEST, SLOWEST, BINS = 1e-5, 1e2, 700
"""Seconds between which durations are told apart, in steps of 2.3 %."""
NEWS_KEPT = 200


class Durations:
    """Count, mean and percentiles of durations, from a histogram on a logarithmic scale."""

    def __init__(self) -> None:
        self.counts = np.zeros(BINS + 1, np.int64)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self.total += seconds
        place = np.log(max(seconds, FASTEST) / FASTEST) / np.log(SLOWEST / FASTEST) * BINS
        self.counts[min(int(place), BINS)] += 1

    @property
    def count(self) -> int:
        return int(self.counts.sum())

    def percentile(self, share: float) -> float:
        """The duration that ``share`` of all do not exceed, within 1.2 %; zero where there are none."""
        if not self.count:
            return 0.0
        place = int(np.searchsorted(self.counts.cumsum(), share * self.count))
        return float(FASTEST * (SLOWEST / FASTEST) ** ((place + 0.5) / BINS))

    def summary(self) -> dict[str, float]:
        """Milliseconds."""
        mean = self.total / max(self.count, 1)
        values = {"mean_ms": mean, "p50_ms": self.percentile(0.5), "p95_ms": self.percentile(0.95)}
        return {name: round(1000 * value, 3) for name, value in values.items()}


class Meter:
    """Durations by stage, frames in and out, and what happened; may be used from several threads.

    Args:
        clock: seconds, for tests.
    """

    def __init__(self, clock=time.perf_counter) -> None:
        self.clock, self.lock = clock, threading.Lock()
        self.stages: dict[str, Durations] = {}
        self.counts: Counter[str] = Counter()
        self.news: deque[str] = deque(maxlen=NEWS_KEPT)
        self.started = clock()
        self.first: float | None = None
        self.last = self.started

    def begin(self) -> None:
        """Time runs from now: what was loaded before does not count."""
        self.started = self.last = self.clock()

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return self.clock() - self.started

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = self.clock()
        yield
        self.add(stage, self.clock() - start)

    def add(self, stage: str, seconds: float) -> None:
        with self.lock:
            self.stages.setdefault(stage, Durations()).add(seconds)

    def count(self, what: str, by: int = 1) -> None:
        with self.lock:
            self.counts[what] += by

    def shown(self, captured: float) -> None:
        """A picture captured at ``captured`` (of this clock) has left the loop."""
        now = self.clock()
        self.add("latency", now - captured)
        with self.lock:
            self.counts["shown"] += 1
            self.first = now if self.first is None else self.first
            self.last = now

    @property
    def rate(self) -> float:
        """Pictures shown a second, since the first one."""
        span = self.last - (self.last if self.first is None else self.first)
        return (self.counts["shown"] - 1) / span if span > 0 else 0.0

    def line(self) -> str:
        """One line for a terminal."""
        with self.lock:
            stages = {n: 1000 * d.percentile(0.5) for n, d in self.stages.items()}
        parts = [f"{name} {value:.1f}" for name, value in stages.items()]
        return f"{self.rate:.1f} frames/s; ms: {', '.join(parts)}"

    def summary(self) -> dict[str, Any]:
        """Everything as plain values; ``share`` is a stage's part of all time spent in stages."""
        with self.lock:
            stages = {name: d.summary() for name, d in self.stages.items()}
            busy = sum(d.total for name, d in self.stages.items() if name != "latency")
            for name, d in self.stages.items():
                if name != "latency":
                    stages[name]["share"] = round(d.total / max(busy, 1e-9), 4)
            counted = {name: self.counts[name] for name in ("captured", "shown", "dropped", "face_lost")}
            return {
                "seconds": round(self.last - self.started, 3),
                "frames_per_second": round(self.rate, 3),
                "frames": counted,
                "source_lost": self.counts["source_lost"],
                "stages": stages,
                "news": list(self.news),
            }
