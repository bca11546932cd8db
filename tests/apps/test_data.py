"""``avatarzoo data``: exit codes, what is printed, JSON that can be read back."""

from __future__ import annotations

import json

import pytest

from avatarzoo import cli
from avatarzoo.data.layouts import LAYOUTS
from avatarzoo.data.splits import known_splits


@pytest.fixture
def hdtf(tmp_path):
    for group in ("RD", "WDA", "WRA"):
        (tmp_path / f"{group}_annotion_time.txt").write_text(f"{group.title()}Anna.mp4 00:05-04:40\n")
        (tmp_path / f"{group}_{group.title()}Anna_000.mp4").touch()
    return tmp_path


def test_layouts_lists_all_with_licence(capsys):
    assert cli.main(["data", "layouts"]) == 0
    said = capsys.readouterr().out
    assert all(name in said and reader.licence in said for name, reader in LAYOUTS.items())


def test_layouts_of_one_shows_its_tree(capsys):
    assert cli.main(["data", "layouts", "mead"]) == 0
    said = capsys.readouterr().out
    assert "M003/video/front/angry/level_1/001.mp4" in said
    assert "HDTF" not in said


def test_check_of_a_complete_set(hdtf, capsys):
    assert cli.main(["data", "check", str(hdtf), "--layout", "hdtf", "--sample", "0"]) == 0
    said = capsys.readouterr().out
    assert "3 videos" in said
    assert said.rstrip().endswith("complete")
    assert "PROBLEM" not in said


def test_check_of_an_incomplete_set_is_1_and_shows_the_tree(hdtf, capsys):
    (hdtf / "WDA_WdaAnna_000.mp4").unlink()
    assert cli.main(["data", "check", str(hdtf), "--layout", "hdtf", "--sample", "0"]) == 1
    said = capsys.readouterr().out
    assert "PROBLEM: 1 clips of the text files are missing, first: WDA_WdaAnna_000" in said
    assert "clips/WDA_AdamSchiff_000.mp4" in said


def test_check_opens_files_and_notices_damage(hdtf, capsys):
    assert cli.main(["data", "check", str(hdtf), "--layout", "hdtf", "--quiet"]) == 1
    assert "3 of the videos looked into cannot be read" in capsys.readouterr().out


def test_wrong_layout_is_2_and_suggests(hdtf, capsys):
    assert cli.main(["data", "check", str(hdtf), "--layout", "voxceleb"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "try --layout hdtf" in said


def test_unknown_layout_and_folder(tmp_path, capsys):
    assert cli.main(["data", "check", str(tmp_path), "--layout", "imagenet"]) == 2
    assert "known: ffhq" in capsys.readouterr().err
    assert cli.main(["data", "list", str(tmp_path / "no"), "--layout", "clips"]) == 2
    assert "there is no such folder" in capsys.readouterr().err


def test_negative_sample(tmp_path):
    with pytest.raises(SystemExit):
        cli.main(["data", "check", str(tmp_path), "--layout", "clips", "--sample", "-1"])


def test_list(hdtf, capsys):
    assert cli.main(["data", "list", str(hdtf), "--layout", "hdtf"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].split("\t") == ["RD_RdAnna_000", "video", "-", "RdAnna", str(hdtf / "RD_RdAnna_000.mp4")]


def test_list_as_json_with_the_warning_apart(hdtf, capsys):
    (hdtf / "RD_RdAnna_000.mp4").unlink()
    assert cli.main(["data", "list", str(hdtf), "--layout", "hdtf", "--json"]) == 0
    said = capsys.readouterr()
    items = json.loads(said.out)
    assert [item["name"] for item in items] == ["WDA_WdaAnna_000", "WRA_WraAnna_000"]
    assert items[0]["audio"] == items[0]["path"] == str(hdtf / "WDA_WdaAnna_000.mp4")
    assert "1 clips of the text files are missing" in said.err


def test_list_of_one_split(tmp_path, capsys):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        (tmp_path / split / f"id_{split}#a#1#2.mp4").touch()
    assert cli.main(["data", "list", str(tmp_path), "--layout", "voxceleb", "--split", "test"]) == 0
    assert capsys.readouterr().out.startswith("id_test#a#1#2\tvideo\ttest\tid_test\t")
    assert cli.main(["data", "list", str(tmp_path), "--layout", "voxceleb", "--split", "val"]) == 2
    assert "splits there: test, train" in capsys.readouterr().err


def test_splits_says_which_lists_were_never_published(capsys):
    assert cli.main(["data", "splits"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in known_splits())
    assert "celebamask_3dmmrf_550 (celebamask-hq): unavailable" in said
