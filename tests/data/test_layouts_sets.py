"""Every layout on a tiny tree written here, whole and broken. No picture or video is real: items() opens none."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest

from avatarzoo.data.layouts import Item, layout
from avatarzoo.errors import BadDatasetError

LABEL = [1, 0, 0, 0.1, 0, -1, 0, 0.2, 0, 0, -1, 2.7, 0, 0, 0, 1, 4.2647, 0, 0.5, 0, 4.2647, 0.5, 0, 0, 1]


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def write(root: Path, name: str, content: object) -> None:
    root.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def read(name: str, root: Path, split: str = "") -> dict[str, Item]:
    """Items of a complete set, by name; a warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return {item.name: item for item in layout(name).items(root, split)}


def problems(name: str, root: Path) -> list[str]:
    report = layout(name).check(root, sample=0)
    assert report.complete == (not report.problems)
    return report.problems


def test_ffhq(tmp_path):
    pictures = ["00000/img00000001.png", "00000/img00000001_mirror.png", "00001/img00001000.png"]
    touch(tmp_path, *pictures)
    write(tmp_path, "dataset.json", {"labels": [[name, LABEL] for name in pictures]})
    items = read("ffhq", tmp_path)
    assert list(items) == ["00000_img00000001", "00001_img00001000"]
    one = items["00000_img00000001"]
    assert one.path == tmp_path / pictures[0]
    assert one.camera == tuple(map(float, LABEL))
    (mirrored,) = read("ffhq", tmp_path, "mirror").values()
    assert mirrored.identity == one.identity
    assert layout("ffhq").check(tmp_path, sample=0).items == {("image", ""): 2, ("image", "mirror"): 1}


def test_ffhq_with_missing_pictures_and_broken_labels(tmp_path):
    touch(tmp_path, "a.png", "b.png", "c.png")
    skewed = [2.0, *LABEL[1:]]
    rows = [["a.png", LABEL], ["b.png", LABEL[:24]], ["c.png", skewed], ["x.png", LABEL], ["w.png", LABEL]]
    write(tmp_path, "dataset.json", {"labels": rows})
    assert problems("ffhq", tmp_path) == [
        "1 camera labels are not 25 finite numbers, first: b.png",
        "1 camera labels hold no rotation or no focal length, first: c.png",
        "2 pictures of dataset.json are missing, first: w.png",
    ]
    with pytest.warns(UserWarning, match="2 more problems; avatarzoo data check"):
        assert [item.name for item in layout("ffhq").items(tmp_path)] == ["a"]


@pytest.mark.parametrize(
    "content",
    [
        "{",
        '{"labels": null}',
        "[]",
        '{"labels": [["a.png"]]}',
        '{"labels": [["../a.png", []]]}',
        '{"labels": [["/a.png", []]]}',
    ],
)
def test_ffhq_with_a_broken_list(tmp_path, content):
    write(tmp_path, "dataset.json", content)
    with pytest.raises(BadDatasetError, match=r"cannot be read as JSON|is not of the form|no path inside"):
        layout("ffhq").items(tmp_path)


def test_lpff(tmp_path):
    touch(tmp_path, "crop/eg3d/00000/1@N0_2_00.png", "crop/eg3d/00000/1@N0_2_00_mirror.png")
    write(tmp_path, "camera_parameters.json", {"1@N0_2_00": LABEL})
    (item,) = read("lpff", tmp_path).values()
    assert item.name == "1@N0_2_00"
    (mirrored,) = read("lpff", tmp_path, "mirror").values()
    assert mirrored.camera[3] == -item.camera[3]
    assert mirrored.camera[7] == item.camera[7]
    assert mirrored.identity == item.identity
    write(tmp_path, "camera_parameters.json", {"1@N0_2_00": LABEL, "9_00": LABEL})
    touch(tmp_path, "crop/other.png")
    assert problems("lpff", tmp_path) == [
        "1 pictures of camera_parameters.json are missing, first: 9_00",
        "1 pictures have no label, first: other",
    ]


def test_lpff_still_packed(tmp_path):
    touch(tmp_path, "crop/eg3d.zip")
    write(tmp_path, "camera_parameters.json", {"1_00": LABEL})
    with pytest.raises(BadDatasetError, match=r"unzip crop/eg3d\.zip"):
        layout("lpff").items(tmp_path)


