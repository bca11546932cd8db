"""Portrait videos as data: which are tracked, which are opened, and how they are numbered."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avatarzoo.data import TrackedSequence
from avatarzoo.errors import BadVideoError, UsageError
from avatarzoo.geometry.camera import look_at_face
from avatarzoo.heads.procedural import ProceduralHead
from avatarzoo.trackers import PortraitVideoDataModule, portrait_video

FRAMES = 12


@pytest.fixture(scope="module")
def sequences(tmp_path_factory) -> dict[str, TrackedSequence]:
    """Tracked clips by the names of their videos."""
    folder, head, made = tmp_path_factory.mktemp("tracked"), ProceduralHead(), {}
    for seed, name in enumerate(("a.mp4", "b.mp4", "c")):
        images = np.random.default_rng(seed).integers(0, 256, (FRAMES, 32, 32, 3), dtype=np.uint8)
        params = head.zeros(FRAMES)._replace(identity=torch.full((FRAMES, head.n_identity), float(seed)))
        grey, camera, landmarks = images[..., 0], look_at_face(size=32), np.zeros((FRAMES, 478, 2))
        regions = {"masks": grey, "parsing": np.zeros_like(grey)}
        made[name] = TrackedSequence.create(
            folder / name, head, params, camera, landmarks, images, **regions, fps=25.0
        )
    return made


@pytest.fixture
def tracked(sequences, monkeypatch) -> list[dict]:
    """Calls of a tracker that has already done its work."""
    calls = []

    def cached_track(video, **options) -> TrackedSequence:
        calls.append({"video": video.name, **options})
        return sequences[video.name]

    monkeypatch.setattr(portrait_video, "cached_track", cached_track)
    return calls


def test_videos_are_tracked_and_come_before_sequences(tracked, sequences, tmp_path) -> None:
    data = PortraitVideoDataModule(
        videos=["a.mp4", "b.mp4"],
        sequence=str(sequences["c"].path),
        cache=str(tmp_path),
        size=32,
        person="largest",
    )
    data.prepare_data()
    data.setup("fit")
    assert {call["video"] for call in tracked} == {"a.mp4", "b.mp4"}
    assert tracked[0]["size"] == 32
    assert tracked[0]["person"] == "largest"
    assert tracked[0]["cache"] == tmp_path
    assert data.frames.video.tolist() == [0] * FRAMES + [1] * FRAMES + [2] * FRAMES
    assert data.frames.params.identity[:, 0].tolist() == data.frames.video.tolist()
    assert data.fps == 25.0
    assert data.head_signature == ProceduralHead().signature


def test_one_video_is_enough(tracked) -> None:
    data = PortraitVideoDataModule(video="b.mp4", region="head", train_fraction=0.75)
    data.setup("fit")
    assert len(tracked) == 1
    assert (data.n_train, len(data.held_out_frames())) == (9, 3)
    assert data.describe()["kind"] == "monocular video"
    assert data.frames.camera.batch == 1


def test_nothing_given_is_said(tracked) -> None:
    with pytest.raises(BadVideoError, match="No video"):
        PortraitVideoDataModule().prepare_data()
    with pytest.raises(UsageError, match="region"):
        PortraitVideoDataModule(video="a.mp4", region="body")
