"""The viewer's parts: newest request, playback, rate, recording, cameras, layout, splats."""

from __future__ import annotations

import math
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from avatarzoo.apps.view_loop import Playback, Rate, Renderer
from avatarzoo.apps.view_record import Recording, file_name, fitted
from avatarzoo.apps.view_splats import Splats, covariances, packed
from avatarzoo.apps.view_stage import DISTANCE, Request, Sitter, Studio, View, padded, side_by_side, squared
from avatarzoo.data.video import read_frames
from avatarzoo.geometry.camera import project
from avatarzoo.models.drawing import identity_of
from avatarzoo.render import rasterize_gaussians
from avatarzoo.trackers.live_driving import framed

ASKED = Request(View.home(0.35), {}, None, (0,), False, 64)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


# ---- the loop --------------------------------------------------------------------------------------------------------


def test_the_newest_request_wins_and_drawing_is_elsewhere():
    drawn, go, names = [], threading.Event(), set()

    def draw(request):
        names.add(threading.current_thread().name)
        go.wait(10)
        return request.size

    renderer = Renderer(draw, lambda r, d, s: drawn.append(d), lambda e: None, ASKED)
    renderer.start()
    while not names:
        time.sleep(0.005)
    for size in range(100, 150):
        renderer.ask(size=size)  # at once, though a picture is being drawn
    go.set()
    while len(drawn) < 2:
        time.sleep(0.005)
    time.sleep(0.05)
    assert drawn == [64, 149]
    assert names == {"view"}
    renderer.close()
    renderer.join(5)
    assert not renderer.is_alive()


def test_a_drawing_that_fails_is_told_and_the_next_one_works():
    shown, told = [], []

    def draw(request):
        if request.size == 1:
            raise ValueError("no")
        return request.size

    renderer = Renderer(draw, lambda r, d, s: shown.append(d), told.append, ASKED._replace(size=1))
    renderer.once(renderer.take())
    renderer.ask(size=2)
    renderer.once(renderer.take())
    assert shown == [2]
    assert [str(e) for e in told] == ["no"]
    renderer.close()
    assert renderer.take() is None


def test_nothing_is_shown_after_closing():
    shown = []
    renderer = Renderer(lambda r: renderer.close(), lambda *a: shown.append(a), shown.append, ASKED)
    renderer.run()
    assert not shown


def test_playback_goes_by_the_clock_and_drops_frames():
    clock = Clock()
    playback = Playback(10, 5.0)
    assert playback.wait(0.0) is None
    playback.play(0.0)
    assert [playback.at(t) for t in (0.0, 0.19, 0.21, 1.0, 2.0)] == [0, 0, 1, 5, 0]
    assert playback.wait(0.15) == pytest.approx(0.05)
    playback.seek(7, 1.0)
    assert playback.at(1.2001) == 8
    playback.pause(1.2001)
    assert playback.at(99.0) == 8
    renderer = Renderer(lambda r: r.frame, print, print, ASKED, playback, clock)
    assert renderer.take().frame == 8
    playback.play(0.0)
    clock.now = 0.61
    assert renderer.take().frame == 1  # three frames on, two of them never asked for


def test_the_rate_forgets_pauses():
    rate = Rate()
    assert rate.per_second == 0
    for n in range(11):
        rate.add(10 + 0.1 * n, 0.05)
    assert rate.per_second == pytest.approx(10)
    assert rate.milliseconds == pytest.approx(50)
    rate.add(20.0, 0.5)
    assert rate.per_second == 0
    assert rate.milliseconds == 500


# ---- recordings ------------------------------------------------------------------------------------------------------


def test_a_recording_holds_what_was_shown_as_long_as_it_was_shown(tmp_path):
    clock = Clock()
    recording = Recording("a.mp4", clock=clock, fps=10, longest=60)
    for grey in (0, 100, 200):
        recording.add(np.full((32, 48, 3), grey, np.uint8))
        clock.now += 1
    (tmp_path / "a.mp4").write_bytes(recording.finish())
    levels = [int(f.mean()) for f in read_frames(tmp_path / "a.mp4")]
    assert len(levels) == 30
    assert np.abs(np.array(levels) - np.repeat([0, 100, 200], 10)).max() < 8


