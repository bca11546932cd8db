"""The live loop: capture, tracking and rendering on a thread each, the outputs on the caller's.

Between the threads lie short queues, so that the landmarks of the next picture are found while the network draws this one. In
realtime a picture that nobody has taken when the next comes is dropped; otherwise every picture is waited for.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from avatarzoo.apps.live_meter import Meter
from avatarzoo.apps.live_sources import Source, SourceLost
from avatarzoo.trackers.live import LiveFit, LiveTracker

RETRY_EVERY = 0.5
"""Seconds between attempts to get a lost source back."""
T = TypeVar("T")


class Shot(NamedTuple):
    """A picture uint8 RGB ``(H, W, 3)``, its time in seconds since the start, and the meter's clock when it was captured."""

    picture: np.ndarray
    time: float
    captured: float


Draw = Callable[[Shot, LiveFit], np.ndarray]
"""A picture and what it says of the driver to the picture that is shown, uint8 RGB."""


class Sink(Protocol):
    """Where pictures go."""

    def show(self, picture: np.ndarray, time: float) -> None:
        """uint8 RGB ``(H, W, 3)``, of any size; ``time`` in seconds since the start."""

    def close(self) -> None: ...


class Closed(Exception):
    """Nothing more will come, or nobody takes it any more."""


class Channel(Generic[T]):
    """A bounded queue between two threads.

    Args:
        latest: a full queue lets its oldest item go instead of making the sender wait.
    """

    def __init__(self, length: int, latest: bool = False) -> None:
        self.items: deque[T] = deque()
        self.length, self.latest = length, latest
        self.changed = threading.Condition()
        self.ended = self.cut = False

    def put(self, item: T) -> int:
        """Returns how many items were dropped for it.

        Raises:
            Closed: nobody takes items any more.
        """
        with self.changed:
            while len(self.items) >= self.length and not self.latest and not self.cut:
                self.changed.wait()
            if self.cut:
                raise Closed
            dropped = len(self.items) >= self.length
            if dropped:
                self.items.popleft()
            self.items.append(item)
            self.changed.notify_all()
            return int(dropped)

    def get(self) -> T:
        """The oldest item.

        Raises:
            Closed: there is none, and none will come.
        """
        with self.changed:
            while not self.items and not self.ended:
                self.changed.wait()
            if not self.items:
                raise Closed
            item = self.items.popleft()
            self.changed.notify_all()
            return item

    def end(self) -> None:
        """No more items will be put; those inside are still taken."""
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def stop(self) -> None:
        """No more items will be taken: who puts one gets :class:`Closed`."""
        with self.changed:
            self.cut = self.ended = True
            self.items.clear()
            self.changed.notify_all()


