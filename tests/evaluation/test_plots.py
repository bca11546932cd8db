"""What plots draw, told from the figures' own lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avatarzoo.evaluation.plots import axis_label, curves_figure, frames_figure, plots_of
from avatarzoo.evaluation.results import write_result

COLUMNS = [
    {"column": "LPIPS", "metric": "lpips", "extra": True},
    {"column": "Shuffled, {subset} / PSNR", "metric": "psnr", "extra": True},
]


def result(**more: Any) -> dict[str, Any]:
    """A result of nothing, with a protocol."""
    protocol = {
        "name": "p",
        "version": 1,
        "hash": "0" * 16,
        "paper": "p",
        "table": "",
        "title": "A figure",
        "columns": COLUMNS,
    }
    given = {
        "head": None,
        "seeds": [0],
        "data": {},
        "rows": {},
        "cases": {},
        "lost_cases": [],
        "open_choices": [],
        "notes": [],
    }
    return {"procedural": False, "protocol": protocol, "metrics": {}, **given, **more}  # fmt: skip


def curve(seed: int, *points: tuple[float, float | None]) -> dict[str, Any]:
    told = [{"step": i, "seconds": x, "LPIPS": y, "L1": 0.1} for i, (x, y) in enumerate(points)]
    return {"case": "a", "seed": seed, "points": told}


def convergence(longest: float = 20.0) -> dict[str, Any]:
    trained = [curve(0, (0, 0.5), (10, 0.3), (longest, 0.1)), curve(1, (0, 0.7), (longest, 0.3))]
    return result(curves={"Ours": trained, "Copy": [curve(0, (0, 0.4))], "Blind": [curve(0, (0, None))]})


def few_shot(*parts: str) -> dict[str, Any]:
    columns = {
        f"{part}, {count} frames / LPIPS" if part else f"{count} frames / LPIPS": {"mean": 1 / count + i, "failures": 0}
        for i, part in enumerate(parts)
        for count in (8, 1, 2)
    }  # fmt: skip
    return result(metrics={"Ours": {**columns, "Training time": {"mean": 1.0, "failures": 0}}})


def drawn(axes: Any) -> dict[str, Any]:
    return {line.get_label(): line for line in axes.get_lines()}


def test_curves_are_means_over_seeds_between_their_extremes() -> None:
    lpips, _ = curves_figure(convergence()).get_axes()
    line = drawn(lpips)["Ours"]
    assert line.get_xdata().tolist() == [0, 10, 20]
    assert np.allclose(line.get_ydata(), [0.6, 0.4, 0.2])  # the second seed is 0.5 at 10 s
    band = lpips.collections[0].get_paths()[0].vertices
    assert {(x, round(y, 6)) for x, y in band} >= {
        (0, 0.5),
        (0, 0.7),
        (10, 0.3),
        (10, 0.5),
        (20, 0.1),
        (20, 0.3),
    }


def test_untrained_rows_are_level_and_missing_values_are_not_drawn() -> None:
    lpips, l1 = curves_figure(convergence()).get_axes()
    assert set(drawn(lpips)) == {"Ours", "Copy (no training)"}
    assert set(drawn(lpips)["Copy (no training)"].get_ydata()) == {0.4}
    assert "Blind (no training)" in drawn(l1)


def test_curves_name_units_direction_and_people() -> None:
    figure = curves_figure(convergence() | {"procedural": True})
    axes = figure.get_axes()[0]
    assert axes.get_xlabel() == "training time [seconds]"
    assert axes.get_ylabel() == "LPIPS, lower is better"
    assert "procedural" in figure.get_suptitle()
    assert "2 runs" in figure.get_suptitle()
    assert "procedural" not in curves_figure(convergence()).get_suptitle()
    minutes = curves_figure(convergence(600)).get_axes()[0]
    assert minutes.get_xlabel() == "training time [minutes]"
    assert drawn(minutes)["Ours"].get_xdata()[-1] == 10
    assert axis_label(convergence(), "PSNR") == "PSNR [dB], higher is better"


def test_training_that_ended_early_keeps_its_last_value() -> None:
    curves = {"Ours": [curve(0, (0, 1.0), (10, 0.5)), curve(1, (0, 1.0), (20, 0.1))]}
    line = drawn(curves_figure(result(curves=curves)).get_axes()[0])["Ours"]
    assert np.allclose(line.get_ydata()[-1], (0.5 + 0.1) / 2)


def test_one_line_for_ordered_and_one_for_shuffled_frames() -> None:
    (axes,) = frames_figure(few_shot("Ordered", "Shuffled")).get_axes()
    lines = drawn(axes)
    assert set(lines) == {"Ours, ordered", "Ours, shuffled"}
    assert lines["Ours, ordered"].get_xdata().tolist() == [1, 2, 8]
    assert np.allclose(lines["Ours, ordered"].get_ydata(), [1, 0.5, 0.125])
    assert np.allclose(lines["Ours, shuffled"].get_ydata(), [2, 1.5, 1.125])
    assert lines["Ours, ordered"].get_color() == lines["Ours, shuffled"].get_color()
    assert lines["Ours, ordered"].get_linestyle() != lines["Ours, shuffled"].get_linestyle()
    assert [t.get_text() for t in axes.get_xticklabels()] == ["1", "2", "8"]


def test_the_band_over_seeds_of_few_shot_results() -> None:
    given = few_shot("")
    for numbers in given["metrics"]["Ours"].values():
        numbers["per_seed"] = [numbers["mean"] - 0.1, numbers["mean"] + 0.1]
    figure = frames_figure(given)
    (axes,) = figure.get_axes()
    assert set(drawn(axes)) == {"Ours"}
    heights = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert heights.min() == pytest.approx(0.025)
    assert heights.max() == pytest.approx(1.1)
    assert "2 seeds" in figure.get_suptitle()


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (convergence(), ["result_against_time.png"]),
        (few_shot(""), ["result_against_frames.png"]),
        (result(metrics={"Ours": {"LPIPS": {"mean": 1.0, "failures": 0}}}), []),
        (result(metrics={"Ours": {"4 frames / LPIPS": {"mean": 1.0, "failures": 0}}}), []),
    ],
)
def test_plots_lie_beside_the_result_and_nothing_else_does(given, names: list[str], tmp_path: Path) -> None:
    file = write_result(tmp_path / "result.json", given)
    made = plots_of(file)
    assert [path.name for path in made] == names
    assert {path.name for path in tmp_path.iterdir()} == {"result.json", *names}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in made)
