"""``avatarzoo live``: the loop with scripted sources, and the command with a real face and a tiny avatar."""

from __future__ import annotations

import threading
import time
from functools import partial

import numpy as np
import pytest
import torch

from avatarzoo.apps import live_loop
from avatarzoo.apps.live_avatar import LivePicture
from avatarzoo.apps.live_loop import LiveLoop
from avatarzoo.apps.live_meter import Meter
from avatarzoo.apps.live_sources import SourceLost
from avatarzoo.errors import UsageError
from avatarzoo.models.base import AvatarImage
from avatarzoo.models.drawing import Avatar, identity_of
from avatarzoo.trackers.live import LiveTracker
from avatarzoo.trackers.live_driving import Driving, framed
from avatarzoo.trackers.live_faces import Sighting

FPS = 25.0
SIZE = 64


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
def face(live_avatar):
    """Landmarks of a face in a 256 x 256 picture."""
    from avatarzoo.geometry.camera import look_at_face, project

    head = live_avatar[1].head
    points = project(head.landmark_points(head(head.zeros(1))), look_at_face(1.1, 20.0, 256))
    return points[0, :, :2].double().numpy()


def numbered(count, size=(256, 256), first=0):
    for k in range(first, first + count):
        picture = np.zeros((*size, 3), np.uint8)
        picture[0, 0] = k
        yield picture


def play(live_avatar, source, rows, draw=None, **options):
    module = live_avatar[1]
    state = module.reconstruct()
    tracker = LiveTracker(module.head, SIZE, follower=Faces(rows))
    driving = Driving(module.head, framed(module.head, SIZE, identity=identity_of(state)))
    draw = draw or LivePicture(Avatar(module, state), driving)
    meter, kept, said = Meter(), Kept(), []
    LiveLoop(source, tracker, draw, [kept], meter, said.append, **options).run()
    return kept, said, meter.summary()


def test_every_frame_of_a_file_is_shown_in_order(live_avatar, face):
    kept, said, summary = play(live_avatar, Script(numbered(12)), [face])
    assert [round(t * FPS) for t in kept.times] == list(range(12))
    assert all(p.shape == (SIZE, SIZE, 3) and p.dtype == np.uint8 for p in kept.pictures)
    assert kept.pictures[-1].std() > 5
    assert said == ["the face is found"]
    assert summary["frames"] == {"captured": 12, "shown": 12, "dropped": 0, "face_lost": 0}
    assert set(summary["stages"]) == {"capture", "landmarks", "solve", "render", "output", "latency"}


def test_lost_face_is_held_and_the_loop_goes_on(live_avatar, face):
    rows = [face] * 15 + [None] * 5 + [face] * 5
    kept, said, summary = play(live_avatar, Script(numbered(25)), rows)
    assert len(kept.pictures) == 25
    assert said == ["the face is found", "the face is lost", "the face is found"]
    assert summary["frames"]["face_lost"] == 5
    change = [np.abs(a.astype(int) - b).max() for a, b in zip(kept.pictures[14:], kept.pictures[15:20])]
    assert max(change) == 0


def test_a_picture_without_any_face_shows_the_avatar_at_rest(live_avatar):
    kept, said, summary = play(live_avatar, Script(numbered(3)), [None])
    assert said == []
    assert kept.pictures[0].std() > 5
    assert summary["frames"]["face_lost"] == 3


def test_unplugged_camera_is_waited_for(live_avatar, face, monkeypatch):
    monkeypatch.setattr(live_loop, "RETRY_EVERY", 0.01)
    steps = [*numbered(5), SourceLost(), SourceLost(), SourceLost(), *numbered(5, first=5)]
    source = Script(steps)
    kept, said, summary = play(live_avatar, source, [face])
    assert len(kept.pictures) == 10
    assert source.reopened == 3
    assert said[1:] == ["scripted camera gives no picture; the last one is held", "scripted camera is back"]
    assert summary["source_lost"] == 1


def test_a_camera_that_never_returns_ends_the_loop(live_avatar, face, monkeypatch):
    monkeypatch.setattr(live_loop, "RETRY_EVERY", 0.01)
    steps = [*numbered(3), *[SourceLost()] * 1000]
    kept, said, _ = play(live_avatar, Script(steps), [face], retry=0.1)
    assert len(kept.pictures) == 3
    assert any("did not come back within 0.1 s" in text for text in said)


