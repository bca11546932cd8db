"""A protocol from its file to its result, on made-up people; and what must never pass in silence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from avatarzoo.errors import AvatarZooError, BadSequenceError, UsageError
from avatarzoo.evaluation import runner
from avatarzoo.evaluation.baselines import BASELINES, SourceCopy
from avatarzoo.evaluation.protocol import DataSpec, MetricSpec, Part, Picture, Protocol, Row, Twin
from avatarzoo.evaluation.results import write_result
from avatarzoo.evaluation.runner import Options, check_failures, run_protocol
from avatarzoo.models.base import AvatarImage

COPY = Row("Source copy", "SourceCopy", extra=True)
NEAREST = Row("Nearest", "NearestSample", extra=True)
FITTED = Row("Ours", "GaussianDejaVu", fit="configs/gaussian_dejavu/smoke.yaml", trainer={"max_steps": 2})
PIXELS = (
    MetricSpec("PSNR", "psnr"),
    MetricSpec("Facial / L1", "l1", region="facial"),
    MetricSpec("ms", "render_ms"),
)


def protocol(
    *rows: Row, metrics: tuple[MetricSpec, ...] = PIXELS, task: str = "self_reenactment", **changes: Any
) -> Protocol:
    asks = {"cross_reenactment": ("sources", "drivers"), "reconstruction": ("images",)}
    roles = asks.get(task, ("clips",))
    settings = changes.pop("settings", {"source": "train", "train_fraction": 0.75})
    part = Part("only", task, {role: DataSpec("clips") for role in roles}, metrics, "", settings)  # type: ignore[arg-type]
    twin = Twin(people=1 if task == "self_reenactment" else 2, frames=8, size=48)
    values = {"picture": Picture(size=48), "twin": twin, **changes}
    return Protocol("made_up", 1, "", "", "A made-up table", (part,), tuple(rows), **values)


def options(folder: Path, **changes: Any) -> Options:
    return Options(output=folder, **{"procedural": True, "progress": False, **changes})


def test_a_protocol_becomes_a_valid_result(tmp_path: Path) -> None:
    result = run_protocol(protocol(FITTED, COPY, NEAREST), options(tmp_path))
    write_result(tmp_path / "result.json", result)
    stored = json.loads((tmp_path / "result.json").read_text())
    assert stored["procedural"] is True
    assert set(stored["metrics"]) == {"Ours", "Source copy", "Nearest"}
    for columns in stored["metrics"].values():
        assert columns["PSNR"]["count"] == 2
        assert columns["PSNR"]["failures"] == 0
        assert columns["PSNR"]["mean"] > 5
    assert stored["rows"]["Ours"]["costs"]["training_seconds"] > 0
    assert stored["rows"]["Ours"]["costs"]["parameters"] > 1000
    assert stored["protocol"]["hash"] == protocol(FITTED, COPY, NEAREST).hash
    check_failures(result, 0.0)


def test_a_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run_protocol(protocol(COPY), options(tmp_path))
    monkeypatch.setattr(SourceCopy, "animate", lambda *_: pytest.fail("rendered again"))
    second = run_protocol(protocol(COPY), options(tmp_path))
    assert second["metrics"]["Source copy"]["PSNR"] == first["metrics"]["Source copy"]["PSNR"]
    assert second["rows"]["Source copy"]["costs"] == first["rows"]["Source copy"]["costs"]


def test_another_protocol_renders_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_protocol(protocol(COPY), options(tmp_path))
    called = []
    animate = SourceCopy.animate
    monkeypatch.setattr(SourceCopy, "animate", lambda *a: called.append(1) or animate(*a))
    run_protocol(protocol(COPY, notes=("changed",)), options(tmp_path))
    assert called


def test_seeds_give_a_spread(tmp_path: Path) -> None:
    result = run_protocol(protocol(FITTED, COPY), options(tmp_path, seeds=(0, 1)))
    ours = result["metrics"]["Ours"]["PSNR"]
    assert len(ours["per_seed"]) == 2
    assert ours["spread"] is not None
    assert "per_seed" not in result["metrics"]["Source copy"]["PSNR"]


def test_predictions_made_elsewhere_score_the_same(tmp_path: Path) -> None:
    first = run_protocol(protocol(COPY), options(tmp_path / "a"))
    folder = tmp_path / "a" / "predictions" / "source-copy"
    second = run_protocol(protocol(), options(tmp_path / "b", predictions={"Elsewhere": folder}))
    assert second["metrics"]["Elsewhere"]["PSNR"]["mean"] == first["metrics"]["Source copy"]["PSNR"]["mean"]


def test_predictions_of_the_wrong_size_are_refused(tmp_path: Path) -> None:
    run_protocol(protocol(COPY), options(tmp_path / "a"))
    folder = tmp_path / "a" / "predictions" / "source-copy"
    for path in folder.rglob("*.png"):
        cv2.imwrite(str(path), np.zeros((32, 32, 3), np.uint8))
    with pytest.raises(BadSequenceError, match="32x32"):
        run_protocol(protocol(), options(tmp_path / "b", predictions={"Small": folder}))


def test_swapped_source_and_driver_do_not_find_their_pictures(tmp_path: Path) -> None:
    crossed = protocol(
        COPY, metrics=(MetricSpec("L1", "l1", against="source"),), task="cross_reenactment", settings={}
    )
    run_protocol(crossed, options(tmp_path / "a"))
    folder = tmp_path / "a" / "predictions" / "source-copy"
    for case in list((folder / "only").iterdir()):
        source, driver = case.name.split("--")
        case.rename(case.with_name(f"{driver}--{source}"))
    bare = protocol(metrics=crossed.parts[0].metrics, task="cross_reenactment", settings={})
    with pytest.raises(BadSequenceError, match="missing"):
        run_protocol(bare, options(tmp_path / "b", predictions={"Swapped": folder}))


def test_a_copy_of_the_source_is_the_source_and_not_the_driver(tmp_path: Path) -> None:
    metrics = (
        MetricSpec("to source", "l1", against="source"),
        MetricSpec("to driver", "l1", against="driver"),
    )
    result = run_protocol(
        protocol(COPY, metrics=metrics, task="cross_reenactment", settings={}), options(tmp_path)
    )
    columns = result["metrics"]["Source copy"]
    assert columns["to source"]["mean"] < 0.003  # 8 bits
    assert columns["to driver"]["mean"] > 0.02


def test_truth_is_not_made_up_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="compares with the target"):
        run_protocol(protocol(COPY, task="cross_reenactment", settings={}), options(tmp_path))


def test_pictures_that_are_not_finite_are_failures_and_fail_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    animate = SourceCopy.animate

    def broken(self, state, params, camera):
        image = animate(self, state, params, camera)
        rgb = image.rgb.clone()
        rgb[0] = torch.nan
        return AvatarImage(rgb, image.alpha)

    monkeypatch.setattr(SourceCopy, "animate", broken)
    result = run_protocol(protocol(COPY), options(tmp_path))
    assert result["metrics"]["Source copy"]["PSNR"]["failures"] == 1
    assert result["metrics"]["Source copy"]["PSNR"]["count"] == 1
    with pytest.raises(AvatarZooError, match="1 of 2 pictures"):
        check_failures(result, 0.05)


def test_pictures_of_the_wrong_size_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    animate = SourceCopy.animate
    monkeypatch.setattr(
        SourceCopy, "animate", lambda *a: AvatarImage(animate(*a).rgb[..., :40], animate(*a).alpha)
    )
    with pytest.raises(AvatarZooError, match="made pictures of"):
        run_protocol(protocol(COPY), options(tmp_path))


def test_an_all_black_prediction_has_no_face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    animate = SourceCopy.animate
    monkeypatch.setattr(SourceCopy, "animate", lambda *a: AvatarImage(0 * animate(*a).rgb, animate(*a).alpha))
    metrics = (MetricSpec("AKD", "akd"), MetricSpec("PSNR", "psnr"))
    changed = protocol(COPY, metrics=metrics, twin=Twin(people=1, frames=8, size=128))
    result = run_protocol(changed, options(tmp_path))
    columns = result["metrics"]["Source copy"]
    assert columns["AKD"]["mean"] is None
    assert columns["AKD"]["failures"] == 2
    assert columns["PSNR"]["mean"] < 10
    with pytest.raises(AvatarZooError, match="AKD could not be computed"):
        check_failures(result, 0.05)


def test_one_network_for_everybody_needs_no_checkpoint_where_its_row_names_the_weights(
    tmp_path: Path,
) -> None:
    """Untrained it draws the grey head that training starts from."""
    tiny = {"uv_size": 64, "network_size": 32, "network_width": 4}
    rows = Row("Before", "GaussianReconstruction", model=tiny), Row("Ours", "GaussianReconstruction")
    asked = protocol(*rows, task="reconstruction", settings={}, metrics=PIXELS[:1])
    result = run_protocol(asked, options(tmp_path))
    assert 5 < result["metrics"]["Before"]["PSNR"]["mean"] < 25
    assert "needs a checkpoint" in result["rows"]["Ours"]["reason"]


def test_only_what_we_added_ourselves_may_fail(tmp_path: Path) -> None:
    columns = {"PSNR": {"failures": 0, "count": 2}, "CSIM": {"failures": 2, "count": 0}}
    result = {
        "cases": {}, "lost_cases": [], "metrics": {"Ours": columns}, "rows": {"Ours": {"extra": True}},
        "protocol": {"columns": [{"column": "PSNR", "extra": False}, {"column": "CSIM", "extra": True}]},
    }  # fmt: skip
    check_failures(result, 0.05)
    for row, column in ((False, True), (True, False)):
        result["rows"]["Ours"]["extra"], result["protocol"]["columns"][1]["extra"] = row, column
        with pytest.raises(AvatarZooError, match="CSIM could not be computed"):
            check_failures(result, 0.05)


def test_missing_networks_leave_a_note_and_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AVATARZOO_ASSETS", "AVATARZOO_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    metrics = (MetricSpec("LPIPS", "lpips", {"net": "alex"}), MetricSpec("PSNR", "psnr"))
    result = run_protocol(protocol(COPY, metrics=metrics), options(tmp_path))
    assert "LPIPS" not in result["metrics"]["Source copy"]
    assert any(note.startswith("LPIPS was not computed") for note in result["notes"])


def test_rows_that_cannot_run_say_why(tmp_path: Path) -> None:
    rows = (Row("NOFA++", "NOFAPlusPlus2"), Row("One shot", "GaussianDejaVu"), COPY)
    result = run_protocol(protocol(*rows), options(tmp_path))
    assert "not in this version" in result["rows"]["NOFA++"]["reason"]
    assert "needs a checkpoint" in result["rows"]["One shot"]["reason"]
    assert result["rows"]["Source copy"]["state"] == "run"
    assert set(result["metrics"]) == {"Source copy"}


def test_unknown_rows_and_metrics_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no row 'Mine'"):
        run_protocol(protocol(COPY), options(tmp_path, rows=("Mine",)))
    with pytest.raises(UsageError, match="no metric 'pnsr'"):
        run_protocol(protocol(COPY, metrics=(MetricSpec("P", "pnsr"),)), options(tmp_path))
    with pytest.raises(UsageError, match="prset"):
        run_protocol(
            protocol(COPY, metrics=(MetricSpec("S", "ssim", {"prset": "valid"}),)), options(tmp_path)
        )


def test_data_that_are_not_given_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--data clips=FOLDER"):
        run_protocol(protocol(COPY, picture=Picture(head="procedural")), options(tmp_path, procedural=False))


def test_portraits_cannot_drive(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((64, 64, 3), np.uint8))
    crossed = protocol(COPY, task="cross_reenactment", settings={}, picture=Picture(head="procedural"))
    with pytest.raises(UsageError, match="swapped"):
        run_protocol(crossed, options(tmp_path, procedural=False, data={"": tmp_path}, layout="portraits"))


def test_every_baseline_runs_some_task() -> None:
    assert {"SourceCopy", "NearestSample", "TexturedHead", "LoudnessMouth", "ProceduralPeople"} == set(
        BASELINES
    )
    assert runner.STUDIES == ("novelty", "features", "convergence")
