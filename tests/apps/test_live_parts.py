"""Parts of the live system on their own: meter, channels, sources, video file, web page, paste-back."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request

import cv2
import numpy as np
import pytest
import torch

from avatarzoo.apps.live_loop import Channel, Closed
from avatarzoo.apps.live_meter import Durations, Meter
from avatarzoo.apps.live_page import PageSink
from avatarzoo.apps.live_paste import HeadSquare, between, chained, feathered, head_colour, paste
from avatarzoo.apps.live_sinks import VideoSink, VirtualCameraSink, WindowSink, fitted
from avatarzoo.apps.live_sources import CameraSource, FolderSource, open_source
from avatarzoo.data.video import probe, read_frames, write_video
from avatarzoo.errors import BadVideoError, MissingExtraError, OutputError, UsageError
from avatarzoo.geometry.crop import square_crop

# ---- meter -----------------------------------------------------------------------------------------------------------


def test_percentiles_of_durations():
    rng = np.random.default_rng(0)
    seconds, kept = rng.lognormal(-4, 0.7, 5000), Durations()
    for value in seconds:
        kept.add(value)
    summary = kept.summary()
    assert summary["mean_ms"] == pytest.approx(1000 * seconds.mean(), rel=1e-4)
    assert summary["p50_ms"] == pytest.approx(1000 * np.quantile(seconds, 0.5), rel=0.03)
    assert summary["p95_ms"] == pytest.approx(1000 * np.quantile(seconds, 0.95), rel=0.03)
    assert Durations().summary() == {"mean_ms": 0.0, "p50_ms": 0.0, "p95_ms": 0.0}
    kept.add(0.0)
    kept.add(1e9)
    assert kept.count == 5002


def test_meter_counts_and_shares():
    now = [0.0]
    meter = Meter(clock=lambda: now[0])
    for _ in range(11):
        captured = now[0]
        for stage, seconds in (("landmarks", 0.01), ("render", 0.03)):
            with meter(stage):
                now[0] += seconds
        meter.count("captured")
        meter.shown(captured)
    meter.count("dropped", 3)
    summary = json.loads(json.dumps(meter.summary()))
    assert summary["frames_per_second"] == pytest.approx(25)
    assert summary["frames"] == {"captured": 11, "shown": 11, "dropped": 3, "face_lost": 0}
    assert summary["stages"]["render"]["share"] == pytest.approx(0.75)
    assert summary["stages"]["latency"]["mean_ms"] == pytest.approx(40)
    assert "25.0 frames/s" in meter.line()


# ---- channels --------------------------------------------------------------------------------------------------------


def test_a_full_channel_waits_or_drops_the_oldest():
    latest: Channel[int] = Channel(1, latest=True)
    assert [latest.put(k) for k in range(3)] == [0, 1, 1]
    assert latest.get() == 2
    waiting: Channel[int] = Channel(1)
    waiting.put(1)
    sent = threading.Event()
    thread = threading.Thread(target=lambda: (waiting.put(2), sent.set()))
    thread.start()
    assert not sent.wait(0.05)
    assert waiting.get() == 1
    assert sent.wait(2)
    waiting.end()
    assert waiting.get() == 2
    with pytest.raises(Closed):
        waiting.get()
    waiting.stop()
    with pytest.raises(Closed):
        waiting.put(3)
    thread.join()


# ---- sources ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("live") / "clip.mp4"
    write_video(path, (np.full((48, 64, 3), 20 * k, np.uint8) for k in range(10)), 20)
    return path


def everything(source):
    pictures = []
    while (picture := source.read()) is not None:
        pictures.append(picture)
    return pictures


def test_a_file_is_read_to_its_end_or_again_and_again(clip):
    source = open_source(str(clip))
    levels = [int(p.mean()) for p in everything(source)]
    assert len(levels) == 10
    assert source.fps == 20
    assert source.read() is None
    looped = open_source(str(clip), loop=True)
    again = [int(looped.read().mean()) for _ in range(25)]
    assert again[10:20] == again[:10] == levels
    looped.close()


def test_a_folder_of_pictures_may_change_size_and_hold_damage(tmp_path):
    for k, size in enumerate(((40, 60), (40, 60), (80, 60))):
        cv2.imwrite(str(tmp_path / f"{k}.png"), np.full((*size, 3), 50 * k, np.uint8))
    (tmp_path / "1.png").write_bytes(b"damage")
    source = open_source(str(tmp_path))
    assert isinstance(source, FolderSource)
    assert [p.shape for p in everything(source)] == [(40, 60, 3), (80, 60, 3)]


def test_what_cannot_be_opened_is_one_sentence(tmp_path):
    with pytest.raises(BadVideoError, match="does not exist"):
        open_source(str(tmp_path / "none.mp4"))
    with pytest.raises(BadVideoError, match="Camera 63 cannot be opened"):
        CameraSource(63)


# ---- outputs ---------------------------------------------------------------------------------------------------------


def test_video_file_keeps_time_and_size(tmp_path):
    path = tmp_path / "out.mp4"
    sink = VideoSink(path, 10)
    sink.show(np.full((40, 60, 3), 50, np.uint8), 0.3)
    sink.show(np.full((40, 60, 3), 100, np.uint8), 0.4)
    sink.show(np.full((80, 60, 3), 150, np.uint8), 1.0)  # six slots later, and of another size
    sink.show(np.full((40, 60, 3), 200, np.uint8), 1.01)
    assert not path.exists()
    sink.close()
    sink.close()
    frames = list(read_frames(path))
    assert probe(path).fps == 10
    assert [round(float(f[20, 30].mean()), -1) for f in frames] == [50, *[100] * 6, 150, 200]
    assert all(f.shape == (40, 60, 3) for f in frames)
    assert frames[7][:, :10].mean() < 20  # black bars


def test_a_video_file_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    sink = VideoSink(tmp_path / "file" / "out.mp4", 10)

    def film():
        for k in range(100):
            sink.show(np.zeros((40, 60, 3), np.uint8), k / 10)

    with pytest.raises(OutputError):
        film()
    sink.close()


def get(url, host=None):
    request = urllib.request.Request(url, headers={"Host": host} if host else {})
    return urllib.request.urlopen(request, timeout=5)


def test_page_serves_the_newest_picture_to_this_machine_only():
    page = PageSink(0, lambda: {"line": "12 frames/s"})
    try:
        with pytest.raises(urllib.error.HTTPError, match="503"):
            get(page.url + "/picture.jpg")
        page.show(np.full((32, 48, 3), (200, 30, 30), np.uint8), 0.0)
        assert b"/stream" in get(page.url + "/").read()
        assert json.loads(get(page.url + "/status").read())["line"] == "12 frames/s"
        picture = cv2.imdecode(np.frombuffer(get(page.url + "/picture.jpg").read(), np.uint8), 1)
        assert np.abs(picture[16, 24].astype(int) - [30, 30, 200]).max() < 8
        stream = get(page.url + "/stream")
        head = stream.read(400)
        assert head.startswith(b"--picture\r\nContent-Type: image/jpeg")
        page.show(np.zeros((32, 48, 3), np.uint8), 0.1)
        assert b"--picture" in stream.read(1200)
        stream.close()
        with pytest.raises(urllib.error.HTTPError, match="403"):
            get(page.url + "/", host="stranger.example")
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(page.url + "/secrets")
        with pytest.raises(OutputError, match="taken"):
            PageSink(page.server.server_address[1])
    finally:
        page.close()


def test_a_page_nobody_looks_at_encodes_nothing(monkeypatch):
    page = PageSink(0)
    monkeypatch.setattr(cv2, "imencode", lambda *a: pytest.fail("encoded"))
    page.show(np.zeros((32, 48, 3), np.uint8), 0.0)
    page.close()


def test_outputs_that_are_not_possible_here(monkeypatch):
    def refuse(*args):
        raise cv2.error("no GUI")

    monkeypatch.setattr(cv2, "namedWindow", refuse)
    with pytest.raises(UsageError, match="headless"):
        WindowSink()
    monkeypatch.setitem(__import__("sys").modules, "pyvirtualcam", None)
    with pytest.raises(MissingExtraError, match=r"avatarzoo\[live\]"):
        VirtualCameraSink(25)


def test_virtual_camera_gets_pictures_of_one_size(monkeypatch):
    import types

    sent = []

    class Camera:
        def __init__(self, width, height, fps):
            self.width, self.height = width, height

        def send(self, picture):
            sent.append(picture.shape)

        def close(self):
            sent.append("closed")

    monkeypatch.setitem(__import__("sys").modules, "pyvirtualcam", types.SimpleNamespace(Camera=Camera))
    sink = VirtualCameraSink(25)
    sink.show(np.zeros((40, 60, 3), np.uint8), 0.0)
    sink.show(np.zeros((100, 60, 3), np.uint8), 0.1)
    sink.close()
    assert sent == [(40, 60, 3), (40, 60, 3), "closed"]


def test_fitted_keeps_proportions():
    out = fitted(np.full((10, 20, 3), 255, np.uint8), (40, 40))
    assert out.shape == (40, 40, 3)
    assert out[20].min() == 255
    assert out[2].max() == 0


# ---- paste-back ------------------------------------------------------------------------------------------------------


def test_paste_returns_a_crop_to_its_place():
    """What was cut out and is pasted back is the picture itself."""
    rng = np.random.default_rng(0)
    picture = cv2.GaussianBlur(rng.integers(0, 255, (200, 300, 3)).astype(np.uint8), (0, 0), 3)
    crop = square_crop(torch.tensor([[170.3, 80.6]]), torch.tensor([128.0]), 256)
    cut = crop.picture(picture, border="black").astype(np.float32) / 255
    alpha = feathered(np.ones((256, 256), np.float32))
    out = paste(picture, cut, alpha, crop.matrix[0].double().numpy())
    assert np.abs(out.astype(int) - picture).max() <= 4
    red = paste(picture, np.float32([1, 0, 0]) * np.ones_like(cut), alpha, crop.matrix[0].double().numpy())
    assert (red[80, 170] == [255, 0, 0]).all()
    assert (red[:, :100] == picture[:, :100]).all()  # 170.3 - 64 is where the square begins
    assert (red[40, 112] != picture[40, 112]).any()


@pytest.mark.parametrize("size", [64, 128, 320])
def test_paste_does_not_shift(size):
    """A slope of four levels a pixel would show a quarter of a pixel."""
    picture = np.broadcast_to(np.arange(60, dtype=np.uint8)[:, None] * 4, (60, 60))[..., None].repeat(3, 2)
    picture = np.ascontiguousarray((picture.astype(int) + picture.transpose(1, 0, 2)) // 2).astype(np.uint8)
    crop = square_crop(torch.tensor([[30.2, 29.6]]), torch.tensor([50.0]), size)
    cut = crop.picture(picture, border="edge").astype(np.float32) / 255
    alpha = feathered(np.ones((size, size), np.float32))
    out = paste(picture, cut, alpha, crop.matrix[0].double().numpy())
    difference = (out.astype(int) - picture)[12:48, 12:48]
    assert abs(difference.mean()) < 0.4
    assert np.abs(difference).max() <= 2


def test_paste_outside_of_the_picture_changes_nothing():
    picture = np.full((50, 60, 3), 9, np.uint8)
    crop = square_crop(torch.tensor([[500.0, 500.0]]), torch.tensor([40.0]), 32)
    out = paste(
        picture,
        np.ones((32, 32, 3), np.float32),
        np.ones((32, 32), np.float32),
        crop.matrix[0].double().numpy(),
    )
    assert (out == picture).all()


def test_feathered_edges_lie_inside():
    alpha = np.zeros((128, 128), np.float32)
    alpha[40:, 30:90] = 1
    soft = feathered(alpha)
    assert (soft <= alpha).all()
    assert soft[80, 60] == 1
    assert soft[-1].max() < 0.05  # the neck ends at the square's edge
    assert 0 < soft[80, 32] < 1


def test_head_colour_takes_the_ground_off():
    alpha = np.float32([[1.0, 0.5, 0.0]])
    rgb = 0.2 * alpha[..., None] + (1 - alpha[..., None]) * 1.0
    assert np.allclose(head_colour(rgb, alpha, 1.0)[:, :2], 0.2, atol=1e-6)


def test_the_square_follows_a_head_that_leaves_it():
    base = square_crop(torch.tensor([[100.0, 100.0]]), torch.tensor([120.0]), 256)
    angle = np.linspace(0, 2 * np.pi, 478)
    face = np.stack([np.sin(angle), np.cos(angle)], 1) * 30
    face[10], face[152] = (0, -30), (0, 30)
    square = HeadSquare()
    still = square(base, face + 100, (300, 400))
    assert torch.allclose(still.matrix, torch.tensor([[[1.0, 0, 0], [0, 1, 0]]]))
    assert square(base, face + [105, 100], (300, 400)) is still
    moved = square(base, face + [300, 150], (300, 400))
    assert moved is not still
    inside = np.concatenate([face + [300, 150], np.ones((478, 1))], 1) @ chained(base, moved).T
    assert inside.min() > 10
    assert inside.max() < 246
    assert square(base, np.full((478, 2), np.nan), (300, 400)) is moved


def test_between_two_crops():
    first = square_crop(torch.tensor([[100.0, 80.0]]), torch.tensor([60.0]), 128)
    second = square_crop(torch.tensor([[150.0, 90.0]]), torch.tensor([90.0]), 128)
    assert np.allclose(chained(first, between(first, second)), second.matrix[0].double().numpy(), atol=1e-3)