class LiveLoop:
    """Runs a source through tracker and avatar into sinks, until the source ends or :meth:`stop` is called.

    Args:
        draw: makes the shown picture. say: takes messages for the user.
        realtime: keep to the source's own pace and drop what comes too fast; a camera always does.
        retry: seconds for which a lost source is asked again. seconds: stop after so much of the source's time.
    """

    def __init__(
        self,
        source: Source,
        tracker: LiveTracker,
        draw: Draw,
        sinks: Sequence[Sink],
        meter: Meter,
        say: Callable[[str], None],
        realtime: bool = False,
        retry: float = 60.0,
        seconds: float = float("inf"),
    ) -> None:
        self.source, self.tracker, self.draw, self.sinks = source, tracker, draw, sinks
        self.meter, self.say, self.retry, self.seconds = meter, say, retry, seconds
        self.realtime = realtime or source.paced
        self.stopped = threading.Event()
        self.error: BaseException | None = None
        self.shots: Channel[Shot] = Channel(1 if self.realtime else 2, latest=self.realtime)
        self.fits: Channel[tuple[Shot, LiveFit]] = Channel(1)
        self.drawn: Channel[tuple[Shot, np.ndarray]] = Channel(1)
        self.channels: list[Channel[Any]] = [self.shots, self.fits, self.drawn]

    def run(self) -> None:
        """Until the end; sinks are the caller's to close.

        Raises:
            Whatever went wrong in one of the threads.
        """
        threads = [
            threading.Thread(target=self.guarded, args=(work, channel), name=work.__name__, daemon=True)
            for work, channel in zip((self.capture, self.track, self.render), self.channels)
        ]
        for thread in threads:
            thread.start()
        try:
            with self.interruptible():
                self.output()
        except KeyboardInterrupt:  # a window was closed
            self.interrupt()
            self.output()
        finally:
            self.stop()
            for channel in self.channels:
                channel.stop()
            for thread in threads:
                thread.join()
        if self.error is not None:
            raise self.error

    def stop(self) -> None:
        """Capture nothing more; pictures under way are finished."""
        self.stopped.set()

    def interrupt(self) -> None:
        self.stop()
        self.say("stopping; what was captured is still finished")

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """The first Ctrl-C stops the capture, the next one breaks off.

        Without a handler the interruption is an exception, which is lost where it falls into a finaliser.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.getsignal(signal.SIGINT)

        def once(number: int, frame: FrameType | None) -> None:
            signal.signal(signal.SIGINT, before)
            self.interrupt()

        signal.signal(signal.SIGINT, once)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def guarded(self, work: Callable[[], None], channel: Channel[Any]) -> None:
        """Run one thread; its error ends the loop, its end ends the next thread."""
        try:
            work()
        except Closed:
            pass
        except BaseException as error:
            self.error = self.error or error
            self.stop()
        finally:
            channel.end()

    def capture(self) -> None:
        """Source to ``shots``."""
        clock, start, number = self.meter.clock, self.meter.clock(), 0
        while not self.stopped.is_set():
            with self.meter("capture"):
                picture = self.read()
            if picture is None:
                return
            number += 1
            now = clock() - start
            moment = now if self.source.paced else (number - 1) / self.source.fps
            if moment >= self.seconds:
                return
            if self.realtime and moment > now:
                self.stopped.wait(moment - now)
            self.meter.count("captured")
            self.meter.count("dropped", self.shots.put(Shot(picture, moment, clock())))

    def read(self) -> np.ndarray | None:
        """The next picture, however long the source takes to come back; ``None`` at the end."""
        try:
            return self.source.read()
        except SourceLost:
            self.meter.count("source_lost")
            self.say(f"{self.source.name} gives no picture; the last one is held")
        deadline = time.monotonic() + self.retry
        while not self.stopped.wait(RETRY_EVERY) and time.monotonic() < deadline:
            try:
                self.source.reopen()
                picture = self.source.read()
            except SourceLost:
                continue
            self.say(f"{self.source.name} is back")
            return picture
        if not self.stopped.is_set():
            self.say(f"{self.source.name} did not come back within {self.retry:g} s; the end")
        return None

    def track(self) -> None:
        """``shots`` to ``fits``."""
        while True:
            shot = self.shots.get()
            with self.meter("landmarks"):
                sighting = self.tracker.see(shot.picture, shot.time)
            with self.meter("solve"):
                fit = self.tracker.solve(sighting, shot.time)
            if not fit.valid:
                self.meter.count("face_lost")
            for text in fit.news:
                self.say(text)
            self.fits.put((shot, fit))

    def render(self) -> None:
        """``fits`` to ``drawn``."""
        while True:
            shot, fit = self.fits.get()
            with self.meter("render"):
                picture = self.draw(shot, fit)
            self.drawn.put((shot, picture))

    def output(self) -> None:
        """``drawn`` to the sinks."""
        while True:
            try:
                shot, picture = self.drawn.get()
            except Closed:
                return
            with self.meter("output"):
                for sink in self.sinks:
                    sink.show(picture, shot.time)
            self.meter.shown(shot.captured)
