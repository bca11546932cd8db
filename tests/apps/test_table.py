"""``avatarzoo table``: prints, keeps the text round its markers, and knows a stale file; the committed page is fresh."""

from __future__ import annotations

from pathlib import Path

import pytest

from avatarzoo.apps import table
from avatarzoo.cli import main
from avatarzoo.evaluation.results import write_result

ROOT = Path(__file__).resolve().parents[2]
METRICS = {"avatar": {"psnr": {"mean": 30.0, "failures": 0}}}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = {"method": "Painter", "procedural": False, "metrics": METRICS}
    write_result(tmp_path / "benchmarks/results/deep/a.json", result)
    page = tmp_path / "benchmarks/README.md"
    page.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")
    return tmp_path


def test_prints(folder, capsys):
    assert main(["table"]) == 0
    assert "30.00" in capsys.readouterr().out
    assert main(["table", "--results", "nowhere"]) == 2
    assert "no folder nowhere" in capsys.readouterr().err


def test_only_the_text_between_the_markers_changes_and_stale_files_are_found(folder, capsys):
    page = folder / "benchmarks/README.md"
    assert main(["table", "--check"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["table", "--output", str(page)]) == 0
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith(f"{table.END}\nafter\n")
    assert "30.00" in text
    assert "old" not in text
    assert main(["table", "--check"]) == 0
    page.write_text(text.replace("30.00", "31.00"))
    assert main(["table", "--check"]) == 1


def test_a_page_without_markers_is_left_alone(folder, capsys):
    (folder / "x.md").write_text("mine")
    assert main(["table", "--output", "x.md"]) == 2
    assert "lacks the lines" in capsys.readouterr().err
    assert (folder / "x.md").read_text() == "mine"


@pytest.mark.parametrize(("form", "sign"), [("latex", r"\toprule"), ("csv", "protocol,version")])
def test_other_formats_are_whole_files(folder, form, sign):
    name = f"t.{form}"
    assert main(["table", "--format", form, "--output", name]) == 0
    assert sign in (folder / name).read_text()
    assert main(["table", "--format", form, "--output", name, "--check"]) == 0


def test_no_results_is_no_error(folder, capsys):
    (folder / "benchmarks/results/deep/a.json").unlink()
    assert main(["table"]) == 0
    assert capsys.readouterr().out.strip() == table.NONE_YET


def test_the_committed_page_shows_the_committed_results(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert main(["table", "--check"]) == 0, capsys.readouterr().err
