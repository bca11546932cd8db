"""What people bring by mistake: one sentence, a non-zero exit, nothing lost. (Tracking, then fitting.)"""

import errno
import logging
import subprocess
from pathlib import Path

import av
import numpy as np
import pytest

from avatarzoo import cli
from avatarzoo.data.video import write_video


@pytest.fixture(scope="module")
def face():
    """``face(n)``: n frames of a swaying real face, 240 x 256."""
    import cv2
    from skimage import data

    picture = data.astronaut()

    def film(count):
        for i in range(count):
            matrix = np.float32([[1.3, 0, -172 + 6 * np.sin(i / 5)], [0, 1.3, -35]])
            yield cv2.warpAffine(picture, matrix, (240, 256), borderMode=cv2.BORDER_REPLICATE)

    return film


@pytest.fixture
def refused(tmp_path, capsys, monkeypatch):
    """Run ``avatarzoo track`` and return its one sentence; no result may appear. Head: the stand-in costs nothing."""
    from avatarzoo.heads import base

    class Head(base.HeadModel):
        name, version, source_hash = "stand-in", "1", "00"
        forward = linear_basis = landmarks = joints = None

    Head.__abstractmethods__ = frozenset()
    monkeypatch.setattr("avatarzoo.heads.load_head", lambda *_: Head())

    def run(video, *options, out=None):
        out = tmp_path / "out" if out is None else out
        code = cli.main(["track", str(video), str(out), "--size", "128", "--quiet", *options])
        captured = capsys.readouterr()
        lines = captured.err.strip().splitlines()
        assert code == 2
        assert len(lines) == 1, captured.err
        assert lines[0].startswith("error: ")
        assert lines[0].endswith(".")
        assert "Traceback" not in captured.err
        assert not (out / "sequence.json").exists()
        return lines[0]

    run.head = Head()
    return run


def silent_film(path, count, kind="noise"):
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 255, (96, 128, 3), np.uint8) for _ in range(count)]
    write_video(path, frames, 25)
    return path


def test_no_face(refused, tmp_path):
    sentence = refused(silent_film(tmp_path / "a.mp4", 30))
    assert "No face" in sentence
    assert "use a video" in sentence


def test_two_faces(refused, tmp_path, face):
    write_video(tmp_path / "a.mp4", [np.concatenate([f, f[:, ::-1]], 1) for f in face(30)], 25)
    sentence = refused(tmp_path / "a.mp4")
    assert "more than one face" in sentence
    assert "--person largest" in sentence


def test_face_too_short_in_view(refused, tmp_path, face):
    blank = np.full((256, 240, 3), 90, np.uint8)
    write_video(tmp_path / "a.mp4", [*face(4), *[blank] * 20], 25)
    assert "only" in refused(tmp_path / "a.mp4")


def test_truncated(refused, tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as out:  # index at the end, as cameras write it
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for i in range(20):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), i, np.uint8), format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    sentence = refused(path)
    assert "cut off" in sentence
    assert "copy it again" in sentence


def test_sound_only(refused, tmp_path):
    path = tmp_path / "a.m4a"
    with av.open(str(path), "w", format="mp4") as out:
        stream = out.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        frame.sample_rate = 48000
        out.mux(stream.encode(frame) + stream.encode(None))
    assert "only sound" in refused(path)


def test_empty_missing_folder_text(refused, tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a film")
    (tmp_path / "no_videos").mkdir()  # a folder of videos is tracked
    cases = {
        "empty.mp4": "empty",
        "nowhere.mp4": "does not exist",
        "no_videos": "folder",
        "text.mp4": "cannot be read",
    }
    for name, words in cases.items():
        assert words in refused(tmp_path / name)


def test_picture(refused, tmp_path):
    from PIL import Image

    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "a.jpg")
    assert "still picture" in refused(tmp_path / "a.jpg")


