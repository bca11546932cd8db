"""Footage from items and from made-up people: what is kept, joined, bounded, and told apart."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from avatarzoo.data.layouts.base import Item
from avatarzoo.errors import BadVideoError, NoFaceError, UsageError
from avatarzoo.evaluation import procedural_footage
from avatarzoo.evaluation.footage import FootageSet, facial_region, joined, open_item
from avatarzoo.evaluation.procedural_footage import procedural_set
from avatarzoo.evaluation.sets import KINDS
from avatarzoo.geometry.camera import project
from avatarzoo.heads import load_head
from avatarzoo.perception.landmarks import FACE_OVAL
from avatarzoo.perception.regions import Region

SIZE, FRAMES = 32, 4


@pytest.fixture(scope="module")
def clips():
    return procedural_set("clips", 2, FRAMES, SIZE, 1.0, sound=True)


class Thing(NamedTuple):
    name: str
    identity: str


def test_same_call_same_people_without_rendering_again(clips, monkeypatch):
    first = clips.open(0)
    monkeypatch.setattr(procedural_footage, "shoot", None)
    again = procedural_set("clips", 2, FRAMES, SIZE, 1.0, sound=True).open(0)
    assert again is first


def test_deterministic(clips):
    first = clips.open(0)
    procedural_footage.make.cache_clear()
    procedural_footage.cast.cache_clear()
    again = procedural_set("clips", 2, FRAMES, SIZE, 1.0, sound=True).open(0)
    assert again is not first
    assert torch.equal(again.frames.images, first.frames.images)
    assert np.array_equal(again.sound.samples, first.sound.samples)


def test_people_and_takes(clips):
    one, two = clips.open(0), clips.open(1)
    other = procedural_set("drivers", 1, 1, SIZE, 1.0).open(0)
    take = procedural_set("clips", 1, FRAMES, SIZE, 1.0, take="train").open(0)
    seeded = procedural_set("clips", 1, 1, SIZE, 1.0, seed=1).open(0)
    identity = one.frames.params.identity[0]
    for stranger in (two, other, seeded):
        assert (stranger.frames.params.identity[0] - identity).norm() > 1
    assert torch.equal(take.frames.params.identity[0], identity)
    assert take.identity == one.identity != two.identity
    assert take.name != one.name
    assert not torch.allclose(take.frames.params.rotation, one.frames.params.rotation, atol=1e-3)
    assert other.identity != one.identity


def test_procedural_says_so(clips):
    footage = clips.open(0)
    assert footage.procedural
    assert "procedural" in footage.source["kind"]
    assert len(footage) == FRAMES
    assert footage.frames.images.shape == (FRAMES, 3, SIZE, SIZE)
    assert footage.lost == 0
    inside = footage.frames.masks[footage.facial > 0].float()
    assert inside.mean() > 250  # the face is part of the head
    share = (footage.facial > 0).float().mean((1, 2)) / (footage.frames.masks > 127).float().mean((1, 2))
    assert ((share > 0.25) & (share < 0.8)).all()


def test_views_are_one_moment_from_several_sides():
    views = procedural_set("views", 1, 5, SIZE, 1.0, kind="views").open(0)
    params, camera = views.frames.params, views.frames.camera
    assert camera.batch == 5
    for field in params:
        assert (field == field[:1]).all()
    head = views.head.v_template.mean(0).expand(5, 1, 3)
    assert torch.isfinite(project(head, camera)).all()
    centre = -(camera.world_to_camera[:, :3, :3].transpose(1, 2) @ camera.world_to_camera[:, :3, 3:])[..., 0]
    yaw = torch.rad2deg(torch.atan2(centre[:, 0], centre[:, 2]))
    assert torch.allclose(yaw, torch.tensor([0.0, -60, -30, 30, 60]), atol=1e-3)
    assert (views.facial > 0).float().mean((1, 2)).min() > 0.03


@pytest.mark.parametrize("kind", sorted({*KINDS.values(), "clip"}))
def test_every_kind_batches(kind):
    footage = procedural_set("some", 1, 3, SIZE, None, kind=kind).open(0)
    assert len(footage) == (1 if kind == "image" else 3)
    batch = footage.batch(torch.arange(len(footage)))
    assert batch["camera"].batch == len(footage)
    assert batch["image"].min() >= 0
    assert batch["image"].max() <= 1


def test_voice_is_as_loud_as_the_jaw_is_open():
    actor = procedural_footage.cast(5, 32)
    item = procedural_footage.MadeUp("", "", 5, 6, 50, 32, None, "clip", True)
    params, _ = procedural_footage.performance(actor, item)
    samples, rate = procedural_footage.voice(actor, params, item.take)
    assert len(samples) == 2 * rate
    loudness = np.sqrt((samples.reshape(50, -1) ** 2).mean(1))
    jaw = params.expression[:, actor.head.expression_names.index("jawOpen")].numpy()
    assert jaw.max() > 0.2
    assert np.corrcoef(loudness, jaw)[0, 1] > 0.9


def test_joined(clips):
    one, two = clips.open(0), clips.open(1)
    both = joined([one, two], "both")
    assert len(both) == 2 * FRAMES == both.frames.camera.batch == len(both.facial)
    rows = torch.tensor([1, FRAMES + 2])
    batch, second = both.batch(rows), two.batch(torch.tensor([2]))
    assert torch.equal(batch["image"][1], second["image"][0])
    assert torch.equal(batch["params"].identity[1], second["params"].identity[0])
    assert torch.equal(both.regions(rows)["facial"][1], two.regions(torch.tensor([2]))["facial"][0])
    assert both.sound is None
    with pytest.raises(UsageError, match="differ"):
        joined([one, procedural_set("clips", 1, 2, 24, 1.0).open(0)], "mixed")
    with pytest.raises(UsageError, match="no footage"):
        joined([], "nobody")


def test_a_set_opens_once_and_stays_bounded(clips):
    footage, opened = clips.open(0), []

    def opener(item):
        opened.append(item.name)
        if item.name == "c":
            raise NoFaceError("nobody")
        return footage

    things = [Thing(n, "x") for n in "abc"]
    small = FootageSet(things, opener, keep=0)
    for i in (0, 0, 1, 0):
        small.open(i)
    assert opened == ["a", "b", "a"]
    opened.clear()
    large = FootageSet(things, opener)
    for i in (0, 1, 0, 1):
        large.open(i)
    assert opened == ["a", "b"]
    assert (large.names, len(large), large.identities) == (["a", "b", "c"], 3, ["x", "x", "x"])
    with pytest.raises(NoFaceError):
        large.open(2)


def test_facial_region_is_skin_and_features_within_the_oval():
    landmarks = np.zeros((1, 478, 2), np.float32)
    turn = np.linspace(0, 2 * np.pi, len(FACE_OVAL), endpoint=False)
    landmarks[0, list(FACE_OVAL)] = np.stack([np.sin(turn), -np.cos(turn)], 1) * 10 + 20
    for label in Region:
        labels = np.full((1, 40, 40), label, np.uint8)
        facial = facial_region(labels, landmarks)[0]
        face = label in (Region.SKIN, Region.BROWS, Region.EYES, Region.LIPS, Region.NOSE)
        assert facial[20, 20] == (255 if face else 0)
        assert facial[2, 2] == 0


# ---- real pictures and clips ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def media():
    return Path(os.environ["AVATARZOO_MEDIA"])


@pytest.mark.media
@pytest.mark.assets
def test_real_items(media, tmp_path):
    head = load_head("ict")
    portrait = Item("astronaut", "image", media / "image" / "astronaut_512.png", "her")
    picture = open_item(portrait, head, 128, 1.0, tmp_path)
    assert (len(picture), picture.lost, picture.procedural) == (1, 0, False)
    assert 0.05 < (picture.facial > 0).float().mean() < 0.5
    talk = Item("talk", "video", media / "video" / "obama_weekly_256p30_30s.mp4", "him", start=30)
    clip = open_item(talk, head, 128, None, tmp_path, frames=12, sound=False)
    assert len(clip) == 12
    assert clip.ground is None
    views = Item("v", "views", media / "image", "her", views=((portrait.path, ()),) * 2)
    assert open_item(views, head, 128, 1.0, tmp_path).frames.camera.batch == 2
    with pytest.raises(BadVideoError, match="does not exist"):
        open_item(portrait._replace(path=tmp_path / "no.png"), head, 128, 1.0, tmp_path)
