"""The procedural person as training data."""

from __future__ import annotations

import pytest
import torch

from avatarzoo.data import ProceduralActorDataModule
from avatarzoo.data.procedural import ProceduralActor
from avatarzoo.geometry.camera import project
from avatarzoo.heads import load_head


@pytest.fixture(scope="module")
def data() -> ProceduralActorDataModule:
    made = ProceduralActorDataModule(n_frames=10, size=96, actor=1)
    made.setup("fit")
    return made


def test_frames_are_the_actors(data):
    frames, clip = data.frames, ProceduralActor(seed=1, size=96).sequence(10)
    assert len(frames) == 10
    assert frames.images.shape == (10, 3, 96, 96)
    assert torch.equal(frames.images, torch.from_numpy(clip.images).permute(0, 3, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(frames.params, clip.params))
    assert data.head_signature == load_head("procedural").signature
    assert data.is_procedural


def test_masks_are_heads(data):
    """Features lie on the head; the nose is in both, the corners in neither."""
    head, frames = load_head("procedural"), data.frames
    points = project(head.landmark_points(head(frames.params)), frames.camera)[..., :2]
    x, y = points[:, 1].round().long().unbind(-1)  # 1 is the tip of the nose
    rows = torch.arange(10)
    for region in (frames.masks, frames.features):
        assert region.shape == (10, 96, 96)
        assert region.dtype == torch.uint8
        assert (region[rows, y, x] > 200).all()
        assert (region[:, :4, :4] == 0).all()
    x, y = points.round().long().clamp(0, 95).unbind(-1)
    assert (frames.masks[rows[:, None], y, x] > 127).float().mean() > 0.93  # all 478 points
    exact = torch.from_numpy(ProceduralActor(seed=1, size=96).sequence(10).head_masks)
    assert ((frames.masks > 127) & (exact < 64)).float().mean() < 0.002  # nothing but head
    share = (frames.masks > 127).float().mean((1, 2))
    assert ((share > 0.08) & (share < 0.6)).all()
    assert ((frames.features > 127) & (frames.masks < 127)).float().mean() < 0.005


def test_split_and_description(data):
    assert (data.n_train, len(data.held_out_frames())) == (9, 1)
    told = data.describe()
    assert "not a real person" in told["kind"]
    assert told["train_frames"] == 9


def test_setup_happens_once(data):
    before = data.frames
    data.setup("test")
    assert data.frames is before
