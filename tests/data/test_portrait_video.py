"""Portrait videos of several people: regions, numbering, the split of every video, resuming."""

from __future__ import annotations

import functools
import operator
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from avatarzoo.data import (
    ProceduralPortraitDataModule,
    TrackedPortraitDataModule,
    TrackedSequence,
    mattes,
    portrait_video,
)
from avatarzoo.data.frames import FrameStore
from avatarzoo.data.portrait_video import joined
from avatarzoo.data.procedural import ProceduralActor
from avatarzoo.errors import BadSequenceError, HeadModelMismatchError, UsageError
from avatarzoo.geometry.camera import look_at_face
from avatarzoo.heads.base import HeadParams
from avatarzoo.heads.procedural import ProceduralHead

SIZE, FRAMES = 48, 10


def store(count: int, first: int, size: int = 4) -> FrameStore:
    """Frames whose pixels, parameters and numbers all say who they are."""
    number = first + torch.arange(count)
    images = number.byte()[:, None, None, None].expand(count, 3, size, size).clone()
    params = HeadParams(*(number[:, None].float().expand(count, w).clone() for w in (2, 3, 3, 3, 6, 2, 3, 3)))
    camera = look_at_face(distance=1.0 + first, size=size)
    return FrameStore(images, images[:, 0], images[:, 0], params, camera, torch.arange(count))


def test_joined_frames_stay_together() -> None:
    frames = joined([store(3, 10), store(2, 20)])
    assert frames.video.tolist() == [0, 0, 0, 1, 1]
    assert frames.index.tolist() == [0, 1, 2, 0, 1]
    batch = frames.rows(torch.tensor([4, 0, 2])).batch(torch.tensor([0, 2]))
    assert batch["image"][:, 0, 0, 0].tolist() == [21, 12]
    assert batch["params"].identity[:, 0].tolist() == [21, 12]
    assert batch["video"].tolist() == [1, 0]
    assert batch["camera"].world_to_camera[:, 2, 3].tolist() == pytest.approx([21, 11])


def test_pictures_of_different_sizes_are_refused() -> None:
    with pytest.raises(UsageError, match="same size"):
        joined([store(3, 0), store(3, 0, size=6)])


@pytest.fixture(scope="module")
def people() -> dict[str, ProceduralPortraitDataModule]:
    made = {}
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(
        portrait_video, "ProceduralActor", functools.cache(ProceduralActor)
    )  # painting takes a second
    for region in ("head", "person", "frame"):
        made[region] = ProceduralPortraitDataModule(
            actor=1, people=2, n_frames=FRAMES, size=SIZE, region=region, train_fraction=0.8, background=0.5
        )
        made[region].setup("fit")
    monkeypatch.undo()
    return made


def test_every_video_holds_its_end_out(people) -> None:
    data = people["head"]
    train, held_out = data.training_frames(), data.held_out_frames()
    for person in (0, 1):
        assert train.index[train.video == person].tolist() == list(range(8))
        assert held_out.index[held_out.video == person].tolist() == [8, 9]
    assert data.n_train == len(train) == data.training_params().batch == 16
    assert data.describe()["videos"] == 2
    assert data.spread_batch(4)["video"].tolist() == [0, 0, 1, 1]
    shown = [(b["video"].tolist(), b["index"].tolist()) for b in data.predict_dataloader()]
    assert functools.reduce(operator.iadd, (list(zip(*b)) for b in shown), []) == [
        (p, i) for p in (0, 1) for i in range(FRAMES)
    ]
    assert functools.reduce(operator.iadd, (b["index"].tolist() for b in data.test_dataloader()), []) == [
        8,
        9,
        8,
        9,
    ]


def test_regions_show_head_person_or_everything(people) -> None:
    rows = torch.tensor([3])
    shown = {name: data.on_after_batch_transfer(data.frames.batch(rows), 0) for name, data in people.items()}
    clip = ProceduralActor(seed=1, size=SIZE).sequence(FRAMES)
    filmed = torch.from_numpy(clip.images[3]).permute(2, 0, 1) / 255
    person = torch.from_numpy(clip.masks[3])[None] / 255
    torch.testing.assert_close(shown["frame"]["image"][0], filmed)
    torch.testing.assert_close(shown["frame"]["mask"][0], person)
    torch.testing.assert_close(shown["person"]["mask"][0], person)
    torch.testing.assert_close(shown["person"]["image"][0], filmed * person + 0.5 * (1 - person))
    assert shown["head"]["mask"].sum() < 0.9 * person.sum()
    assert (shown["head"]["image"][shown["head"]["mask"].expand(-1, 3, -1, -1) == 0] == 0.5).all()
    assert people["frame"].background is None
    assert people["frame"].spread_batch(1)["image"].shape == (1, 3, SIZE, SIZE)


