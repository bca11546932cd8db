"""Portraits with cameras: labels mean what EG3D means, batches depend on (seed, step), processes share them, folders are read."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from avatarzoo.data.portraits import (
    FileStore,
    MemoryStore,
    PortraitFolder,
    PortraitLoader,
    ProceduralPortraits,
)
from avatarzoo.data.procedural_people import (
    HEAD_CENTRE,
    UNITS_PER_METRE,
    Portraits,
    neutral,
    portrait_camera,
    portrait_cameras,
    portrait_labels,
    render_people,
    render_person,
)
from avatarzoo.errors import BadDatasetError, UsageError
from avatarzoo.priors.cameras import frontal_label, sphere_label
from avatarzoo.priors.eg3d_config import EG3DConfig

LOOKING_AT_ORIGIN = EG3DConfig(camera_pivot=(0.0, 0.0, 0.0))


def numbered(count: int = 10) -> MemoryStore:
    """Picture i is all i, and so is its label."""
    number = torch.arange(count)
    images = number.byte()[:, None, None, None].expand(count, 3, 4, 4)
    return MemoryStore(Portraits(images, number[:, None].expand(count, 25).float(), number))


def loader(rank: int = 0, world: int = 1, batch: int = 4, first: int = 0, seed: int = 0) -> PortraitLoader:
    return PortraitLoader(numbered(), batch, 6, seed, lambda: first, rank, world)


def test_labels_are_those_of_eg3d() -> None:
    """Radius 2.7, looking at the origin, focal length 4.2647; yaw and elevation as EG3D's own cameras have them."""
    yaw, pitch = torch.tensor([0.0, 0.4, -0.2]), torch.tensor([0.0, 0.1, -0.3])
    labels = portrait_labels(portrait_cameras(yaw, pitch, 128))
    measure = -torch.sin(pitch) * math.pi / 2  # EG3D's pitch is no angle
    assert torch.allclose(labels, sphere_label(yaw, measure, LOOKING_AT_ORIGIN), atol=2e-5)
    assert torch.allclose(labels[:1], frontal_label(1, LOOKING_AT_ORIGIN), atol=2e-5)


def test_labels_and_cameras_are_inverse() -> None:
    camera = portrait_cameras(torch.tensor([0.3]), torch.tensor([-0.2]), 64)
    again = portrait_camera(portrait_labels(camera), 64)
    assert torch.allclose(camera.world_to_camera, again.world_to_camera, atol=1e-6)
    assert torch.allclose(camera.intrinsics, again.intrinsics, atol=1e-3)


def test_pictures_show_the_person_where_the_label_says() -> None:
    """Landmarks in EG3D's world, projected with the label alone, lie on the person, not on the white."""
    portraits, actor = render_person(3, 4, 96, 1.0)
    params = neutral(actor, 4)
    points = actor.head.landmark_points(actor.head(params)) * UNITS_PER_METRE
    pose, f = portraits.labels[:, :16].view(-1, 4, 4), portraits.labels[:, 16]
    seen = (points - pose[:, None, :3, 3]) @ pose[:, :3, :3]
    pixels = (seen[..., :2] / seen[..., 2:] * f[:, None, None] + 0.5) * 96
    assert torch.allclose(pixels, actor.landmarks(params, portrait_camera(portraits.labels, 96)), atol=0.01)
    inside = pixels.floor().long().clamp(0, 95)
    for picture, places in zip(portraits.images, inside):
        assert (picture[:, places[:, 1], places[:, 0]].amin(0) < 250).float().mean() > 0.93
    assert pixels[:, 10, 1].max() < pixels[:, 152, 1].min()  # forehead above chin
    assert HEAD_CENTRE[1] < 0


def test_people_are_repeatable_and_differ() -> None:
    a, b = render_people(range(2), 2, 32, 1.0), render_people(range(2), 2, 32, 1.0)
    assert torch.equal(a.images, b.images)
    assert torch.equal(a.labels, b.labels)
    assert a.people.tolist() == [0, 0, 1, 1]
    assert not torch.equal(a.labels[0], a.labels[1])
    assert (a.images[0].float() - a.images[2].float()).abs().mean() > 3


def test_batches_depend_on_seed_and_step_alone() -> None:
    whole = list(loader())
    assert len(whole) == 6
    for step, batch in zip(range(2, 6), loader(first=2)):
        assert all(torch.equal(batch[k], whole[step][k]) for k in batch)
    assert any(not torch.equal(a["label"], b["label"]) for a, b in zip(whole, loader(seed=1)))
    first_pass = torch.cat([b["label"][:, 0] for b in whole[:3]])[:10]
    assert sorted(first_pass.tolist()) == list(range(10))


def test_pictures_keep_their_labels_and_fakes_are_drawn_apart() -> None:
    batch = loader().batch(0)
    assert torch.equal(batch["image"][:, 0, 0, 0].float(), batch["label"][:, 0])
    assert torch.equal(batch["neighbour_label"], batch["fake_label"].roll(1, 0))
    assert not torch.equal(batch["fake_label"], batch["label"])


def test_processes_share_a_batch() -> None:
    whole = loader(batch=8).batch(3)
    parts = [loader(rank, 2, batch=4).batch(3) for rank in (0, 1)]
    for key, value in whole.items():
        assert torch.equal(torch.stack([p[key] for p in parts], 1).flatten(0, 1), value)


def folder(root: Path, side: int = 8) -> Path:
    labels = []
    for n in range(3):
        for stem in (f"{n:02d}", f"{n:02d}_mirror"):
            shade = 40 * n + (20 if "mirror" in stem else 0)
            Image.fromarray(np.full((side, side, 3), shade, np.uint8)).save(root / f"{stem}.png")
            turn = torch.tensor([0.1 * n])
            labels.append([f"{stem}.png", portrait_labels(portrait_cameras(turn, turn, side))[0].tolist()])
    (root / "dataset.json").write_text(json.dumps({"labels": labels}))
    return root


def test_a_folder_as_eg3d_prepares_it(tmp_path: Path) -> None:
    data = PortraitFolder(str(folder(tmp_path)), size=8, batch_size=2)
    data.setup("fit")
    assert len(data.store.labels) == 6
    seen = {int(p[0, 0, 0]) for p in data.store.pictures(torch.arange(6))}
    assert seen == {0, 20, 40, 60, 80, 100}
    plain = PortraitFolder(str(tmp_path), size=8, mirror=False)
    plain.setup("fit")
    assert len(plain.store.labels) == 3
    ready = data.on_after_batch_transfer({"image": data.store.pictures(torch.tensor([1]))}, 0)["image"]
    assert ready.dtype == torch.float32
    assert ready.max() <= 1


def test_files_are_resized_and_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((6, 4, 3), np.uint8)).save(tmp_path / "wide.png")
    (tmp_path / "text.png").write_text("no picture")
    Image.fromarray(np.full((6, 6, 3), 9, np.uint8)).save(tmp_path / "good.png")
    store = FileStore([tmp_path / f"{n}.png" for n in ("good", "wide", "text")], torch.zeros(3, 25), 4, 2)
    assert store.pictures(torch.tensor([0])).shape == (1, 3, 4, 4)
    for row, reason in ((1, "square"), (2, "cannot be read")):
        with pytest.raises(BadDatasetError, match=reason):
            store.pictures(torch.tensor([row]))


def test_user_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="batch_size"):
        ProceduralPortraits(batch_size=0)
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": []}))
    with pytest.raises(BadDatasetError):
        PortraitFolder(str(tmp_path)).setup("fit")
