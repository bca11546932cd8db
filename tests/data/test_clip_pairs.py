"""Pairs of frames: drawn by (seed, step, row), of one person, far enough apart; made-up clips, tracked clips, hybrid training."""

from __future__ import annotations

import types
from pathlib import Path

import numpy as np
import pytest
import torch

from avatarzoo.data.clip_pairs import Frames, HeldOutPairs, PairDrawer, draw_pair
from avatarzoo.data.clip_pairs_modules import (
    HELD_OUT_FIRST,
    HybridDataModule,
    ProceduralClipPairsDataModule,
    TrackedClipPairsDataModule,
    is_synthetic,
)
from avatarzoo.data.clip_pairs_procedural import ProceduralClips, draw_clip
from avatarzoo.data.eg3d_views import eg3d_labels
from avatarzoo.data.prior_samples import PriorSamplesDataModule
from avatarzoo.data.procedural import ProceduralActor
from avatarzoo.data.sequence import TrackedSequence
from avatarzoo.errors import BadDatasetError, BadSequenceError, HeadModelMismatchError, UsageError
from avatarzoo.geometry.camera import look_at_face, project
from avatarzoo.heads.base import HeadParams
from avatarzoo.heads.procedural import ProceduralHead
from avatarzoo.priors.eg3d_config import FFHQ_FOCAL

SIZE = 48


def trainer(step: int = 0, steps: int = 6, each: int = 1, rank: int = 0, world: int = 1):
    return types.SimpleNamespace(
        global_step=step, max_steps=steps, accumulate_grad_batches=each, global_rank=rank, world_size=world
    )


@pytest.fixture(scope="module")
def clip() -> Frames:
    return draw_clip(4, 6, SIZE, 1.0)


class Numbered:
    """Clips whose pictures say which clip and row they are; clip c has c + 4 frames, three numbers apart."""

    def __init__(self, clips: int, like: Frames) -> None:
        self.head_signature, self.described = {}, {"clips": clips}
        self.clips, self.like = clips, like

    def __len__(self) -> int:
        return self.clips

    def numbers(self, clip: int) -> np.ndarray:
        return 3 * np.arange(clip + 4)

    def frames(self, clip: int, rows: torch.Tensor) -> Frames:
        images = torch.zeros(len(rows), 3, 2, 2, dtype=torch.uint8)
        images[:, 0], images[:, 1] = clip, rows.byte()[:, None, None]
        return self.like.pick(torch.zeros_like(rows))._replace(images=images)


