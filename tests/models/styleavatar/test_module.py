"""Training of StyleAvatar: what is frozen, averaged, kept and taken over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from avatarzoo.data import ProceduralPortraitDataModule
from avatarzoo.errors import BadCheckpointError, UsageError
from avatarzoo.geometry.camera import look_at_face
from avatarzoo.models import AvatarState, StyleAvatar
from avatarzoo.models.styleavatar.samples import offsets

TINY: dict[str, Any] = {
    "head": "procedural",
    "input_size": 32,
    "output_size": 32,
    "channel_max": 8,
    "lr": 0.01,
}


def clips(**options: Any) -> ProceduralPortraitDataModule:
    module = ProceduralPortraitDataModule(n_frames=12, size=32, batch_size=2, **options)
    module.setup("fit")
    return module


@pytest.fixture(scope="module")
def data() -> ProceduralPortraitDataModule:
    """A fourth person."""
    return clips(people=1, actor=3)


def fit(module: StyleAvatar, data: Any, steps: int, callbacks: list[L.Callback] | None = None) -> L.Trainer:
    trainer = L.Trainer(
        max_steps=steps, max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, accelerator="cpu", callbacks=callbacks,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    return trainer


def features_of(module: StyleAvatar) -> dict[str, torch.Tensor]:
    return {
        k: v.clone() for k, v in module.generator.state_dict().items() if k.startswith(("face.", "back."))
    }


def changed(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return any(not torch.equal(a[k], b[k]) for k in a)


def test_one_step_moves_all_players_and_all_averages(data: Any) -> None:
    module = StyleAvatar(**TINY, lambda_gan=1.0)
    before = {k: v.clone() for k, v in module.state_dict().items()}
    trainer = fit(module, data, 1)
    assert trainer.global_step == 1  # the discriminator's steps are not counted
    after = module.state_dict()
    moved = {".".join(k.split(".")[:2]) for k in after if not torch.equal(after[k], before[k])}
    players = {f"{w}.{part}" for w in ("generator", "average") for part in ("image", "face", "back")}
    assert players <= moved
    assert any(name.startswith("discriminator.") for name in moved)
    assert int(module.iteration) == 1
    assert torch.allclose(module.identity, data.training_params().identity.mean(0, keepdim=True))
    assert float(module.ground) == 1.0


def test_the_average_is_the_published_one_or_ramps_up() -> None:
    published = StyleAvatar(**TINY, preset="official_release")
    assert published.average_decay(0) == pytest.approx(0.99778, abs=1e-5)
    own = StyleAvatar(**TINY)
    assert own.average_decay(0) == 0.1
    assert own.average_decay(100_000) == pytest.approx(0.99778, abs=1e-5)


def test_no_gan_means_no_discriminator(data: Any) -> None:
    module = StyleAvatar(**TINY, lambda_gan=0.0)
    assert module.discriminator is None
    fit(module, data, 2)
    assert int(module.iteration) == 2


def test_features_freeze_after_so_many_steps(data: Any) -> None:
    module = StyleAvatar(**TINY, lambda_gan=0.0, freeze_features_after=2)
    seen: list[dict[str, torch.Tensor]] = []

    class Watch(L.Callback):
        def on_train_batch_end(self, trainer, module, *rest) -> None:
            seen.append(features_of(module))

    fit(module, data, 4, [Watch()])
    assert changed(seen[0], seen[1])
    assert not changed(seen[1], seen[3])


def test_a_new_person_gets_new_features(data: Any, tmp_path: Path) -> None:
    """Issue bar 7: pre-training on three clips beyond the freezing step, then a fourth: its features are free to move."""
    pretrained = StyleAvatar(**TINY, videos=3, freeze_features_after=2)
    trainer = fit(pretrained, clips(people=3), 4)
    assert pretrained.identity.std(0).max() > 0.1  # three head shapes
    trainer.save_checkpoint(tmp_path / "pretrained.ckpt", weights_only=True)
    tuned = StyleAvatar(**TINY, freeze_features_after=2, start=str(tmp_path / "pretrained.ckpt"))

    class Watch(L.Callback):
        def on_train_start(self, trainer, module) -> None:
            self.start = features_of(module)
            self.people = module.people()

    watch = Watch()
    fit(tuned, data, 2, [watch])
    assert not changed(watch.start, features_of(pretrained))  # it started there
    assert int(tuned.iteration) == 2
    old, new = watch.people, tuned.people()
    for part in ("face", "back"):
        kept, found = getattr(old, part).feature[:1], getattr(new, part).feature
        assert (kept - found).abs().mean() > 0.02 * kept.abs().mean(), part
    assert tuned.identity.shape == (1, tuned.head.n_identity)


def test_an_avatar_loads_without_what_it_started_from(data: Any, tmp_path: Path) -> None:
    module = StyleAvatar(**TINY, lambda_gan=0.0)
    fit(module, data, 1).save_checkpoint(tmp_path / "one.ckpt", weights_only=True)
    second = StyleAvatar(**TINY, lambda_gan=0.0, start=str(tmp_path / "one.ckpt"))
    fit(second, data, 1).save_checkpoint(tmp_path / "two.ckpt", weights_only=True)
    (tmp_path / "one.ckpt").unlink()
    StyleAvatar.load_from_checkpoint(tmp_path / "two.ckpt", weights_only=True)


@pytest.mark.parametrize("case", ["missing", "other size", "no discriminator"])
def test_a_wrong_start_is_one_sentence(case: str, data: Any, tmp_path: Path) -> None:
    path = tmp_path / "start.ckpt"
    if case != "missing":
        wider = {"channel_max": 16} if case == "other size" else {"lambda_gan": 0.0}
        fit(StyleAvatar(**{**TINY, **wider}), data, 1).save_checkpoint(path, weights_only=True)
    with pytest.raises(BadCheckpointError, match=r"--model.start takes"):
        fit(StyleAvatar(**TINY, start=str(path)), data, 1)


def test_more_people_than_said_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--model.videos"):
        fit(StyleAvatar(**TINY), clips(people=2), 1)


@pytest.mark.parametrize("variant", ["single", "dvp", "dnr", "no_neural_texture"])
def test_every_variant_trains_and_is_kept(variant: str, data: Any, tmp_path: Path) -> None:
    module = StyleAvatar(**TINY, variant=variant)
    fit(module, data, 2)
    state = AvatarState.load(module.reconstruct().save(tmp_path / "person.safetensors"))
    params, camera = module.head.zeros(2), look_at_face(size=48)
    params.expression[1] = 1.0
    image = module.animate(state, params, camera)
    assert image.rgb.shape == (2, 3, 48, 48)
    assert image.alpha.shape == (2, 1, 48, 48)
    if variant != "no_neural_texture":
        assert torch.equal(image.alpha, torch.ones_like(image.alpha))
    again = StyleAvatar(**TINY, variant=variant).eval()
    assert torch.allclose(again.animate(state, params, camera).rgb, image.rgb, atol=1e-6)


def test_the_ground_is_exchanged_behind_the_person(data: Any) -> None:
    """Black instead of the white of training: the difference is exactly the background's share."""
    module = StyleAvatar(**TINY, lambda_gan=0.0)
    fit(module, data, 1)
    params, camera = module.head.zeros(1), look_at_face(size=32)
    state = module.reconstruct()
    white = module.animate(state, params, camera)
    module.hparams["background"] = 0.5
    grey = module.animate(state, params, camera)
    inside = (white.rgb < 1) & (grey.rgb > 0)
    assert torch.allclose(
        (white.rgb - grey.rgb)[inside], (0.5 * (1 - white.alpha)).expand(-1, 3, -1, -1)[inside], atol=1e-5
    )
    state.tensors["ground"] = torch.tensor(float("nan"))  # trained on the filmed background: it stays
    assert not torch.allclose(module.animate(state, params, camera).rgb, grey.rgb)


def test_windows_of_a_step() -> None:
    grid = 32
    alike = offsets("batch", 4, grid, 2, 5)
    assert torch.equal(alike, alike[:1].expand(4, 2))
    own = offsets("sample", 4, grid, 2, 5)
    assert not torch.equal(own, own[:1].expand(4, 2))
    assert torch.equal(own, offsets("sample", 4, grid, 2, 5))
    for rank in (0, 1):  # of two processes, each draws its rows of the doubled batch
        assert torch.equal(own[rank::2], offsets("sample", 2, grid, 2, 5, rank, 2))
        assert torch.equal(alike[:2], offsets("batch", 2, grid, 2, 5, rank, 2))
    for window, step in (("none", 2), ("sample", 3)):
        assert torch.equal(offsets(window, 4, grid, step, 5), torch.full((4, 2), grid // 4))
