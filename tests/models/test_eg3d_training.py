"""EG3D's training: what each step touches, counting, resuming, two processes, and what comes out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from avatarzoo.errors import BadCheckpointError, UsageError
from avatarzoo.models.eg3d import EG3DTraining
from avatarzoo.networks.superresolution import LAYOUTS
from avatarzoo.priors.cameras import frontal_label
from avatarzoo.priors.generator_file import load_generator

sys.path.insert(0, str(Path(__file__).parent))
from eg3d_tiny import CHANGES, LAYOUT, Curve, Squares, tiny, trainer


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LAYOUTS, "2X", LAYOUT)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def copied(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in network.state_dict().items()}


def test_steps_and_pictures_are_counted_once(tmp_path: Path) -> None:
    """Four kinds of optimiser steps happen in an iteration; Lightning's counter, which stops the run, sees one."""
    module, curve = tiny(density_interval=2, r1_interval=3), Curve()
    before = copied(module.generator), copied(module.discriminator)
    run = trainer(5, tmp_path, curve)
    run.fit(module, Squares())
    assert run.global_step == int(module.iteration) == len(curve.rows) == 5
    assert int(module.seen) == 20
    assert not same(before[0], copied(module.generator))
    assert not same(before[1], copied(module.discriminator))
    states = [optimiser.optimizer.state for optimiser in module.optimizers()]
    steps = [max(int(s["step"]) for s in state.values()) for state in states]
    assert steps == [5 + 3, 5 + 2]  # density at 0, 2, 4; gradient penalty at 0, 3


def test_each_step_trains_one_network(tmp_path: Path) -> None:
    module, data = tiny(), Squares()
    run = trainer(1, tmp_path)
    run.fit(module, data)
    batch = data.on_after_batch_transfer(run.train_dataloader.batch(1), 0)
    for step, trained, idle in (
        (module.generator_step, module.generator, module.discriminator),
        (module.density_step, module.generator, module.discriminator),
        (module.discriminator_step, module.discriminator, module.generator),
        (module.r1_step, module.discriminator, module.generator),
    ):
        kept, moved = copied(idle), copied(trained)
        kept.pop(
            "mapping.mean_code", None
        )  # the discriminator's step moves the generator's mean code, as released
        step(batch)
        now = copied(idle)
        now.pop("mapping.mean_code", None)
        assert same(kept, now), step.__name__
        assert not same(moved, copied(trained)), step.__name__


def test_average_follows(tmp_path: Path) -> None:
    module = tiny(average_half_life=0.004, average_ramp=0.0)  # half in one step of four pictures
    start = copied(module.generator)["decoder.output.weight"]
    trainer(1, tmp_path).fit(module, Squares())
    moved = module.generator.decoder.output.weight
    assert torch.allclose(module.average.decoder.output.weight, (start + moved) / 2, atol=1e-7)
    assert not any(p.requires_grad for p in module.average.parameters())


def test_raw_resolution_grows(tmp_path: Path) -> None:
    module = tiny()
    assert module.neural_resolution == 8
    trainer(3, tmp_path).fit(module, Squares())
    assert module.neural_resolution == 11  # 12 of 30 pictures: 8 + 0.4 * 8
    module.seen += 1000
    assert module.neural_resolution == 16


def test_a_stopped_run_goes_on_as_if_it_had_not(tmp_path: Path) -> None:
    whole, first, rest = Curve(), Curve(), Curve()
    module = tiny()
    trainer(7, tmp_path, whole).fit(module, Squares())
    run = trainer(3, tmp_path, first)
    run.fit(tiny(), Squares())
    run.save_checkpoint(tmp_path / "stopped.ckpt")
    torch.manual_seed(99)  # nothing may depend on the global state
    resumed = tiny()
    trainer(7, tmp_path, rest).fit(resumed, Squares(), ckpt_path=tmp_path / "stopped.ckpt", weights_only=True)
    for name in ("loss_g", "loss_d", "kimg"):
        assert [row[name] for row in first.rows + rest.rows] == [row[name] for row in whole.rows]
    assert same(copied(module), copied(resumed))


@pytest.mark.slow
def test_two_processes_are_one_with_the_doubled_batch(tmp_path: Path) -> None:
    """Sample positions and layer noise are each process's own and switched off here; everything else is on."""
    script = Path(__file__).parent / "eg3d_tiny.py"
    for processes in (1, 2):
        done = subprocess.run(
            [sys.executable, str(script), str(processes), str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-2000:]
    one, two = (json.loads((tmp_path / f"{n}.json").read_text()) for n in (1, 2))
    assert len(one) == len(two) == 4
    for a, b in zip(one, two):
        assert a == pytest.approx(b, rel=1e-3, abs=1e-5)
    one, two = (torch.load(tmp_path / f"{n}.pt", weights_only=True) for n in (1, 2))
    far = {k: float((one[k] - two[k]).abs().max()) for k in one if one[k].is_floating_point()}
    far = {k: v for k, v in far.items() if "mean_code" not in k and v > 0.01}
    assert (
        not far
    )  # four Adam steps move a weight by up to 0.01; rounding may flip the sign of a tiny gradient


def test_the_generator_goes_home(tmp_path: Path) -> None:
    module = tiny().eval()
    loaded = load_generator(module.export(tmp_path))
    latent, label = torch.randn(2, 8), frontal_label(2)
    with torch.no_grad():
        ours, theirs = module(latent, label), loaded(loaded.codes(latent, label), label)
    assert torch.equal(ours.rgb, theirs.rgb)
    assert loaded.config == module.generator.config


def test_a_second_stage_takes_weights_but_no_counters(tmp_path: Path) -> None:
    module = tiny()
    run = trainer(2, tmp_path)
    run.fit(module, Squares())
    run.save_checkpoint(tmp_path / "first.ckpt", weights_only=True)
    second = tiny(start=str(tmp_path / "first.ckpt"), blur=0.0)
    assert int(second.seen) == int(second.iteration) == 0
    assert same(copied(second.discriminator), copied(module.discriminator))
    with pytest.raises(BadCheckpointError, match="--model"):
        tiny(start=str(tmp_path / "nothing.ckpt"))


def test_user_errors() -> None:
    with pytest.raises(UsageError, match="ffhq512-64"):
        EG3DTraining(network="ffhq")
    with pytest.raises(UsageError, match="no field"):
        EG3DTraining(changes={**CHANGES, "planes": 3})