def shown(part: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """Clip and row of each picture."""
    return part["image"][:, 0, 0, 0].long(), part["image"][:, 1, 0, 0].long()


# ---- pairs ---------------------------------------------------------------------------------------------------------------


def test_every_pair_far_enough_apart_comes() -> None:
    numbers, rng = np.array([0, 1, 5, 9, 10]), np.random.default_rng(0)
    drawn = {draw_pair(numbers, 5, rng) for _ in range(400)}
    assert drawn == {(i, j) for i in range(5) for j in range(5) if abs(numbers[i] - numbers[j]) >= 5}


def test_source_and_target_show_one_person_at_different_moments(clip: Frames) -> None:
    draw = PairDrawer(Numbered(5, clip), 4, 6, 0)
    for step in range(20):
        batch = draw(step)
        (who, source), (same, target) = shown(batch["source"]), shown(batch["target"])
        assert torch.equal(who, same)
        assert torch.equal(who, batch["source"]["video"])
        assert ((source - target).abs() >= 2).all()
        assert torch.equal(batch["target"]["index"], 3 * target)
        assert batch["source"]["params"].batch == batch["target"]["camera"].batch == 4


def test_pairs_depend_on_seed_step_and_row_and_every_clip_comes(clip: Frames) -> None:
    source = Numbered(8, clip)
    draw, other = PairDrawer(source, 4, 3, 0), PairDrawer(source, 4, 3, 1)
    again = PairDrawer(source, 4, 3, 0)
    assert all(torch.equal(draw(k)["target"]["image"], again(k)["target"]["image"]) for k in (5, 0, 2))
    assert any(not torch.equal(draw(k)["source"]["image"], other(k)["source"]["image"]) for k in range(3))
    assert sorted(torch.cat([draw(k)["source"]["video"] for k in (0, 1)]).tolist()) == list(range(8))
    large = PairDrawer(source, 8, 3, 0)(3)
    halves = [PairDrawer(source, 4, 3, 0, rank, 2)(3) for rank in (0, 1)]
    for name in ("source", "target"):
        whole = torch.stack([h[name]["image"] for h in halves], 1).flatten(0, 1)
        assert torch.equal(large[name]["image"], whole)


def test_held_out_clips_are_driven_from_their_first_frames(clip: Frames) -> None:
    seen = []
    for batch in HeldOutPairs(Numbered(3, clip), 2):
        (who, source), (same, target) = shown(batch["source"]), shown(batch["target"])
        assert torch.equal(who, same)
        assert (source == 0).all()
        assert len(who.unique()) == 1
        seen += list(zip(who.tolist(), target.tolist()))
    assert seen == [(c, row) for c in range(3) for row in range(1, c + 4)]
    few = HeldOutPairs(Numbered(3, clip), 4, frames=2)
    assert [shown(b["target"])[1].tolist() for b in few] == [[1, 3], [1, 4], [1, 5]]


# ---- made-up people ------------------------------------------------------------------------------------------------------


def test_made_up_people_have_expressions_seen_by_eg3ds_cameras(clip: Frames) -> None:
    labels = eg3d_labels(clip.params, clip.camera)
    assert torch.allclose(labels[:, [16, 20]], torch.full((6, 2), FFHQ_FOCAL), atol=1e-4)
    assert torch.allclose(labels[:, [3, 7, 11]].norm(dim=1), torch.full((6,), 2.7), atol=1e-4)
    assert len(labels.unique(dim=0)) == 6
    face = clip.params.expression
    assert face[0].abs().max() == clip.params.eyes[0].abs().max() == 0
    assert torch.cdist(face, face).fill_diagonal_(9).min() > 0.4
    assert torch.equal(clip.params.identity, ProceduralActor(4, SIZE).identity.expand(6, -1))
    head = ProceduralHead()
    places = project(head.landmark_points(head(clip.params)), clip.camera)[..., :2].long().clamp(0, SIZE - 1)
    inside = [mask[p[:, 1], p[:, 0]] for mask, p in zip(clip.masks, places)]
    assert min((x > 127).float().mean() for x in inside) > 0.93
    corner = clip.images[:, :, 0, 0]
    assert (corner == 255).all()


def test_drawn_people_are_kept_on_disk(tmp_path: Path, clip: Frames) -> None:
    source = ProceduralClips(4, 1, 6, SIZE, 1.0, str(tmp_path))
    first = source.frames(0, torch.tensor([3, 1]))
    assert torch.equal(first.images, clip.images[[3, 1]])
    (file,) = tmp_path.iterdir()
    written = file.stat().st_mtime_ns
    again = ProceduralClips(4, 1, 6, SIZE, 1.0, str(tmp_path)).frames(0, torch.tensor([3, 1]))
    assert file.stat().st_mtime_ns == written
    assert all(map(torch.equal, first.params, again.params))
    assert torch.equal(first.camera.world_to_camera, again.camera.world_to_camera)
    assert torch.equal(first.camera.intrinsics, again.camera.intrinsics)
    file.write_bytes(b"damaged")
    assert torch.equal(source.frames(0, torch.tensor([3])).images, clip.images[3:4])
    assert file.stat().st_size > 1000


@pytest.fixture(scope="module")
def made() -> ProceduralClipPairsDataModule:
    data = ProceduralClipPairsDataModule(people=1, held_out=1, length=4, size=32, batch_size=2)
    data.setup("fit")
    return data


def test_a_data_module_of_made_up_people(made: ProceduralClipPairsDataModule) -> None:
    made.trainer = trainer(step=4)
    batches = list(made.train_dataloader())
    assert len(batches) == 2
    batch = made.on_after_batch_transfer(batches[0], 0)
    assert batch["source"]["image"].shape == (2, 3, 32, 32)
    assert batch["target"]["mask"].shape == (2, 1, 32, 32)
    assert batch["target"]["image"].dtype == torch.float32
    assert batch["target"]["image"].max() == 1
    assert made.held_out.first == HELD_OUT_FIRST
    held_out = list(made.val_dataloader())
    assert [len(b["target"]["video"]) for b in held_out] == [2, 1]
    assert made.describe()["held_out_clips"] == 1
    assert made.head_signature == ProceduralHead().signature
    assert made.is_procedural


def test_hybrid_training_is_two_steps_of_video_and_one_synthetic(made: ProceduralClipPairsDataModule) -> None:
    data = HybridDataModule(made, PriorSamplesDataModule(batch_size=2))
    data.trainer = trainer(steps=9)
    data.setup("fit")
    batches = list(data.train_dataloader())
    assert ["latent" in b for b in batches] == [False, False, True] * 3
    assert [is_synthetic(k) for k in range(9)] == [False, False, True] * 3
    data.trainer = trainer(step=5, steps=9)
    rest = list(data.train_dataloader())
    assert torch.equal(rest[0]["latent"], batches[5]["latent"])
    assert torch.equal(rest[1]["source"]["image"], batches[6]["source"]["image"])
    ready = [data.on_after_batch_transfer(b, 0) for b in batches[1:3]]
    assert ready[0]["source"]["image"].dtype == torch.float32
    assert ready[1]["labels"].shape == (2, 2, 25)
    data.trainer = trainer(steps=3, each=2)
    assert ["latent" in b for b in data.train_dataloader()] == [False] * 4 + [True] * 2
    assert data.describe()["synthetic"]["held_out"] == 16


# ---- tracked people ------------------------------------------------------------------------------------------------------


def write(path: Path, seed: int, rows: int = 5) -> None:
    """A clip as a tracker writes it: one camera, a moving head, one frame without a face, frames counted from 100."""
    actor = ProceduralActor(seed, 96, background=0.0)
    params = actor.motion(20 * rows).rows(torch.arange(rows) * 20)
    camera = look_at_face(1.0, 25.0, 96)
    image, mask, _ = ((x * 255).byte() for x in actor.render(params, camera))
    store(path, actor.head, params, image.permute(0, 2, 3, 1).numpy(), mask[:, 0].numpy())


def store(
    path: Path, head: ProceduralHead, params: HeadParams, images: np.ndarray, masks: np.ndarray
) -> None:
    rows = params.batch
    TrackedSequence.create(
        path, head, params, look_at_face(1.0, 25.0, images.shape[1]), np.zeros((rows, 478, 2), np.float32), images, masks, masks,
        fps=25.0, crop={"rule": "none"}, mask_rule="exact" if len(masks) else "none", valid=np.arange(rows) != 1,
        frame_numbers=np.arange(rows) + 100,
    )  # fmt: skip


def write_blank(path: Path, head: ProceduralHead | None = None, rows: int = 5, masks: bool = True) -> None:
    head, blank = head or ProceduralHead(), np.zeros((rows, 8, 8), np.uint8)
    store(path, head, head.zeros(rows), np.zeros((rows, 8, 8, 3), np.uint8), blank if masks else blank[:0])


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clips")
    write_blank(root / "anna" / "one")
    write_blank(root / "anna" / "two", rows=4)
    write(root / "ben", 5)
    write_blank(root / "carl", rows=2)
    (root / "empty").mkdir()
    return root


class Other(ProceduralHead):
    version = "another"


def module(root: Path, **options) -> TrackedClipPairsDataModule:
    values = {"head": "procedural", "held_out": 1, "size": SIZE, "region": "head", "distance": 2, **options}
    return TrackedClipPairsDataModule(str(root), **values)


def test_tracked_clips_are_cropped_as_eg3d_does(tracked: Path) -> None:
    data = module(tracked)
    data.setup("fit")
    assert len(data.held_out) == 2
    assert len(data.source) == 1  # one clip is too short
    assert data.source.described["too_short"] == 1
    assert data.held_out.numbers(0).tolist() == [100, 102, 103, 104]
    frames = data.source.frames(0, torch.tensor([0, 2]))
    actor = ProceduralActor(5, 96, background=1.0)
    assert torch.equal(frames.params.expression, actor.motion(100).expression[[0, 60]])
    wanted, cover, _ = actor.render(frames.params, frames.camera)
    assert (frames.images / 255 - wanted).abs().mean() < 0.025
    assert (frames.masks / 255 - cover[:, 0]).abs().mean() < 0.02
    labels = eg3d_labels(frames.params, frames.camera)
    assert torch.allclose(labels[:, 16], torch.full((2,), FFHQ_FOCAL), atol=1e-4)
    assert module(tracked, distance=1).hparams["size"] == SIZE


def test_tracked_pairs_are_of_one_clip_and_far_apart(tracked: Path) -> None:
    data = module(tracked, batch_size=3)
    data.trainer = trainer(steps=4)
    data.setup("fit")
    for batch in data.train_dataloader():
        apart = batch["source"]["index"] - batch["target"]["index"]
        assert (apart.abs() >= 2).all()
        assert batch["target"]["image"].shape == (3, 3, SIZE, SIZE)
    held_out = list(data.val_dataloader())
    assert [b["video"].tolist() for b in (x["source"] for x in held_out)] == [[0, 0, 0], [1, 1]]


def test_what_was_filmed_is_kept_or_replaced(tracked: Path) -> None:
    parts = {}
    for region in ("head", "frame"):
        data = module(tracked, region=region)
        data.setup("fit")
        parts[region] = data.source.frames(0, torch.tensor([0]))
    corner = {region: part.images[0, :, SIZE // 2, 2].tolist() for region, part in parts.items()}
    assert corner == {"head": [255] * 3, "frame": [0] * 3}
    assert parts["frame"].masks[0, SIZE // 2, 2] == 255


def test_a_published_set_says_who_is_seen(tmp_path: Path) -> None:
    videos, root = tmp_path / "videos", tmp_path / "tracked"
    (videos / "friends").mkdir(parents=True)
    for name in ("anna.mp4", "friends/anna.mp4", "friends/ben.mp4", "carl.mp4"):
        (videos / name).write_bytes(b"")
    with pytest.raises(BadDatasetError, match="avatarzoo track"):
        module(root, videos=str(videos)).setup("fit")
    for name in ("anna", "friends_anna", "friends_ben"):
        write_blank(root / name)
    data = module(root, videos=str(videos))
    data.setup("fit")
    assert [folder.name for folder in data.held_out.folders] == ["anna", "friends_anna"]
    assert [folder.name for folder in data.source.folders] == ["friends_ben"]


def test_bad_clips_are_one_sentence(tracked: Path, tmp_path: Path) -> None:
    with pytest.raises(BadDatasetError, match="holds no tracked clip"):
        module(tmp_path).setup("fit")
    with pytest.raises(UsageError, match="none to train on"):
        module(tracked, held_out=3).setup("fit")
    with pytest.raises(BadDatasetError, match="longer clips"):
        module(tracked, distance=50).setup("fit")
    write_blank(tmp_path / "a")
    write_blank(tmp_path / "b" / "one")
    write_blank(tmp_path / "c", masks=False)
    with pytest.raises(BadSequenceError, match="no-matting"):
        module(tmp_path).setup("fit")
    write_blank(tmp_path / "b" / "two", Other())
    with pytest.raises(HeadModelMismatchError, match="same head"):
        module(tmp_path).setup("fit")


def test_nonsense_is_one_sentence() -> None:
    for options, word in (
        ({"batch_size": 0}, "batch_size"),
        ({"people": 0}, "held-out people"),
        ({"first": 9_999}, "seeds from"),
        ({"length": 3, "distance": 3}, "two frames"),
        ({"held_out_frames": -1}, "held_out_frames"),
    ):
        with pytest.raises(UsageError, match=word):
            ProceduralClipPairsDataModule(**options)
    for options, word in (({"region": "nose"}, "region"), ({"held_out": 0}, "held_out")):
        with pytest.raises(UsageError, match=word):
            TrackedClipPairsDataModule("nowhere", **options)
