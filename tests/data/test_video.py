"""Video in and out on tiny generated files."""

import struct
import wave
from fractions import Fraction

import av
import numpy as np
import pytest

from avatarzoo.data.video import probe, read_frames, side_by_side, write_video
from avatarzoo.errors import BadVideoError, OutputError

W, H = 64, 48


def picture(number, width=W, height=H):
    """Four flat quadrants; the top-left one tells the frame number."""
    frame = np.zeros((height, width, 3), np.uint8)
    frame[: height // 2, : width // 2] = 10 + 8 * number
    frame[: height // 2, width // 2 :] = (255, 0, 0)
    frame[height // 2 :, : width // 2] = (0, 255, 0)
    frame[height // 2 :, width // 2 :] = (0, 0, 255)
    return frame


def number_of(frame):
    return round((float(frame[4:-4, 4:-4][:12, :20].mean()) - 10) / 8)


def make(
    path, count=10, times=None, pix_fmt="yuv420p", codec="libx264", size=(W, H), sound=None, movflags=""
):
    options = {"crf": "4"} if codec == "libx264" else {}
    with av.open(str(path), "w", options={"movflags": movflags} if movflags else {}) as out:
        video = out.add_stream(codec, rate=25, options=options)
        video.width, video.height, video.pix_fmt = *size, pix_fmt
        video.time_base = video.codec_context.time_base = Fraction(1, 1000)
        if sound:
            audio = out.add_stream(sound, rate=48000)
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(picture(number, *size), format="rgb24")
            frame.pts = times[number] if times else number * 40
            frame.time_base = Fraction(1, 1000)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if sound:
            for frame in tone(count / 25):
                out.mux(audio.encode(frame))
            out.mux(audio.encode(None))
    return path


def tone(seconds):
    wave = np.sin(np.arange(int(48000 * seconds)) * 0.06).astype(np.float32) / 2
    for start in range(0, len(wave), 1024):
        part = wave[start : start + 1024]
        frame = av.AudioFrame.from_ndarray(np.stack([part, part]), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        yield frame


def test_constant_rate_is_passed_through(tmp_path):
    path = make(tmp_path / "a.mp4", 12)
    info = probe(path)
    assert info[:5] == (W, H, 25.0, 12, pytest.approx(0.48, abs=0.05))
    assert not info.has_audio
    reader = read_frames(path)
    frames = list(reader)
    assert [number_of(f) for f in frames] == list(range(12))
    assert reader.lost == 0
    assert frames[0].dtype == np.uint8
    assert frames[0].shape == (H, W, 3)
    assert [number_of(f) for f in read_frames(path, start=7)] == [7, 8, 9, 10, 11]
    assert np.array_equal(next(read_frames(path, start=7)), frames[7])


def test_colours_survive(tmp_path):
    frame = next(read_frames(make(tmp_path / "a.mp4", 3))).astype(int)
    for row, column, colour in ((8, 48, (255, 0, 0)), (40, 16, (0, 255, 0)), (40, 48, (0, 0, 255))):
        assert np.abs(frame[row, column] - colour).max() < 12


@pytest.mark.parametrize(("turns", "matrix"), [(1, (0, -1, 1, 0)), (2, (-1, 0, 0, -1)), (3, (0, 1, -1, 0))])
def test_rotation_flag(tmp_path, turns, matrix):
    """A display matrix maps stored (x, y) to (ax + cy, bx + dy); (0, 1, -1, 0) is a phone held upright."""
    path = make(tmp_path / "a.mp4", 3)
    plain = next(read_frames(path))
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    a, b, c, d = (65536 * v for v in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(bytes(data))
    info = probe(path)
    assert info.rotation == 90 * turns
    assert (info.width, info.height) == ((H, W) if turns % 2 else (W, H))
    assert np.array_equal(next(read_frames(path)), np.rot90(plain, turns))


def test_variable_rate_becomes_constant(tmp_path):
    times = [
        0,
        40,
        80,
        130,
        155,
        300,
        340,
        345,
        400,
        440,
    ]  # jitter, a pause, two in a slot
    path = make(tmp_path / "a.mp4", 10, times)
    reader = read_frames(path)
    numbers = [number_of(f) for f in reader]
    slots = len(numbers)
    assert abs(slots / reader.fps - 0.44) < 0.1
    assert numbers == sorted(numbers)
    truth = [
        max(i for i, t in enumerate(times) if round(t / 1000 * reader.fps) <= slot) for slot in range(slots)
    ]
    assert numbers == truth


def test_long_jump_is_a_cut(tmp_path):
    path = make(tmp_path / "a.mkv", 8, [0, 40, 80, 120, 60120, 60160, 60200, 60240])
    assert len(list(read_frames(path))) < 20


def test_ten_bit_and_odd_size(tmp_path):
    path = make(tmp_path / "a.mkv", 4, pix_fmt="yuv444p10le", size=(63, 47))
    frames = list(read_frames(path))
    assert [number_of(f) for f in frames] == [0, 1, 2, 3]
    assert frames[0].shape == (47, 63, 3)
    count = write_video(tmp_path / "b.mp4", frames, 25)
    assert count == 4
    assert probe(tmp_path / "b.mp4")[:4] == (64, 48, 25.0, 4)


def test_written_file_starts_with_its_index(tmp_path):
    write_video(tmp_path / "a.mp4", [picture(i) for i in range(5)], 29.97)
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    assert probe(tmp_path / "a.mp4").fps == pytest.approx(29.97)
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "aac"), ("mkv", "pcm_s16le")])
def test_sound_goes_along(tmp_path, suffix, codec):
    source = make(tmp_path / f"a.{suffix}", 25, sound=codec)
    assert probe(source).has_audio
    write_video(tmp_path / "b.mp4", [picture(i % 20) for i in range(13)], 25, audio_from=source)
    with av.open(str(tmp_path / "b.mp4")) as file:
        assert file.streams.audio[0].codec_context.name == "aac"
        sound = np.concatenate([f.to_ndarray() for f in file.decode(audio=0)], 1)
    assert abs(sound.shape[1] / 48000 - 13 / 25) < 0.06
    assert 0.25 < sound[0, 5000:20000].std() < 0.45


def test_sound_of_a_silent_file(tmp_path):
    source = make(tmp_path / "a.mp4", 3)
    write_video(tmp_path / "b.mp4", [picture(0)], 25, audio_from=source)
    assert not probe(tmp_path / "b.mp4").has_audio


def test_failed_write_leaves_nothing(tmp_path):
    def frames():
        yield picture(0)
        raise RuntimeError("the renderer fell over")

    (tmp_path / "a.mp4").write_bytes(b"older")
    with pytest.raises(RuntimeError):
        write_video(tmp_path / "a.mp4", frames(), 25)
    assert (tmp_path / "a.mp4").read_bytes() == b"older"
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    with pytest.raises(OutputError):
        write_video(tmp_path / "a.mp4" / "b.mp4", [picture(0)], 25)
    with pytest.raises(BadVideoError, match="No frames"):
        write_video(tmp_path / "c.mp4", [], 25)


def test_side_by_side():
    left = [picture(i) for i in range(3)]
    right = [picture(i, 32, 24) for i in range(5)]
    frames = list(side_by_side(left, right))
    assert len(frames) == 3
    assert frames[0].shape == (48, 128, 3)
    assert np.array_equal(frames[2][:, :64], left[2])


def test_missing_empty_folder_text(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a film " * 100)
    for name, words in (
        ("none.mp4", "exist"),
        ("empty.mp4", "empty"),
        (".", "folder"),
        ("text.mp4", "cannot be read"),
    ):
        with pytest.raises(BadVideoError, match=words):
            probe(tmp_path / name)
        with pytest.raises(BadVideoError, match=words):
            read_frames(tmp_path / name)


def test_audio_only_and_cover_picture(tmp_path):
    with av.open(str(tmp_path / "a.m4a"), "w", format="mp4") as out:
        stream = out.add_stream("aac", rate=48000)
        for frame in tone(0.5):
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with pytest.raises(BadVideoError, match="only sound"):
        probe(tmp_path / "a.m4a")


def test_picture_file(tmp_path):
    from PIL import Image

    for suffix in ("png", "jpg"):
        Image.fromarray(picture(0)).save(tmp_path / f"a.{suffix}")
        with pytest.raises(BadVideoError, match="still picture"):
            probe(tmp_path / f"a.{suffix}")


def test_truncated_without_index(tmp_path):
    path = make(tmp_path / "a.mp4", 20)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BadVideoError, match="cut off"):
        probe(path)


def test_truncated_with_index_gives_what_is_there(tmp_path):
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 255, (H, W, 3), np.uint8) for _ in range(30)]
    write_video(tmp_path / "a.mp4", frames, 25)
    data = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(data[: len(data) * 2 // 3])
    reader = read_frames(tmp_path / "a.mp4")
    readable = sum(1 for _ in reader)
    assert 10 <= readable < 25
    assert reader.lost == 30 - readable


def test_mov_keeps_transparency_and_sound(tmp_path):
    """ProRes 4444, read back by FFmpeg: colours, alpha, AAC."""
    frames = np.zeros((6, 33, 40, 4), np.uint8)
    frames[..., 0] = 200
    frames[:, 5:20, 5:20, 3] = 255
    sound = tmp_path / "tone.wav"
    with wave.open(str(sound), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes((3000 * np.sin(np.arange(16000) / 5)).astype("<i2").tobytes())
    assert write_video(tmp_path / "a.mov", frames, 25, audio_from=sound) == 6
    with av.open(str(tmp_path / "a.mov")) as file:
        assert file.streams.audio[0].codec_context.name == "aac"
        picture = next(file.decode(file.streams.video[0])).to_ndarray(format="rgba")
    assert picture.shape == (34, 40, 4)
    assert np.abs(picture[10, 10].astype(int) - [200, 0, 0, 255]).max() < 4
    assert picture[30, 30, 3] == 0
