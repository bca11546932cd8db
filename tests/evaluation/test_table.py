"""Tables: each number in its place, none that was not computed, never made-up people beside published numbers."""

from __future__ import annotations

import copy
import csv
import importlib.util
import io
from pathlib import Path

import pytest

from avatarzoo.errors import UsageError
from avatarzoo.evaluation.formats import escape
from avatarzoo.evaluation.results import write_result
from avatarzoo.evaluation.table import render_table

_spec = importlib.util.spec_from_file_location("result_samples", Path(__file__).with_name("test_results.py"))
_samples = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_samples)
numbers, protocol_result = _samples.numbers, _samples.protocol_result


@pytest.fixture
def render(tmp_path):
    def run(*results, form="markdown"):
        paths = [write_result(tmp_path / f"{i}.json", result) for i, result in enumerate(results)]
        return render_table(paths, form)

    return run


def rows_of(text):
    lines = [[c.strip() for c in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    found: dict[str, dict[str, str]] = {}
    heading: list[str] = []
    for previous, line in zip([None, *lines], lines):
        if set("".join(line)) == {"-"}:
            heading = previous
        elif heading and line[0]:
            found.setdefault(line[0], {}).update(zip(heading[1:], line[1:]))
    return found


def procedural():
    return protocol_result(procedural=True)


def test_measured_and_published_stand_side_by_side(render):
    text = render(protocol_result()).split("**Subject 2**")[0]
    rows = rows_of(text)
    assert rows["Ours"] == {
        "LPIPS ↓": "0.051", "LPIPS ↓ published": "0.073", "PSNR ↑": "25.123 ± 0.250 (2 failed)",
        "PSNR ↑ published": "24.277", "CSIM ↑ †": "0.800", "SSIM published": "0.899",
    }  # fmt: skip
    assert rows["Nearest †"]["LPIPS ↓"] == "- (10 failed)"
    assert rows["Nearest †"]["PSNR ↑"] == "-"
    assert rows["FlashAvatar, 30 mins"]["LPIPS ↓"] == "not run"
    assert rows["FlashAvatar, 30 mins"]["LPIPS ↓ published"] == "0.104"
    assert rows["GaussianAvatars, 3 hrs (published)"]["LPIPS ↓"] == ""


def test_notes_tell_everything(render):
    text = render(protocol_result())
    for told in (
        "FlashAvatar, 30 mins was not run: no code & no 5_% weights.", "CSIM is CSIM (MobileFaceNet)", "LPIPS (alex)",
        "head model ict", "1 left out: b (no face)", "seeds 0, 1", "Open in the paper, crop: not stated. Here: square (simple).",
        "video: 1 case, 10 pictures", "† not in the paper's table",
    ):  # fmt: skip
        assert told in text
    assert "not comparable" not in text


@pytest.mark.parametrize("data", [{"roles": {"all": "mine"}, "layout": "clips", "limit": 0},
                                  {"roles": {"all": "mine"}, "layout": None, "limit": 2}])  # fmt: skip
@pytest.mark.parametrize("form", ["markdown", "latex"])
def test_other_data_is_not_comparable(render, data, form):
    text = render(protocol_result(data=data), form=form)
    assert ("**Measured on" if form == "markdown" else r"\textbf{Measured on") in text
    assert "not comparable." in text


@pytest.mark.parametrize("form", ["markdown", "latex", "csv"])
def test_made_up_people_never_meet_published_numbers(render, form):
    text = render(procedural(), form=form)
    assert "procedural" in text.lower()
    for number in ("0.073", "24.277", "0.104", "GaussianAvatars"):
        assert number not in text
    if form == "csv":
        assert {row["source"] for row in csv.DictReader(io.StringIO(text))} == {"procedural", "not run"}
        with pytest.raises(UsageError, match="made-up people"):
            render(procedural(), protocol_result(), form="csv")
    if form == "markdown":
        both = render(procedural(), protocol_result())
        first, second = both.split("**PROCEDURAL")
        assert "0.073" in first
        assert "0.073" not in second


def test_latex_escapes(render):
    assert escape("50% & a_b ± #1 {x} ~^\\ $") == (
        r"50\% \& a\_b $\pm$ \#1 \{x\} \textasciitilde{}\textasciicircum{}\textbackslash{} \$"
    )
    text = render(protocol_result(), form="latex")
    assert r"no code \& no 5\_\% weights." in text
    assert r"25.123 $\pm$ 0.250 (2 failed)" in text
    assert r"\multicolumn" in text
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")]
    assert len({line.count(" & ") for line in body.splitlines()[1:] if line.strip()}) == 1


def test_csv_is_long_and_unrounded(render):
    rows = list(csv.DictReader(io.StringIO(render(protocol_result(), form="csv"))))
    found = {(r["row"], r["column"], r["source"]): r for r in rows}
    ours = found["Ours", "Subject 1 / LPIPS", "measured"]
    assert (ours["value"], ours["label"], ours["comparable"]) == ("0.0512345", "LPIPS (alex)", "yes")
    assert found["Ours", "Subject 1 / LPIPS", "published"]["value"] == "0.073"
    assert found["Nearest", "Subject 1 / LPIPS", "measured"]["value"] == ""
    assert found["FlashAvatar, 30 mins", "", "not run"]["note"].startswith("no code")


def test_results_of_one_protocol_share_a_table(render):
    other = copy.deepcopy(protocol_result())
    other["rows"] = {"FlashAvatar, 30 mins": {"method": "F", "state": "run", "reason": None, "extra": False}}
    other["metrics"] = {"FlashAvatar, 30 mins": {"Subject 1 / LPIPS": numbers(0.2)}}
    text = render(other, protocol_result())
    assert text.count("### ") == 1
    assert rows_of(text.split("**Subject 2**")[0])["FlashAvatar, 30 mins"]["LPIPS ↓"] == "0.200"
    assert render(protocol_result(), protocol_result(size=256)).count("### ") == 2


def test_small_numbers_get_more_digits(render):
    result = procedural()
    result["metrics"]["Ours"]["Subject 1 / LPIPS"]["mean"] = 0.00041
    assert "0.00041" in render(result)


def test_an_experiment_has_a_table_too(render):
    result = {"method": "GaussianDejaVu", "procedural": True,
              "metrics": {"avatar": {"psnr": {"mean": 30.0, "failures": 0}, "lpips_alex": {"mean": 0.1, "failures": 1}}}}  # fmt: skip
    assert rows_of(render(result))["avatar"] == {"PSNR ↑": "30.00", "LPIPS-alex ↓": "0.1000 (1 failed)"}
