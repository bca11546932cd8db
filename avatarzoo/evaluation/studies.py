"""Tables that are not "render and score": how new test frames are (StyleAvatar Table 4), what methods can do (Déjà-vu Table 1),
and how fast they get there (Déjà-vu Figures 6 and 11, :mod:`avatarzoo.evaluation.convergence`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from avatarzoo.data.procedural import ProceduralActor
from avatarzoo.errors import AvatarZooError, UsageError
from avatarzoo.evaluation.case import Case, Shots
from avatarzoo.evaluation.contenders import Contender, FittedContender, ModuleContender
from avatarzoo.evaluation.convergence import run_convergence
from avatarzoo.evaluation.costs import LOSS_PREFIXES, Costs
from avatarzoo.evaluation.footage import FootageSet, joined
from avatarzoo.evaluation.procedural_footage import procedural_set
from avatarzoo.evaluation.protocol import Part
from avatarzoo.heads.base import HeadModel, HeadParams
from avatarzoo.metrics.novelty import GROUPS, nearest_distances
from avatarzoo.models.base import AvatarModule

if TYPE_CHECKING:
    from avatarzoo.evaluation.runner import Run

Study = dict[str, Any]
FAST_TRAINING_MINUTES = 10.0
"""The paper calls 8 minutes fast, half an hour not (Tables 1 and 4)."""
TIMED_STEPS = 6
EFFICIENT_MS = 1000 / 24
"""Film speed on the machine at hand."""


def run(part: Part, sets: dict[str, FootageSet], run: Run) -> Study:
    """The study of a part's task; what it returns is merged into the result (:func:`.summary.merge_study`)."""
    if part.task == "novelty":
        return run_novelty(part, sets, run)
    if part.task == "convergence":
        return run_convergence(part, sets, run)
    return run_features(run.contenders)


def numbers(
    values: Tensor, label: str | None = None, per_case: dict[str, float] | None = None
) -> dict[str, Any]:
    """A column's numbers from one value per frame."""
    good = values[torch.isfinite(values)].double()
    return {
        "mean": float(good.mean()) if len(good) else None,
        "std": float(good.std(correction=0)) if len(good) else None,
        "count": len(good),
        "failures": len(values) - len(good),
        "label": label,
        "per_case": per_case or {},
    }


# ---- StyleAvatar, Table 4 ------------------------------------------------------------------------------------------------------


def run_novelty(part: Part, sets: dict[str, FootageSet], run: Run) -> Study:
    """Average nearest parameters of test frames (role ``test``, the same person) and of reenactment (role ``drivers``).

    Without a role ``test`` the last part of each training clip (setting ``train_fraction``) is tested.
    """
    rows: dict[str, dict[str, dict[str, list]]] = {}
    cases = run.cases.setdefault(part.name, [])
    for person, train, test in _training_sets(part, sets, run):
        asked = {"Testing Set": test, "Reenactment": _drivers(sets, person, run)}
        cases.append({"name": person, "pictures": train.batch})
        for row, params in asked.items():
            if params is None:
                continue
            try:
                distances = nearest_distances(params, train, **part.settings.get("convention", {}))
            except ValueError as error:
                raise UsageError(f"{person}: {error}") from error
            for group, distance in distances.items():
                found = rows.setdefault(row, {}).setdefault(group, {"values": [], "cases": []})
                found["values"].append(distance)
                found["cases"].append((person, float(distance.mean())))
    metrics = {
        row: {
            group.capitalize(): numbers(
                torch.cat(groups[group]["values"]), None, dict(groups[group]["cases"])
            )
            for group in GROUPS
        }
        for row, groups in rows.items()
    }
    described = {
        row: {"method": "parameters of the footage", "state": "run", "extra": False} for row in metrics
    }
    return {"metrics": metrics, "rows": described}


