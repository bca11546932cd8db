"""The published numbers: counted per table from the papers by hand, and a loader that refuses slips."""

from __future__ import annotations

from collections import Counter

import pytest

from avatarzoo.errors import UsageError
from avatarzoo.evaluation import published
from avatarzoo.evaluation.published import COLUMNS, load_published, published_table

CELLS = {
    ("gaussian_dejavu", "table1"): 5 * 4,
    ("gaussian_dejavu", "table2"): (4 + 2) * 4,
    ("gaussian_dejavu", "table3"): (3 + 2) * 4,
    ("gaussian_dejavu", "table4"): 6 * (1 + 3 * 3),
    ("gaussian_dejavu_supplement", "table1"): (2 + 2) * 4,
    ("gaussian_dejavu_supplement", "table2"): (2 + 2) * 4,
    ("nofaplusplus", "table1"): 9 * (7 + 4),
    ("nofaplusplus", "table2"): 3 * 4,
    ("nofaplusplus", "table3"): 2 * 5,
    ("invertavatar", "table1"): 2 * 4,
    ("invertavatar", "table2"): 5 * (5 + 2 + 2),
    ("invertavatar", "table5"): 2 * 4,
    ("styleavatar", "table1"): 4 * 3,
    ("styleavatar", "table2"): 5 * (3 + 3),
    ("styleavatar", "table3"): 6 * 3,
    ("styleavatar", "table4"): 2 * 3,
    ("styleavatar", "table5"): 4 * 3,
}
"""Printed cells of every table, dashes included: rows times columns as counted in the papers."""

MISSING = {
    ("nofaplusplus", "table4"),
    ("nofaplusplus", "table5"),
    ("invertavatar", "table3"),
    ("invertavatar", "table4"),
}
"""Tables whose body our copy of the paper lacks."""


def test_every_cell_of_every_table_is_there():
    entries = load_published()
    assert Counter((e.paper, e.table) for e in entries if e.status != "missing") == CELLS
    assert {(e.paper, e.table) for e in entries if e.status == "missing"} == MISSING


def test_only_3dmm_rf_has_dashes():
    dashes = [e for e in load_published() if e.status == "dash"]
    assert [(e.paper, e.table, e.row, e.column) for e in dashes] == [
        ("gaussian_dejavu", "table2", "3DMM-RF", "Facial / LPIPS"),
        ("gaussian_dejavu", "table2", "3DMM-RF", "Facial / PSNR"),
    ]


def test_nothing_is_guessed():
    for entry in load_published():
        assert (entry.value == "") == (entry.status != "printed"), entry
        assert entry.status == "printed" or entry.number is None
        assert entry.status == "printed" or entry.note


@pytest.mark.parametrize(
    ("paper", "table", "row", "column", "value"),
    [
        ("gaussian_dejavu", "table1", "Fast Training on Videos", "Mesh-based", "N/A"),
        ("gaussian_dejavu", "table1", "Single-Image Reconstruction", "Existing 3DGSs", "no"),
        ("gaussian_dejavu", "table2", "Ours", "Head / PSNR", "20.525"),
        ("gaussian_dejavu", "table3", "MoFaNeRF", "Facial / SSIM", "0.720"),
        ("gaussian_dejavu", "table4", "Ours", "Subject 1 / PSNR", "24.277"),
        ("gaussian_dejavu", "table4", "GaussianAvatars, 6 hrs", "Training time (min)", "360"),
        ("gaussian_dejavu", "table4", "Ours (global rectification only)", "Subject 3 / LPIPS", "0.077"),
        ("gaussian_dejavu_supplement", "table1", "Ours (Synthetic + Real Data)", "Facial / L1", "0.033"),
        ("gaussian_dejavu_supplement", "table2", "Ours (Synthetic Data)", "Head / PSNR", "17.157"),
        ("nofaplusplus", "table1", "NOFA", "Self / FID", "32.08"),
        ("nofaplusplus", "table1", "HideNeRF", "Cross / AED", "0.308"),
        ("nofaplusplus", "table2", "Real3D", "APD", "0.029"),
        ("nofaplusplus", "table3", "w/", "CSIM", "0.785"),
        ("invertavatar", "table1", "Next3D", "Params (M)", "164.81"),
        ("invertavatar", "table2", "StyleHEAT", "Cross-ID HDTF / CSIM", "0.710"),
        ("invertavatar", "table2", "OTAvatar", "Cross-ID CelebA / AKD", "2.050"),
        ("invertavatar", "table5", "Next3D (FV)", "AKD", "0.095"),
        ("styleavatar", "table1", "Next3D-refine", "FID", "21.4"),
        ("styleavatar", "table2", "IMAvatar", "Case 2 / SSIM", "0.89"),
        ("styleavatar", "table3", "Ours w/o NT", "FID", "15.10"),
        ("styleavatar", "table4", "Reenactment", "Translation", "2.002"),
        ("styleavatar", "table5", "Ours", "Rendering time (s)", "0.028"),
    ],
)
def test_cells_read_by_hand(paper, table, row, column, value):
    entry = published_table(paper, table)[row][column]
    assert entry.value == value
    assert entry.number == (None if value in ("yes", "no", "N/A") else float(value))