def test_celebamask(tmp_path):
    touch(tmp_path, "CelebA-HQ-img/2.jpg", "CelebA-HQ-img/10.jpg", "CelebA-HQ-img/2001.jpg")
    masks = "CelebAMask-HQ-mask-anno"
    touch(tmp_path, *(f"{masks}/{folder}/{n:05d}_skin.png" for folder, n in ((0, 2), (0, 10), (1, 2001))))
    items = read("celebamask-hq", tmp_path)
    assert list(items) == ["00002", "00010", "02001"]  # in number order
    assert items["02001"].masks == tmp_path / masks / "1"
    (tmp_path / masks / "0/00010_skin.png").unlink()
    touch(tmp_path, "CelebA-HQ-img/copy.jpg")
    assert problems("celebamask-hq", tmp_path) == [
        "1 pictures have no skin mask, first: 10.jpg",
        "1 pictures are not named by a number, first: copy.jpg",
    ]


def test_celebamask_without_annotations_serves_its_pictures(tmp_path):
    touch(tmp_path, "CelebA-HQ-img/2.jpg")
    assert problems("celebamask-hq", tmp_path) == ["1 mask folder is missing, first: CelebAMask-HQ-mask-anno"]
    with pytest.warns(UserWarning, match="mask folder is missing"):
        (item,) = layout("celebamask-hq").items(tmp_path)
    assert item.masks is None


def test_celebvhq(tmp_path):
    touch(tmp_path, "processed/abc_0.mp4", "processed/abc_1.mp4", "processed/-xy_0.mp4")
    clips = {"abc_0": {"ytb_id": "abc"}, "abc_1": {"ytb_id": "abc"}, "-xy_0": {"ytb_id": "-xy"}}
    write(tmp_path, "celebvhq_info.json", {"meta_info": {}, "clips": clips})
    items = read("celebv-hq", tmp_path)
    assert items["abc_0"].identity == items["abc_1"].identity == "abc"
    assert items["-xy_0"].audio == tmp_path / "processed/-xy_0.mp4"
    clips |= {f"gone_{n}": {"ytb_id": "gone"} for n in range(12)}
    write(tmp_path, "celebvhq_info.json", {"clips": clips})
    assert problems("celebv-hq", tmp_path) == ["12 videos of the list are missing, first: gone_0"]
    write(tmp_path, "celebvhq_info.json", {"nothing": 1})
    with pytest.raises(BadDatasetError, match='no "clips"'):
        layout("celebv-hq").items(tmp_path)


def test_voxceleb(tmp_path):
    touch(
        tmp_path,
        "train/id1#a-B#000993#001143.mp4",
        "train/id1#a-B#000993#001143.wav",
        "test/id2#c#1#2.mp4/0000000.png",
    )
    items = read("voxceleb", tmp_path)
    train, test = items["id1#a-B#000993#001143"], items["id2#c#1#2"]
    assert (train.identity, train.split, train.kind, train.audio.suffix) == ("id1", "train", "video", ".wav")
    assert (test.identity, test.split, test.kind, test.audio) == ("id2", "test", "frames", None)
    assert list(read("voxceleb", tmp_path, "test")) == ["id2#c#1#2"]
    (tmp_path / "test/id2#c#1#2.mp4/0000000.png").unlink()
    touch(tmp_path, "test/odd.mp4")
    assert problems("voxceleb", tmp_path) == [
        "1 folders have no frames, first: test/id2#c#1#2.mp4",
        "1 clips are not named <id>#<youtube id>#<start>#<end>, first: test/odd.mp4",
    ]


def test_voxceleb_without_its_train_split_is_noted(tmp_path):
    touch(tmp_path, "test/id1#a#1#2.mp4")
    report = layout("voxceleb").check(tmp_path, sample=0)
    assert (report.complete, report.notes) == (True, ["there is no train/"])


