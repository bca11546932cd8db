"""Samples of a prior: repeatable by (seed, step, row), shared by processes, seen by EG3D's cameras, held-out people apart."""

from __future__ import annotations

import json
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from avatarzoo.data.prior_samples import PriorSamplesDataModule
from avatarzoo.data.procedural_people import portrait_cameras, portrait_labels
from avatarzoo.data.step_batches import StepBatches, training_batches
from avatarzoo.errors import BadDatasetError, UsageError
from avatarzoo.geometry.camera import from_eg3d
from avatarzoo.priors.cameras import frontal_label
from avatarzoo.priors.eg3d_config import FFHQ, FFHQ_FOCAL


def trainer(step: int = 0, steps: int = 6, each: int = 1, rank: int = 0, world: int = 1):
    return types.SimpleNamespace(
        global_step=step, max_steps=steps, accumulate_grad_batches=each, global_rank=rank, world_size=world
    )


def same(a: dict, b: dict) -> bool:
    return all(torch.equal(a[k], b[k]) for k in a)


def test_a_sample_is_a_person_and_two_cameras() -> None:
    batch = PriorSamplesDataModule(batch_size=64).batch(3)
    assert batch["latent"].shape == (64, 48)
    assert batch["labels"].shape == (64, 2, 25)
    assert abs(batch["latent"].mean()) < 0.1
    assert abs(batch["latent"].std() - 1) < 0.1
    labels = batch["labels"].flatten(0, 1)
    assert torch.allclose(labels[:, [3, 7, 11]].norm(dim=1), torch.full((128,), 2.7))
    assert torch.allclose(labels[:, [16, 20]], torch.full((128, 2), FFHQ_FOCAL))
    centre = from_eg3d(labels, 1).world_to_camera[:, :3, 3]
    assert torch.allclose(centre[:, :2], torch.zeros(128, 2), atol=1e-5)  # they look at the origin
    yaw, pitch = torch.atan2(labels[:, 3], labels[:, 11]), torch.asin(labels[:, 7] / 2.7)
    assert abs(yaw.std() - 0.35) < 0.06
    assert abs(pitch.std() - 0.15) < 0.03
    assert not torch.equal(batch["labels"][:, 0], batch["labels"][:, 1])


def test_cameras_can_look_at_eg3ds_pivot() -> None:
    straight = PriorSamplesDataModule(yaw=0.0, pitch=0.0, pivot=0.2).batch(0)["labels"]
    assert torch.allclose(straight, frontal_label(1, FFHQ).expand(4, 2, 25), atol=1e-6)


def test_batches_depend_on_seed_and_step_and_rows_alone() -> None:
    data = PriorSamplesDataModule()
    data.trainer = trainer()
    whole = list(data.train_dataloader())
    assert len(whole) == 6
    data.trainer = trainer(step=4)
    assert all(same(a, b) for a, b in zip(data.train_dataloader(), whole[4:], strict=True))
    assert not same(whole[0], whole[1])
    assert not same(whole[0], PriorSamplesDataModule(seed=1).batch(0))
    large = PriorSamplesDataModule(batch_size=8).batch(2)
    halves = [data.batch(2, rank, 2) for rank in (0, 1)]
    for key, value in large.items():
        assert torch.equal(torch.stack([h[key] for h in halves], 1).flatten(0, 1), value)


def test_a_pool_comes_again_in_another_order() -> None:
    data = PriorSamplesDataModule(latent_dim=4, batch_size=3, pool=6, seed=2)
    batches = [data.batch(step) for step in range(4)]
    numbers = torch.cat([b["number"] for b in batches])
    assert sorted(numbers[:6].tolist()) == sorted(numbers[6:].tolist()) == list(range(6))
    assert not torch.equal(numbers[:6], numbers[6:])
    latents = torch.cat([b["latent"] for b in batches])
    for number in range(6):
        first, again = latents[numbers == number]
        assert torch.equal(first, again)
    assert len(latents[:6].unique(dim=0)) == 6
    halves = [data.batch(1, rank, 2)["number"] for rank in (0, 1)]
    assert len(torch.cat(halves).unique()) == 6


def test_held_out_people_are_the_same_for_all_seeds() -> None:
    a, b = (list(PriorSamplesDataModule(held_out=6, batch_size=n, seed=n).val_dataloader()) for n in (4, 3))
    assert [len(x["latent"]) for x in a] == [4, 2]
    joined = [torch.cat([x["latent"] for x in part]) for part in (a, b)]
    assert torch.equal(*joined)
    train = torch.cat([PriorSamplesDataModule(held_out=6).batch(k)["latent"] for k in range(3)])
    assert torch.cdist(joined[0], train).min() > 1


def test_cameras_of_a_picture_set(tmp_path: Path) -> None:
    turns = torch.linspace(-0.5, 0.5, 5)
    known = portrait_labels(portrait_cameras(turns, 0 * turns, 4))
    listed = [[f"{n}.png", row.tolist()] for n, row in enumerate(known)]
    for name, _ in listed:
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / name)
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": listed}))
    data = PriorSamplesDataModule(cameras=str(tmp_path), batch_size=32)
    data.setup("fit")
    labels = data.batch(0)["labels"]
    assert labels.shape == (32, 2, 25)
    apart = (labels.flatten(0, 1)[:, None] - known).abs().amax(2)
    assert apart.amin(1).max() < 1e-6
    assert len(labels.flatten(0, 1).unique(dim=0)) == 5
    with pytest.raises(BadDatasetError):
        PriorSamplesDataModule(cameras=str(tmp_path / "nowhere")).setup("fit")


def test_accumulated_batches_are_counted_too() -> None:
    loader = training_batches(trainer(step=2, steps=4, each=3), lambda k: k)
    assert len(loader) == 12
    assert list(loader) == [6, 7, 8, 9, 10, 11]
    assert list(StepBatches(lambda k: k, 3, lambda: 3)) == []
    with pytest.raises(UsageError, match="max_steps"):
        training_batches(trainer(steps=-1), lambda k: k)


def test_nonsense_is_one_sentence() -> None:
    for options in ({"batch_size": 0}, {"held_out": 0}, {"latent_dim": 0}):
        with pytest.raises(UsageError, match="at least 1"):
            PriorSamplesDataModule(**options)
