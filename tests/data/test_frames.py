"""Frames in memory: batches that depend on seed and step alone, passes without repeats, compositing, the split."""

from __future__ import annotations

import pytest
import torch

from avatarzoo.data.frames import FrameDataModule, FrameStore, SequenceLoader, StepLoader, to_float_batch
from avatarzoo.errors import UsageError
from avatarzoo.geometry.camera import look_at_face
from avatarzoo.heads.base import HeadParams


@pytest.fixture
def store() -> FrameStore:
    """Seven frames whose pixels all hold ten times their number."""
    count = 7
    number = torch.arange(count, dtype=torch.uint8)
    images = (10 * number)[:, None, None, None].expand(count, 3, 4, 6).clone()
    masks = (30 * number)[:, None, None].expand(count, 4, 6).clone()
    params = HeadParams(*(number[:, None].float().expand(count, w).clone() for w in (2, 3, 3, 3, 6, 2, 3, 3)))
    return FrameStore(images, masks, masks // 2, params, look_at_face(size=4), 100 + torch.arange(count))


def loader(store, batch_size=3, steps=20, seed=0, first=0) -> StepLoader:
    return StepLoader(store, batch_size, steps, seed, lambda: first)


def contents(batches):
    return [b["index"].tolist() for b in batches]


def test_content_depends_on_seed_and_step_only(store):
    one = contents(loader(store))
    torch.manual_seed(99)
    assert contents(loader(store)) == one
    assert contents(loader(store, steps=9)) == one[:9]
    assert contents(loader(store, seed=1)) != one


def test_resuming_gives_the_tail(store):
    whole = contents(loader(store))
    for k in (1, 4, 19, 20):
        assert contents(loader(store, first=k)) == whole[k:]


def test_processes_share_a_batch(store):
    """Rows r, r + 2, ... of the doubled batch; together nothing twice, nothing never."""
    one = [loader(store, 6).rows(step) for step in range(5)]
    for rank in (0, 1):
        own = StepLoader(store, 3, 20, 0, lambda: 0, rank, 2)
        assert all(torch.equal(own.rows(step), whole[rank::2]) for step, whole in enumerate(one))


def test_each_pass_shows_each_frame_once_in_a_new_order(store):
    """Also when a batch straddles two passes, or is longer than one."""
    for batch_size in (1, 3, 7, 10):
        seen = [i for batch in contents(loader(store, batch_size, steps=70)) for i in batch]
        passes = [seen[i : i + 7] for i in range(0, len(seen) - 6, 7)]
        assert all(sorted(p) == list(range(100, 107)) for p in passes)
        assert len({tuple(p) for p in passes}) > 1


def test_a_batch_holds_together(store):
    """Picture, mask, features, parameters and number of a row belong to the same frame."""
    batch = next(iter(loader(store, 5)))
    number = batch["index"] - 100
    assert batch["image"].shape == (5, 3, 4, 6)
    assert torch.equal(batch["image"][:, 0, 0, 0].long(), 10 * number)
    assert torch.equal(batch["mask"][:, 0, 0].long(), 30 * number)
    assert torch.equal(batch["features"][:, 0, 0].long(), 15 * number)
    for x in batch["params"]:
        assert torch.equal(x[:, 0].long(), number)
    assert batch["camera"].world_to_camera.shape == (5, 4, 4)
    assert batch["camera"].intrinsics.shape == (5, 3, 3)


def test_the_seed_travels_with_a_checkpoint(store):
    first, second = loader(store, seed=5), loader(store, seed=0)
    second.load_state_dict(first.state_dict())
    assert contents(second) == contents(first)


def test_sequence_loader_shows_all_in_order(store):
    frames = SequenceLoader(store, 3)
    assert contents(frames) == [[100, 101, 102], [103, 104, 105], [106]]
    assert len(frames) == 3


@pytest.mark.parametrize("background", [0.0, 0.5, 1.0])
def test_compositing(store, background):
    store.images.fill_(51)
    batch = to_float_batch(store.batch(torch.tensor([0, 2, 5])), background)
    mask = torch.tensor([0, 60, 150]) / 255
    expected = mask * 0.2 + (1 - mask) * background
    assert batch["image"].dtype == torch.float32
    assert batch["image"].shape == (3, 3, 4, 6)
    assert batch["mask"].shape == batch["features"].shape == (3, 1, 4, 6)
    assert torch.allclose(batch["image"][:, 1, 2, 3], expected, atol=1e-6)
    assert torch.allclose(batch["mask"][:, 0, 0, 0], mask)
    assert (store.images == 51).all()  # the store stays as it is


class Frames(FrameDataModule):
    def __init__(self, store, **options) -> None:
        super().__init__(**{"batch_size": 2, "train_fraction": 0.75, "background": 1.0, "seed": 0} | options)
        self.frames = store


def test_split_and_spread(store):
    data = Frames(store)
    assert data.training_frames().index.tolist() == [100, 101, 102, 103, 104]
    assert data.held_out_frames().index.tolist() == [105, 106]
    assert data.training_params().identity[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert data.spread_batch(3)["index"].tolist() == [100, 102, 104]
    assert data.spread_batch(50)["index"].tolist() == [100, 101, 102, 103, 104]
    assert contents(data.test_dataloader()) == [[105, 106]]
    assert [i for b in contents(data.predict_dataloader()) for i in b] == list(range(100, 107))


def test_a_split_that_leaves_nothing_is_refused(store):
    for options in ({"train_fraction": 1.0}, {"train_fraction": 0.0}, {"batch_size": 0}):
        with pytest.raises(UsageError, match="train_fraction"):
            Frames(store, **options)