def test_oddities_are_noted():
    dejavu, nofa = published_table("gaussian_dejavu", "table4"), published_table("nofaplusplus", "table3")
    assert "24,277" in dejavu["Ours"]["Subject 1 / PSNR"].note
    assert "3 hrs" in dejavu["GaussianAvatars, 3 hrs"]["Training time (min)"].note
    assert "0.789" in nofa["w/"]["CSIM"].note


def test_numbers_printed_twice_agree():
    """Rows that a paper repeats in another table carry the same numbers."""
    for number in (1, 2):
        again = published_table("gaussian_dejavu_supplement", f"table{number}")
        first = published_table("gaussian_dejavu", f"table{number + 1}")["Ours"]
        assert {c: e.value for c, e in again["Ours (Synthetic + Real Data)"].items()} == {
            c: e.value for c, e in first.items()
        }
    cases, ablation = published_table("styleavatar", "table2"), published_table("styleavatar", "table3")
    for row, repeated in (("Ours", "Ours"), ("DVP", "DVP (Ours)")):
        for metric in ("SSIM", "PSNR", "FID"):
            assert cases[row][f"Case 2 / {metric}"].value == ablation[repeated][metric].value


GOOD = "styleavatar,table1,Ours,FID,12.2,printed,"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("styleavatar,table1,Ours,PSNR,27.1,guessed,", "status 'guessed'"),
        ("styleavatar,table1,Ours,PSNR,abc,printed,", "'abc' is no number"),
        ('styleavatar,table1,Ours,PSNR,"24,277",printed,', "'24,277' is no number"),
        ("styleavatar,table1,Ours,PSNR,nan,printed,", "'nan' is no number"),
        ("styleavatar,table1,Ours,PSNR,yes,printed,", "'yes' is no number"),
        ("gaussian_dejavu,table1,Easy Animation,Ours,maybe,printed,", "'maybe' is none of"),
        ("styleavatar,table1,Ours,PSNR,,printed,", "'' is no number"),
        ("styleavatar,table1,Ours,PSNR,27.1,missing,", "'missing' but the value is"),
        ("styleavatar,table1,Ours,PSNR,27.1,dash,", "'dash' but the value is"),
        ("styleavatar,table1,,PSNR,27.1,printed,", "empty row"),
        ("nextavatar,table1,Ours,PSNR,27.1,printed,", "paper 'nextavatar'"),
        ("styleavatar,table1,Ours,PSNR,27.1,printed", "6 fields"),
        ("styleavatar,table1,Ours,PSNR,27.1,printed,,", "8 fields"),
        (GOOD, "second time"),
    ],
)
def test_slips_are_refused(tmp_path, line, message):
    path = tmp_path / "published.csv"
    path.write_text(f"{','.join(COLUMNS)}\n{GOOD}\n{line}\n")
    with pytest.raises(UsageError, match="line 3") as refused:
        load_published(path)
    assert message in str(refused.value)


@pytest.mark.parametrize("header", ["", "paper,table,row,column,value\n"])
def test_another_header_is_refused(tmp_path, header):
    path = tmp_path / "published.csv"
    path.write_text(header)
    with pytest.raises(UsageError, match="columns"):
        load_published(path)


def test_binary_file_is_refused(tmp_path):
    path = tmp_path / "published.csv"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(UsageError, match="--published"):
        load_published(path)


def test_absent_file_names_the_option(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="--published"):
        load_published(tmp_path / "none.csv")
    monkeypatch.setattr(published, "PUBLISHED", tmp_path / "installed.csv")
    with pytest.raises(UsageError, match="--published"):
        load_published()


def test_unknown_table_names_the_known_ones():
    with pytest.raises(UsageError, match=r"styleavatar has no table9.*table1, table2"):
        published_table("styleavatar", "table9")
    with pytest.raises(UsageError, match=r"nextavatar.*gaussian_dejavu"):
        published_table("nextavatar", "table1")
