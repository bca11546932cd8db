"""Pictures that people have, from file to a driven video, and those that cannot serve (real faces)."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from avatarzoo import cli, models
from avatarzoo.apps.drive_person import detected_faces, person_of, plate_of
from avatarzoo.data.video import read_frames
from avatarzoo.data.video_source import load_picture
from avatarzoo.errors import BadVideoError, NoFaceError
from avatarzoo.geometry.rotations import euler_to_matrix, matrix_to_axis_angle

spec = importlib.util.spec_from_file_location("puppet", Path(__file__).with_name("puppet.py"))
puppets = importlib.util.module_from_spec(spec)
spec.loader.exec_module(puppets)
pytestmark = pytest.mark.media


@pytest.fixture(scope="session")
def photos():
    folder = os.environ.get("AVATARZOO_MEDIA")
    if not folder:
        pytest.skip("AVATARZOO_MEDIA is not set")
    names = {
        "her": "astronaut_512.png",
        "him": "obama_portrait_910x1137.jpg",
        "standing": "biden_standing_970x2204.jpg",
    }
    return {key: load_picture(Path(folder) / "image" / name) for key, name in names.items()}


@pytest.fixture(scope="module")
def puppet():
    return puppets.Puppet()


@pytest.fixture
def person(puppet, tmp_path):
    """A picture (array, or one with an alpha channel or EXIF) to a person."""

    def make(picture, name="photo.png", **more):
        image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
        image.save(tmp_path / name, **more)
        return person_of(puppet, puppet.head, [tmp_path / name], None, None, 256, tmp_path / "cache")

    return make


def colour(person):
    return person.state.tensors["colour"].numpy()


def test_turned_by_exif_grey_and_transparent_are_the_same_person(person, photos):
    small = cv2.resize(photos["him"], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    upright = person(small)
    assert upright.warnings == ()
    assert upright.facts["rest"] == "the first picture"
    sideways = Image.fromarray(np.rot90(small, 1))
    exif = sideways.getexif()
    exif[0x0112] = 6
    turned = person(sideways, "turned.jpg", exif=exif, quality=95)
    assert np.abs(colour(turned) - colour(upright)).max() < 0.02
    grey = person(Image.fromarray(small).convert("L"), "grey.png")
    assert np.ptp(colour(grey)) == pytest.approx(0, abs=1e-6)
    cut_out = np.dstack([small, np.zeros(small.shape[:2], np.uint8)])
    cut_out[20:, 100:400, 3] = 255
    cut_out[:20, :, :3] = 0
    clear = person(Image.fromarray(cut_out, "RGBA"), "clear.png")
    assert np.abs(colour(clear) - colour(upright)).max() < 0.03
    assert clear.pictures[0].images([0])[0, :, 2, 2].min() > 245


def test_the_larger_of_two_faces_with_a_warning(person, photos):
    him = cv2.resize(photos["him"], (410, 512), interpolation=cv2.INTER_AREA)
    both = person(np.hstack([him, photos["her"]]))
    assert "more than one face" in both.warnings[0]
    x = both.pictures[0].landmarks[0, :, 0].mean() - both.pictures[0].info["crop"]["affine"][0][2]
    assert x / both.pictures[0].info["crop"]["affine"][0][0] < 410


def test_a_tiny_face_is_taken_with_a_warning(person, photos):
    tiny = cv2.resize(photos["standing"], None, fx=0.15, fy=0.15, interpolation=cv2.INTER_AREA)
    (warning,) = person(tiny).warnings
    assert "only 5" in warning
    assert "pixels high" in warning


def test_a_head_turned_away_is_taken_with_a_warning(person, photos, monkeypatch):
    """No picture at hand shows a profile; the tracker's answer is replaced."""
    from avatarzoo.apps import drive_person

    def turned(*arguments):
        tracked = cached(*arguments)
        angles = tracked.params.rotation.new_tensor([[0.9, 0.1, 0.0]]).unbind(-1)
        tracked.params = tracked.params._replace(rotation=matrix_to_axis_angle(euler_to_matrix(*angles)))
        return tracked

    cached = drive_person.cached_portrait
    monkeypatch.setattr(drive_person, "cached_portrait", turned)
    (warning,) = person(photos["her"]).warnings
    assert "turned far to the side" in warning


def test_no_face_or_none_upright(person, photos):
    with pytest.raises(NoFaceError, match="No face was found"):
        person(photos["her"][250:450, 150:400])
    upside_down, on_its_side = photos["her"][::-1, ::-1], np.rot90(photos["him"])
    for number, picture in enumerate(
        (upside_down, on_its_side)
    ):  # landmarks are found all the same, the first in wrong places
        with pytest.raises(NoFaceError, match="turn the picture"):
            person(np.ascontiguousarray(picture), f"{number}.png")
    with pytest.raises(BadVideoError, match="does not exist"):
        person_of(puppets.Puppet(), None, [Path("nowhere.png")], None, None, 64, Path("cache"))


def test_a_face_that_fills_the_picture_is_one(photos):
    assert len(detected_faces(np.ascontiguousarray(photos["him"][120:440, 350:645])))


def test_the_plate_shows_what_stood_behind(person, photos):
    plate = plate_of(person(photos["her"]))
    assert plate.shape == (512, 512, 3)
    wall = np.array([205, 198, 192])
    assert np.abs(plate[100:400, 150:350].mean((0, 1)) - wall).max() < 30


def test_from_a_photo_to_a_driven_video(photos, puppet, tmp_path, monkeypatch, capsys, talking):
    """One command; the photo's own background behind it, the driver's sound with it."""
    Image.fromarray(photos["her"]).save(tmp_path / "her.png")
    (tmp_path / "x.ckpt").write_bytes(b"weights")
    monkeypatch.setattr(models, "load_avatar", lambda path, device: puppet.eval())
    out = tmp_path / "out.mp4"
    options = [
        "--image",
        str(tmp_path / "her.png"),
        "--size",
        "64",
        "--background",
        "source",
        "--seconds",
        "0.4",
    ]
    args = [str(tmp_path / "x.ckpt"), "--with", str(talking), "--out", str(out), "--quiet", *options]
    assert cli.main(["drive", *args]) == 0
    frames = list(read_frames(out))
    assert len(frames) == 10
    assert np.abs(frames[0][3, 40].astype(int) - [205, 198, 192]).max() < 40
    facts = json.loads(out.with_suffix(".json").read_text())
    assert facts["person"]["images"][0]["file"].endswith("her.png")
    assert facts["sound"] == str(talking)
    assert capsys.readouterr().err == ""
