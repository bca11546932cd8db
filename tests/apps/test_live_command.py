"""``avatarzoo live`` as a command, with a real face; memory over many pictures."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from avatarzoo import cli
from avatarzoo.apps.live import LiveLine, parser
from avatarzoo.apps.live_avatar import LivePicture
from avatarzoo.apps.live_loop import LiveLoop
from avatarzoo.apps.live_meter import Meter
from avatarzoo.apps.live_sources import open_source
from avatarzoo.credentials import read_credentials
from avatarzoo.data.video import read_frames
from avatarzoo.models.drawing import Avatar, identity_of
from avatarzoo.trackers.live import LiveTracker
from avatarzoo.trackers.live_driving import Driving, framed

SIZE = 64


@pytest.mark.media
def test_command_with_a_real_face(live_avatar, talking, tmp_path, capsys):
    out = tmp_path / "out.mp4"
    options = [
        "--source",
        str(talking),
        "--output",
        str(out),
        "--seconds",
        "1.6",
        "--size",
        "64",
        "--side-by-side",
    ]
    assert cli.main(["live", "--ckpt", str(live_avatar[0]), *options]) == 0
    captured = capsys.readouterr()
    summary = json.loads(captured.out)
    assert "the face is found" in captured.err
    assert summary["frames"] == {"captured": 40, "shown": 40, "dropped": 0, "face_lost": 0}
    assert summary["method"] == "GaussianDejaVu"
    frames = list(read_frames(out))
    assert len(frames) == 40
    assert frames[0].shape == (64, 128, 3)
    moved = np.abs(frames[-1][:, 64:].astype(int) - frames[27][:, 64:])
    assert moved.max() > 20
    assert read_credentials(out).state == "valid"
    assert json.loads(out.with_suffix(".json").read_text())["credentials"]["written"] is True


@pytest.mark.media
def test_ctrl_c_ends_with_a_finished_file(live_avatar, talking, tmp_path, capsys, monkeypatch):
    """An endless loop, interrupted while the 30th picture goes out."""
    out, shown = tmp_path / "out.mp4", []

    def interrupt(self, picture, time):
        shown.append(time)
        if len(shown) == 30:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(LiveLine, "show", interrupt)
    options = ["--source", str(talking), "--output", str(out), "--size", "64", "--loop"]
    assert cli.main(["live", "--ckpt", str(live_avatar[0]), *options]) == 0
    captured = capsys.readouterr()
    assert "stopping" in captured.err
    assert 30 <= json.loads(captured.out)["frames"]["captured"] < 45
    assert len(list(read_frames(out))) == len(shown) >= 30


def test_mistakes_are_one_sentence(live_avatar, tmp_path, capsys):
    ckpt = str(live_avatar[0])
    clip = tmp_path / "clip.mp4"
    assert cli.main(["live", "--ckpt", ckpt, "--source", str(clip)]) == 2
    assert "does not exist" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["live", "--ckpt", ckpt, "--output", "out.avi"])
    with pytest.raises(SystemExit):
        cli.main(["live", "--ckpt", ckpt, "--size", "7"])
    assert parser().parse_args(["--ckpt", "x"]).driving == "relative"


# ---- memory ----------------------------------------------------------------------------------------------------------


def rss() -> float:
    """MB of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


class MemoryProbe:
    """Notes the process's memory at every picture."""

    def __init__(self):
        self.sizes = []

    def show(self, picture, time):
        self.sizes.append(rss())


def growth(live_avatar, talking, frames, warm_up):
    """MB by which frames of a looped real clip make the process grow after ``warm_up`` of them."""
    module = live_avatar[1]
    state = module.reconstruct()
    driving = Driving(module.head, framed(module.head, SIZE, identity=identity_of(state)))
    draw = LivePicture(Avatar(module, state), driving, side_by_side=True)
    tracker, probe = LiveTracker(module.head, SIZE), MemoryProbe()
    source = open_source(str(talking), loop=True)
    LiveLoop(source, tracker, draw, [probe], Meter(), lambda text: None, seconds=frames / source.fps).run()
    tracker.close()
    source.close()
    assert len(probe.sizes) == frames
    return np.median(probe.sizes[-50:]) - np.median(probe.sizes[warm_up : warm_up + 50])


@pytest.mark.media
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory from /proc")
def test_memory_does_not_grow(live_avatar, talking):
    assert growth(live_avatar, talking, 200, 80) < 6


@pytest.mark.slow
@pytest.mark.media
@pytest.mark.skipif(
    "AVATARZOO_ENDURANCE" not in os.environ, reason="ten minutes of video; set AVATARZOO_ENDURANCE=1"
)
def test_memory_does_not_grow_in_ten_minutes(live_avatar, talking):
    assert growth(live_avatar, talking, 15000, 1000) < 15
