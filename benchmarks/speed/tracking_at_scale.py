"""Sixty clips on two workers, three of them broken, a worker killed in the middle; by each engine, compared with one after the other.

    python benchmarks/speed/tracking_at_scale.py OUT --media shared/media/video
    python benchmarks/speed/tracking_at_scale.py OUT --clips 8 --frames 12 --engines local      a quick look

Clips are cut from the real videos of --media (AVATARZOO_MEDIA/video) and drawn of made-up people. ``one worker`` runs with as many
threads as each of two has (one), so that the speed-up says what a second core brings; run it where nothing else runs. Prints a table
and writes OUT/times.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice
from pathlib import Path

import numpy as np

from avatarzoo.apps.track_many import track_many
from avatarzoo.data.layouts import Item, layout
from avatarzoo.data.procedural import ProceduralActor
from avatarzoo.data.video import VideoPart, probe, read_frames, write_video
from avatarzoo.trackers.engines import LocalEngine, RayEngine
from avatarzoo.trackers.many import Outcome, Settings, Task

PORT = 6399
ENGINES = ("local", "ray", "nodes")
BROKEN = 3


def make_clips(folder: Path, clips: int, frames: int, media: Path) -> None:
    """Two thirds real, one third made up, and three that cannot be tracked."""
    if folder.is_dir():
        return
    half_done = folder.with_suffix(".partial")
    shutil.rmtree(half_done, ignore_errors=True)
    half_done.mkdir(parents=True)
    real, good = sorted(media.glob("*.mp4")), clips - BROKEN
    for number in range(good):
        path = half_done / f"clip{number:02d}.mp4"
        if number % 3 < 2 and real:
            source = real[number % len(real)]
            first = 7 * number % max(1, probe(source).frames - frames)
            write_video(path, list(read_frames(VideoPart(source, first, first + frames))), 25)
        else:
            ProceduralActor(number, 256).write_video(path, frames)
    (half_done / "bad_text.mp4").write_text("no video")
    whole = (half_done / "clip00.mp4").read_bytes()
    (half_done / "bad_truncated.mp4").write_bytes(whole[: len(whole) // 3])
    write_video(half_done / "bad_no_face.mp4", [np.full((256, 256, 3), 90, np.uint8)] * frames, 25)
    half_done.rename(folder)


def killing(engine: Callable, after: int, kill: Callable[[], int | None]) -> Callable:
    """The engine, of which one worker is killed a moment after ``after`` clips."""

    def run(tasks: Sequence[Task]) -> Iterator[Outcome]:
        killed: list[int | None] = []
        for number, outcome in enumerate(engine(tasks), 1):
            if number == after:
                timer = threading.Timer(0.5, lambda: killed.append(kill()))
                timer.start()
            yield outcome
        print(f"  killed worker: {killed}")

    return run


def kill_local(engine: LocalEngine) -> int | None:
    busy = next((w for w in engine.workers if w.task is not None), None)
    if busy is None or busy.process.pid is None:
        return None
    os.kill(busy.process.pid, signal.SIGKILL)
    return busy.process.pid


def kill_ray(below: Sequence[int]) -> int | None:
    """One of Ray's workers that tracks a clip, among the descendants of our own processes."""
    parents = {int(p.name): parent_of(p) for p in Path("/proc").iterdir() if p.name.isdigit()}
    for pid in parents:
        above = set(islice(ancestors(pid, parents), 20))
        if above & set(below) and b"ray::track_clip" in command(pid):
            os.kill(pid, signal.SIGKILL)
            return pid
    return None


def parent_of(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rsplit(")", 1)[1].split()[1])
    except (OSError, IndexError):
        return 0


def ancestors(pid: int, parents: dict[int, int]) -> Iterator[int]:
    for _ in count():
        pid = parents.get(pid, 0)
        if pid == 0:
            return
        yield pid


def command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def start_nodes() -> list[subprocess.Popen]:
    """A head node and a second one, each with one core and in processes of its own."""
    ray = str(Path(sys.executable).with_name("ray"))
    common = ["--num-cpus", "1", "--block", "--disable-usage-stats"]
    commands = (
        [ray, "start", "--head", "--port", str(PORT), "--include-dashboard", "false", *common],
        [ray, "start", "--address", f"127.0.0.1:{PORT}", *common],
    )
    nodes = []
    for line in commands:
        nodes.append(subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        time.sleep(20)
    return nodes


def contents(folder: Path) -> dict[str, bytes]:
    found = (p for p in folder.rglob("*") if p.is_file() and p.name != "report.json")
    return {str(p.relative_to(folder)): p.read_bytes() for p in found}


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("out", type=Path)
    p.add_argument("--media", type=Path, default=Path(os.environ.get("AVATARZOO_MEDIA", "media")) / "video")
    p.add_argument("--clips", type=int, default=60)
    p.add_argument("--frames", type=int, default=24)
    p.add_argument("--size", type=int, default=256)
    p.add_argument("--head", default="procedural")
    p.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    p.add_argument("--no-kill", action="store_true", help="for the speed-up alone")
    p.add_argument("--reuse", action="store_true", help="the run with one worker is there already")
    args = p.parse_args()
    make_clips(args.out / "clips", args.clips, args.frames, args.media)
    items: list[Item] = layout("clips").items(args.out / "clips")
    settings = Settings(head=args.head, size=args.size)
    times: dict[str, float] = {}

    def measure(name: str, engine: Callable) -> dict[str, bytes]:
        shutil.rmtree(args.out / name, ignore_errors=True)
        start = time.perf_counter()
        outcomes = track_many(items, args.out / name, settings, engine, say=lambda _: None)
        times[name] = time.perf_counter() - start
        kinds = [o.status for o in outcomes]
        print(
            f"{name}: {kinds.count('done')} done, {kinds.count('failed')} failed, {times[name]:.0f} s",
            flush=True,
        )
        assert (len(outcomes), kinds.count("failed")) == (args.clips, BROKEN)
        return contents(args.out / name)

    report = args.out / "one" / "report.json"
    if args.reuse and report.is_file():
        times["one"], truth = json.loads(report.read_text())["seconds"], contents(args.out / "one")
    else:
        truth = measure("one", LocalEngine(1))
    for name in args.engines:
        nodes: list[subprocess.Popen] = []
        if name == "local":
            local = LocalEngine(2)
            engine, kill = local, lambda local=local: kill_local(local)
        else:
            nodes = start_nodes() if name == "nodes" else []
            engine = RayEngine(f"127.0.0.1:{PORT}" if nodes else None, 2)
            kill = lambda nodes=nodes: kill_ray([os.getpid(), *(n.pid for n in nodes)])  # noqa: E731
        try:
            same = measure(name, engine if args.no_kill else killing(engine, args.clips // 3, kill)) == truth
            print(f"  equal to one worker: {same}; speed-up {times['one'] / times[name]:.2f}", flush=True)
        finally:
            for node in nodes:
                node.terminate()
                node.wait()
    (args.out / "times.json").write_text(json.dumps(times))


if __name__ == "__main__":
    main()
