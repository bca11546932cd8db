"""``avatarzoo drive``: the command with a method that costs nothing, driven by parameters and by a voice."""

from __future__ import annotations

import importlib.util
import json
import wave
from pathlib import Path

import av
import numpy as np
import pytest

from avatarzoo import cli, models
from avatarzoo.credentials import read_credentials
from avatarzoo.data.video import read_frames
from avatarzoo.errors import BadVideoError
from avatarzoo.files import file_hash

spec = importlib.util.spec_from_file_location("puppet", Path(__file__).with_name("puppet.py"))
puppets = importlib.util.module_from_spec(spec)
spec.loader.exec_module(puppets)


@pytest.fixture
def puppet(monkeypatch, tmp_path):
    """What ``load_avatar`` gives; the checkpoint is any file."""
    made = puppets.Puppet()
    (tmp_path / "x.ckpt").write_bytes(b"weights")
    monkeypatch.setattr(models, "load_avatar", lambda path, device: made.eval())
    return made


@pytest.fixture
def drive(puppet, tmp_path, capsys):
    def run(driver, *options, out="out.mp4", code=0):
        args = [str(tmp_path / "x.ckpt"), "--with", str(driver), "--out", str(tmp_path / out), "--size", "64"]
        assert cli.main(["drive", *args, "--quiet", "--device", "cpu", *map(str, options)]) == code
        return (
            capsys.readouterr().err if code else json.loads((tmp_path / out).with_suffix(".json").read_text())
        )

    return run


@pytest.fixture
def jaw(tmp_path):
    """20 frames of parameters: the mouth opens, the head moves to its left."""
    expression = np.zeros((20, puppets.load_head("procedural").n_expression), np.float32)
    expression[:, 0] = np.linspace(0, 1, 20)
    translation = np.zeros((20, 3), np.float32)
    translation[:, 0] = np.linspace(0, 0.03, 20)
    np.savez(tmp_path / "jaw.npz", expression=expression, translation=translation, fps=np.float32(30))
    return tmp_path / "jaw.npz"