def _training_sets(part: Part, sets: dict[str, FootageSet], run: Run):
    """``(person, training parameters, test parameters)``."""
    train = sets["train"]
    for person in dict.fromkeys(train.identities):
        found = _person(train, person, run)
        if found is None:
            continue
        if "test" in sets:
            held = _person(sets["test"], person, run)
            if held is None:
                raise UsageError(f"There is no test clip of {person}; the role test needs one.")
            yield person, found, held
        else:
            count = int(float(part.settings.get("train_fraction", 0.8)) * found.batch)
            yield person, found.rows(slice(0, count)), found.rows(slice(count, None))


def _person(clips: FootageSet, person: str, run: Run) -> HeadParams | None:
    found = []
    for i, identity in enumerate(clips.identities):
        if identity == person:
            try:
                found.append(clips.open(i))
            except AvatarZooError as error:
                run.note_lost(clips.names[i], error)
    return joined(found, person).frames.params if found else None


def _drivers(sets: dict[str, FootageSet], person: str, run: Run) -> HeadParams | None:
    """Parameters of everybody else who drives."""
    if "drivers" not in sets:
        return None
    others = [p for p in dict.fromkeys(sets["drivers"].identities) if p != person]
    found = [params for p in others if (params := _person(sets["drivers"], p, run)) is not None]
    return HeadParams(*(torch.cat(x) for x in zip(*found))) if found else None


# ---- Déjà-vu, Table 1 ----------------------------------------------------------------------------------------------------------


def run_features(contenders: list[Contender]) -> Study:
    """What the project's methods can do, tried out on a made-up person; the table's columns are families of methods.

    Everything but the flexible shape is measured on this machine; a method's speed elsewhere may give another answer.
    """
    metrics: dict[str, dict[str, dict[str, Any]]] = {}
    notes = []
    for contender in contenders:
        column = (
            contender.row.model.get("column", contender.row.row) if contender.row.model else contender.row.row
        )
        for feature, (answer, evidence) in abilities(contender).items():
            mean = None if answer is None else float(answer)
            text = "N/A" if answer is None else ("yes" if answer else "no")
            metrics.setdefault(feature, {})[column] = {
                "mean": mean,
                "std": None,
                "count": 1,
                "failures": 0,
                "text": text,
            }
            notes.append(f"{column}, {feature}: {text} ({evidence})")
    described = {row: {"method": "tried out", "state": "run", "extra": False} for row in metrics}
    return {"metrics": metrics, "rows": described, "notes": notes}


def abilities(contender: Contender) -> dict[str, tuple[bool | None, str]]:
    """Feature -> (yes, no or not applicable, evidence)."""
    actor = ProceduralActor(seed=11, size=128, background=1.0)
    params, camera = actor.motion(30), actor.camera.to(contender.device)
    pictures = actor.render(params.rows(slice(0, 1)))[0].to(contender.device)
    if isinstance(contender, FittedContender):
        made = contender.method(**{**contender.arguments, "head": "procedural"})
        module: AvatarModule = made.eval().to(contender.device)
        params = params.to(contender.device)
        training: tuple[bool | None, str] = fast_training(contender)
        single = (False, "this configuration is trained on a person's video")
    elif isinstance(contender, ModuleContender):
        module = contender.module
        params = in_terms_of(module.head, params, actor.head).to(contender.device)
        state = module.reconstruct(pictures, params.rows(slice(0, 1)), camera)
        single = (bool(state.tensors), "one picture was enough")
        training = (None, "nothing is trained")
    else:
        raise UsageError("Finished pictures have no features to try out.")
    return {
        "Single-Image Reconstruction": single,
        "Easy Animation": easy_animation(module, params, camera, pictures),
        "Flexible Shape": flexible_shape(module, params),
        "Fast Training on Videos": training,
        "Efficient Rendering": efficient_rendering(module, params, camera, pictures),
    }


