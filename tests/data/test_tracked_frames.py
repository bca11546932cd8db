"""Frames of many clips: the same in shards as in folders, shuffled, split, resumed exactly, damage counted and named."""

from __future__ import annotations

import io
import json
import tarfile
import warnings
from collections import Counter

import lightning as L
import numpy as np
import pytest
import torch

from avatarzoo.data import TrackedFramesDataModule, TrackedSequence
from avatarzoo.data.clip_pairs_tracked import clip_folders
from avatarzoo.data.shards import ShardWriter, shard_clips, tracked_clips
from avatarzoo.data.tracked_frames import FrameBatches, FrameLoader
from avatarzoo.data.window_shuffle import WindowShuffle
from avatarzoo.errors import BadDatasetError, BadSequenceError, UsageError
from avatarzoo.geometry.camera import look_at_face
from avatarzoo.heads import ProceduralHead
from avatarzoo.heads.base import HeadParams

CLIPS, FRAMES, SIZE = 6, 10, 16


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The same clips as folders and as shards of two; the red of a frame says which it is. One frame in ten shows no face."""
    folder, head = tmp_path_factory.mktemp("tracked"), ProceduralHead()
    writer = ShardWriter(folder / "shards", limit=6000)
    for clip in range(CLIPS):
        params = HeadParams(*(x + clip for x in head.zeros(FRAMES)))
        pictures = [np.full((SIZE, SIZE, 3), 10 * clip + row, np.uint8) for row in range(FRAMES)]
        mask = np.full((SIZE, SIZE), 255, np.uint8)
        valid = np.arange(FRAMES) != clip
        name = f"clip{clip}"
        sequence = TrackedSequence.create(
            folder / "folders" / name, head, params, look_at_face(size=SIZE), np.zeros((FRAMES, 478, 2)), pictures,
            [mask] * FRAMES, [mask * 0] * FRAMES, fps=25, valid=valid,
        )  # fmt: skip
        writer.add(name, sequence)
    writer.close()
    return folder


def batches(folder, size=4, rank=0, world=1, **options):
    return FrameBatches(tracked_clips(folder), size, SIZE, 20, 3, rank=rank, world=world, **options)


def ids(batch) -> list[int]:
    """Clip and frame from the pictures themselves."""
    return (batch["image"][:, 0, 0, 0].int()).tolist()


def test_shards_hold_what_folders_hold(root):
    shards = sorted((root / "shards").glob("*.tar"))
    assert len(shards) > 1
    assert ids(batches(root / "folders")[0]) != ids(batches(root / "folders")[1])
    for clip in shard_clips(root / "shards"):
        packed, plain = TrackedSequence.open(clip.path), TrackedSequence.open(root / "folders" / clip.name)
        assert packed.info == plain.info
        for read in (TrackedSequence.images, TrackedSequence.masks, TrackedSequence.features):
            assert torch.equal(read(packed, [0, 7]), read(plain, [0, 7]))
        assert all(torch.equal(a, b) for a, b in zip(packed.params, plain.params))
    assert list(clip_folders(root / "shards")) == [f"clip{k}" for k in range(CLIPS)]


def test_shards_follow_the_convention_of_webdataset(root):
    """Members of a sample follow each other and share the name up to the first dot; rows are plain JSON."""
    with tarfile.open(min((root / "shards").glob("*.tar"))) as tar:
        names = tar.getnames()
        row = json.load(tar.extractfile("clip0/000003.json"))
        picture = tar.extractfile("clip0/000003.frame.png").read()
    keys = [name.split(".")[0] for name in names]
    assert [k for i, k in enumerate(keys) if i == 0 or keys[i - 1] != k] == list(dict.fromkeys(keys))
    endings = {name.split(".", 1)[1] for name in names if name.startswith("clip0/000003.")}
    assert endings == {"frame.png", "mask.png", "parsing.png", "json"}
    assert row["frame"] == 3
    assert row["valid"]
    assert np.allclose(row["world_to_camera"], look_at_face(size=SIZE).world_to_camera[0])
    assert io.BytesIO(picture).read(4) == b"\x89PNG"


def test_the_order_shuffles_everything_once_a_pass_and_reads_few_files_at_a_time():
    counts, groups = [50] * 40, [str(k // 4) for k in range(40)]
    order = WindowShuffle(counts, groups, 200, 5)
    first, second = ([order(e * 2000 + p) for p in range(2000)] for e in (0, 1))
    assert len(set(first)) == len(set(second)) == 2000
    assert first != second
    assert first != sorted(first)
    near = [len({groups[part] for part, _ in first[k : k + 200]}) for k in range(0, 2000, 200)]
    assert max(near) <= 2
    assert WindowShuffle(counts, groups, 200, 5)(1234) == first[1234]


def test_processes_share_a_pass(root):
    """Two processes see together what one with the doubled batch sees; nothing twice, nothing never."""
    one = [ids(batches(root / "shards", 6)[k]) for k in range(9)]
    two = [[ids(batches(root / "shards", 3, rank, 2)[k]) for k in range(9)] for rank in (0, 1)]
    assert [sorted(a + b) for a, b in zip(*two)] == [sorted(x) for x in one]
    seen = Counter(x for batch in one for x in batch)
    assert set(seen) == {10 * c + f for c in range(CLIPS) for f in range(FRAMES) if f != c}
    assert set(seen.values()) == {1}


@pytest.mark.parametrize("workers", [0, 2])
def test_resuming_goes_on_in_the_middle_of_a_pass(root, workers):
    whole = [ids(b) for b in FrameLoader(batches(root / "shards"), 20, lambda: 0, 0)]
    used = 7
    state = FrameLoader(batches(root / "shards"), 20, lambda: used, workers).state_dict()
    rest = FrameLoader(batches(root / "shards"), 20, lambda: used, workers)
    rest.load_state_dict(state)
    assert [ids(b) for b in rest] == whole[used:]
    # another number of processes: the same samples go on, in other batches
    other = FrameLoader(batches(root / "shards", 2, 0, 1), 40, lambda: used, 0)
    other.load_state_dict(state)
    flat = [x for batch in whole[used:] for x in batch]
    assert [x for batch in other for x in ids(batch)][: len(flat)] == flat
    with pytest.raises(UsageError, match="seed 4"):
        rest.load_state_dict({**state, "seed": 4})


@pytest.fixture
def damaged(root, tmp_path):
    """Shards of which one was cut off, and another lost a picture."""
    for path in (root / "shards").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    cut = min(tmp_path.glob("*.tar"))
    cut.write_bytes(cut.read_bytes()[:30_000])
    return tmp_path, cut.name


def test_a_damaged_shard_is_counted_and_named(damaged):
    folder, name = damaged
    data = TrackedFramesDataModule(str(folder), SIZE, batch_size=4, workers=0, seed=3, window=20)
    data.setup("fit")
    all_seen = []
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        loader = FrameLoader(batches(folder), 27, lambda: 0, 0)
        for batch in loader:
            assert len(batch["image"]) == 4
            all_seen += ids(batch)
            data.on_before_batch_transfer(batch, 0)
    assert len([w for w in said if name in str(w.message)]) == 1
    assert list(data.lost) == [name]
    assert data.lost[name] > 3
    assert data.describe()["damaged"] == dict(data.lost)
    again = [x for batch in FrameLoader(batches(folder), 27, lambda: 0, 0) for x in ids(batch)]
    assert again == all_seen
    with pytest.raises(BadSequenceError, match=f"{name}.*--data.damaged skip"):
        list(FrameLoader(batches(folder, damaged="stop"), 27, lambda: 0, 0))


def test_user_errors(tmp_path):
    with pytest.raises(BadDatasetError, match="avatarzoo track"):
        TrackedFramesDataModule(str(tmp_path)).setup("fit")
    with pytest.raises(UsageError, match="workers"):
        TrackedFramesDataModule(str(tmp_path), workers=-1)
    (tmp_path / "shard-000000.json").write_text("{")
    with pytest.raises(BadDatasetError, match="damaged"):
        shard_clips(tmp_path)


def test_a_trainer_stores_the_place_in_its_checkpoints(root, tmp_path):
    class Seen(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.weight, self.seen = torch.nn.Parameter(torch.zeros(1)), []

        def training_step(self, batch, _):
            self.seen.append((batch["image"][:, 0, 0, 0] * 255).round().int().tolist())
            return self.weight.sum()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    def train(steps, resume=None):
        options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        module = Seen()
        run = L.Trainer(max_steps=steps, accelerator="cpu", enable_model_summary=False, **options)
        run.fit(
            module, TrackedFramesDataModule(str(root / "shards"), SIZE, 4, 20, 0, seed=3), ckpt_path=resume
        )
        run.save_checkpoint(tmp_path / "last.ckpt")
        return module.seen

    whole, first = train(18), train(5)
    assert first + train(18, tmp_path / "last.ckpt") == whole
