"""Quality against training time: what is judged when, on whose clock, and that judging leaves the training alone."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from avatarzoo.evaluation import convergence
from avatarzoo.evaluation.case import Case
from avatarzoo.evaluation.contenders import FittedContender
from avatarzoo.evaluation.convergence import ConvergenceCurve, at_marks, few_shots, follow, reached_by
from avatarzoo.evaluation.costs import Costs
from avatarzoo.evaluation.procedural_footage import procedural_set
from avatarzoo.evaluation.protocol import DataSpec, MetricSpec, Part, Protocol, Row, Twin
from avatarzoo.evaluation.runner import Options, Run
from avatarzoo.evaluation.tasks import Tasks

ROWS = (
    Row("Ours", "GaussianDejaVu", "configs/gaussian_dejavu/smoke.yaml", trainer={"max_steps": 3}),
    Row("Nearest", "NearestSample", extra=True),
)
METRICS = (MetricSpec("L1", "l1"), MetricSpec("PSNR", "psnr"))


def part(**settings: Any) -> Part:
    given = {"every": 0, "train_fraction": 0.5, **settings}
    return Part("video", "convergence", {"clips": DataSpec("clips")}, METRICS, settings=given)


def make_run(output: Path, rows: tuple[Row, ...] = ROWS, **settings: Any) -> Run:
    twin = Twin(people=1, frames=12, size=64, rows=rows)
    protocol = Protocol("p", 1, "paper", "", "Curves", (part(**settings),), rows, twin=twin)
    return Run(protocol, Options(output, procedural=True, progress=False))


def clips() -> dict[str, Any]:
    return {"clips": procedural_set("clips", 1, 12, 64, 1.0)}


def held_out(count: int = 2) -> Case:
    asking = Part(
        "video", "self_reenactment", {}, METRICS, settings={"source": "train", "train_fraction": 0.5}
    )
    (case,) = Tasks(asking, clips(), 0, 0, lambda *_: None)
    return few_shots(case, count)


def point(seconds: float, value: float | None) -> dict[str, Any]:
    return {"step": 0, "seconds": seconds, "L1": value}


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return make_run(tmp_path_factory.mktemp("run"), frames=3, marks=[1e4]).run()


def test_every_step_is_judged_where_no_time_lies_between(result: dict[str, Any]) -> None:
    (curve,) = result["curves"]["Ours"]
    assert (curve["case"], curve["seed"]) == ("clips-0", 0)
    assert [p["step"] for p in curve["points"]] == [0, 1, 2, 3]
    seconds = [p["seconds"] for p in curve["points"]]
    assert seconds == sorted(set(seconds))
    assert all(set(p) == {"step", "seconds", "L1", "PSNR"} for p in curve["points"])


def test_what_needs_no_training_is_one_point_at_zero(result: dict[str, Any]) -> None:
    (curve,) = result["curves"]["Nearest"]
    assert [(p["step"], p["seconds"]) for p in curve["points"]] == [(0, 0.0)]


def test_the_table_tells_the_last_value(result: dict[str, Any]) -> None:
    for row in ("Ours", "Nearest"):
        last = result["curves"][row][0]["points"][-1]
        columns = result["metrics"][row]
        assert columns["L1"]["mean"] == pytest.approx(last["L1"])
        assert columns["PSNR after 10000 s"]["mean"] == pytest.approx(last["PSNR"])
    assert result["cases"]["video"][0]["pictures"] == 3
    assert result["rows"]["Ours"]["state"] == "run"


def test_judging_is_not_training_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def slow(*_: Any) -> Any:
        time.sleep(0.15)
        return lambda shot: shot.target

    monkeypatch.setattr(convergence, "performer", slow)
    module = torch.nn.Linear(1, 1).train()
    module.reconstruct = lambda: None  # type: ignore[assignment]
    costs = Costs()
    curve = ConvergenceCurve(held_out(), part(every=0.05), make_run(tmp_path, ()), costs, 0.05)
    trainer = SimpleNamespace(global_step=0)
    with costs.training():
        curve.on_train_start(trainer, module)  # type: ignore[arg-type]
        for step in range(1, 7):
            time.sleep(0.02)
            trainer.global_step = step
            curve.on_train_batch_end(trainer, module, None, None, step)  # type: ignore[arg-type]
        curve.on_train_end(trainer, module)  # type: ignore[arg-type]
    steps = [p["step"] for p in curve.points]
    assert module.training
    assert 0.12 <= costs.training_seconds < 0.27  # with the judging: at least 0.57
    assert steps[0] == 0
    assert steps[-1] == 6
    assert len(steps) < 6  # not after every step
    gaps = [b["seconds"] - a["seconds"] for a, b in zip(curve.points, curve.points[1:])]
    assert all(gap >= 0.049 for gap in gaps[:-1])
    assert all(p["L1"] == 0 for p in curve.points)


def test_an_avatar_that_is_judged_becomes_the_same_avatar(tmp_path: Path) -> None:
    run, case = make_run(tmp_path), held_out()
    contender = next(c for c in run.contenders if isinstance(c, FittedContender))
    plain = contender.fit(case, tmp_path / "plain.ckpt", Costs(), 0)
    follow(contender, case, part(), run, 0)
    (followed,) = (tmp_path / "avatars").rglob("avatar.ckpt")
    seen = torch.load(followed, weights_only=True)["state_dict"]
    assert all(torch.equal(value, seen[name]) for name, value in plain.state_dict().items() if name in seen)


def test_few_shots_are_spread_over_what_is_held_out() -> None:
    case = held_out(3)
    asked = clips()["clips"].open(0)
    assert case.count == 3
    found = torch.cat([shot.target for shot in case.shots if shot.target is not None])
    assert torch.equal(found, asked.batch(torch.tensor([6, 8, 10]))["image"])


def test_a_row_without_its_networks_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVATARZOO_ASSETS", str(tmp_path / "nothing"))
    monkeypatch.setenv("AVATARZOO_CACHE", str(tmp_path / "nothing"))
    run = make_run(tmp_path, ROWS[1:])
    asked = Part(
        "video", "convergence", {}, (*METRICS, MetricSpec("LPIPS", "lpips")), settings={"train_fraction": 0.5}
    )
    study = convergence.run_convergence(asked, clips(), run)
    assert "LPIPS" not in study["metrics"]["Nearest"]
    assert any(note.startswith("LPIPS was not computed") for note in study["notes"])


def test_the_value_reached_by_a_mark() -> None:
    points = [point(0, 5.0), point(10, 4.0), point(20, None), point(30, 3.0)]
    reached = [reached_by(points, "L1", mark) for mark in (-1, 0, 9.9, 10, 25, float("inf"))]
    assert reached == [None, 5, 5, 4, 4, 3]


def test_marks_average_over_people_and_seeds() -> None:
    curves = [
        {"case": "a", "seed": 0, "points": [point(1, 1.0), point(5, 0.2)]},
        {"case": "a", "seed": 1, "points": [point(3, 0.8), point(5, 0.4)]},
        {"case": "b", "seed": 0, "points": [point(1, 3.0), point(5, 0.9)]},
    ]
    columns = at_marks(curves, part(marks=[2, 0.5]))
    assert set(columns) == {"L1 after 2 s", "L1"}
    assert columns["L1"]["mean"] == pytest.approx(0.5)
    assert columns["L1"]["per_case"] == pytest.approx({"a": 0.3, "b": 0.9})
    assert (columns["L1 after 2 s"]["mean"], columns["L1 after 2 s"]["count"]) == (2.0, 2)