def in_terms_of(head: HeadModel, params: HeadParams, own: HeadModel) -> HeadParams:
    """The motion of head ``own`` for another head model: its average person, pose and joints, coefficients of the same names."""
    names = {name: i for i, name in enumerate(own.expression_names)}
    result = head.zeros(params.batch)
    for i, name in enumerate(head.expression_names):
        if name in names:
            result.expression[:, i] = params.expression[:, names[name]]
    return params._replace(identity=result.identity, expression=result.expression)


def _state(module: AvatarModule, params: HeadParams, camera: Any, pictures: Tensor) -> Any:
    return module.reconstruct(pictures, params.rows(slice(0, 1)), camera)


def fast_training(contender: FittedContender) -> tuple[bool, str]:
    """Whether the row's steps take minutes on this machine: a few steps are timed, start included, the rest extrapolated."""
    clip = procedural_set("features", 1, 8, 128, 1.0).open(0)
    rows = torch.arange(len(clip))
    case = Case(
        "features", "", clip.batch(rows[:1]), Shots(clip, rows, True, None), len(rows), clip.head, clip
    )
    short = replace_steps(contender, TIMED_STEPS)
    costs = Costs(contender.device)
    with TemporaryDirectory() as folder:
        short.fit(case, Path(folder) / "avatar.ckpt", costs, seed=0)
    steps = int(contender.trainer["max_steps"])
    minutes = costs.training_seconds * steps / TIMED_STEPS / 60
    words = f"{steps} steps would take {minutes:.1f} minutes here, by {TIMED_STEPS} timed steps on pictures of 128 x 128"
    return minutes <= FAST_TRAINING_MINUTES, words


def replace_steps(contender: FittedContender, steps: int) -> FittedContender:
    return FittedContender(
        replace(contender.row, trainer={**contender.row.trainer, "max_steps": steps}), contender.device
    )


@torch.no_grad()
def easy_animation(
    module: AvatarModule, params: HeadParams, camera: Any, pictures: Tensor
) -> tuple[bool, str]:
    """Whether another expression alone gives another picture."""
    state = _state(module, params, camera, pictures)
    still = params.rows(slice(0, 1))
    names = module.head.expression_names
    moved = still._replace(expression=still.expression.clone(), jaw=still.jaw.clone())
    if "jawOpen" in names:
        moved.expression[:, names.index("jawOpen")] = 0.8
    else:
        moved.jaw[:, 0] += 0.25
    a, b = (module.animate(state, p, camera).rgb for p in (still, moved))
    change = float((a - b).abs().mean())
    return change > 1e-4, f"opening the jaw changes the picture by {change:.4f} on average"


@torch.no_grad()
def flexible_shape(module: AvatarModule, params: HeadParams) -> tuple[bool, str]:
    """Whether training moves geometry off the head model's surface: parameters that, when changed, move the Gaussians."""
    first = params.rows(slice(0, 1))
    before = module.gaussians_at(first)
    if before is None:
        return False, "not made of Gaussians"
    offsets = []
    for name, value in module.named_parameters():
        if value.requires_grad and not name.startswith(LOSS_PREFIXES):
            kept = value.clone()
            value.add_(0.1)
            after = module.gaussians_at(first)
            value.copy_(kept)
            if after is not None and not torch.equal(after.means, before.means):
                offsets.append(name)
    return bool(offsets), f"learnable offsets: {', '.join(offsets)}" if offsets else "no learnable geometry"


@torch.no_grad()
def efficient_rendering(
    module: AvatarModule, params: HeadParams, camera: Any, pictures: Tensor
) -> tuple[bool, str]:
    """Whether a frame takes no longer than film allows, on this machine, at 512 x 512."""
    state = _state(module, params, camera, pictures)
    large = camera.resized(512, 512)
    costs = Costs(pictures.device)
    for i in range(4):
        with costs.rendering():
            module.animate(state, params.rows(slice(i, i + 1)), large)
    ms = costs.render_ms
    assert ms is not None
    return ms <= EFFICIENT_MS, f"{ms:.0f} ms a picture of 512 x 512 on this machine"