def test_recordings_end_by_themselves_and_one_picture_is_enough():
    clock = Clock()
    recording = Recording("a.mp4", clock=clock, fps=10, longest=0.5)
    recording.add(np.zeros((16, 16, 3), np.uint8))
    clock.now = 0.6
    assert recording.full
    assert len(recording.finish()) > 500
    short = Recording("b.mp4", clock=Clock())
    short.add(np.zeros((16, 16, 3), np.uint8))
    assert len(short.finish()) > 500
    unwanted = Recording("c.mp4")
    unwanted.abandon()
    unwanted.thread.join(5)
    assert not unwanted.thread.is_alive()


def test_pictures_of_another_shape_fit_into_a_video():
    tall = np.full((100, 40, 3), 255, np.uint8)
    out = fitted(tall, (50, 80))
    assert out.shape == (50, 80, 3)
    assert (out[25, 40] == 255).all()


def test_file_names_say_who_and_whether_it_is_signed():
    name = file_name(["me/avatar", "you?"], ".png", signed=True)
    assert name.startswith("me-avatar-and-you--20")
    assert Path(name).name == name
    assert file_name(["me"], ".mp4", signed=False).endswith("-no-credentials.mp4")


# ---- cameras and layout ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sitter(live_avatar):
    _, module = live_avatar
    state = module.reconstruct()
    rest = framed(module.head, 128, identity=identity_of(state))
    turned = rest.params._replace(rotation=torch.tensor([[0.0, 0.3, 0.0]]))
    return Sitter("cloud", module, state, module.head, rest._replace(params=turned))


def orbited(degrees: float, distance: float = 1.0, up: float = 0.0) -> View:
    """The page's camera after a drag to the side."""
    turn = math.radians(degrees)
    back = np.array([math.sin(turn), up, math.cos(turn)])
    back /= np.linalg.norm(back)
    right = np.cross([0, 1, 0], back)
    right /= np.linalg.norm(right)
    axes = np.stack([right, -np.cross(back, right), -back], 1)
    return View.of_pose(axes, back * DISTANCE * distance, 0.35)


def test_at_first_the_page_shows_what_the_avatars_own_camera_shows(sitter):
    own, seen = sitter.rest.camera, sitter.camera(View.home(0.35), 128)
    torch.testing.assert_close(seen.world_to_camera, own.world_to_camera, atol=1e-5, rtol=0)
    torch.testing.assert_close(seen.intrinsics, own.intrinsics)


def test_a_drag_turns_about_the_head_and_a_scroll_goes_nearer(sitter):
    with torch.no_grad():
        vertices = sitter.head(sitter.rest.params)
    middle = ((vertices.amin(1) + vertices.amax(1)) / 2)[:, None]
    at_first = project(middle, sitter.camera(View.home(0.35), 128))
    for view in (orbited(40), orbited(-70, up=0.3)):
        torch.testing.assert_close(project(middle, sitter.camera(view, 128)), at_first, atol=0.02, rtol=1e-4)
    near = project(middle, sitter.camera(orbited(0, 0.5), 128))
    assert float(near[0, 0, 2]) == pytest.approx(float(at_first[0, 0, 2]) / 2, rel=1e-4)
    left = middle + torch.tensor([[[0.05, 0.0, 0.0]]])
    front = project(left, sitter.camera(orbited(0), 128))[0, 0]
    side = project(left, sitter.camera(orbited(80), 128))[0, 0]
    assert side[2] < front[2] - 0.03  # seen from +x, what is at +x is nearer
    zoomed = sitter.camera(orbited(0), 128, zoom=2.0)
    torch.testing.assert_close(zoomed.intrinsics[0, 0, 0], 2 * sitter.lens[0, 0])


def test_a_drivers_camera_takes_the_place_of_the_own_one(sitter):
    base = sitter.rest.camera.resized(256, 256)
    shift = torch.eye(4)
    shift[0, 3] = 0.02
    base = base._replace(world_to_camera=shift @ base.world_to_camera)
    seen = sitter.camera(View.home(0.35), 128, base=base)
    torch.testing.assert_close(seen.world_to_camera, base.world_to_camera, atol=1e-5, rtol=0)
    torch.testing.assert_close(seen.intrinsics, base.resized(128, 128).intrinsics)


