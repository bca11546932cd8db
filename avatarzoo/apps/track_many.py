"""``avatarzoo track FOLDER out/``: many videos, on many cores or machines, into folders or shards."""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from avatarzoo.data.layouts import Item, layout
from avatarzoo.data.shards import ShardWriter, shard_clips
from avatarzoo.data.video import VideoPart
from avatarzoo.errors import BadDatasetError, OutputError, UsageError
from avatarzoo.files import atomic_path
from avatarzoo.trackers.engines import LocalEngine, RayEngine
from avatarzoo.trackers.many import (
    Engine,
    Outcome,
    Progress,
    Settings,
    Task,
    finished,
    is_finished,
    run,
    summary,
)

REPORT = "report.json"
WAITING = "tracked"
"""Folder of clips that are tracked but not yet in a shard."""
Say = Callable[[str], None]


def main(args: argparse.Namespace) -> int:
    """Exit code 0 when every clip is tracked, 1 when some failed."""
    if args.workers < 0 or args.shard_size < 1:
        raise UsageError("--workers cannot be negative, --shard-size must be at least 1.")
    if args.address and args.engine != "ray":
        raise UsageError("--address belongs to --engine ray.")
    settings = Settings(
        args.head, args.head_file, args.size, args.person, not args.no_matting, args.fov, not args.no_alignment,
        args.consent, args.licence,
    )  # fmt: skip
    engine: Engine = (
        RayEngine(args.address, args.workers) if args.engine == "ray" else LocalEngine(args.workers)
    )
    check_head(settings)
    items = [i for i in layout(args.layout or "clips").items(args.video) if i.kind in ("video", "frames")]
    if not items:
        raise BadDatasetError(f"{args.video} holds no video; give a folder of clips, or another --layout.")
    say: Say = (lambda _: None) if args.quiet else (lambda text: print(text, flush=True))
    limit = args.shard_size * 1_000_000 if args.shards else 0
    outcomes = track_many(items, args.output, settings, engine, limit, say)
    failed = sum(outcome.status == "failed" for outcome in outcomes)
    return int(failed > 0)


def check_head(settings: Settings) -> None:
    """What every worker needs is made once, and what is wrong with it is said before any starts."""
    from avatarzoo.trackers.embedding import ensure_embedding
    from avatarzoo.trackers.many import cached_head

    ensure_embedding(cached_head(settings.head, settings.head_file), False)


def track_many(
    items: list[Item], out: Path, settings: Settings, engine: Engine, shard_bytes: int = 0, say: Say = print
) -> list[Outcome]:
    """Track all clips; ``report.json`` says what came of each, also when the run is stopped.

    Args:
        items: clips. out: folder of the results ``out/NAME``, or of the shards.
        shard_bytes: size of a shard; 0: folders. say: prints a line.

    Raises:
        OutputError: the disk is full; what is finished stays.
    """
    start, outcomes = time.monotonic(), list[Outcome]()
    tasks = make_tasks(items, out, settings, shards=shard_bytes > 0)
    packer = Packer(out, tasks, shard_bytes) if shard_bytes else None
    ended = False
    try:
        for task, outcome in run(tasks, engine, Progress(tasks, say)):
            outcomes.append(outcome)
            if packer is not None:
                packer.ended(task)
        if packer is not None:
            packer.close()
        ended = True
    finally:
        report = {
            "finished": ended, "seconds": round(time.monotonic() - start, 1), "clips_asked_for": len(tasks),
            "settings": settings._asdict(), **summary(outcomes),
        }  # fmt: skip
        write_report(out / REPORT, report)
    say(f"report: {out / REPORT}")
    return outcomes


def make_tasks(items: list[Item], out: Path, settings: Settings, shards: bool) -> list[Task]:
    known = {clip.name: clip.job or {} for clip in shard_clips(out)} if shards else {}
    folder = out / WAITING if shards else out
    return [
        Task(
            i.name,
            VideoPart(i.path, i.start, i.stop),
            folder / i.name,
            settings,
            size_of(i.path),
            known.get(i.name),
        )
        for i in items
    ]


def size_of(path: Path) -> int:
    """Bytes of a file, or of the files of a folder."""
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


class Packer:
    """Puts clips into shards in the order of the list, whichever ends first, so that shards do not depend on the engine."""

    def __init__(self, out: Path, tasks: list[Task], limit: int) -> None:
        self.writer, self.waiting = ShardWriter(out, limit), out / WAITING
        self.order: Iterator[Task] = iter(tasks)
        self.next = next(self.order, None)
        self.over: set[str] = set()

    def ended(self, task: Task) -> None:
        """A clip is done, or never will be; it and those that waited for it are taken."""
        self.over.add(task.name)
        while self.next is not None and self.next.name in self.over:
            self.over.discard(self.next.name)
            if is_finished(self.next):
                self.forget(self.writer.add(self.next.name, finished(self.next)))
            self.next = next(self.order, None)

    def close(self) -> None:
        self.forget(self.writer.close())

    def forget(self, written: list[str]) -> None:
        """The folders of clips that are in a shard now are no longer needed."""
        for name in written:
            shutil.rmtree(self.waiting / name)
        if written and not any(self.waiting.iterdir()):
            self.waiting.rmdir()


def write_report(path: Path, report: dict[str, Any]) -> None:
    try:
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(report, indent=1) + "\n")
    except OutputError:  # the disk is full: what stopped the run says so
        return
