"""``avatarzoo drive`` with a checkpoint of every method: by a tracked sequence, and by a real clip from the command line."""

from __future__ import annotations

import json

import av
import numpy as np
import pytest
import torch

from avatarzoo import cli
from avatarzoo.data import TrackedSequence
from avatarzoo.data.procedural import ProceduralActor
from avatarzoo.data.video import read_frames
from avatarzoo.heads import load_head
from avatarzoo.models import METHODS, load_avatar

# a picture of a volume takes a second on a CPU
EVERY = [pytest.param(m, id=m.__name__, marks=[pytest.mark.slow] * m.takes_pictures) for m in METHODS]


@pytest.fixture(scope="module", params=EVERY)
def checkpoint(request, smoke_run):
    return smoke_run(request.param) / "avatar.ckpt"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """12 tracked frames of another made-up person who turns the head from side to side; two show no face."""
    acted, late = ProceduralActor(seed=7, size=64).sequence(36), slice(24, 36)
    params = acted.params.rows(late)
    params.rotation[:, 1] += torch.linspace(-0.5, 0.5, 12)
    valid = np.arange(12) // 2 != 2
    return TrackedSequence.create(
        tmp_path_factory.mktemp("clip") / "tracked", load_head("procedural"), params, acted.camera,
        np.zeros((12, 478, 2), np.float32), acted.images[late], fps=20.0, valid=valid, error=np.ones(12), crop={"rule": "none"},
        mask_rule="none", source={"name": "made up", "sha256": "77"},
    ).path  # fmt: skip


def drive(checkpoint, driver, out, *options):
    """Frames and facts; a method that takes pictures drives a made-up person."""
    who = ["--seed", "0"] if load_avatar(checkpoint).takes_pictures else []
    args = [str(checkpoint), "--with", str(driver), "--out", str(out), "--device", "cpu", "--quiet", *who]
    assert cli.main(["drive", *args, *options]) == 0
    return np.stack(list(read_frames(out))).astype(int), json.loads(out.with_suffix(".json").read_text())


def test_by_a_tracked_sequence(checkpoint, clip, tmp_path):
    frames, facts = drive(checkpoint, clip, tmp_path / "a.mp4", "--size", "64")
    assert frames.shape == (12, 64, 64, 3)
    assert facts["lost_frames"] == [4, 5]
    assert facts["fps"] == 20
    assert facts["transfer"] == "mean"
    assert facts["driver"]["sha256"] == "77"
    assert np.ptp(frames, axis=0).max() > 12  # it moves
    still, _ = drive(checkpoint, clip / "params.npz", tmp_path / "b.mp4", "--size", "64", "--camera", "fixed")
    moves, rests = (np.abs(np.diff(x, axis=0)).mean() for x in (frames, still))
    assert rests < moves


def test_own_clip_is_taken_as_it_is(checkpoint, clip, tmp_path, monkeypatch):
    module = load_avatar(checkpoint)
    if module.seen is None:
        pytest.skip("keeps nothing of a person")
    plain = type(module.seen).from_plain(module.seen.plain())._replace(sources=("77",))
    monkeypatch.setattr(type(module), "seen", plain)
    monkeypatch.setattr(type(module), "on_load_checkpoint", lambda *_: None)
    _, facts = drive(checkpoint, clip, tmp_path / "a.mp4", "--size", "64")
    assert facts["transfer"] == "none"
    assert not facts["projected"]


@pytest.mark.media
def test_by_a_real_clip_with_its_sound(checkpoint, talking, tmp_path):
    frames, facts = drive(checkpoint, talking, tmp_path / "a.mp4", "--seconds", "0.4", "--size", "64")
    assert frames.shape == (10, 64, 64, 3)
    assert facts["lost_frames"] == []
    assert np.ptp(frames, axis=0).max() > 5
    with av.open(str(tmp_path / "a.mp4")) as file:
        sound = file.streams.audio[0]
        assert float(sound.duration * sound.time_base) == pytest.approx(0.4, abs=0.05)
