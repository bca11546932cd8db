"""What all layouts share: wrong folders, hints, unsafe names, the deterministic choice, the frozen lists."""

from __future__ import annotations

import random
import warnings
from pathlib import Path

import numpy as np
import pytest

from avatarzoo.data.layouts import LAYOUTS, Item, layout, select
from avatarzoo.data.layouts.base import Findings, safe_name
from avatarzoo.data.layouts.reading import mirrored_label, walk
from avatarzoo.data.splits import describe_split, known_splits, load_split
from avatarzoo.errors import BadDatasetError, UsageError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.mark.parametrize("name", LAYOUTS)
def test_an_empty_folder_or_none_or_an_archive_shows_the_expected_tree(name, tmp_path):
    reader = layout(name)
    (tmp_path / "empty").mkdir()
    touch(tmp_path, "set.zip")
    for path in (tmp_path / "empty", tmp_path / "absent", tmp_path / "set.zip"):
        for look in (reader.items, reader.check):
            with pytest.raises(BadDatasetError) as caught:
                look(path)
            message = str(caught.value)
            assert reader.tree in message
            assert str(path) in message
    assert "unzip" in message


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_states_what_it_is(name):
    reader = LAYOUTS[name]
    assert reader.name == name
    assert "\n" not in reader.licence
    assert reader.tree.startswith("ROOT/\n")
    assert not reader.recognises(Path("absent"))


def test_unknown_layout_names_the_known():
    with pytest.raises(UsageError, match=r"known: ffhq, lpff, .*clips"):
        layout("imagenet")


MARKS = {
    "ffhq": "dataset.json",
    "lpff": "camera_parameters.json",
    "celebamask-hq": "CelebA-HQ-img/0.jpg",
    "celebv-hq": "celebvhq_info.json",
    "voxceleb": "test/id1#abc#000001#000002.mp4",
    "hdtf": "WDA_AdamSchiff_000.mp4",
    "vfhq": "clips/Clip+abc+P0+C0+F1-9.mp4",
    "pointavatar": "subject1/MVI_1/flame_params.json",
    "mead": "M003/video/front/angry/level_1/001.mp4",
    "multiview": "identities/0001/00.png",
    "portraits": "anna.jpg",
    "clips": "anna.mp4",
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_wrong_layout_suggests_the_right_one(name, tmp_path):
    touch(tmp_path, MARKS[name])
    wrong = "multiview" if name != "multiview" else "lpff"
    with pytest.raises(BadDatasetError, match=f"try --layout {name}"):
        layout(wrong).items(tmp_path)


def test_a_folder_too_high_names_the_one_in_it(tmp_path):
    touch(tmp_path, "CelebAMask-HQ/CelebA-HQ-img/0.jpg")
    with pytest.raises(BadDatasetError, match=r"Give the folder in it: .*CelebAMask-HQ"):
        layout("celebamask-hq").items(tmp_path)


def test_findings_count_and_show_the_first_in_name_order():
    found = Findings()
    for name in ("c", "a", "b"):
        found.add("videos of the list are missing", name)
    assert found.lines() == ["3 videos of the list are missing, first: a"]


def test_names_are_safe_for_folders():
    assert safe_name("a/b c", "d:e") == "a_b_c_d_e"
    assert safe_name(".hidden") == "_hidden"
    assert safe_name("../up") == "_._up"
    assert safe_name("id1#-x_Y#1#2") == "id1#-x_Y#1#2"


def test_items_of_one_name_are_refused(tmp_path):
    touch(tmp_path, "a.jpg", "a.png")
    with pytest.raises(BadDatasetError, match=r"a\.jpg and .*a\.png are both called 'a'"):
        layout("portraits").items(tmp_path)


def test_unknown_split_names_those_there(tmp_path):
    touch(tmp_path, MARKS["voxceleb"], "train/id2#abc#000001#000002.mp4")
    with pytest.raises(UsageError, match="splits there: test, train"):
        layout("voxceleb").items(tmp_path, "val")
    touch(tmp_path / "p", "a.jpg")
    with pytest.raises(UsageError, match="splits there: none"):
        layout("portraits").items(tmp_path / "p", "test")


def test_linked_folders_are_entered_once(tmp_path):
    touch(tmp_path, "real/a.mp4")
    (tmp_path / "real" / "loop").symlink_to(tmp_path)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "real")
    assert [path.name for path in walk(tmp_path / "set")] == ["a.mp4"]


