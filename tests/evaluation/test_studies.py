"""How new parameters are, and what methods can do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from avatarzoo.errors import UsageError
from avatarzoo.evaluation import studies
from avatarzoo.evaluation.contenders import PicturesContender, make_contender
from avatarzoo.evaluation.footage import FootageSet
from avatarzoo.evaluation.procedural_footage import procedural_set
from avatarzoo.evaluation.protocol import Part, Row
from avatarzoo.evaluation.studies import numbers, run_features, run_novelty
from avatarzoo.heads import load_head
from avatarzoo.metrics.novelty import GROUPS, nearest_distances

HEAD = load_head("procedural")
SMOKE = "configs/gaussian_dejavu/smoke.yaml"


class Recorder:
    """What a study needs of a run."""

    def __init__(self) -> None:
        self.cases: dict[str, list] = {}
        self.lost: list[str] = []

    def note_lost(self, name: str, error: Exception) -> None:
        self.lost.append(name)


def novelty(sets: dict[str, Any], **settings: Any) -> tuple[dict[str, Any], Recorder]:
    run = Recorder()
    part = Part("parameters", "novelty", {}, (), settings=settings)
    return run_novelty(part, sets, run), run  # type: ignore[arg-type]


def people(role: str, count: int = 1, take: str = "") -> FootageSet:
    return procedural_set(role, count, 10, 32, 1.0, take=take)


def params(clips: FootageSet, i: int = 0) -> Any:
    return clips.open(i).frames.params


def still(clips: FootageSet) -> FootageSet:
    """The clips with their first frame's parameters throughout."""

    def opener(item: Any) -> Any:
        clip = clips.opener(item)
        return replace(clip, frames=replace(clip.frames, params=clip.frames.params.rows([0] * len(clip))))

    return FootageSet(clips.items, opener)


def test_the_end_of_the_clip_and_the_drivers_are_compared_with_its_beginning() -> None:
    train, drivers = people("clips"), people("drivers", 2)
    study, run = novelty({"train": train, "drivers": drivers}, train_fraction=0.6)
    seen = params(train)
    shown, asked = seen.rows(slice(0, 6)), seen.rows(slice(6, None))
    others = type(seen)(*(torch.cat(x) for x in zip(params(drivers, 0), params(drivers, 1))))
    for row, test in (("Testing Set", asked), ("Reenactment", others)):
        expected = nearest_distances(test, shown)
        assert list(study["metrics"][row]) == ["Translation", "Rotation", "Expression"]
        for group in GROUPS:
            found = study["metrics"][row][group.capitalize()]
            assert found["mean"] == pytest.approx(float(expected[group].mean()))
            assert found["count"] == test.batch
            assert found["per_case"] == pytest.approx({"clips-0": found["mean"]})
    assert run.cases["parameters"] == [{"name": "clips-0", "pictures": 6}]
    assert set(study["rows"]) == {"Testing Set", "Reenactment"}


def test_a_person_does_not_drive_themselves() -> None:
    both = people("clips", 2)
    study, _ = novelty({"train": both, "drivers": both}, train_fraction=0.5)
    first = float(nearest_distances(params(both, 1), params(both, 0).rows(slice(0, 5)))["translation"].mean())
    assert study["metrics"]["Reenactment"]["Translation"]["per_case"]["clips-0"] == pytest.approx(first)
    assert study["metrics"]["Reenactment"]["Translation"]["count"] == 20


def test_a_test_set_of_its_own_leaves_the_training_set_whole() -> None:
    train, test = people("clips"), people("clips", take="test")
    study, _ = novelty({"train": train, "test": test})
    expected = nearest_distances(params(test), params(train))["rotation"]
    assert study["metrics"]["Testing Set"]["Rotation"]["mean"] == pytest.approx(float(expected.mean()))
    assert "Reenactment" not in study["metrics"]
    with pytest.raises(UsageError, match="no test clip of clips-0"):
        novelty({"train": train, "test": people("other")})


def test_other_conventions_and_their_absence_change_the_numbers() -> None:
    sets = {"train": people("clips")}
    plain = novelty(sets)[0]["metrics"]["Testing Set"]["Expression"]["mean"]
    other = novelty(sets, convention={"norm": "mean"})[0]["metrics"]["Testing Set"]["Expression"]["mean"]
    assert plain != pytest.approx(other)


def test_a_training_clip_that_does_not_move_is_the_users_error() -> None:
    with pytest.raises(UsageError, match=r"clips-0.*does not move"):
        novelty({"train": still(people("clips"))})


def test_numbers_leave_out_what_is_not_finite() -> None:
    found = numbers(torch.tensor([1.0, 3.0, float("nan")]))
    assert (found["mean"], found["std"], found["count"], found["failures"]) == (2.0, 1.0, 2, 1)
    assert numbers(torch.tensor([float("nan")]))["mean"] is None


@pytest.fixture(scope="module")
def features() -> dict[str, Any]:
    rows = [Row("Ours", "GaussianDejaVu", SMOKE, trainer={"max_steps": 2}), Row("Copy", "SourceCopy")]
    return run_features([make_contender(row, "procedural", None, 1.0) for row in rows])


def test_features_of_a_trained_method_and_a_baseline(features: dict[str, Any]) -> None:
    answers = {f: {c: n["text"] for c, n in columns.items()} for f, columns in features["metrics"].items()}
    assert answers["Single-Image Reconstruction"] == {"Ours": "no", "Copy": "yes"}
    assert answers["Easy Animation"] == {"Ours": "yes", "Copy": "no"}
    assert answers["Flexible Shape"] == {"Ours": "yes", "Copy": "no"}
    assert answers["Fast Training on Videos"] == {"Ours": "yes", "Copy": "N/A"}
    assert features["metrics"]["Easy Animation"]["Ours"]["mean"] == 1.0
    assert features["metrics"]["Fast Training on Videos"]["Copy"]["mean"] is None


def test_every_feature_has_its_evidence(features: dict[str, Any]) -> None:
    assert len(features["notes"]) == 10
    assert "Ours, Flexible Shape: yes (learnable offsets: global_delta)" in features["notes"]
    assert any(note.startswith("Ours, Easy Animation: yes (opening the jaw") for note in features["notes"])


def test_an_hour_of_training_is_not_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studies, "TIMED_STEPS", 1)
    row = Row("Ours", "GaussianDejaVu", SMOKE, trainer={"max_steps": 10**7})
    contender = make_contender(row, "procedural", None, 1.0)
    fast, words = studies.fast_training(contender)  # type: ignore[arg-type]
    assert not fast
    assert words.startswith("10000000 steps would take")


@pytest.mark.slow
def test_features_are_tried_with_the_head_of_the_method() -> None:
    row = Row("Textured", "TexturedHead")
    other: Any = make_contender(row, "ict", None, 1.0)
    params = studies.in_terms_of(other.module.head, HEAD.zeros(2)._replace(rotation=torch.ones(2, 3)), HEAD)
    assert params.expression.shape == (2, len(other.module.head.expression_names))
    assert params.rotation.eq(1).all()
    source = HEAD.zeros(1)
    source.expression[:, HEAD.expression_names.index("jawOpen")] = 0.7
    moved = studies.in_terms_of(other.module.head, source, HEAD).expression
    assert moved[0, other.module.head.expression_names.index("jawOpen")] == pytest.approx(0.7)
    assert moved.sum() == pytest.approx(0.7)
    assert studies.abilities(other)["Easy Animation"][0] is True


def test_finished_pictures_have_no_features(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no features"):
        run_features([PicturesContender(Row("Theirs", "pictures"), tmp_path)])
