"""Drawing beside the page: one thread for each browser, the newest request wins, playback by the clock."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from avatarzoo.apps.view_stage import Request

RATE_SECONDS, PAUSE_SECONDS = 2.0, 0.6
"""Frames a second are those of so long, without a pause that leaves nothing to draw."""


class Rate:
    """Pictures a second, and how long one takes."""

    def __init__(self) -> None:
        self.times: deque[tuple[float, float]] = deque()

    def add(self, now: float, spent: float) -> None:
        """A picture that took ``spent`` seconds."""
        if self.times and now - spent - self.times[-1][0] > PAUSE_SECONDS:
            self.times.clear()
        self.times.append((now, spent))
        while now - self.times[0][0] > RATE_SECONDS:
            self.times.popleft()

    @property
    def milliseconds(self) -> float:
        """Mean of the last pictures."""
        return 1000 * sum(spent for _, spent in self.times) / max(1, len(self.times))

    @property
    def per_second(self) -> float:
        """Zero with fewer than three pictures without a pause."""
        span = self.times[-1][0] - self.times[0][0] if len(self.times) > 2 else 0.0
        return (len(self.times) - 1) / span if span > 0 else 0.0


class Playback:
    """Which picture of a motion is due.

    Args:
        frames: of the motion, which is repeated. fps: its rate.
    """

    def __init__(self, frames: int, fps: float) -> None:
        self.frames, self.fps = frames, fps
        self.playing, self.since, self.place = False, 0.0, 0.0

    def at(self, now: float) -> int:
        """Number of the picture."""
        moved = (now - self.since) * self.fps if self.playing else 0.0
        return int(self.place + moved) % self.frames

    def wait(self, now: float) -> float | None:
        """Seconds until the next one is due; ``None``: for ever."""
        if not self.playing:
            return None
        place = self.place + (now - self.since) * self.fps
        return max(0.0, (int(place) + 1 - place) / self.fps)

    def play(self, now: float) -> None:
        self.playing, self.since = True, now

    def pause(self, now: float) -> None:
        self.place, self.playing = float(self.at(now)), False

    def seek(self, frame: int, now: float) -> None:
        self.place, self.since = float(frame % self.frames), now


class Renderer(threading.Thread):
    """Draws the newest request of one page.

    Args:
        draw: what is shown of a request; called on this thread. show: gets the request, the drawing, and how long it took.
        fail: gets what went wrong; drawing goes on with the next request.
        request: the first one. playback: gives requests their frame while there is one.
    """

    def __init__(
        self,
        draw: Callable[[Request], Any],
        show: Callable[[Request, Any, float], None],
        fail: Callable[[Exception], None],
        request: Request,
        playback: Playback | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        super().__init__(name="view", daemon=True)
        self.draw, self.show, self.fail, self.clock = draw, show, fail, clock
        self.request, self.playback = request, playback
        self.fresh = threading.Condition()
        self.dirty, self.closed = True, False
        self.drawn: int | None = None

    def ask(self, **changes: Any) -> None:
        """Change the request; what has not been drawn by then is never drawn."""
        with self.fresh:
            self.request = self.request._replace(**changes)
            self.dirty = True
            self.fresh.notify_all()

    def refresh(self) -> None:
        """Draw again: the playback has changed."""
        self.ask()

    def close(self) -> None:
        """Nothing is drawn or shown from now on but what is being drawn."""
        with self.fresh:
            self.closed = True
            self.fresh.notify_all()

    def current(self) -> Request:
        """The newest request, with the frame that is due."""
        if self.playback is None:
            return self.request
        return self.request._replace(frame=self.playback.at(self.clock()))

    def take(self) -> Request | None:
        """Wait for something to draw; ``None`` when closed."""
        with self.fresh:
            while not self.closed:
                wait = None if self.playback is None else self.playback.wait(self.clock())
                self.fresh.wait_for(lambda: self.dirty or self.closed, wait)
                request = self.current()
                if not self.closed and (self.dirty or request.frame != self.drawn):
                    self.dirty, self.drawn = False, request.frame
                    return request
        return None

    def run(self) -> None:
        while (request := self.take()) is not None:
            self.once(request)

    def once(self, request: Request) -> None:
        started = self.clock()
        try:
            drawing = self.draw(request)
            if not self.closed:
                self.show(request, drawing, self.clock() - started)
        except Exception as error:  # the page says so; its next request may work
            if not self.closed:
                self.fail(error)
