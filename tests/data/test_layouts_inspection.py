"""The deeper look of check: real small videos and pictures, whole, silent and damaged."""

from __future__ import annotations

import av
import numpy as np
import pytest
from PIL import Image

from avatarzoo.data.layouts import layout
from avatarzoo.data.video import write_video


def frames(count=3, size=(32, 48)):
    return [np.full((*size, 3), 40 * n, np.uint8) for n in range(count)]


def write_sound(path, seconds=0.2, rate=16000):
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, int(seconds * rate)), np.int16), format="s16", layout="mono"
        )
        frame.rate = rate
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def picture(path, size=(16, 16)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)


def test_videos(tmp_path):
    write_sound(tmp_path / "sound.wav")
    write_video(tmp_path / "loud.mp4", frames(), 25, audio_from=tmp_path / "sound.wav")
    write_video(tmp_path / "silent.mp4", frames(), 25)
    report = layout("clips").check(tmp_path)
    assert report.complete
    assert report.notes == [
        "1 of the 2 videos looked into carry no sound, first: silent",
        "looked into 2 of 2 items: 2 of 48x32 at 25 frames/s",
    ]
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "loud.mp4").read_bytes()[:60])
    (problem,) = layout("clips").check(tmp_path).problems
    assert "1 of the videos looked into cannot be read" in problem
    assert "cut.mp4" in problem


def test_pictures(tmp_path):
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.jpg", (20, 10))
    assert layout("portraits").check(tmp_path).notes == ["looked into 2 of 2 items: 1 of 16x16, 1 of 20x10"]
    (tmp_path / "c.png").write_bytes(b"no picture")
    assert layout("portraits").check(tmp_path).problems == [
        "1 of the pictures looked into cannot be read, first: c.png"
    ]


def test_frames_are_counted_against_their_masks(tmp_path):
    clip = tmp_path / "subject1" / "MVI_1"
    for part in ("image", "mask", "semantic"):
        for number in (1, 2, 3):
            picture(clip / part / f"{number}.png")
    (clip / "flame_params.json").touch()
    assert layout("pointavatar").check(tmp_path).complete
    (clip / "mask" / "2.png").unlink()
    assert layout("pointavatar").check(tmp_path).problems == [
        "1 frames have no mask, first: subject1_MVI_1/2.png"
    ]


def test_only_a_sample_is_opened(tmp_path):
    for number in range(30):
        (tmp_path / f"{number}.mp4").touch()
    (problem,) = layout("clips").check(tmp_path, sample=4).problems
    assert problem.startswith("4 of the videos looked into cannot be read")
    assert layout("clips").check(tmp_path, sample=0).complete


def test_listing_opens_no_file(tmp_path, monkeypatch):
    (tmp_path / "a.mp4").touch()
    monkeypatch.setattr(av, "open", lambda *a, **k: pytest.fail("a video was opened"))
    monkeypatch.setattr(Image, "open", lambda *a, **k: pytest.fail("a picture was opened"))
    assert layout("clips").items(tmp_path)
