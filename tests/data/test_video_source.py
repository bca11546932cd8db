"""Frame folders and parts of videos read like video files; sound as samples."""

import cv2
import numpy as np
import pytest
from PIL import Image

from avatarzoo.data.sound import RATE, decode_samples
from avatarzoo.data.video import VideoPart, probe, read_frames, write_video
from avatarzoo.data.video_source import content_hash, load_picture
from avatarzoo.errors import BadVideoError


def frame(number, size=(48, 64)):
    return np.full((*size, 3), 10 * number, np.uint8)


def numbers(video, start=0):
    return [round(picture.mean() / 10) for picture in read_frames(video, start)]


def save(folder, named):
    folder.mkdir(exist_ok=True)
    for name, picture in named.items():
        cv2.imwrite(str(folder / name), picture[..., ::-1])
    return folder


@pytest.fixture
def folder(tmp_path):
    """As PointAvatar names its frames: 1.png ... 12.png, and files that are none."""
    made = save(tmp_path / "image", {f"{n}.png": frame(n) for n in range(1, 13)})
    (made / "notes.txt").write_text("no frame")
    save(made, {"cover.png": frame(20)})
    return made


@pytest.fixture
def film(tmp_path):
    write_video(tmp_path / "a.mp4", (frame(n) for n in range(1, 13)), 25, crf=1)
    return tmp_path / "a.mp4"


def test_folder_in_the_order_of_numbers(folder):
    assert numbers(folder) == list(range(1, 13))
    assert numbers(folder, 9) == [10, 11, 12]
    assert probe(folder)[:4] == (64, 48, 25.0, 12)
    assert not probe(folder).has_audio


def test_colours_are_rgb(tmp_path):
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 200
    assert next(read_frames(save(tmp_path / "f", {"0.png": red})))[0, 0].tolist() == [200, 0, 0]


def test_unreadable_picture_keeps_the_numbers_of_the_rest(folder):
    (folder / "5.png").write_bytes(b"broken")
    reader = read_frames(folder)
    assert [round(p.mean() / 10) for p in reader] == [1, 2, 3, 4, 4, 6, 7, 8, 9, 10, 11, 12]
    assert reader.lost == 1


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({}, "numbered pictures"),
        ({"cover.png": frame(1)}, "numbered pictures"),
        ({"1.png": frame(1), "01.png": frame(1)}, "same number"),
        ({"1.png": frame(1), "2.png": frame(1, (8, 8))}, "one size"),
    ],
)
def test_bad_folders(tmp_path, named, message):
    with pytest.raises(BadVideoError, match=message):
        list(read_frames(save(tmp_path / "f", named)))


@pytest.mark.parametrize("kind", ["folder", "film"])
def test_part(kind, request):
    video = request.getfixturevalue(kind)
    part = VideoPart(video, 3, 8)
    assert numbers(part) == [4, 5, 6, 7, 8]
    assert numbers(part, 2) == [6, 7, 8]
    assert probe(part).frames == 5
    assert probe(VideoPart(video, 3)).frames == 9
    assert numbers(VideoPart(video, 10, 99)) == [11, 12]
    assert probe(VideoPart(video, 10, 99)).frames == 2
    with pytest.raises(BadVideoError, match="has 12 frames"):
        probe(VideoPart(video, 12))


def test_content_names_the_frames_used(folder, film):
    whole = content_hash(folder)
    assert content_hash(film) == content_hash(VideoPart(film)) != whole
    assert len({whole, content_hash(VideoPart(folder, 1)), content_hash(VideoPart(folder, 0, 5))}) == 3
    save(folder, {"7.png": frame(8)})
    assert content_hash(folder) != whole


def test_sound_of_a_wav(tmp_path):
    import wave

    rate = 8000
    tone = np.sin(2 * np.pi * 440 * np.arange(2 * rate) / rate) * np.repeat([0.2, 0.8], rate)
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((tone * 32767).astype("<i2").tobytes())
    samples = decode_samples(tmp_path / "a.wav")
    assert samples.dtype == np.float32
    assert len(samples) == pytest.approx(2 * RATE, abs=64)
    late = decode_samples(tmp_path / "a.wav", 1.2, 1.7)
    assert len(late) == 0.5 * RATE
    assert np.abs(late).max() == pytest.approx(0.8, abs=0.02)
    peak = np.abs(np.fft.rfft(late)).argmax() * 2
    assert peak == pytest.approx(440, abs=2)
    with pytest.raises(BadVideoError, match="longer sound"):
        decode_samples(tmp_path / "a.wav", 5.0)


def test_no_sound(film, tmp_path):
    with pytest.raises(BadVideoError, match="no sound"):
        decode_samples(film)
    with pytest.raises(BadVideoError, match="cannot be read"):
        decode_samples(tmp_path / "missing.wav")


# ---- pictures that people have -------------------------------------------------------------------------------------------


def quadrants(side=40):
    """Red, green; blue, grey."""
    picture = np.zeros((side, side, 3), np.uint8)
    half = side // 2
    picture[:half, :half, 0] = picture[:half, half:, 1] = picture[half:, :half, 2] = 200
    picture[half:, half:] = 90
    return picture


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_picture_is_turned_as_its_exif_says(tmp_path, suffix):
    image = Image.fromarray(np.rot90(quadrants(), 1))
    exif = image.getexif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    image.save(tmp_path / f"a.{suffix}", exif=exif)
    found = load_picture(tmp_path / f"a.{suffix}").astype(int)
    assert np.abs(found - quadrants())[5:15, 5:15].max() < 30
    assert np.abs(found - quadrants())[25:35, 5:15].max() < 30


def test_grey_pictures_have_three_equal_channels(tmp_path):
    Image.fromarray(quadrants()[..., 0]).save(tmp_path / "a.png")
    found = load_picture(tmp_path / "a.png")
    assert found.shape == (40, 40, 3)
    assert (found == found[..., :1]).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_becomes_white(tmp_path, mode):
    """The colours under full transparency are anything, often black or what was cut away."""
    alpha = np.zeros((40, 40), np.uint8)
    alpha[:, 20:] = 255
    image = Image.fromarray(np.dstack([quadrants(), alpha]), "RGBA")
    if mode == "P":
        image = image.quantize(16)
    image.convert(mode).save(tmp_path / "a.png")
    found = load_picture(tmp_path / "a.png")
    assert (found[:, :18] == 255).all()
    assert np.abs(found[30, 30].astype(int) - 90).max() < 3


def test_half_transparent_is_mixed_and_turned(tmp_path):
    image = Image.fromarray(np.dstack([np.rot90(quadrants(), 1), np.full((40, 40), 128, np.uint8)]), "RGBA")
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.png", exif=exif)
    mixed = (quadrants() * (128 / 255) + 127).round()
    assert np.abs(load_picture(tmp_path / "a.png") - mixed).max() <= 1
