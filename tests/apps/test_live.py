"""``avatarzoo live``: the loop with scripted sources, and the command with a real face and a tiny avatar."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch

from avatarzoo import cli
from avatarzoo.apps import live_loop
from avatarzoo.apps.live import LiveLine, parser
from avatarzoo.apps.live_avatar import Avatar, LivePicture, identity_of
from avatarzoo.apps.live_loop import LiveLoop
from avatarzoo.apps.live_meter import Meter
from avatarzoo.apps.live_sources import SourceLost
from avatarzoo.data.video import read_frames
from avatarzoo.errors import UsageError
from avatarzoo.models import GaussianDejaVu
from avatarzoo.models.base import AvatarImage
from avatarzoo.trackers.live import LiveTracker
from avatarzoo.trackers.live_driving import Driving, framed
from avatarzoo.trackers.live_faces import Sighting

FPS = 25.0
SIZE = 64


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """An untrained avatar: a head-shaped cloud of Gaussians."""
    torch.manual_seed(0)
    module = GaussianDejaVu(uv_size=32, n_blendmaps=2, background=0.0)
    with torch.no_grad():
        module.identity.normal_(std=0.3)
    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_model_summary=False
    )
    trainer.strategy.connect(module)
    path = tmp_path_factory.mktemp("avatar") / "avatar.ckpt"
    trainer.save_checkpoint(path, weights_only=True)
    return path, module.eval()


# ---- the loop with scripted sources ----------------------------------------------------------------------------------


class Script:
    """A source that does what its steps say: a picture, or an exception to raise."""

    name, fps = "scripted camera", FPS

    def __init__(self, steps, paced=False, delay=0.0):
        self.steps, self.paced, self.delay = iter(steps), paced, delay
        self.reopened = 0

    def read(self):
        time.sleep(self.delay)
        step = next(self.steps, None)
        if isinstance(step, BaseException):
            raise step
        return step

    def reopen(self):
        self.reopened += 1

    def close(self):
        pass


class Faces:
    """A follower that reads the landmarks from a list, by picture number (its first pixel)."""

    def __init__(self, rows):
        self.rows = rows

    def __call__(self, picture, time):
        row = self.rows[min(int(picture[0, 0, 0]), len(self.rows) - 1)]
        people = 0 if row is None else 1
        points = np.full((478, 2), np.nan) if row is None else row
        return Sighting(points, picture.shape[:2], people, False)

    def close(self):
        pass


class Kept:
    def __init__(self):
        self.pictures, self.times = [], []

    def show(self, picture, time):
        self.pictures.append(picture)
        self.times.append(time)

    def close(self):
        pass


@pytest.fixture(scope="module")
def face(checkpoint):
    """Landmarks of a face in a 256 x 256 picture."""
    from avatarzoo.geometry.camera import look_at_face, project

    head = checkpoint[1].head
    points = project(head.landmark_points(head(head.zeros(1))), look_at_face(1.1, 20.0, 256))
    return points[0, :, :2].double().numpy()


def numbered(count, size=(256, 256), first=0):
    for k in range(first, first + count):
        picture = np.zeros((*size, 3), np.uint8)
        picture[0, 0] = k
        yield picture


def play(checkpoint, source, rows, draw=None, **options):
    module = checkpoint[1]
    state = module.reconstruct()
    tracker = LiveTracker(module.head, SIZE, follower=Faces(rows))
    driving = Driving(module.head, framed(module.head, SIZE, identity=identity_of(state)))
    draw = draw or LivePicture(Avatar(module, state), driving)
    meter, kept, said = Meter(), Kept(), []
    LiveLoop(source, tracker, draw, [kept], meter, said.append, **options).run()
    return kept, said, meter.summary()


def test_every_frame_of_a_file_is_shown_in_order(checkpoint, face):
    kept, said, summary = play(checkpoint, Script(numbered(12)), [face])
    assert [round(t * FPS) for t in kept.times] == list(range(12))
    assert all(p.shape == (SIZE, SIZE, 3) and p.dtype == np.uint8 for p in kept.pictures)
    assert kept.pictures[-1].std() > 5
    assert said == ["the face is found"]
    assert summary["frames"] == {"captured": 12, "shown": 12, "dropped": 0, "face_lost": 0}
    assert set(summary["stages"]) == {"capture", "landmarks", "solve", "render", "output", "latency"}


def test_lost_face_is_held_and_the_loop_goes_on(checkpoint, face):
    rows = [face] * 15 + [None] * 5 + [face] * 5
    kept, said, summary = play(checkpoint, Script(numbered(25)), rows)
    assert len(kept.pictures) == 25
    assert said == ["the face is found", "the face is lost", "the face is found"]
    assert summary["frames"]["face_lost"] == 5
    change = [np.abs(a.astype(int) - b).max() for a, b in zip(kept.pictures[14:], kept.pictures[15:20])]
    assert max(change) == 0


def test_a_picture_without_any_face_shows_the_avatar_at_rest(checkpoint):
    kept, said, summary = play(checkpoint, Script(numbered(3)), [None])
    assert said == []
    assert kept.pictures[0].std() > 5
    assert summary["frames"]["face_lost"] == 3


def test_unplugged_camera_is_waited_for(checkpoint, face, monkeypatch):
    monkeypatch.setattr(live_loop, "RETRY_EVERY", 0.01)
    steps = [*numbered(5), SourceLost(), SourceLost(), SourceLost(), *numbered(5, first=5)]
    source = Script(steps)
    kept, said, summary = play(checkpoint, source, [face])
    assert len(kept.pictures) == 10
    assert source.reopened == 3
    assert said[1:] == ["scripted camera gives no picture; the last one is held", "scripted camera is back"]
    assert summary["source_lost"] == 1


def test_a_camera_that_never_returns_ends_the_loop(checkpoint, face, monkeypatch):
    monkeypatch.setattr(live_loop, "RETRY_EVERY", 0.01)
    steps = [*numbered(3), *[SourceLost()] * 1000]
    kept, said, _ = play(checkpoint, Script(steps), [face], retry=0.1)
    assert len(kept.pictures) == 3
    assert any("did not come back within 0.1 s" in text for text in said)


def test_frame_size_changes_in_mid_stream(checkpoint, face):
    steps = [*numbered(4), *numbered(4, (512, 700), 4)]
    rows = [face] * 4 + [2 * face + [120, 0]] * 4
    kept, said, _ = play(checkpoint, Script(steps), rows)
    assert len(kept.pictures) == 8
    assert "the pictures changed from 256 x 256 to 700 x 512; the crop is placed anew" in said
    assert np.abs(kept.pictures[3].astype(int) - kept.pictures[4]).mean() < 3  # the avatar does not jump


def test_realtime_drops_what_comes_too_fast(checkpoint, face):
    def slow(shot, fit):
        time.sleep(0.05)
        return shot.picture

    source = Script(numbered(40), paced=True, delay=0.01)
    kept, _, summary = play(checkpoint, source, [face], slow)
    frames = summary["frames"]
    assert frames["captured"] == 40
    assert frames["shown"] + frames["dropped"] == 40
    assert frames["dropped"] > 5
    assert int(kept.pictures[-1][0, 0, 0]) >= 38  # the newest one is not what is dropped
    assert kept.times == sorted(kept.times)


def test_a_file_in_realtime_keeps_its_pace(checkpoint, face):
    start = time.monotonic()
    kept, _, summary = play(checkpoint, Script(numbered(13)), [face], lambda s, f: s.picture, realtime=True)
    assert time.monotonic() - start > 12 / FPS
    assert summary["frames"]["captured"] == 13
    assert kept.times[-1] == pytest.approx(12 / FPS)


def test_seconds_end_the_loop(checkpoint, face):
    kept, _, _ = play(checkpoint, Script(numbered(30)), [face], lambda s, f: s.picture, seconds=0.4)
    assert len(kept.pictures) == 10


@pytest.mark.parametrize("where", ["source", "draw", "sink"])
def test_an_error_anywhere_ends_the_loop_and_is_heard(checkpoint, face, where, monkeypatch):
    def broken(*_):
        raise ValueError("broken")

    steps = [*numbered(5), *([ValueError("broken")] if where == "source" else numbered(5))]
    if where == "sink":
        monkeypatch.setattr(Kept, "show", broken)
    threads = threading.active_count()
    with pytest.raises(ValueError, match="broken"):
        play(checkpoint, Script(steps), [face], broken if where == "draw" else None)
    assert threading.active_count() == threads


# ---- windows and methods ---------------------------------------------------------------------------------------------


def test_windows_go_to_methods_that_have_them_only(checkpoint):
    module = checkpoint[1]
    state = module.reconstruct()
    with pytest.raises(UsageError, match="GaussianDejaVu has no foreground window"):
        Avatar(module, state, {"foreground": (30, 32)})
    seen = {}

    class Windowed:
        device = torch.device("cpu")

        def animate(self, state, params, camera, foreground=None, background=None):
            seen.update(foreground=foreground, background=background)
            return AvatarImage(torch.ones(1, 3, 8, 8), torch.ones(1, 1, 8, 8))

    avatar = Avatar(Windowed(), state, {"background": (30, 32)})
    rest = framed(module.head, 8)
    rgb, alpha = avatar.draw(rest.params, rest.camera)
    assert rgb.shape == (8, 8, 3)
    assert alpha.shape == (8, 8)
    assert seen["foreground"] is None
    assert seen["background"].tolist() == [[30, 32]]


def test_paste_back_puts_the_head_where_the_drivers_is(checkpoint, face):
    module = checkpoint[1]
    state = module.reconstruct()
    driving = Driving(module.head, framed(module.head, SIZE), True, relative_pose=False)
    draw = LivePicture(Avatar(module, state), driving, paste_back=True, ground=0.0)
    wide = [np.full((300, 500, 3), 90, np.uint8) for _ in range(3)]
    for picture in wide:
        picture[0, 0] = 0
    kept, _, _ = play(checkpoint, Script(wide), [face + [200, 30]], draw)
    out = kept.pictures[-1]
    assert out.shape == (300, 500, 3)
    changed = np.abs(out.astype(int) - 90).max(2) > 8
    rows, columns = np.nonzero(changed[1:, 1:])
    low, high = (face + [200, 30]).min(0), (face + [200, 30]).max(0)
    assert abs(columns.mean() - (low + high)[0] / 2) < 15
    assert low[1] - 80 < rows.min() < low[1] + 40
    assert columns.min() > 200


# ---- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def media():
    folder = os.environ.get("AVATARZOO_MEDIA")
    if not folder:
        pytest.skip("AVATARZOO_MEDIA is not set")
    return Path(folder) / "video" / "obama_oval_450p25_20s.mp4"


@pytest.mark.media
def test_command_with_a_real_face(checkpoint, media, tmp_path, capsys):
    out = tmp_path / "out.mp4"
    options = [
        "--source",
        str(media),
        "--output",
        str(out),
        "--seconds",
        "1.6",
        "--size",
        "64",
        "--side-by-side",
    ]
    assert cli.main(["live", "--ckpt", str(checkpoint[0]), *options]) == 0
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


@pytest.mark.media
def test_ctrl_c_ends_with_a_finished_file(checkpoint, media, tmp_path, capsys, monkeypatch):
    """An endless loop, interrupted while the 30th picture goes out."""
    out, shown = tmp_path / "out.mp4", []

    def interrupt(self, picture, time):
        shown.append(time)
        if len(shown) == 30:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(LiveLine, "show", interrupt)
    options = ["--source", str(media), "--output", str(out), "--size", "64", "--loop"]
    assert cli.main(["live", "--ckpt", str(checkpoint[0]), *options]) == 0
    captured = capsys.readouterr()
    assert "stopping" in captured.err
    assert 30 <= json.loads(captured.out)["frames"]["captured"] < 45
    assert len(list(read_frames(out))) == len(shown) >= 30


def test_mistakes_are_one_sentence(checkpoint, tmp_path, capsys):
    ckpt = str(checkpoint[0])
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


def growth(checkpoint, media, frames, warm_up):
    """MB by which a looped real clip makes the process grow after ``warm_up`` frames."""
    module = checkpoint[1]
    state = module.reconstruct()
    pictures = [p for _, p in zip(range(40), read_frames(media))]
    steps = (pictures[k % 40] for k in range(frames))
    driving = Driving(module.head, framed(module.head, SIZE, identity=identity_of(state)))
    tracker = LiveTracker(module.head, SIZE)
    sizes = []
    probe = Kept()
    probe.show = lambda picture, time: sizes.append(rss())
    draw = LivePicture(Avatar(module, state), driving)
    LiveLoop(Script(steps), tracker, draw, [probe], Meter(), lambda text: None).run()
    tracker.close()
    assert len(sizes) == frames
    return np.median(sizes[-50:]) - np.median(sizes[warm_up : warm_up + 50])


@pytest.mark.media
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory from /proc")
def test_memory_does_not_grow(checkpoint, media):
    assert growth(checkpoint, media, 200, 80) < 6


@pytest.mark.slow
@pytest.mark.media
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory from /proc")
def test_memory_does_not_grow_in_ten_minutes(checkpoint, media):
    assert growth(checkpoint, media, 15000, 1000) < 15
