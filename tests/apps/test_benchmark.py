"""``avatarzoo test -c PROTOCOL`` as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from avatarzoo.apps.benchmark import named, parser
from avatarzoo.cli import asks_for_protocol, main
from avatarzoo.errors import UsageError
from avatarzoo.evaluation.results import read_result

SMALL = """
protocol: {name}
version: 1
paper: gaussian_dejavu
table: ""
title: A small table
picture: {{size: 48, background: 1.0}}
parts:
  - name: video
    task: {task}
    data: {{clips: {{layout: clips}}}}
    settings: {{source: first}}
    metrics:
      - {{column: PSNR, metric: {metric}}}
rows:
  - {{row: Source copy, method: SourceCopy, extra: true}}
twin: {{people: 1, frames: 6, size: 48}}
"""


def write(folder: Path, name: str, task: str = "self_reenactment", metric: str = "psnr") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(SMALL.format(name=name, task=task, metric=metric))
    return path


def test_a_protocol_is_told_from_an_experiment(tmp_path: Path) -> None:
    assert asks_for_protocol(["-c", str(write(tmp_path, "small"))])
    assert asks_for_protocol(["--procedural", "--config", str(tmp_path)])
    assert not asks_for_protocol(["-c", "configs/quickstart.yaml"])
    assert not asks_for_protocol(["-c", str(tmp_path / "missing.yaml")])


def test_one_protocol_prints_its_table_and_writes_its_files(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path, out = write(tmp_path, "small"), tmp_path / "out"
    assert main(["test", "-c", str(path), "--procedural", "--output", str(out)]) == 0
    said = capsys.readouterr().out
    assert "Source copy" in said
    assert "PROCEDURAL" in said
    result = read_result(out / "result.json")
    assert result["procedural"]
    assert result["cases"]["video"][0]["pictures"] == 5
    assert json.loads((out / "cases.json").read_text())["video"][0]["name"] == "clips-0"
    assert len(list(out.glob("predictions/source-copy/video/clips-0/*.png"))) == 5
    assert list(out.glob("comparison/video/*"))


def test_a_folder_runs_all_and_names_what_failed(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder, out = tmp_path / "protocols", tmp_path / "out"
    folder.mkdir()
    write(folder, "good")
    write(folder, "wrong", metric="nonsense")
    assert main(["test", "-c", str(folder), "--procedural", "--output", str(out), "--videos", "0"]) == 2
    said = capsys.readouterr().out
    assert "1 of 2 protocols ran; failed: wrong" in said
    assert (out / "good-procedural" / "result.json").is_file()
    assert not (out / "wrong-procedural" / "result.json").exists()


def test_pictures_can_be_thrown_away(tmp_path: Path) -> None:
    path, out = write(tmp_path, "small"), tmp_path / "out"
    assert (
        main(
            [
                "test",
                "-c",
                str(path),
                "--procedural",
                "--output",
                str(out),
                "--discard-pictures",
                "--videos",
                "0",
            ]
        )
        == 0
    )
    assert not list(out.rglob("*.png"))
    assert read_result(out / "result.json")["metrics"]["Source copy"]["PSNR"]["count"] == 5


def test_help_explains_protocols(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["test", "-c", "benchmarks/protocols", "--help"])
    assert stop.value.code == 0
    assert "--procedural" in capsys.readouterr().out
    assert main(["test", "--help"]) == 0
    assert "benchmarks/protocols" in capsys.readouterr().out


def test_pairs_need_a_name_and_a_value() -> None:
    assert named(["Ours=a/b.ckpt"], "--ckpt") == {"Ours": Path("a/b.ckpt")}
    with pytest.raises(UsageError, match="NAME=PATH"):
        named(["a/b.ckpt"], "--ckpt")


def test_checkpoints_belong_to_one_protocol(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write(tmp_path, "a")
    write(tmp_path, "b")
    assert main(["test", "-c", str(tmp_path), "--procedural", "--ckpt", "Ours=x.ckpt"]) == 2
    assert "one protocol" in capsys.readouterr().err


def test_every_option_is_explained() -> None:
    assert all(action.help for action in parser()._actions)
