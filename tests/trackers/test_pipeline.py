"""The tracking pipeline on small films: what it writes, what it keeps when stopped, what it reuses."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from avatarzoo.data.video import write_video
from avatarzoo.errors import OutputError
from avatarzoo.perception.landmarks import FaceLandmarker
from avatarzoo.perception.regions import Region
from avatarzoo.trackers import detection, pipeline
from avatarzoo.trackers.pipeline import cached_track, head_crop, track_video

SIZE = 128


@pytest.fixture(scope="module")
def short(portrait, tmp_path_factory):
    path = tmp_path_factory.mktemp("film") / "short.mp4"
    write_video(path, portrait(24), 25)
    return path


def files(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_what_is_written(short, tmp_path, quick_solver):
    seconds = {}
    sequence = track_video(
        short, tmp_path / "out", size=SIZE, consent="hers", progress=False, timings=seconds
    )
    assert len(sequence) == 24
    assert sequence.valid.all()
    assert sequence.info["consent"] == "hers"
    assert sequence.info["source"]["name"] == "short.mp4"
    assert len(sequence.info["source"]["sha256"]) == 64
    assert set(seconds) == {"landmarks", "head", "solve", "crops", "masks", "alignment"}
    assert not (tmp_path / "out.partial").exists()
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "frames", "masks", "parsing", "params.npz", "sequence.json",
    }  # fmt: skip
    masks = sequence.masks(slice(None)).float() / 255
    share = masks.mean((1, 2))
    assert ((share > 0.15) & (share < 0.75)).all()
    labels = sequence.parsing(slice(None))
    landmarks = torch.from_numpy(sequence.landmarks)
    for points, region in ((468, Region.EYES), (13, Region.LIPS), (4, Region.NOSE), (50, Region.SKIN)):
        x, y = landmarks[:, points].floor().long().unbind(1)
        assert (labels[torch.arange(24), y, x] == region).float().mean() > 0.9
        assert (masks[torch.arange(24), y, x] > 0.9).all()
    assert (masks[:, -4:].mean((1, 2)) < 0.1).all()  # collar and shoulders are not head


def test_crop_carries_landmarks_along(short, tmp_path, quick_solver):
    """Tracking the written crops again gives the same landmarks: affine, pictures and landmarks agree."""
    sequence = track_video(short, tmp_path / "out", size=256, matting=False, progress=False)
    pictures = sequence.images(slice(None)).permute(0, 2, 3, 1).numpy()
    with FaceLandmarker(max_faces=1) as landmarker:
        again = np.stack([landmarker.detect(p)[0, :, :2] for p in pictures])
    assert np.abs(again - sequence.landmarks)[8:].mean() < 1.0
    assert np.abs((again - sequence.landmarks)[8:].mean((0, 1))).max() < 0.4
    assert not sequence.has_masks


def test_face_lost_in_the_middle(portrait, tmp_path, quick_solver):
    blank = np.full((256, 240, 3), 90, np.uint8)
    frames = [*portrait(20), *[blank] * 15, *portrait(20, first=35)]
    write_video(tmp_path / "a.mp4", frames, 25)
    sequence = track_video(tmp_path / "a.mp4", tmp_path / "out", size=SIZE, progress=False)
    assert len(sequence) == 55
    lost = sequence.info["lost_frames"]
    assert set(range(21, 35)) <= set(lost) <= set(range(19, 38))
    assert not sequence.valid[lost].any()
    assert np.isnan(sequence.landmarks[lost]).all()
    assert sequence.masks(lost).max() == 0
    assert sequence.masks([5, 50]).max() == 255


def test_small_face_in_a_wide_picture(portrait, tmp_path, quick_solver):
    """A face that FaceMesh alone does not find, in a corner of a wide picture."""
    wide = [np.pad(f[::2, ::2], ((300, 100), (700, 200), (0, 0)), constant_values=90) for f in portrait(14)]
    with FaceLandmarker(max_faces=1) as landmarker:
        assert len(landmarker.detect(wide[0])) == 0
    write_video(tmp_path / "a.mp4", wide, 25)
    sequence = track_video(tmp_path / "a.mp4", tmp_path / "out", size=SIZE, matting=False, progress=False)
    assert sequence.valid.all()
    scale, _, shift_x, _, _, shift_y = np.array(sequence.info["crop"]["affine"]).ravel()
    eyes = (sequence.landmarks[0, [468, 473]] - [shift_x, shift_y]) / scale
    assert ((eyes > [740, 330]) & (eyes < [800, 390])).all()


@pytest.fixture
def whole(short, tmp_path, quick_solver):
    return files(track_video(short, tmp_path / "whole", size=SIZE, progress=False).path)


@pytest.mark.parametrize("stop", ["solve", ("frames", 9), ("masks", 12), ("parsing", 20)])
def test_interrupted_run_continues(short, tmp_path, whole, monkeypatch, stop):
    """Stopped in a phase and called again: nothing finished is done twice, and the result is the same, byte for byte."""
    written = []
    write = pipeline.SequenceWriter.write

    def noting(self, kind, index, picture):
        if (kind, index) == stop:
            raise KeyboardInterrupt
        written.append((kind, index))
        write(self, kind, index, picture)

    def stopping(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.SequenceWriter, "write", noting)
        if stop == "solve":
            patch.setattr(pipeline, "fit_sequence", stopping)
        with pytest.raises(KeyboardInterrupt):
            track_video(short, tmp_path / "out", size=SIZE, progress=False)
    assert not (tmp_path / "out").exists()
    kept = set(written)
    written.clear()
    stop = None
    with monkeypatch.context() as patch:
        patch.setattr(pipeline.SequenceWriter, "write", noting)
        patch.setattr(detection.Networks, "run", stopping)  # landmarks are there already
        track_video(short, tmp_path / "out", size=SIZE, progress=False)
    assert not {w for w in written if w[0] == "frames"} & kept
    assert files(tmp_path / "out") == whole


def test_chunks_do_not_depend_on_where_a_run_began(film, tmp_path, monkeypatch):
    """More chunks than threads, so that networks are used again; then one chunk in the middle alone."""
    monkeypatch.setattr(detection, "CHUNK", 40)
    whole = detection.detect_clip(film, tmp_path / "a", progress=False)
    assert len(whole.landmarks) == 150
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [f"{i:06d}.npz" for i in range(4)]
    for missing in ("000002.npz", "000003.npz"):
        (tmp_path / "a" / missing).rename(tmp_path / missing)
        again = detection.detect_clip(film, tmp_path / "a", progress=False)
        assert np.array_equal(whole.landmarks, again.landmarks)
    jumps = np.linalg.norm(np.diff(whole.landmarks, axis=0), axis=2).mean(1)
    assert jumps[[39, 79, 119]].max() < 1.5 * np.percentile(jumps, 95)


def test_cache_by_content(short, tmp_path, quick_solver, monkeypatch):
    first = cached_track(short, tmp_path / "cache", size=SIZE, progress=False)
    copy = tmp_path / "renamed.mp4"
    copy.write_bytes(short.read_bytes())

    def never(*_, **__):
        raise AssertionError("tracked again")

    monkeypatch.setattr(pipeline, "detect_clip", never)
    start = time.perf_counter()
    again = cached_track(copy, tmp_path / "cache", size=SIZE, progress=False)
    assert time.perf_counter() - start < 1.0
    assert again.path == first.path
    with pytest.raises(AssertionError, match="tracked again"):
        cached_track(copy, tmp_path / "cache", size=SIZE // 2, progress=False)
    with pytest.raises(OutputError, match="other settings"):
        track_video(short, first.path, size=SIZE // 2, progress=False)


def test_other_settings_do_not_inherit_a_partial_run(short, tmp_path, quick_solver, monkeypatch):
    monkeypatch.setattr(pipeline, "write_masks", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        track_video(short, tmp_path / "out", size=SIZE, progress=False)
    sequence = track_video(short, tmp_path / "out", size=96, matting=False, progress=False)
    assert sequence.images(0).shape == (1, 3, 96, 96)


def face(centre, height, frames=5):
    points = np.zeros((frames, 478, 2), np.float32) + np.float32(centre)
    points[:, 10, 1] -= height / 2
    points[:, 152, 1] += height / 2
    return points


def test_crop_stays_in_the_picture_and_round_the_head():
    crop = head_crop(face((300, 400), 100), (1080, 1920), 512)
    corners = crop.points(
        torch.tensor([[[300.0, 400 - 110], [300, 400 + 70], [300 - 90, 400], [300 + 90, 400]]])
    )
    assert ((corners > 0) & (corners < 512)).all()
    for centre, picture in (((300, 400), (1080, 1920)), ((60, 500), (1080, 1920)), ((225, 200), (450, 450))):
        height = 240 if picture[0] == 450 else 100
        inverse = head_crop(face(centre, height), picture, 512).inverse()
        ends = torch.tensor([[0.0, 0, 1], [512, 512, 1]]) @ inverse[0].T
        assert (ends > -0.01).all()
        assert ends[1, 0] < picture[1] + 0.01
        assert ends[1, 1] < picture[0] + 0.01


KILLED = """
import runpy, sys
from avatarzoo.trackers import pipeline
for name, stand_in in runpy.run_path(sys.argv[1])["STAND_INS"].items():
    setattr(pipeline, name, stand_in)
pipeline.track_video(sys.argv[2], sys.argv[3], size=int(sys.argv[4]), progress=False)
"""


def test_kill_and_resume(short, tmp_path, whole):
    """kill -9 while pictures are being written; the same call then reaches the same bytes as an undisturbed run."""
    helper = Path(__file__).with_name("conftest.py")
    command = [sys.executable, "-c", KILLED, *map(str, (helper, short, tmp_path / "out", SIZE))]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    masks = tmp_path / "out.partial" / "masks"
    while process.poll() is None and not (masks.is_dir() and len(list(masks.glob("0*.png"))) > 3):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, process.stderr.read().decode()
    assert not (tmp_path / "out").exists()
    assert len(list(masks.glob("0*.png"))) > 3
    track_video(short, tmp_path / "out", size=SIZE, progress=False)
    assert files(tmp_path / "out") == whole
