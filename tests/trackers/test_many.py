"""Many clips: no bad one stops the others, nothing is done twice, a worker that dies loses nothing."""

from __future__ import annotations

import json
import sys
from collections import deque
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from avatarzoo.apps import track_many as app
from avatarzoo.apps.track_many import track_many
from avatarzoo.cli import main
from avatarzoo.data.layouts import Item
from avatarzoo.data.sequence import TrackedSequence
from avatarzoo.data.shards import shard_clips
from avatarzoo.data.video import VideoPart, write_video
from avatarzoo.errors import OutputError, UsageError
from avatarzoo.optional import available
from avatarzoo.trackers import engines, many, pipeline
from avatarzoo.trackers.engines import LocalEngine, RayEngine
from avatarzoo.trackers.many import Outcome, Progress, Settings, Task, duration, in_this_process

sys.path.insert(0, str(Path(__file__).parent))
import deadly_worker

FOUND = {}
QUICK = Settings(size=64, matting=False)


@pytest.fixture(scope="module")
def clips(portrait, tmp_path_factory):
    """Three good videos, and two that are none."""
    folder = tmp_path_factory.mktemp("clips")
    for number in range(3):
        write_video(folder / f"{'abc'[number]}.mp4", portrait(10, first=40 * number), 25)
    (folder / "broken.mp4").write_bytes((folder / "a.mp4").read_bytes()[:300])
    write_video(folder / "empty.mp4", [np.full((64, 64, 3), 90, np.uint8)] * 10, 25)
    return folder


def items(folder: Path) -> list[Item]:
    return [Item(path.stem, "video", path, path.stem) for path in sorted(folder.glob("*.mp4"))]


def files(folder: Path) -> dict[str, bytes]:
    found = (p for p in folder.rglob("*") if p.is_file() and p.name != "report.json")
    return {str(p.relative_to(folder)): p.read_bytes() for p in found}


@pytest.fixture
def stand_in(quick_solver, monkeypatch):
    """Head and solver that cost nothing; faces are looked for once in each clip."""
    monkeypatch.setattr(many, "cached_head", lambda *_: pipeline.load_head())
    look = pipeline.detect_clip

    def remembered(video, work, *rest):
        if video not in FOUND:
            FOUND[video] = look(video, work, *rest)
        return FOUND[video]

    monkeypatch.setattr(pipeline, "detect_clip", remembered)


def test_bad_clips_are_reported_and_stop_nothing(clips, tmp_path, stand_in, capsys):
    track_many(items(clips), tmp_path / "out", QUICK, in_this_process)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["counts"] == {"done": 3, "skipped": 0, "failed": 2}
    assert report["finished"]
    reasons = {clip["name"]: clip["reason"] for clip in report["clips"] if clip["status"] == "failed"}
    assert set(reasons) == {"broken", "empty"}
    assert "face" in reasons["empty"]
    printed = capsys.readouterr().out
    assert "failed: broken" in printed
    assert "5 of 5 clips: 3 done, 2 failed" in printed
    before = files(tmp_path / "out")
    again = track_many(items(clips), tmp_path / "out", QUICK, in_this_process, say=lambda _: None)
    assert [o.status for o in again] == ["skipped"] * 2 + ["failed", "skipped", "failed"]
    assert files(tmp_path / "out") == before
    other = track_many(
        items(clips)[:2], tmp_path / "out", QUICK._replace(size=96), in_this_process, say=lambda _: None
    )
    assert all("other settings" in o.reason for o in other)
    assert files(tmp_path / "out").keys() >= before.keys()


def test_shards_do_not_depend_on_the_order_and_survive_a_stop(clips, tmp_path, stand_in):
    def backwards(tasks):
        return in_this_process(tasks[::-1])

    def stopped(tasks):
        for outcome in in_this_process(tasks):
            if outcome.name == "c":
                raise KeyboardInterrupt
            yield outcome

    small = 1  # each clip closes its shard
    track_many(items(clips), tmp_path / "one", QUICK, in_this_process, small, say=lambda _: None)
    track_many(items(clips), tmp_path / "two", QUICK, backwards, small, say=lambda _: None)
    with pytest.raises(KeyboardInterrupt):
        track_many(items(clips), tmp_path / "three", QUICK, stopped, small, say=lambda _: None)
    assert not json.loads((tmp_path / "three" / "report.json").read_text())["finished"]
    again = track_many(items(clips), tmp_path / "three", QUICK, in_this_process, small, say=lambda _: None)
    assert {o.name for o in again if o.status == "skipped"} == {"a", "b", "c"}
    assert files(tmp_path / "one") == files(tmp_path / "two") == files(tmp_path / "three")
    assert [clip.name for clip in shard_clips(tmp_path / "one")] == ["a", "b", "c"]
    plain = pipeline.track_video(clips / "b.mp4", tmp_path / "b", size=64, matting=False, progress=False)
    packed = TrackedSequence.open(tmp_path / "one" / "shard-000001.tar" / "b")
    assert (packed.images([0, 9]) == plain.images([0, 9])).all()
    assert all((a == b).all() for a, b in zip(packed.params, plain.params))


