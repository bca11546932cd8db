"""Many clips: what one task is, what comes of it, and the loop that no bad clip stops."""

from __future__ import annotations

import errno
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from avatarzoo.data.sequence import INFO, TrackedSequence
from avatarzoo.data.video import VideoPart
from avatarzoo.data.video_source import content_hash
from avatarzoo.errors import AvatarZooError, OutputError
from avatarzoo.heads import HeadModel, load_head
from avatarzoo.trackers.pipeline import Job, track_video

Status = Literal["done", "skipped", "failed"]
ATTEMPTS = 3
"""How often a clip is begun whose worker dies under it."""
FULL = (errno.ENOSPC, errno.EDQUOT)


class Settings(NamedTuple):
    """Arguments of :func:`avatarzoo.trackers.track_video` that all clips share."""

    head: str = "ict"
    head_file: str | None = None
    size: int = 512
    person: str = "only"
    matting: bool = True
    fov: float = 20.0
    align: bool = True
    consent: str | None = None
    licence: str | None = None


class Task(NamedTuple):
    """One clip.

    Attributes:
        name: unique; safe as a folder name. video: what to track. out: folder to make.
        weight: bytes of the clip, from which the remaining time is told.
        known: of a clip that is in a shard already: what it was made from and how.
    """

    name: str
    video: VideoPart
    out: Path
    settings: Settings
    weight: int = 0
    known: dict[str, Any] | None = None


class Outcome(NamedTuple):
    """What came of a clip.

    Attributes:
        status: ``skipped`` was done in an earlier run with the same content and settings. reason: why it failed.
        seconds: of the last attempt; attempts: more than one where a worker died.
        fatal: all other clips would fail, too (the disk is full).
    """

    name: str
    status: Status
    reason: str = ""
    frames: int = 0
    seconds: float = 0.0
    attempts: int = 1
    fatal: bool = False


Engine = Callable[[Sequence[Task]], Iterator[Outcome]]
"""Does all tasks, in any order, and yields what came of each as soon as it is known."""


@lru_cache(1)
def cached_head(name: str, file: str | None) -> HeadModel:
    return load_head(name, file)


def track_clip(task: Task) -> Outcome:
    """:func:`track_video` for one task; whatever goes wrong is an outcome."""
    start, timings = time.perf_counter(), dict[str, float]()
    head, head_file, *settings = task.settings
    try:
        model = cached_head(head, head_file)
        if task.known is not None:
            check_known(task, Job(content_hash(task.video), model.signature, *settings[:-2]))
            return Outcome(task.name, "skipped", seconds=time.perf_counter() - start)
        found = track_video(task.video, task.out, model, None, *settings, progress=False, timings=timings)  # type: ignore[arg-type]
    except Exception as error:  # also what only a broken file brings to light
        full = isinstance(error, OutputError) and getattr(error.__cause__, "errno", None) in FULL
        reason = str(error) if isinstance(error, AvatarZooError) else f"{type(error).__name__}: {error}"
        return Outcome(task.name, "failed", reason, seconds=time.perf_counter() - start, fatal=full)
    status: Status = "done" if timings else "skipped"
    return Outcome(task.name, status, frames=len(found), seconds=time.perf_counter() - start)


def check_known(task: Task, job: Job) -> None:
    """Raises OutputError: the shards hold the clip, but made from another video or with other settings."""
    if task.known != job._asdict():
        raise OutputError(
            f"The shards hold {task.name} from another video or with other settings; choose another folder, or delete them."
        )


def lost(task: Task, attempts: int) -> Outcome:
    """Of a clip whose workers died."""
    reason = (
        f"the worker died {attempts} times under it (out of memory, or killed); try fewer workers, or "
        f"avatarzoo track {task.video.path} alone."
    )
    return Outcome(task.name, "failed", reason, attempts=attempts)


def in_this_process(tasks: Sequence[Task]) -> Iterator[Outcome]:
    """The engine without any."""
    yield from map(track_clip, tasks)


class Progress:
    """Tells how far a run is. The remaining time comes from the bytes of clips that were really tracked in this run.

    Args:
        tasks: all of them. say: prints a line. every: seconds between lines at least.
    """

    def __init__(self, tasks: Sequence[Task], say: Callable[[str], None], every: float = 5.0) -> None:
        self.left = {task.name: task.weight for task in tasks}
        self.total, self.say, self.every = len(tasks), say, every
        self.counts, self.tracked = Counter[str](), 0
        self.start = self.last = time.monotonic()

    def __call__(self, outcome: Outcome) -> None:
        weight = self.left.pop(outcome.name)
        self.counts[outcome.status] += 1
        if outcome.status == "done":
            self.tracked += weight
        if outcome.status == "failed":
            self.say(f"failed: {outcome.name}: {outcome.reason}")
        now = time.monotonic()
        if now - self.last >= self.every or not self.left:
            self.last = now
            self.say(self.line(now - self.start))

    def line(self, elapsed: float) -> str:
        counts = ", ".join(f"{self.counts[s]} {s}" for s in ("done", "skipped", "failed") if self.counts[s])
        text = f"{self.total - len(self.left)} of {self.total} clips: {counts or 'none yet'}"
        return f"{text}; {self.remaining(elapsed)}" if self.left else f"{text} after {duration(elapsed)}"

    def remaining(self, elapsed: float) -> str:
        """No number before a clip has been tracked to its end."""
        if not self.tracked:
            return "remaining time not known yet"
        return f"about {duration(elapsed * sum(self.left.values()) / self.tracked)} left"


def duration(seconds: float) -> str:
    """ "45 s", "12 min", "3.5 h", "4.2 days"."""
    for limit, unit, name in ((90, 1, "s"), (5400, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.{int(name == 'h')}f} {name}"
    return f"{seconds / 86_400:.1f} days"


def run(
    tasks: Sequence[Task], engine: Engine, progress: Callable[[Outcome], None] = lambda _: None
) -> Iterator[tuple[Task, Outcome]]:
    """Every task with what came of it, in the order in which they end.

    Raises:
        OutputError: the disk is full; what is finished stays.
    """
    known = {task.name: task for task in tasks}
    for outcome in engine(tasks):
        progress(outcome)
        yield known[outcome.name], outcome
        if outcome.fatal:
            raise OutputError(f"Stopped, because every other clip would fail, too: {outcome.reason}")


def finished(task: Task) -> TrackedSequence:
    return TrackedSequence.open(task.out)


def is_finished(task: Task) -> bool:
    return (task.out / INFO).is_file()


def summary(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """Counts and, of every clip, its outcome; for the report."""
    clips = [{k: v for k, v in one._asdict().items() if k != "fatal"} for one in sorted(outcomes)]
    counts = Counter(clip["status"] for clip in clips)
    return {"counts": {s: counts[s] for s in ("done", "skipped", "failed")}, "clips": clips}
