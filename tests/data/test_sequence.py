"""TrackedSequence v1: what is written is what is read, damage is named, a kill loses nothing."""

import json
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from avatarzoo.data.sequence import FRAMES, MASKS, TrackedSequence
from avatarzoo.data.sequence_writer import SequenceWriter
from avatarzoo.errors import BadSequenceError, HeadModelMismatchError, OutputError
from avatarzoo.geometry.camera import look_at_face
from avatarzoo.heads.base import HeadParams
from avatarzoo.perception.regions import Region

T, SIZE = 6, 32


class Head(nn.Module):
    signature: ClassVar = {"name": "test", "version": "1", "hash": "0123456789abcdef"}


@pytest.fixture
def content():
    rng = np.random.default_rng(0)
    params = HeadParams(
        *(torch.from_numpy(rng.normal(size=(T, n)).astype(np.float32)) for n in (5, 4, 3, 3, 6, 2, 3, 3))
    )
    images = rng.integers(0, 256, (T, SIZE, SIZE, 3), np.uint8)
    masks = rng.integers(0, 256, (T, SIZE, SIZE), np.uint8)
    parsing = np.zeros((T, SIZE, SIZE), np.uint8)
    parsing[:, 10, 10] = Region.EYES
    parsing[:, 20, 20] = Region.HAIR
    landmarks = rng.uniform(0, SIZE, (T, 478, 2)).astype(np.float32)
    return params, look_at_face(size=SIZE), landmarks, images, masks, parsing


def make(path, content, **fields):
    params, camera, landmarks, images, masks, parsing = content
    pictures = (images, masks, parsing)
    return TrackedSequence.create(path, Head(), params, camera, landmarks, *pictures, fps=25, **fields)


def test_round_trip(tmp_path, content):
    valid = np.array([1, 1, 0, 1, 1, 1], bool)
    make(tmp_path / "s", content, valid=valid, consent="mine", source={"name": "a.mp4", "sha256": "0" * 64})
    sequence = TrackedSequence.open(tmp_path / "s")
    params, camera, landmarks, images, masks, parsing = content
    assert len(sequence) == T
    assert sequence.fps == 25
    assert sequence.size == SIZE
    for ours, theirs in zip(sequence.params, params):
        assert torch.equal(ours, theirs)
    assert torch.equal(sequence.camera.intrinsics, camera.intrinsics)
    assert torch.equal(sequence.camera.world_to_camera, camera.world_to_camera)
    assert np.array_equal(sequence.landmarks, landmarks)
    assert np.array_equal(sequence.valid, valid)
    assert sequence.info["lost_frames"] == [2]
    assert sequence.info["consent"] == "mine"
    for rows in (slice(None), [0, 5, 1], torch.tensor([3, 3]), 4, slice(1, 3), -1):
        chosen = np.atleast_1d(np.arange(T)[rows if not isinstance(rows, torch.Tensor) else rows.numpy()])
        assert np.array_equal(sequence.images(rows).permute(0, 2, 3, 1).numpy(), images[chosen])
        assert np.array_equal(sequence.masks(rows).numpy(), masks[chosen])
        assert np.array_equal(sequence.parsing(rows).numpy(), parsing[chosen])
    features = sequence.features([0])[0]
    assert features[10, 10] == 255
    assert features[12, 12] == 255
    assert features[13, 13] == 0
    assert features[20, 20] == 0


def test_without_masks(tmp_path, content):
    params, camera, landmarks, images, *_ = content
    sequence = TrackedSequence.create(tmp_path / "s", Head(), params, camera, landmarks, images, fps=25)
    assert not sequence.has_masks
    with pytest.raises(BadSequenceError, match="without matting"):
        sequence.masks(0)


def test_head_mismatch(tmp_path, content):
    sequence = make(tmp_path / "s", content)
    sequence.check_head(Head())
    other = Head()
    other.signature = {**Head.signature, "hash": "f" * 16}
    with pytest.raises(HeadModelMismatchError, match=r"test 1 \(01234567\), not test 1 \(ffffffff\)"):
        sequence.check_head(other)


def test_same_input_same_bytes(tmp_path, content):
    for name in "ab":
        make(tmp_path / name, content)
    for file in ("params.npz", "sequence.json", "frames/000003.png"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_unfinished_keeps_frames(tmp_path, content):
    writer = SequenceWriter(tmp_path / "s")
    writer.write(FRAMES, 1, content[3][1])
    assert not (tmp_path / "s").exists()
    again = SequenceWriter(tmp_path / "s")
    assert again.missing(FRAMES, 3) == [0, 2]
    assert again.missing(MASKS, 2) == [0, 1]
    with pytest.raises(BadSequenceError, match="not finished"):
        TrackedSequence.open(tmp_path / "s")
    with pytest.raises(BadSequenceError, match="missing frames"):
        again.finish(Head(), content[0], content[1], content[2], fps=25)


def test_full_disk_leaves_no_broken_picture(tmp_path, content, monkeypatch):
    writer = SequenceWriter(tmp_path / "s")
    writer.write(FRAMES, 0, content[3][0])

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OutputError, match="No space left"):
        writer.write(FRAMES, 1, content[3][1])
    assert [p.name for p in (tmp_path / "s.partial" / FRAMES).iterdir()] == ["000000.png"]


def test_taken_folder(tmp_path, content):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "thesis.txt").write_text("do not lose me")
    with pytest.raises(OutputError, match="not empty"):
        make(tmp_path / "s", content)
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError):
        make(tmp_path / "file" / "below", content)


def test_damage_is_named(tmp_path, content):
    with pytest.raises(BadSequenceError, match="not a tracked sequence"):
        TrackedSequence.open(tmp_path / "nothing")
    path = tmp_path / "s"
    make(path, content)
    (path / "frames" / "000002.png").write_bytes(b"")
    with pytest.raises(BadSequenceError, match="000002"):
        TrackedSequence.open(path).images(2)
    info = json.loads((path / "sequence.json").read_text())
    (path / "sequence.json").write_text(json.dumps({**info, "version": 99}))
    with pytest.raises(BadSequenceError, match="99"):
        TrackedSequence.open(path)
    (path / "sequence.json").write_text("{")
    with pytest.raises(BadSequenceError, match="damaged"):
        TrackedSequence.open(path)
    (path / "sequence.json").write_text(json.dumps(info))
    (path / "params.npz").write_bytes((path / "params.npz").read_bytes()[:500])
    with pytest.raises(BadSequenceError, match=r"params\.npz"):
        TrackedSequence.open(path)