@pytest.fixture
def voice(tmp_path):
    """One second and a bit."""
    with wave.open(str(tmp_path / "voice.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes((9000 * np.sin(np.arange(18000) / 9)).astype("<i2").tobytes())
    return tmp_path / "voice.wav"


def test_parameters_drive_and_the_result_says_so(drive, jaw, puppet, tmp_path):
    result = drive(jaw, "--seed", 3)
    pictures = list(read_frames(tmp_path / "out.mp4"))
    assert len(pictures) == result["frames"] == 20
    discs = [(p.astype(int).min(2) < 128) for p in pictures]
    assert discs[-1].sum() > 1.5 * discs[0].sum()
    assert np.nonzero(discs[-1])[1].mean() > np.nonzero(discs[0])[1].mean() + 3
    assert result["fps"] == 30
    assert result["method"] == "Puppet"
    assert result["checkpoint"]["sha256"] == file_hash(tmp_path / "x.ckpt")
    assert result["output"]["sha256"] == file_hash(tmp_path / "out.mp4")
    assert result["driver"]["sha256"] == file_hash(jaw)
    assert result["person"]["seed"] == 3
    assert result["lost_frames"] == []
    assert result["options"]["camera"] == "driver"
    assert "torch" in result["versions"]


def test_the_video_says_that_it_is_generated_and_the_result_where_it_does_not(drive, jaw, tmp_path):
    result = drive(jaw, "--seed", 3, "--seconds", 0.2)
    found = read_credentials(tmp_path / "out.mp4")
    assert (found.state, found.generated, found.title) == ("valid", True, "out.mp4")
    assert found.facts["checkpoint_sha256"] == file_hash(tmp_path / "x.ckpt")
    assert result["credentials"]["written"] is True
    assert result["credentials"]["made_of"] == found.facts
    result = drive(jaw, "--seed", 3, "--seconds", 0.2, "--no-credentials")
    assert read_credentials(tmp_path / "out.mp4").state == "none"
    assert result["credentials"] == {"written": False, "because": "left out by an option (--no-credentials)"}


def test_cameras(drive, jaw, puppet):
    drive(jaw, "--seed", 1, "--camera", "fixed")
    assert all((p.translation == puppet.drawn[0][0].translation).all() for p, _ in puppet.drawn)
    puppet.drawn.clear()
    drive(jaw, "--seed", 1, "--camera", "orbit")
    poses = [camera.world_to_camera for _, camera in puppet.drawn]
    assert (poses[0] - poses[5]).abs().max() > 0.1
    assert float(puppet.drawn[5][0].expression[0, 0]) > 0.2


def test_a_voice_drives_and_is_heard(drive, voice, puppet, tmp_path):
    result = drive(voice, "--seed", 1)
    assert result["frames"] == 29
    assert result["driver"]["kind"] == "sound"
    assert float(puppet.drawn[0][0].expression[0, 0]) > 0.1
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert file.streams.audio[0].codec_context.name == "aac"
        heard = sum(frame.samples for frame in file.decode(file.streams.audio[0]))
    assert heard == pytest.approx(18000, abs=2100)
    assert drive(voice, "--seed", 1, "--fps", 50, "--seconds", 0.5)["frames"] == 25


def test_sound_from_elsewhere(drive, jaw, voice, tmp_path):
    assert drive(jaw, "--seed", 1, "--sound", voice)["sound"] == str(voice)
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert file.streams.audio


def test_backgrounds(drive, jaw, tmp_path):
    drive(jaw, "--seed", 1, "--background", "#2040c0")
    corner = next(read_frames(tmp_path / "out.mp4"))[2, 2].astype(int)
    assert np.abs(corner - [0x20, 0x40, 0xC0]).max() < 8
    result = drive(jaw, "--seed", 1, "--background", "transparent", out="out.mov")
    assert result["warnings"] == []
    with av.open(str(tmp_path / "out.mov")) as file:
        picture = next(file.decode(file.streams.video[0])).to_ndarray(format="rgba")
    assert picture[2, 2, 3] == 0
    assert picture[34, 32, 3] == 255


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "add --image"),
        (["--seed", "1", "--background", "source"], "needs --image"),
        (["--seed", "1", "--background", "no colour"], "a colour"),
        (["--image", "missing.jpg"], "missing.jpg does not exist"),
        (["--seed", "1", "--rest", "nowhere"], "nowhere is not a tracked sequence"),
    ],
)
def test_mistakes_are_one_sentence(drive, jaw, options, message, tmp_path):
    error = drive(jaw, *options, code=2)
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out.mp4").exists()


def test_a_silent_method_and_a_personal_one_say_so(drive, jaw, voice, puppet, tmp_path, monkeypatch):
    puppet.speaks = False
    assert "not driven by sound" in drive(voice, "--seed", 1, code=2)
    monkeypatch.setattr(puppets.Puppet, "takes_pictures", False)
    from skimage import data, io

    io.imsave(tmp_path / "her.png", data.astronaut())
    assert "keeps its person in the checkpoint" in drive(jaw, "--image", tmp_path / "her.png", code=2)


def test_names_of_outputs(jaw, tmp_path):
    for out, more in (("a.avi", []), ("a.mp4", ["--background", "transparent"]), ("a.mp4", ["--size", "7"])):
        with pytest.raises(SystemExit):
            cli.main(["drive", "x.ckpt", "--with", str(jaw), "--out", str(tmp_path / out), *more])


def test_what_fails_midway_leaves_nothing_and_keeps_what_was_there(drive, jaw, puppet, tmp_path, monkeypatch):
    (tmp_path / "out.mp4").write_text("earlier")
    animate, drawn = puppets.Puppet.animate, []

    def breaks(self, state, params, camera):
        drawn.append(1)
        if len(drawn) == 8:
            raise BadVideoError("No more.")
        return animate(self, state, params, camera)

    monkeypatch.setattr(puppets.Puppet, "animate", breaks)
    assert drive(jaw, "--seed", 1, code=2) == "error: No more.\n"
    assert (tmp_path / "out.mp4").read_text() == "earlier"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["jaw.npz", "out.mp4", "x.ckpt"]
