"""Issue bar 1: nothing changes at step 0, every stage trains only what the table says, two video steps to one synthetic."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import pytest
import torch

from avatarzoo.errors import BadCheckpointError, UsageError
from avatarzoo.models.nofaplusplus.generator import PARTS
from avatarzoo.models.nofaplusplus.stages import STAGES
from avatarzoo.priors.cameras import frontal_label
from tests.models.nofaplusplus.conftest import clip_pairs, warm

EVERYTHING = {"encoder", "detail", "field", "prior"}
TABLE = {
    # stage: kind of each step -> parts that it changes (fact sheet, section 3.5)
    "1a": ("s", {"encoder"}),
    "1b": ("s", {"detail"}),
    "2": ("v", EVERYTHING),
    "3": ("vvs", {"field"}),
    "4": ("v", {"field"}),
}


class Watch(L.Callback):
    """All tensors before the first step and after every step."""

    def __init__(self) -> None:
        self.seen: list[dict[str, torch.Tensor]] = []

    def on_train_start(self, trainer, module) -> None:
        self.look(module)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.look(module)

    def look(self, module) -> None:
        self.seen.append({k: v.clone() for k, v in module.generator.state_dict().items()})

    def moved(self, step: int) -> set[str]:
        before, after = self.seen[step], self.seen[step + 1]
        return {k for k in before if not torch.equal(before[k], after[k])}


def parts_of(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def test_a_fresh_fine_volume_is_the_coarse_one_and_the_field_moves_nothing(make) -> None:
    networks = make().generator
    batch = clip_pairs(make().head, 0)
    label = frontal_label(2)
    with torch.no_grad():
        halfway = networks.encode(batch["source"]["image"])
        coarse = networks.volume(halfway)
        fine = networks.volume(halfway, networks.fuse(halfway, batch["source"]["image"], label))
        planes = networks.prior.planes(networks.encoder.average.expand(2, -1, -1))
        assert torch.equal(fine.planes, coarse.planes)
        torch.testing.assert_close(coarse.planes, planes, rtol=0, atol=1e-6)
        identity, expression = torch.randn(2, 100), torch.randn(2, 61)
        prepared = networks.field.prepare(identity, expression)
        for a, b in zip(networks.render(fine, label, prepared), networks.render(coarse, label)):
            assert torch.equal(a, b)


@pytest.mark.parametrize("stage", TABLE)
def test_a_stage_changes_only_what_the_table_says(make, fit, stage: str) -> None:
    kinds, parts = TABLE[stage]
    watch = Watch()
    module = make(stage=stage, lr=1e-3)
    warm(module)
    fit(module, kinds * 2 if stage == "3" else kinds * 3, watch)
    for step in range(len(watch.seen) - 1):
        expected = EVERYTHING if stage == "3" and step % 3 == 2 else parts
        moved = watch.moved(step)
        assert parts_of(moved) == expected, step
        assert not any(name.startswith("prior.mapping") for name in moved)
        assert "encoder.average" not in moved


def test_all_of_the_entire_model_moves(make, fit) -> None:
    module = make(stage="2", lr=1e-3)
    warm(module)
    watch = Watch()
    fit(module, "vv", watch)
    weights = {k for k, _ in module.generator.named_parameters() if not k.startswith("prior.mapping")}
    still = weights - watch.moved(1)
    assert not {k for k in still if "noise_strength" not in k and "constant" not in k}, still


def test_the_prior_stays_when_told(make, fit) -> None:
    watch = Watch()
    module = make(stage="2", train_prior=False, lr=1e-3)
    warm(module)
    fit(module, "v", watch)
    assert parts_of(watch.moved(0)) == EVERYTHING - {"prior"}


def test_two_video_steps_then_one_synthetic(make, fit) -> None:
    assert "".join(STAGES["3"].kind(step)[0] for step in range(9)) == "vvsvvsvvs"
    with pytest.raises(UsageError, match=r"Step 2 .* samples of the prior"):
        fit(make(stage="3"), "vvv")
    with pytest.raises(UsageError, match=r"Step 0 .* pairs of frames"):
        fit(make(stage="3"), "svv")
    with pytest.raises(UsageError, match="pairs of frames"):
        fit(make(stage="2"), "s")


def test_published_numbers() -> None:
    rates = {name: stage.rate for name, stage in STAGES.items()}
    assert rates == {"1a": 1e-4, "1b": 1e-4, "2": 2e-5, "3": 1e-4, "4": 2e-5}
    assert STAGES["1a"].synthetic.weights == {"lpips": 1.0, "l2": 1.0, "depth": 2.0}
    assert STAGES["2"].video.weights == {"rec": 1.0, "bbox": 1.0, "id": 0.1}
    assert STAGES["3"].video.weights == {"bbox": 2.0, "id": 1.0}
    assert STAGES["3"].synthetic.weights == STAGES["1b"].synthetic.weights
    assert STAGES["4"].video.weights == {"bbox": 1.0, "id": 0.2}
    assert STAGES["4"].video.mouth_only
    assert set(PARTS) == EVERYTHING


def test_made_up_people_come_from_the_prior_as_it_was(make, fit) -> None:
    module = make(stage="3", lr=1e-2)
    original = {k: v.clone() for k, v in module.generator.prior.state_dict().items()}
    fit(module, "vvs")
    moved = module.generator.prior.state_dict()
    assert any(not torch.equal(moved[k], original[k]) for k in original)
    teacher = module.the_teacher().state_dict()
    assert all(torch.equal(teacher[k], original[k]) for k in original)
    assert not any(k.startswith("teacher") for k in module.state_dict())


def test_a_stage_starts_from_the_one_before(make, fit, tmp_path: Path, capsys) -> None:
    first = make(stage="1a", lr=1e-3, lambda_code=1.0)
    fit(first, "ss").save_checkpoint(tmp_path / "1a.ckpt", weights_only=True)
    second = make(stage="1b", start=str(tmp_path / "1a.ckpt"), average=0.9)
    watch = Watch()
    fit(second, "s", watch)
    encoder = first.generator.encoder.state_dict()
    assert all(torch.equal(watch.seen[0][f"encoder.{k}"], v) for k, v in encoder.items())
    assert all(torch.equal(v, second.average.encoder.state_dict()[k]) for k, v in encoder.items())
    assert "Start: encoder, detail, field, prior, condition" in capsys.readouterr().out


def test_other_parts_start_anew_and_say_so(make, fit, tmp_path: Path, capsys) -> None:
    fit(make(stage="1a"), "s").save_checkpoint(tmp_path / "x.ckpt", weights_only=True)
    start = {"start": str(tmp_path / "x.ckpt")}
    fit(make(stage="1b", site="b16.conv0", **start), "s")
    assert "new: detail" in capsys.readouterr().out
    other = make(stage="1b", encoder={**make().hparams["encoder"], "width": 16}, **start)
    with pytest.raises(BadCheckpointError, match="another encoder"):
        fit(other, "s")
    (tmp_path / "bad.ckpt").write_bytes(b"no")
    with pytest.raises(BadCheckpointError, match="cannot be read"):
        fit(make(stage="1b", start=str(tmp_path / "bad.ckpt")), "s")


def test_codes_alone_need_no_rendering(make, fit) -> None:
    module = make(stage="1a", lr=1e-3, lambda_lpips=0, lambda_l2=0, lambda_depth=0, lambda_code=1.0)
    trainer = fit(module, "ssss", limit_val_batches=1)
    assert set(trainer.callback_metrics) >= {"synthetic/code", "held_out/psnr_average", "held_out/psnr_fine"}
    assert "synthetic_psnr" not in trainer.callback_metrics


def test_nothing_to_train_is_an_error(make, fit) -> None:
    with pytest.raises(UsageError, match="detail_network"):
        fit(make(stage="1b", detail_network=False), "s")