def test_frame_size_changes_in_mid_stream(live_avatar, face):
    steps = [*numbered(4), *numbered(4, (512, 700), 4)]
    rows = [face] * 4 + [2 * face + [120, 0]] * 4
    kept, said, _ = play(live_avatar, Script(steps), rows)
    assert len(kept.pictures) == 8
    assert "the pictures changed from 256 x 256 to 700 x 512; the crop is placed anew" in said
    assert np.abs(kept.pictures[3].astype(int) - kept.pictures[4]).mean() < 3  # the avatar does not jump


def test_realtime_drops_what_comes_too_fast(live_avatar, face):
    def slow(shot, fit):
        time.sleep(0.05)
        return shot.picture

    source = Script(numbered(40), paced=True, delay=0.01)
    kept, _, summary = play(live_avatar, source, [face], slow)
    frames = summary["frames"]
    assert frames["captured"] == 40
    assert frames["shown"] + frames["dropped"] == 40
    assert frames["dropped"] > 5
    assert int(kept.pictures[-1][0, 0, 0]) >= 38  # the newest one is not what is dropped
    assert kept.times == sorted(kept.times)


def test_a_file_in_realtime_keeps_its_pace(live_avatar, face):
    start = time.monotonic()
    kept, _, summary = play(live_avatar, Script(numbered(13)), [face], lambda s, f: s.picture, realtime=True)
    assert time.monotonic() - start > 12 / FPS
    assert summary["frames"]["captured"] == 13
    assert kept.times[-1] == pytest.approx(12 / FPS)


def test_seconds_end_the_loop(live_avatar, face):
    kept, _, _ = play(live_avatar, Script(numbered(30)), [face], lambda s, f: s.picture, seconds=0.4)
    assert len(kept.pictures) == 10


@pytest.mark.parametrize("where", ["source", "draw", "sink"])
def test_an_error_anywhere_ends_the_loop_and_is_heard(live_avatar, face, where, monkeypatch):
    def broken(*_):
        raise ValueError("broken")

    steps = [*numbered(5), *([ValueError("broken")] if where == "source" else numbered(5))]
    if where == "sink":
        monkeypatch.setattr(Kept, "show", broken)
    threads = threading.active_count()
    with pytest.raises(ValueError, match="broken"):
        play(live_avatar, Script(steps), [face], broken if where == "draw" else None)
    assert threading.active_count() == threads


# ---- windows and methods ---------------------------------------------------------------------------------------------


def test_windows_go_to_methods_that_have_them_only(live_avatar):
    module = live_avatar[1]
    state = module.reconstruct()
    with pytest.raises(UsageError, match="GaussianDejaVu has no foreground window"):
        Avatar(module, state, {"foreground": (30, 32)})
    seen = {}

    class Windowed:
        device = torch.device("cpu")

        def animate(self, state, params, camera, foreground=None, background=None):
            seen.update(foreground=foreground, background=background)
            return AvatarImage(torch.ones(1, 3, 8, 8), torch.ones(1, 1, 8, 8))

        def animation(self, state):
            return partial(self.animate, state)

    avatar = Avatar(Windowed(), state, {"background": (30, 32)})
    rest = framed(module.head, 8)
    rgb, alpha = avatar.draw(rest.params, rest.camera)
    assert rgb.shape == (8, 8, 3)
    assert alpha.shape == (8, 8)
    assert seen["foreground"] is None
    assert seen["background"].tolist() == [[30, 32]]


def test_paste_back_puts_the_head_where_the_drivers_is(live_avatar, face):
    module = live_avatar[1]
    state = module.reconstruct()
    driving = Driving(module.head, framed(module.head, SIZE), True, relative_pose=False)
    draw = LivePicture(Avatar(module, state), driving, paste_back=True, ground=0.0)
    wide = [np.full((300, 500, 3), 90, np.uint8) for _ in range(3)]
    for picture in wide:
        picture[0, 0] = 0
    kept, _, _ = play(live_avatar, Script(wide), [face + [200, 30]], draw)
    out = kept.pictures[-1]
    assert out.shape == (300, 500, 3)
    changed = np.abs(out.astype(int) - 90).max(2) > 8
    rows, columns = np.nonzero(changed[1:, 1:])
    low, high = (face + [200, 30]).min(0), (face + [200, 30]).max(0)
    assert abs(columns.mean() - (low + high)[0] / 2) < 15
    assert low[1] - 80 < rows.min() < low[1] + 40
    assert columns.min() > 200