def test_one_frame(refused, tmp_path, face):
    write_video(tmp_path / "a.mp4", face(1), 25)
    sentence = refused(tmp_path / "a.mp4")
    assert "1 frame" in sentence
    assert "longer" in sentence


def test_unwritable_output(refused, tmp_path, face):
    write_video(tmp_path / "a.mp4", face(12), 25)
    (tmp_path / "file").write_text("x")
    assert "choose another place" in refused(tmp_path / "a.mp4", out=tmp_path / "file" / "out")


def test_output_holds_something_else(refused, tmp_path, face):
    write_video(tmp_path / "a.mp4", face(12), 25)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("do not lose me")
    assert "not empty" in refused(tmp_path / "a.mp4")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "do not lose me"


def test_full_disk_keeps_what_is_finished(refused, tmp_path, face, monkeypatch):
    """The disk fills up during the crops: one sentence, finished crops stay, nothing half-written."""
    import cv2
    import torch

    from avatarzoo.geometry.camera import look_at_face
    from avatarzoo.heads.base import HeadParams
    from avatarzoo.trackers import pipeline
    from avatarzoo.trackers.analytic import TrackFit

    def fit(head, landmarks, size, *_):
        count = len(landmarks)
        params = HeadParams(*(torch.zeros(count, n) for n in (2, 2, 3, 3, 6, 2, 3, 3)))
        return TrackFit(
            params, look_at_face(size=size), torch.zeros(count), torch.ones(count, dtype=torch.bool)
        )

    write_video(tmp_path / "a.mp4", face(20), 25)
    monkeypatch.setattr(pipeline, "fit_sequence", fit)
    monkeypatch.setattr(pipeline, "ensure_embedding", lambda *_: None)
    monkeypatch.setattr(pipeline, "align_to_pictures", lambda head, landmarks, fit, *_: fit)
    write, room = Path.write_bytes, [7]

    def filling(self, data):
        if room[0] == 0:
            write(self, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        room[0] -= 1
        return write(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", filling)
        sentence = refused(tmp_path / "a.mp4")
    assert "No space left on device" in sentence
    assert "free some space" in sentence
    kept = sorted(p.name for p in (tmp_path / "out.partial" / "frames").iterdir())
    # two threads write, so which seven were finished is left to chance; each of them is whole
    assert len(kept) == 7
    assert all(cv2.imread(str(tmp_path / "out.partial" / "frames" / name)) is not None for name in kept)
    sequence = pipeline.track_video(
        tmp_path / "a.mp4", tmp_path / "out", refused.head, size=128, progress=False
    )
    assert len(sequence) == 20


def test_full_disk_for_real(refused, tmp_path, face):
    """The same on a small memory disk, where this machine lets a test make one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small disk is not allowed here")
    try:
        write_video(tmp_path / "a.mp4", face(60), 25)
        sentence = refused(tmp_path / "a.mp4", out=disk / "out")
        assert "No space left" in sentence
    finally:
        subprocess.run(["umount", disk], check=True)


def test_largest_of_two(tmp_path, face):
    """With ``--person largest`` the second face is no obstacle, and the larger one is followed."""
    import cv2

    from avatarzoo.trackers.detection import check_faces, detect_clip

    frames = []
    for f in face(24):
        small = np.full_like(f, 90)
        small[:180, :168] = cv2.resize(f[:, ::-1], (168, 180))
        frames.append(np.concatenate([small, f], 1))
    write_video(tmp_path / "a.mp4", frames, 25)
    found = detect_clip(tmp_path / "a.mp4", tmp_path / "work", "largest", progress=False)
    check_faces(found, tmp_path / "a.mp4", 10)
    assert np.nanmean(found.landmarks[..., 0], 1).min() > 240


def test_wrong_options(capsys):
    for options in (["--size", "3"], ["--person", "both"], ["--fov", "500"], ["--colour"]):
        with pytest.raises(SystemExit) as stop:
            cli.main(["track", "a.mp4", "out", *options])
        assert stop.value.code == 2
    assert "--size" in capsys.readouterr().err


# ---- the same mistakes given to fit ----------------------------------------------------------------------------------


@pytest.fixture
def unfit(tmp_path, capsys, monkeypatch):
    """Run ``avatarzoo fit`` on a video and return its one sentence; no avatar may appear."""
    monkeypatch.setenv("AVATARZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        logging, "raiseExceptions", False
    )  # Lightning's log keeps the stderr of an earlier test
    config = Path(__file__).resolve().parent.parent / "configs" / "gaussian_dejavu" / "personalize.yaml"

    def run(video, out=None, options=()):
        out = tmp_path / "run" if out is None else out
        tiny = ["--model.head", "procedural", "--model.uv_size", "32", "--data.size", "64"]
        tiny += ["--trainer.max_steps", "2", "--trainer.accelerator", "cpu", "--evaluator.lpips", "none"]
        where = ["--trainer.default_root_dir", str(out), "--data.video", str(video)]
        where += ["--consent-statement", "The person in this test agreed."]
        assert cli.main(["fit", "-c", str(config), *tiny, *where, *options]) == 2
        captured = capsys.readouterr()
        errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1, captured.err
        assert captured.err.rstrip().splitlines()[-1] == errors[0]
        assert "Traceback" not in captured.err
        assert not (out / "avatar.ckpt").exists()
        assert not (out / "last.ckpt").exists()
        assert not list((tmp_path / "cache").rglob("sequence.json"))
        return errors[0]

    return run


def test_fit_no_face(unfit, tmp_path):
    sentence = unfit(silent_film(tmp_path / "a.mp4", 20))
    assert "No face" in sentence
    assert "use a video" in sentence


def test_fit_one_frame(unfit, tmp_path, face):
    write_video(tmp_path / "a.mp4", face(1), 25)
    sentence = unfit(tmp_path / "a.mp4")
    assert "1 frame" in sentence
    assert "longer" in sentence


def test_fit_sound_empty_missing(unfit, tmp_path):
    with av.open(str(tmp_path / "a.m4a"), "w", format="mp4") as out:
        stream = out.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        frame.sample_rate = 48000
        out.mux(stream.encode(frame) + stream.encode(None))
    assert "only sound" in unfit(tmp_path / "a.m4a")
    (tmp_path / "empty.mp4").touch()
    assert "empty" in unfit(tmp_path / "empty.mp4")
    assert "does not exist" in unfit(tmp_path / "nowhere.mp4")


def test_fit_two_faces(unfit, tmp_path, face):
    write_video(tmp_path / "a.mp4", [np.concatenate([f, f[:, ::-1]], 1) for f in face(12)], 25)
    assert "more than one face" in unfit(tmp_path / "a.mp4")


def test_fit_unwritable_output_is_said_before_tracking(unfit, tmp_path, face):
    write_video(tmp_path / "a.mp4", face(12), 25)
    (tmp_path / "file").write_text("in the way")
    sentence = unfit(tmp_path / "a.mp4", out=tmp_path / "file" / "run")
    assert "cannot be written" in sentence
    assert "--trainer.default_root_dir" in sentence
    assert not (tmp_path / "cache" / "tracks").exists()


def test_fit_unwritable_cache(unfit, tmp_path, face, monkeypatch):
    write_video(tmp_path / "a.mp4", face(12), 25)
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("AVATARZOO_CACHE", str(tmp_path / "file"))
    assert "cannot be written" in unfit(tmp_path / "a.mp4")


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (["--data.train_fraction", "1.0"], "train_fraction"),
        (["--model.head", "flame"], "flame.is.tue.mpg.de"),
        (["--model.preset", "paper"], "vgg16"),
    ],
)
def test_fit_options_that_cannot_work(unfit, tmp_path, monkeypatch, option, words):
    """What the constructors of model and data refuse, before anything is tracked."""
    monkeypatch.delenv("AVATARZOO_ASSETS", raising=False)
    assert words in unfit(tmp_path / "a.mp4", options=option)