def test_mirrored_label_is_the_camera_on_the_other_side():
    random.seed(0)
    label = tuple(0.0 if n in (12, 13, 14) else random.random() for n in range(25))
    flip = np.diag([-1.0, 1, 1, 1])
    expected = flip @ np.array(label[:16]).reshape(4, 4) @ flip
    assert np.allclose(mirrored_label(label)[:16], expected.ravel())
    assert mirrored_label(label)[16:] == label[16:]


ITEMS = [Item(f"{n:03d}", "image", Path(f"{n}.png"), f"person{n // 2}") for n in range(40)]


def names(items):
    return [item.name for item in items]


def test_choice_does_not_depend_on_order_and_hardly_on_a_missing_item():
    chosen = names(select(ITEMS, count=10))
    assert len(chosen) == 10
    assert chosen == sorted(chosen)
    shuffled = random.Random(1).sample(ITEMS, len(ITEMS))
    assert names(select(shuffled, count=10)) == chosen
    assert names(select(ITEMS, count=10, seed=1)) != chosen
    fewer = [item for item in ITEMS if item.name != chosen[0]]
    assert set(chosen[1:]) < set(names(select(fewer, count=10)))


def test_choice_is_frozen():
    """A published result must be reproducible by a later version."""
    assert names(select(ITEMS, count=5)) == ["011", "016", "023", "024", "031"]


def test_choice_by_names_first_and_people():
    assert names(select(ITEMS, names=["007", "003"])) == ["007", "003"]
    assert names(select(reversed(ITEMS), first=3)) == ["000", "001", "002"]
    assert names(select(ITEMS, identities=["person1"])) == ["002", "003"]
    three = select(ITEMS, identities=3)
    assert len(three) == 6
    assert len({item.identity for item in three}) == 3
    assert len(select(ITEMS, identities=5, first=4, count=2)) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"names": ["000", "zzz", "yyy"]}, "2 of the 3 items asked for are not there, first: zzz"),
        ({"identities": ["nobody"]}, "1 of the 1 people"),
        ({"identities": 21}, "21 people were asked for, and there are 20"),
        ({"count": 41}, "there are 40"),
        ({"first": 0}, "ask for 1 to 40"),
    ],
)
def test_too_few_is_an_error(options, words):
    with pytest.raises(UsageError, match=words):
        select(ITEMS, **options)


@pytest.mark.parametrize("name", known_splits())
def test_frozen_lists_are_sound(name):
    split = describe_split(name)
    assert split.layout in LAYOUTS
    assert split.source
    assert split.rule
    assert len(set(split.names)) == len(split.names)
    if split.status == "unavailable":
        assert not split.names
        assert not split.identities
        with pytest.raises(BadDatasetError, match="Instead: "):
            load_split(name)
    else:
        assert split.status in ("published", "secondhand", "rule")
        assert split.names or split.identities
        assert load_split(name) == split


def test_unknown_list():
    with pytest.raises(UsageError, match=r"known: .*hdtf_styleheat_19"):
        load_split("nope")


def test_hdtf_list_selects_its_19_clips(tmp_path):
    split = load_split("hdtf_styleheat_19")
    assert len(split.names) == 19
    touch(tmp_path, *(f"{name}.mp4" for name in split.names), "WRA_Other_000.mp4")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        items = layout("hdtf").items(tmp_path)
    assert len(items) == 20
    assert names(split.select(items)) == list(split.names)
    with pytest.raises(UsageError, match="not there, first: WRA_TomPrice_000"):
        split.select([item for item in items if item.name != "WRA_TomPrice_000"])


def test_pointavatar_list_keeps_subject2_to_four_clips_and_divides_90_to_10():
    clips = [(1, 1810), (1, 1812), (2, 1797), (2, 1799), (2, 1801), (2, 1802), (2, 1800), (3, "train")]
    items = [
        Item(f"subject{s}_{c if c == 'train' else f'MVI_{c}'}", "frames", Path("x"), f"subject{s}")
        for s, c in clips
    ]
    split = load_split("pointavatar_dejavu")
    chosen = names(split.select(items))
    assert "subject2_MVI_1800" not in chosen
    assert len(chosen) == 7
    train, test = split.divide(items[0], 1005)
    assert (train.start, train.stop, test.start, test.stop) == (0, 904, 904, 1005)
    later = split.divide(items[0]._replace(start=100), 10)
    assert (later[0].start, later[0].stop, later[1].start, later[1].stop) == (100, 109, 109, 110)
    with pytest.raises(UsageError, match="too few"):
        split.divide(items[0], 1)
    with pytest.raises(UsageError, match="does not divide"):
        load_split("hdtf_styleheat_19").divide(items[0], 100)