def hdtf(root: Path) -> None:
    write(
        root, "HDTF_dataset/RD_annotion_time.txt", "Radio11.mp4 00:30-01:00 01:30-02:30\nRadio1.mp4 0:1-0:2\n"
    )
    write(
        root,
        "HDTF_dataset/WDA_annotion_time.txt",
        "AmyKlobuchar0.mp4 00:10-04:30\nAmyKlobuchar1.mp4 00:35-02:45\n",
    )
    write(root, "HDTF_dataset/WRA_annotion_time.txt", "\nTomPrice.mp4  00:05-01:00 \n")


def test_hdtf_in_both_forms_of_names(tmp_path):
    hdtf(tmp_path)
    touch(
        tmp_path,
        "clips/Radio11_0.mp4",
        "clips/RD_Radio11_001.mp4",
        "clips/RD/RD_Radio1_000.mp4",
        "TomPrice_0.mp4",
    )
    touch(
        tmp_path,
        "clips/WDA_AmyKlobuchar0_000.mp4",
        "clips/WDA_AmyKlobuchar1_000.mp4",
        "clips/WDA_AmyKlobuchar1_000.wav",
    )
    items = read("hdtf", tmp_path)
    assert list(items) == [
        "RD_Radio11_000", "RD_Radio11_001", "RD_Radio1_000", "WDA_AmyKlobuchar0_000", "WDA_AmyKlobuchar1_000", "WRA_TomPrice_000",
    ]  # fmt: skip
    assert (
        items["WDA_AmyKlobuchar0_000"].identity == items["WDA_AmyKlobuchar1_000"].identity == "AmyKlobuchar"
    )
    assert items["RD_Radio11_000"].identity == "Radio11"
    assert items["RD_Radio1_000"].identity == "Radio1"
    assert items["WDA_AmyKlobuchar1_000"].audio.suffix == ".wav"
    assert items["WRA_TomPrice_000"].audio == tmp_path / "TomPrice_0.mp4"


def test_hdtf_says_what_is_missing(tmp_path):
    hdtf(tmp_path)
    touch(tmp_path, "Radio11_1.mp4", "WRA_Newcomer_000.mp4", "trailer.mp4")
    report = layout("hdtf").check(tmp_path, sample=0)
    assert report.problems == [
        "1 videos are not named <video>_<clip>, first: trailer.mp4",
        "5 clips of the text files are missing, first: RD_Radio11_000",
    ]
    assert "1 clips are not in the text files, first: Newcomer_0" in report.notes
    (tmp_path / "HDTF_dataset/WRA_annotion_time.txt").unlink()
    assert (
        "text files are missing, so that missing clips cannot be told, first: WRA_annotion_time.txt"
        in problems("hdtf", tmp_path)[0]
    )


def test_vfhq(tmp_path):
    one, two = "Clip+-4VmAlhNPhc+P0+C0+F1537-1825", "Clip+a+b+P12+C3+F1-2"
    write(tmp_path, f"meta_info/{one}.txt", "H 100\n")
    write(tmp_path, f"meta_info/{two}.txt", "H 100\n")
    touch(tmp_path, f"train/{one}/00000000.png", f"test/{two}.mp4")
    items = read("vfhq", tmp_path)
    assert (items[one].kind, items[one].split, items[one].identity) == ("frames", "train", "-4VmAlhNPhc+P0")
    assert (items[two].kind, items[two].split, items[two].identity) == ("video", "test", "a+b+P12")
    write(tmp_path, "meta_info/Clip+c+P0+C0+F1-2.txt", "H 100\n")
    (tmp_path / f"train/{one}/00000000.png").unlink()
    assert problems("vfhq", tmp_path) == [
        f"1 folders have no frames, first: {one}",
        f"2 clips of the meta files are missing, first: {one}",
    ]


def test_vfhq_test_archive(tmp_path):
    touch(tmp_path, "GT/Clip+a+P0+C0+F1-2/0.png")
    report = layout("vfhq").check(tmp_path, sample=0)
    assert report.complete
    assert report.notes == ["no meta files, so that missing clips cannot be told"]
    touch(tmp_path, "LR/Clip+a+P0+C0+F1-2/0.png")
    with pytest.raises(BadDatasetError, match="give a folder that holds only one"):
        layout("vfhq").items(tmp_path)


