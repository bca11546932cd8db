"""Result files: nothing that breaks the schema is written or read, and the message names file and place."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from avatarzoo.errors import BadResultError
from avatarzoo.evaluation.results import RESULT_FORMAT, plain, read_result, write_result


def numbers(mean, failures=0, **more):
    return {
        "mean": mean,
        "std": 0.1,
        "count": 10,
        "failures": failures,
        "label": None,
        "per_case": {},
        **more,
    }


def protocol_result(**changes):
    """A small valid result of Gaussian Déjà-vu's Table 4."""
    columns = [("{subset} / LPIPS", "lpips", False), ("{subset} / PSNR", "psnr", False), ("{subset} / CSIM", "csim", True),
               ("Training time (min)", "training_minutes", False)]  # fmt: skip
    return {
        "method": "Table 4",
        "protocol": {
            "name": "dejavu_table4", "version": 1, "hash": "0" * 16, "paper": "gaussian_dejavu", "table": "table4",
            "title": "Table 4", "columns": [{"column": c, "metric": m, "extra": e} for c, m, e in columns],
        },
        "procedural": False, "head": {"name": "ict"}, "seeds": [0, 1], "size": 512,
        "data": {"roles": {"all": "pointavatar"}, "layout": None, "limit": 0},
        "rows": {
            "Ours": {"method": "GaussianDejaVu", "state": "run", "reason": None, "extra": False},
            "FlashAvatar, 30 mins": {"method": "F", "state": "not run", "reason": "no code & no 5_% weights.", "extra": False},
            "Nearest": {"method": "N", "state": "run", "reason": None, "extra": True},
        },
        "metrics": {
            "Ours": {"Subject 1 / LPIPS": numbers(0.0512345, label="LPIPS (alex)"),
                     "Subject 1 / PSNR": numbers(25.1234, 2, spread=0.25, per_seed=[25.0, 25.25]),
                     "Subject 1 / CSIM": numbers(0.8, label="CSIM (MobileFaceNet)"), "Training time (min)": numbers(3.21)},
            "Nearest": {"Subject 1 / LPIPS": numbers(None, 10)},
        },
        "cases": {"video": [{"name": "a", "group": "Subject 1", "pictures": 10}]},
        "lost_cases": [{"name": "b", "reason": "no face"}],
        "open_choices": [{"choice": "crop", "paper": "not stated", "ours": "square", "why": "simple"}],
        "notes": [],
    } | changes  # fmt: skip


def test_round_trip_and_values_that_json_lacks(tmp_path):
    result = protocol_result()
    result["metrics"]["Ours"]["Subject 1 / LPIPS"]["per_case"] = {"a": float("nan"), "b": np.float32(0.5)}
    result["metrics"]["Ours"]["Subject 1 / PSNR"]["mean"] = float("inf")
    path = write_result(tmp_path / "deep" / "r.json", result)
    json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    back = read_result(path)
    assert back["format"] == RESULT_FORMAT
    assert back["metrics"]["Ours"]["Subject 1 / LPIPS"]["per_case"] == {"a": None, "b": 0.5}
    assert back["metrics"]["Ours"]["Subject 1 / PSNR"]["mean"] is None


def test_plain_values():
    value = {1: (torch.tensor([1.0, float("nan")]), np.int64(3)), "p": Path("x"), "b": True}
    assert plain(value) == {"1": [[1.0, None], 3], "p": "x", "b": True}


BREAKS = {
    "metrics / Ours / Subject 1 / PSNR / mean": lambda r: r["metrics"]["Ours"]["Subject 1 / PSNR"].update(mean="25"),
    "metrics / Ours / Subject 1 / PSNR, 'failures'": lambda r: r["metrics"]["Ours"]["Subject 1 / PSNR"].pop("failures"),
    "rows / FlashAvatar, 30 mins / reason": lambda r: r["rows"]["FlashAvatar, 30 mins"].update(reason=None),
    "the top level, 'lost_cases'": lambda r: r.pop("lost_cases"),
    "protocol / version": lambda r: r["protocol"].update(version=0),
    "procedural": lambda r: r.update(procedural="no"),
    "rows / Ours / checkpoint_sha256": lambda r: r["rows"]["Ours"].update(checkpoint_sha256="abc"),
}  # fmt: skip


@pytest.mark.parametrize("place", BREAKS)
def test_a_broken_result_is_not_written_and_not_read(tmp_path, place):
    path = write_result(tmp_path / "good.json", protocol_result())
    result = protocol_result()
    BREAKS[place](result)
    with pytest.raises(BadResultError) as error:
        write_result(tmp_path / "bad.json", result)
    assert place in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ["good.json"]
    content = json.loads(path.read_text())
    BREAKS[place](content)
    path.write_text(json.dumps(content))
    with pytest.raises(BadResultError, match=r"good\.json") as error:
        read_result(path)
    assert place in str(error.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"{", "no JSON"), (b"\xff\xfe\x00", "no JSON"), (b"[1]", "names no format"),
        (b'{"format": "avatarzoo-result-1"}', "avatarzoo-result-1"),
    ],
)  # fmt: skip
def test_other_files_are_refused(tmp_path, content, told):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(BadResultError, match=told):
        read_result(tmp_path / "x.json")
    with pytest.raises(BadResultError, match="cannot be read"):
        read_result(tmp_path / "absent.json")