def test_a_full_disk_stops_all(clips, tmp_path, stand_in, monkeypatch):
    def full(self, *_):
        raise OutputError("no room") from OSError(28, "No space left on device")

    monkeypatch.setattr(pipeline.SequenceWriter, "write", full)
    with pytest.raises(OutputError, match="every other clip"):
        track_many(items(clips), tmp_path / "out", QUICK, in_this_process, say=lambda _: None)
    assert len(json.loads((tmp_path / "out" / "report.json").read_text())["clips"]) == 1


def test_remaining_time_is_told_from_what_was_really_tracked():
    tasks = [Task(n, None, Path(n), QUICK, 100) for n in "abcd"]
    progress = Progress(tasks, lambda _: None)
    progress(Outcome("a", "skipped"))
    assert "not known" in progress.line(50.0)
    progress(Outcome("b", "done"))
    assert progress.line(60.0) == "2 of 4 clips: 1 done, 1 skipped; about 2 min left"
    assert [duration(s) for s in (45, 700, 12_600, 360_000)] == ["45 s", "12 min", "3.5 h", "4.2 days"]


def test_the_command(clips, tmp_path, stand_in, monkeypatch, capsys):
    monkeypatch.setattr(app, "check_head", lambda _: None)
    monkeypatch.setattr(app, "LocalEngine", lambda workers: in_this_process)
    call = ["track", str(clips), str(tmp_path / "out"), "--size", "64", "--no-matting"]
    assert main(call) == 1  # some clips failed
    assert main(["track", str(clips), str(tmp_path / "x"), "--address", "auto"]) == 2
    assert "--engine ray" in capsys.readouterr().err
    assert {p.name for p in (tmp_path / "out").iterdir() if (p / "sequence.json").exists()} == set("abc")


# ---- real workers -------------------------------------------------------------------------------------------------------------


def test_a_clip_that_kills_every_worker_is_given_up():
    class Dead:
        connection = property(lambda self: self)

        def recv(self):
            raise EOFError

        def stop(self, kill):
            assert kill

        def __init__(self, attempt):
            self.task = Task("deadly", VideoPart(Path("deadly.mp4")), Path("x"), QUICK), attempt

    engine, waiting = LocalEngine(1), deque()
    for attempt in (1, 2, 3):
        engine.workers = [worker := Dead(attempt)]
        outcome = engine.result(worker, waiting)
        assert (outcome is None) == (attempt < 3)
    assert "died 3 times" in outcome.reason
    assert [attempt for _, attempt in waiting] == [3, 2]


@pytest.mark.slow
def test_workers_that_die_lose_nothing(clips, tmp_path, stand_in):
    engine = LocalEngine(2, deadly_worker.serve)
    outcomes = {
        o.name: o for o in track_many(items(clips)[:3], tmp_path / "two", QUICK, engine, say=lambda _: None)
    }
    assert {n: o.status for n, o in outcomes.items()} == {"a": "done", "b": "done", "broken": "failed"}
    assert outcomes["b"].attempts == 2
    track_many(items(clips)[:3], tmp_path / "one", QUICK, in_this_process, say=lambda _: None)
    ours = {k: v for k, v in files(tmp_path / "two").items() if not k.endswith(".died")}
    assert ours == files(tmp_path / "one")
    assert all(not worker.process.is_alive() for worker in engine.workers)


def test_ray_that_cannot_be_reached_is_one_sentence(monkeypatch):
    def init(**_):
        raise ConnectionError("nobody there")

    monkeypatch.setattr(engines, "require", lambda *_, **__: SimpleNamespace(init=init))
    with pytest.raises(UsageError, match=r"nobody there.*--engine local"):
        list(RayEngine("somewhere:6379")([]))


@pytest.mark.slow
@pytest.mark.skipif(not available("ray"), reason="Ray is not installed: pip install 'avatarzoo[scale]'")
def test_ray_brings_every_outcome_back(tmp_path):
    """Files that need no tracking: every task comes back once. benchmarks/speed/tracking_at_scale.py tracks and kills."""
    names = [f"{n:02d}" for n in range(6)]
    for name in names:
        (tmp_path / f"{name}.mp4").write_bytes(b"no video")
    settings = QUICK._replace(head="procedural")
    outcomes = track_many(
        items(tmp_path), tmp_path / "out", settings, RayEngine(workers=1), say=lambda _: None
    )
    assert sorted(o.name for o in outcomes) == names
    assert all(o.status == "failed" and "read" in o.reason for o in outcomes)