def test_batches_depend_on_seed_and_step_and_go_on_where_they_stopped(people) -> None:
    data = people["head"]

    def batches(first: int) -> list:
        data.trainer = SimpleNamespace(max_steps=12, global_step=first, global_rank=0, world_size=1)  # type: ignore[assignment]
        return [list(zip(b["video"].tolist(), b["index"].tolist())) for b in data.train_dataloader()]

    whole = batches(0)
    assert batches(5) == whole[5:]
    assert sorted(functools.reduce(operator.iadd, whole[:8], [])) == [
        (p, i) for p in (0, 1) for i in range(8)
    ]


def test_an_unknown_region_is_refused() -> None:
    with pytest.raises(UsageError, match="region"):
        ProceduralPortraitDataModule(region="shoulders")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def head() -> ProceduralHead:
    return ProceduralHead()


def write(path, head, seed: int, masks: bool = True, count: int = FRAMES + 1, **fields) -> TrackedSequence:
    """A sequence of noise whose third frame shows no face."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)
    landmarks, grey = np.zeros((count, 478, 2)), images[..., 1]
    regions = {"masks": grey, "parsing": np.zeros_like(grey)} if masks else {}
    valid = np.arange(count) != 2
    return TrackedSequence.create(
        path,
        head,
        head.zeros(count),
        look_at_face(size=SIZE),
        landmarks,
        images,
        **regions,
        fps=25.0,
        valid=valid,
        **fields,
    )


class StandInMatting:
    """The red channel; counts its pictures."""

    calls = 0

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        type(self).calls += 1
        return picture[..., 0].astype(np.float32) / 255

    def close(self) -> None: ...


@pytest.fixture
def matting(monkeypatch) -> type[StandInMatting]:
    monkeypatch.setattr(mattes, "SelfieMatting", StandInMatting)
    StandInMatting.calls = 0
    return StandInMatting


def test_person_mattes_are_made_once_and_stay_beside_the_sequence(tmp_path, head, matting) -> None:
    paths = [str(write(tmp_path / name, head, seed).path) for name, seed in (("a", 1), ("b", 2))]
    data = TrackedPortraitDataModule(paths, region="person")
    data.setup("fit")
    assert matting.calls == 2 * FRAMES  # the frame without a face is left out
    assert data.frames.index.tolist() == [i for i in range(FRAMES + 1) if i != 2] * 2
    assert torch.equal(data.frames.masks, data.frames.images[:, 0])
    assert (tmp_path / "a" / mattes.MATTES / "000003.png").is_file()
    (tmp_path / "b" / mattes.MATTES / "000005.png").unlink()
    again = TrackedPortraitDataModule(paths, region="frame")
    again.setup("fit")
    assert matting.calls == 2 * FRAMES + 1
    assert torch.equal(again.frames.masks, data.frames.masks)
    assert "selfie" in data.describe()["mask"]["rule"]
    assert data.describe()["kind"] == "monocular videos"


def test_head_region_takes_the_masks_of_the_sequence(tmp_path, head, matting) -> None:
    sequence = write(tmp_path / "a", head, 1)
    data = TrackedPortraitDataModule([str(sequence.path)], max_frames=10)
    data.setup("fit")
    assert matting.calls == 0
    assert torch.equal(data.frames.masks, data.frames.images[:, 1])
    assert data.describe()["mask"] == {"rule": "given"}
    with pytest.raises(BadSequenceError, match="at least 10"):
        TrackedPortraitDataModule([str(write(tmp_path / "b", head, 1, count=10).path)]).setup("fit")


def test_mattes_end_where_the_film_ends(tmp_path, head, matting) -> None:
    """Half of the crop reaches beyond the source picture."""
    affine = [[1.0, 0.0, SIZE / 2], [0.0, 1.0, 0.0]]
    source = {"name": "x", "width": SIZE, "height": SIZE}
    sequence = write(tmp_path / "a", head, 1, crop={"affine": affine}, source=source)
    made = mattes.person_mattes(sequence, torch.arange(3), progress=False)
    assert (made[:, :, : SIZE // 2 - 1] == 0).all()
    assert torch.equal(made[:, :, SIZE // 2 + 1 :], sequence.images([0, 1, 2])[:, 0, :, SIZE // 2 + 1 :])


def test_sequences_that_do_not_fit_are_refused(tmp_path, head) -> None:
    with pytest.raises(UsageError, match="sequences"):
        TrackedPortraitDataModule([]).setup("fit")
    bare = write(tmp_path / "bare", head, 1, masks=False)
    with pytest.raises(BadSequenceError, match="no masks"):
        TrackedPortraitDataModule([str(bare.path)]).setup("fit")
    other = ProceduralHead()
    other.source_hash = "0" * 64
    paths = [str(write(tmp_path / n, h, 1).path) for n, h in (("mine", head), ("theirs", other))]
    with pytest.raises(HeadModelMismatchError, match="same head"):
        TrackedPortraitDataModule(paths).setup("fit")
