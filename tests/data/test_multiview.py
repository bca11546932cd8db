"""People seen from several sides: made up, or from folders; their batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avatarzoo.data.multiview import MultiViewLoader, TrackedPeople, batch_of, gather
from avatarzoo.data.multiview_modules import (
    HELD_OUT_FIRST,
    ProceduralPeopleDataModule,
    TrackedPeopleDataModule,
)
from avatarzoo.data.multiview_procedural import ProceduralPeople, camera_grid, draw_person
from avatarzoo.data.sequence import TrackedSequence
from avatarzoo.errors import BadDatasetError, HeadModelMismatchError, UsageError
from avatarzoo.geometry.camera import project
from avatarzoo.heads.procedural import ProceduralHead
from avatarzoo.perception.regions import Region


@pytest.fixture(scope="module")
def person():
    return draw_person(1, 3, 2, 64)


def test_there_are_25_cameras_as_in_the_paper() -> None:
    camera = camera_grid(5, 5, 64)
    assert camera.batch == 25
    eyes = -(camera.world_to_camera[:, :3, :3].transpose(1, 2) @ camera.world_to_camera[:, :3, 3:])[..., 0]
    assert torch.allclose(eyes.norm(dim=1), torch.ones(25), atol=1e-5)
    assert eyes[12].tolist() == pytest.approx([0, 0, 1], abs=1e-6)
    assert len({tuple(e) for e in eyes.round(decimals=3).tolist()}) == 25


def test_pictures_show_the_head_where_its_parameters_put_it(person) -> None:
    head = ProceduralHead()
    assert person.images.shape == (6, 3, 64, 64)
    vertices = head(person.params)
    skin = head.faces[head.face_regions["eyeball_left"]].unique()
    seen = project(vertices[:, skin], person.camera)[..., :2].mean(1)
    frontal = 1
    x, y = seen[frontal].long().tolist()
    assert person.masks[frontal, y, x] == 255
    assert person.faces[frontal, y, x] == 255
    outline = person.masks > 127
    rows = outline[frontal].nonzero()[:, 0]
    expected = project(vertices, person.camera)[frontal, :, 1].min()
    assert abs(rows.min() - expected) < 4  # hair stands a little above the skin
    assert 0.1 < outline.float().mean() < 0.5


def test_the_face_is_inside_the_head_and_the_neck_outside(person) -> None:
    assert (person.faces <= person.masks).all()
    assert 0.2 < (person.faces > 127).sum() / (person.masks > 127).sum() < 0.9
    white = person.images.amin(1) == 255
    assert ((person.masks == 0) & ~white).any()  # the neck is drawn, but not part of the head


def test_views_differ_in_expression_and_one_seed_is_one_person(person) -> None:
    assert (person.params.expression[0] - person.params.expression[1]).abs().max() > 0.02
    assert (person.params.identity - person.params.identity[:1]).abs().max() == 0
    again, other = draw_person(1, 3, 2, 64), draw_person(2, 3, 2, 64)
    assert torch.equal(again.images, person.images)
    assert (other.params.identity - person.params.identity).abs().max() > 0.1


def test_kept_people_are_read_back_and_a_damaged_file_is_drawn_again(tmp_path, person) -> None:
    source = ProceduralPeople(1, 2, 3, 2, 64, cache=str(tmp_path))
    first = source.views(0)
    (path,) = tmp_path.glob("*.safetensors")
    again = source.views(0)
    for a, b, c in zip(first[:3], again[:3], person[:3]):
        assert torch.equal(a, b)
        assert torch.equal(a, c)
    assert torch.equal(again.params.expression, person.params.expression)
    assert torch.equal(again.camera.world_to_camera, person.camera.world_to_camera)
    assert again.camera.size == (64, 64)
    path.write_bytes(b"junk")
    assert torch.equal(source.views(0).images, person.images)


class Numbered:
    """A source whose pictures say who and which view they are."""

    def __init__(self, people: int, views: int, person) -> None:
        self.head_signature, self.described = {}, {}
        self.people, self.each, self.person = people, views, person

    def __len__(self) -> int:
        return self.people

    def count(self, person: int) -> int:
        return self.each

    def views(self, person: int, rows: torch.Tensor | None = None):
        rows = torch.arange(self.each) if rows is None else rows
        images = torch.zeros(len(rows), 3, 2, 2, dtype=torch.uint8)
        images[:, 0], images[:, 1] = person, rows.byte()[:, None, None]
        return self.person.pick(torch.zeros_like(rows))._replace(images=images)


def test_a_batch_is_people_one_after_the_other(person) -> None:
    loader = MultiViewLoader(Numbered(5, 4, person), None, 2, 3, 10, 0, lambda: 0)
    for batch in loader:
        views = batch["views"]
        who, which = views["image"][:, 0, 0, 0].view(2, 3), views["image"][:, 1, 0, 0].view(2, 3)
        assert batch["people"] == 2
        assert (who == who[:, :1]).all()
        assert all(len(row.unique()) == 3 for row in which)
        assert torch.equal(views["index"].view(2, 3), who.long())


def test_batches_depend_on_the_step_alone_and_every_person_comes(person) -> None:
    source = Numbered(6, 4, person)
    whole = list(MultiViewLoader(source, source, 2, 2, 9, 3, lambda: 0))
    rest = list(MultiViewLoader(source, source, 2, 2, 9, 3, lambda: 4))
    assert len(rest) == 5
    for a, b in zip(whole[4:], rest):
        assert torch.equal(a["views"]["image"], b["views"]["image"])
        assert torch.equal(a["portraits"]["image"], b["portraits"]["image"])
    seen = torch.cat([b["views"]["index"] for b in whole[:3]]).unique()
    assert len(seen) == 6
    assert len(whole[0]["portraits"]["index"]) == 4


def test_processes_share_a_batch_without_overlap(person) -> None:
    source = Numbered(8, 4, person)
    parts = [MultiViewLoader(source, None, 2, 2, 3, 0, lambda: 0, rank, 2).batch(1) for rank in (0, 1)]
    people = [set(p["views"]["index"].tolist()) for p in parts]
    assert not people[0] & people[1]


def test_a_person_with_few_views_is_seen_again(person) -> None:
    drawn = gather(Numbered(2, 2, person), torch.tensor([0]), 5, torch.Generator().manual_seed(0))
    assert sorted(drawn["image"][:, 1, 0, 0].tolist()) in ([0, 0, 0, 1, 1], [0, 0, 1, 1, 1])


# ---- folders -------------------------------------------------------------------------------------------------------------


def write(path, person, rows, head=None) -> None:
    """Views of a person as a tracked sequence; all frames share one camera, as a tracker writes them."""
    views = person.pick(torch.tensor(rows))
    labels = np.where(views.faces.numpy() > 127, int(Region.SKIN), int(Region.BACKGROUND)).astype(np.uint8)
    images = views.images.permute(0, 2, 3, 1).numpy()
    TrackedSequence.create(
        path, head or ProceduralHead(), views.params, views.camera.rows([0]), np.zeros((len(rows), 478, 2), np.float32),
        images, views.masks.numpy(), labels, fps=1.0, crop={"rule": "none"}, mask_rule="exact",
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory, person):
    root = tmp_path_factory.mktemp("people")
    write(root / "a" / "00", person, [0])
    write(root / "a" / "01", person, [1])
    write(root / "b", person, [2, 3])
    (root / "empty").mkdir()
    return root


def test_a_folder_holds_people_with_views(folder, person) -> None:
    source = TrackedPeople(folder, 64)
    assert len(source) == 2
    assert source.count(1) == 2
    assert torch.equal(source.views(1, torch.tensor([1])).images, person.images[3:4])
    a, b = source.views(0), source.views(1)
    assert torch.equal(a.images, person.images[:2])
    assert torch.equal(a.camera.world_to_camera, person.camera.world_to_camera[:2])
    assert torch.equal(b.images, person.images[2:4])
    assert torch.equal(b.masks, person.masks[2:4])
    assert (a.faces > 127).sum() == (person.faces[:2] > 127).sum()
    assert torch.equal(a.params.expression, person.params.expression[:2])


def test_pictures_and_cameras_are_resized_together(folder) -> None:
    views = TrackedPeople(folder, 32).views(0)
    assert views.images.shape == (2, 3, 32, 32)
    assert views.masks.shape == views.faces.shape == (2, 32, 32)
    assert views.camera.size == (32, 32)
    full = TrackedPeople(folder, 64).views(0).camera
    assert torch.allclose(views.camera.intrinsics[:, :2], full.intrinsics[:, :2] / 2)


def test_folders_without_people_are_one_sentence(tmp_path, folder) -> None:
    with pytest.raises(BadDatasetError, match="avatarzoo track"):
        TrackedPeople(tmp_path, 64)
    with pytest.raises(BadDatasetError, match="from number 5 on none"):
        TrackedPeople(folder, 64, first=5)


def test_people_of_two_head_models_are_refused(tmp_path, person) -> None:
    write(tmp_path / "a", person, [0])

    class Other(ProceduralHead):
        version = "another"

    write(tmp_path / "b", person, [1], Other())
    source = TrackedPeople(tmp_path, 64)
    with pytest.raises(HeadModelMismatchError, match="another head model"):
        source.views(1)


def test_data_modules_hold_people_out(folder) -> None:
    made = ProceduralPeopleDataModule(identities=2, held_out=1, yaws=1, pitches=1, size=32)
    made.setup("fit")
    assert made.held_out.first == HELD_OUT_FIRST
    (held,) = made.val_dataloader()
    batch = made.on_after_batch_transfer(held, 0)
    assert batch["views"]["image"].max() <= 1
    assert made.describe()["people"] == 2
    tracked = TrackedPeopleDataModule(
        str(folder), held_out=1, size=64, portraits=str(folder), portraits_first=1
    )
    tracked.setup("fit")
    assert (len(tracked.held_out), len(tracked.source), len(tracked.portraits)) == (1, 1, 1)
    assert torch.equal(tracked.source.views(0).images, tracked.portraits.views(0).images)


def test_nonsense_sizes_are_one_sentence() -> None:
    with pytest.raises(UsageError, match=r"data\.views"):
        ProceduralPeopleDataModule(views=0)
    with pytest.raises(UsageError, match="held-out"):
        ProceduralPeopleDataModule(held_out=0)


def test_a_batch_names_what_frames_name(person) -> None:
    batch = batch_of(person, torch.zeros(6, dtype=torch.long))
    assert batch["features"] is person.faces
    assert set(batch) == {"image", "mask", "features", "params", "camera", "index"}