def test_splats_show_the_same_as_pictures(sitter):
    studio = Studio([sitter])
    values = {("", "Turn head"): 20.0, ("", "Smile"): 0.8}
    request = Request(View.home(studio.fov), values, None, (0,), False, 128, splats=True)
    (gaussians,) = studio.gaussians(request).values()
    page = torch.eye(4)[None]
    page[0] = request.view.world_to_camera
    page[0, :3, 3] *= DISTANCE
    camera = sitter.rest.camera._replace(world_to_camera=page)
    there = rasterize_gaussians(gaussians, camera, torch.zeros(3)).rgb.clamp(0, 1)
    here = torch.from_numpy(studio.draw(request._replace(splats=False))[0]).permute(2, 0, 1).float() / 255
    assert float(here.std()) > 0.1
    assert float((there[0] - here).abs().mean()) < 2e-3


def test_splats_are_packed_as_the_browser_reads_them(sitter):
    (gaussians,) = Studio([sitter]).gaussians(ASKED).values()
    words = packed(gaussians)
    assert words.shape == (gaussians.means.shape[1], 8)
    np.testing.assert_array_equal(words[:, :3].view(np.float32), gaussians.means[0].numpy())
    upper = words[:, 4:7].copy().view(np.float16).astype(np.float32)
    expected = covariances(gaussians).numpy().reshape(-1, 9)[:, [0, 1, 2, 4, 5, 8]]
    np.testing.assert_allclose(upper, expected, rtol=2e-3, atol=1e-6)
    assert np.abs(expected[:, 0]).min() > 1e-6  # far above what half precision loses
    rgba = words[:, 7:].copy().view(np.uint8) / 255
    np.testing.assert_allclose(rgba[:, 3], gaussians.opacities[0], atol=0.003)


def test_splats_come_and_go_with_their_avatars(sitter):
    class Node:
        removed = False

        def remove(self):
            self.removed = True

    class Scene:
        def add_gaussian_splats(self, name, **arrays):
            made.append((name, arrays["covariances"].shape[1:]))
            return Node()

    made: list = []
    (gaussians,) = Studio([sitter]).gaussians(ASKED).values()
    splats = Splats(Scene())
    splats.show({0: gaussians})
    node = splats.nodes[0]
    splats.show({0: gaussians})
    assert made == [("/avatar_0", (3, 3))]
    assert node.buffer.dtype == np.uint32
    splats.show({})
    assert node.removed


def test_pictures_are_laid_out_as_large_as_the_window_allows():
    tiles = [np.full((8, 8, 3), n, np.uint8) for n in range(4)]
    assert side_by_side(tiles, 5.0, 255).shape == (8, 32, 3)
    assert side_by_side(tiles, 1.0, 255).shape == (16, 16, 3)
    assert side_by_side(tiles[:2], 0.4, 255).shape == (16, 8, 3)
    three = side_by_side(tiles[:3], 1.0, 255)
    assert (three[12, 12] == 255).all()
    wide = padded(tiles[0], 2.0, 9)
    assert wide.shape == (8, 16, 3)
    assert (wide[4, 1] == 9).all()
    assert (wide[4, 8] == 0).all()
    assert squared(np.zeros((10, 20, 3), np.uint8), 8, 7)[0, 4, 0] == 7


def test_the_photo_and_the_driver_stand_beside(sitter, monkeypatch):
    class Sequence:
        def images(self, rows):
            return torch.full((1, 3, 32, 32), 10 * rows[0], dtype=torch.uint8)

    monkeypatch.setattr(sitter, "photo", np.full((64, 48, 3), 77, np.uint8))
    monkeypatch.setattr(sitter, "driver", Sequence())
    studio = Studio([sitter])
    assert studio.has_source
    driver, photo, drawn = studio.draw(ASKED._replace(source=True, frame=3, size=40))
    assert driver[20, 20, 0] == 30
    assert photo[20, 20, 0] == 77
    assert drawn.shape == (40, 40, 3)
    assert len(studio.draw(ASKED)) == 1