@pytest.mark.parametrize("doubled", ["", "subject2/"])
def test_pointavatar(tmp_path, doubled):
    for clip in ("MVI_1797", "MVI_1801"):
        base = f"subject2/{doubled}{clip}"
        touch(
            tmp_path,
            *(f"{base}/{part}/1.png" for part in ("image", "mask", "semantic")),
            f"{base}/flame_params.json",
        )
    items = read("pointavatar", tmp_path)
    assert list(items) == ["subject2_MVI_1797", "subject2_MVI_1801"]
    one = items["subject2_MVI_1797"]
    assert (one.kind, one.identity, one.path.name, one.masks.name) == ("frames", "subject2", "image", "mask")
    assert list(read("pointavatar", tmp_path / "subject2" / doubled)) == list(items)
    assert list(read("pointavatar", one.path.parent)) == ["subject2_MVI_1797"]
    (one.path.parent / "flame_params.json").unlink()
    touch(
        tmp_path,
        "subject2/MVI_9/image/notes.txt",
        "subject2/MVI_9/mask/1.png",
        "subject2/MVI_9/semantic/1.png",
    )
    assert problems("pointavatar", tmp_path) == [
        "2 clips have no flame_params.json, first: subject2_MVI_1797",
        "1 clips have no frames, first: subject2_MVI_9",
    ]


def test_mead(tmp_path):
    touch(
        tmp_path,
        "M003/video/front/angry/level_1/001.mp4",
        "M003/audio/angry/level_1/001.m4a",
        "M003/video/top/angry/level_1/001.mp4",
    )
    (item,) = read("mead", tmp_path).values()
    assert (item.name, item.identity) == ("M003_front_angry_level_1_001", "M003")
    assert item.audio == tmp_path / "M003/audio/angry/level_1/001.m4a"
    assert layout("mead").check(tmp_path, sample=0).notes == ["other cameras are there and not read: top"]
    touch(
        tmp_path,
        "M003/video/front/neutral/level_1/002.mp4",
        "W017/video/down/angry/level_1/001.mp4",
        "W018/audio/x/level_1/1.m4a",
    )
    assert problems("mead", tmp_path) == [
        "1 videos have no sound file, first: M003_front_neutral_level_1_002",
        "1 actors have no frontal video, first: W017",
        "1 actors have no video, first: W018",
    ]


def test_multiview(tmp_path):
    own = [*LABEL[:16], 3.0, *LABEL[17:]]
    touch(tmp_path, *(f"identities/{who}/{view}.png" for who in ("0001", "0002") for view in ("00", "01")))
    write(tmp_path, "cameras.json", {"00": LABEL, "01": LABEL})
    write(tmp_path, "identities/0002/cameras.json", {"00.png": own, "01.png": own})
    items = read("multiview", tmp_path)
    assert list(items) == ["0001", "0002"]
    assert [path.name for path, _ in items["0001"].views] == ["00.png", "01.png"]
    assert items["0001"].views[0][1][16] == 4.2647
    assert items["0002"].views[0][1][16] == 3.0
    touch(tmp_path, "identities/0001/02.png", "identities/0003/00.png")
    assert problems("multiview", tmp_path) == [
        "1 views have no camera, first: 0001/02.png",
        "1 views are missing, first: 0003/01",
    ]


def test_multiview_without_cameras(tmp_path):
    touch(tmp_path, "identities/0001/00.png")
    with pytest.raises(BadDatasetError, match=r"no cameras\.json"):
        layout("multiview").items(tmp_path)


def test_portraits_and_clips(tmp_path):
    touch(
        tmp_path,
        "anna.jpg",
        "friends/ben.PNG",
        ".hidden.jpg",
        "._anna.jpg",
        "anna.mp4",
        "friends/ben.mov",
        "friends/ben.wav",
        "notes.txt",
    )
    assert list(read("portraits", tmp_path)) == ["anna", "friends_ben"]
    clips = read("clips", tmp_path)
    assert list(clips) == ["anna", "friends_ben"]
    assert clips["anna"].audio == tmp_path / "anna.mp4"
    assert clips["friends_ben"].audio == tmp_path / "friends/ben.wav"
    assert clips["friends_ben"].identity == "ben"
