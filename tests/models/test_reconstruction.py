"""The reconstruction network as an avatar method: maps, losses, schedule, pairs, batches of different heads, training."""

from __future__ import annotations

import lightning as L
import pytest
import torch
from safetensors.torch import load_file

from avatarzoo.data.multiview import batch_of
from avatarzoo.data.multiview_modules import ProceduralPeopleDataModule
from avatarzoo.data.multiview_procedural import draw_person
from avatarzoo.errors import HeadModelMismatchError, UsageError
from avatarzoo.geometry.camera import look_at_face
from avatarzoo.losses.regularizers import view_spread, weighted_norm
from avatarzoo.models.gaussian_dejavu import GaussianDejaVu, GaussianReconstruction
from avatarzoo.models.gaussian_dejavu.reconstruction import _pairs
from avatarzoo.models.gaussian_dejavu.reconstruction_loss import ProgressiveSchedule, ReconstructionLoss
from avatarzoo.models.gaussian_dejavu.reconstruction_maps import PositionMap, at_pixels, most_frontal
from avatarzoo.models.gaussian_dejavu.uv_gaussians import UVGaussianMap

TINY = {"uv_size": 64, "network_size": 32, "network_width": 4, "resolutions": [32]}


@pytest.fixture(scope="module")
def tiny() -> GaussianReconstruction:
    """A network whose head is not zero, so that pictures matter."""
    module = GaussianReconstruction(**TINY)
    torch.manual_seed(1)
    torch.nn.init.normal_(module.network.head.weight, std=0.2)
    return module.eval()


@pytest.fixture(scope="module")
def views():
    return draw_person(7, 3, 2, 48)


def images_of(views) -> torch.Tensor:
    mask = views.masks[:, None] / 255
    return views.images / 255 * mask + 1 - mask


# ---- maps --------------------------------------------------------------------------------------------------------------


def test_position_map_agrees_with_the_gaussians_and_holds_the_neck_too(head) -> None:
    vertices = head(head.zeros(2)._replace(identity=torch.randn(2, head.n_identity)))
    gaussians = UVGaussianMap(head, 64)
    positions = PositionMap(head, 64)(vertices)
    found = at_pixels(positions, gaussians.pixels, 64)
    assert torch.allclose(found, gaussians.positions(vertices), atol=1e-6)
    covered = (positions[0].abs().sum(0) > 0).sum()
    assert covered > 1.02 * len(gaussians)


def test_position_map_holds_the_mouth_interior_of_flame(sheet) -> None:
    vertices = sheet(sheet.zeros(1))
    positions = PositionMap(sheet, 64)
    inside = positions(vertices)[0].flatten(1)[:, positions.patch.pixels].T
    assert torch.allclose(inside, positions.patch.points(vertices)[0], atol=1e-6)
    assert inside[:, 2].min() < vertices[0, :, 2].min() + 0.05


def test_a_map_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="64 x 64"):
        at_pixels(torch.zeros(1, 13, 32, 32), torch.arange(4), 64)


def test_most_frontal_view() -> None:
    camera = look_at_face(yaw=torch.tensor([0.9, -0.2, 0.4]))
    still = torch.eye(3).expand(3, 3, 3)
    assert most_frontal(still, camera.world_to_camera) == 1
    turned = look_at_face(yaw=torch.tensor([0.4])).world_to_camera[:, :3, :3].transpose(1, 2)
    flip = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    assert most_frontal((turned @ flip).expand(3, 3, 3), camera.world_to_camera) == 2


# ---- loss and schedule -------------------------------------------------------------------------------------------------


def test_paper_weights_are_those_of_section_4_2() -> None:
    from avatarzoo.models.gaussian_dejavu.reconstruction_loss import PRESETS

    assert PRESETS["paper"] == {
        "rgb": 1.0, "lpips": 0.5, "ssim": 0.05, "position": 0.5, "scale": 5e-5, "view": 0.1,
    }  # fmt: skip


def test_regularizers_are_equations_5_to_7(head) -> None:
    uv_map = UVGaussianMap(head, 32)
    offsets = torch.randn(4, len(uv_map), 13)
    weights = {"position": 2.0, "scale": 3.0, "view": 5.0}
    terms = ReconstructionLoss("avatarzoo", weights).regularizers(offsets, uv_map, people=2)
    each = [weighted_norm(x[:, 0:3], uv_map.position_weight, 32**2) for x in offsets]
    assert terms["position"].item() == pytest.approx(2 * torch.stack(each).mean().item(), rel=1e-4)
    each = [weighted_norm(x[:, 3:6], torch.ones(len(uv_map)), 32**2) for x in offsets]
    assert terms["scale"].item() == pytest.approx(3 * torch.stack(each).mean().item(), rel=1e-4)
    spread = (view_spread(offsets[:2]) + view_spread(offsets[2:])) / 2
    assert terms["view"].item() == pytest.approx(5 * spread.item(), rel=1e-5)


def test_view_term_needs_views_and_vanishes_when_they_agree(head) -> None:
    uv_map = UVGaussianMap(head, 32)
    loss = ReconstructionLoss("avatarzoo", {})
    one = torch.randn(2, 1, len(uv_map), 13)
    assert "view" not in loss.regularizers(one[:, 0], uv_map, people=None)
    same = one.expand(2, 3, -1, -1).flatten(0, 1)
    assert loss.regularizers(same, uv_map, people=2)["view"].item() == pytest.approx(0, abs=1e-6)
    assert loss.regularizers(same, uv_map, people=1)["view"].item() > 0.01


def test_uniform_weights_hold_the_scalp_as_hard_as_the_face(head) -> None:
    uv_map = UVGaussianMap(head, 32)
    scalp = uv_map.position_weight < 1
    offsets = torch.zeros(1, len(uv_map), 13)
    offsets[:, scalp, 0:3] = 1.0
    usual, uniform = (
        ReconstructionLoss("avatarzoo", {}, flag).regularizers(offsets, uv_map, None)["position"]
        for flag in (False, True)
    )
    assert uniform.item() == pytest.approx(100 * usual.item(), rel=1e-3)


def test_photometric_runs_at_128_and_orders_pictures() -> None:
    loss = ReconstructionLoss("avatarzoo", {"ssim": 0.05})
    target = torch.rand(2, 3, 128, 128)
    near, far = (loss.photometric((target + s * torch.randn_like(target)), target) for s in (0.02, 0.2))
    assert all(near[k] < far[k] for k in ("rgb", "ssim"))
    assert set(near) == {"rgb", "ssim"}


def test_schedule_is_the_supplement_s() -> None:
    at = ProgressiveSchedule([128, 256, 512], 100_000, 1e-4, 0.95, 10_000, 0.1).at
    assert at(0) == (128, 1e-4, 0.0)
    assert at(99_999) == (128, pytest.approx(1e-4 * 0.95**9), 0.0)
    assert at(100_000) == (256, 1e-4, pytest.approx(1e-5))
    assert at(110_000) == (256, pytest.approx(0.95e-4), pytest.approx(0.95e-5))
    assert at(450_000) == (512, pytest.approx(1e-4 * 0.95**25), pytest.approx(1e-5 * 0.95**25))
    assert ProgressiveSchedule([128], 100, 1e-3, 0.9, 1000, 0.1).at(5) == (128, 1e-3, pytest.approx(1e-4))


def test_pairs_stay_inside_a_person() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([_pairs(6, 2, generator) for _ in range(50)])
    assert (drawn[:, :3].sort(1).values == torch.arange(3)).all()
    assert (drawn[:, 3:].sort(1).values == torch.arange(3, 6)).all()
    assert (drawn != torch.arange(6)).any(0).all()  # each input is compared with others, too
    assert _pairs(4, None, generator).tolist() == [0, 1, 2, 3]


# ---- the method --------------------------------------------------------------------------------------------------------


def test_training_starts_from_the_initial_gaussians(views) -> None:
    module = GaussianReconstruction(**TINY)
    assert module.offsets(images_of(views)[:1], views.params.rows(0), views.camera.rows([0])).abs().max() == 0


def test_different_heads_and_cameras_render_in_one_call(tiny, views) -> None:
    offsets = tiny.offsets(images_of(views), views.params, views.camera)
    camera = views.camera
    with torch.no_grad():
        together = tiny.render(views.params, offsets, camera).rgb
        alone = torch.cat(
            [tiny.render(views.params.rows(i), offsets[i : i + 1], camera.rows([i])).rgb for i in range(6)]
        )
    assert (together - alone).abs().max() < 1e-5
    assert (together[0] - together[1]).abs().max() > 0.1


def test_losses_compare_input_i_with_target_j(tiny, views) -> None:
    """The terms are those of a hand-made batch in which rows are paired beforehand."""
    from avatarzoo.data.frames import to_float_batch

    batch = to_float_batch(batch_of(views, torch.zeros(6, dtype=torch.long)), 1.0)
    generator = torch.Generator().manual_seed(5)
    pairs = _pairs(6, 1, torch.Generator().manual_seed(5))
    assert (pairs != torch.arange(6)).any()
    terms, _ = tiny.losses(batch, 1, 48, generator)
    generator = torch.Generator().manual_seed(5)
    _pairs(6, 1, generator)
    ground = torch.rand(3, generator=generator)
    offsets = tiny.offsets(batch["image"], batch["params"], batch["camera"])
    target = (batch["image"] + (ground[:, None, None] - 1) * (1 - batch["mask"]))[pairs]
    image = tiny.render(batch["params"].rows(pairs), offsets, batch["camera"].rows(pairs), ground)
    assert terms["rgb"].item() == pytest.approx((image.rgb - target).abs().mean().item(), rel=1e-5)


def test_lower_resolution_compares_smaller_pictures(tiny, views, monkeypatch) -> None:
    from avatarzoo.data.frames import to_float_batch

    batch = to_float_batch(batch_of(views, torch.zeros(6, dtype=torch.long)), 1.0)
    seen = []
    photometric = tiny.loss.photometric
    monkeypatch.setattr(
        type(tiny.loss),
        "photometric",
        lambda self, a, b: seen.append((a.shape, b.shape)) or photometric(a, b),
    )
    for resolution in (24, 512):
        tiny.losses(batch, 1, resolution, torch.Generator().manual_seed(0))
    assert [a[-1] for a, _ in seen] == [24, 48]
    assert all(a == b for a, b in seen)


def test_a_state_is_a_mean_over_pictures_and_animates(tiny, views, tmp_path) -> None:
    images, cameras = images_of(views), views.camera
    one, two = (tiny.reconstruct(images[i : i + 1], views.params.rows(i), cameras.rows([i])) for i in (0, 1))
    both = tiny.reconstruct(images[:2], views.params.rows([0, 1]), cameras.rows([0, 1]))
    mean = (one.tensors["mean_offsets"] + two.tensors["mean_offsets"]) / 2
    assert torch.allclose(both.tensors["mean_offsets"], mean, atol=1e-5)
    camera = look_at_face(size=48)
    image = tiny.animate(
        type(one).load(both.save(tmp_path / "a.safetensors")), views.params.rows([2, 3]), camera
    )
    assert image.rgb.shape == (2, 3, 48, 48)
    assert (image.rgb[0] - image.rgb[1]).abs().max() > 0.05
    gaussians = tiny.gaussians_of(both, views.params.rows([2, 3]))
    assert gaussians.means.shape == (2, len(tiny.uv_map), 3)
    assert (gaussians.means[0] - gaussians.means[1]).abs().max() > 1e-3  # the expression moves them
    before = tiny.animate(tiny.initial_state(), views.params.rows(2), camera).rgb
    assert (before - image.rgb[:1]).abs().max() > 0.05
    both.meta["head"] = {"name": "flame", "version": "2020", "hash": "0" * 64}
    with pytest.raises(HeadModelMismatchError):
        tiny.animate(both, views.params.rows(2), camera)


def test_personalisation_starts_from_a_state(tiny, views, tmp_path) -> None:
    state = tiny.reconstruct(images_of(views)[:1], views.params.rows(0), views.camera.rows([0]))
    path = state.save(tmp_path / "person.safetensors")
    avatar = GaussianDejaVu(uv_size=64, n_blendmaps=2, mean_offsets=str(path))
    avatar.identity.copy_(state.tensors["identity"])
    params, camera = views.params.rows([3]), look_at_face(size=48)
    with torch.no_grad():
        theirs = avatar(params, camera).rgb.clamp(0, 1)
    assert (theirs - tiny.animate(state, params, camera).rgb).abs().max() < 1e-5
    assert load_file(path)["mean_offsets"].shape == (64, 64, 13)


def test_reconstruction_without_pictures_is_one_sentence(tiny) -> None:
    with pytest.raises(UsageError, match="pictures of a person"):
        tiny.reconstruct()
    with pytest.raises(UsageError, match="cameras"):
        tiny.reconstruct(torch.rand(1, 3, 48, 48), tiny.head.zeros(1))


# ---- training ----------------------------------------------------------------------------------------------------------


class KeepMiddle(L.Callback):
    """A checkpoint of a run that is not at its end."""

    def on_train_batch_end(self, trainer, *_) -> None:
        if trainer.global_step == 2:
            trainer.save_checkpoint(f"{trainer.default_root_dir}/middle.ckpt")


def fit(steps: int, folder, resume: str | None = None) -> tuple[GaussianReconstruction, dict[str, float]]:
    L.seed_everything(0, verbose=False)
    module = GaussianReconstruction(**TINY, lr=3e-3)
    data = ProceduralPeopleDataModule(
        identities=2, held_out=1, yaws=3, pitches=1, size=48, people=1, views=3, cache=str(folder / "people")
    )
    trainer = L.Trainer(
        max_steps=steps, max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, default_root_dir=folder,
        callbacks=[KeepMiddle()],
    )  # fmt: skip
    trainer.fit(module, data, ckpt_path=resume, weights_only=True)
    return module, {k: float(v) for k, v in trainer.callback_metrics.items()}


@pytest.mark.filterwarnings("ignore")
def test_a_short_training_beats_the_initial_gaussians(tmp_path) -> None:
    module, logs = fit(40, tmp_path)
    assert logs["held_out/psnr"] > logs["held_out/psnr_before"] + 1
    assert logs["held_out/spread"] > 0
    assert module.global_step == 40


@pytest.mark.filterwarnings("ignore")
def test_a_resumed_run_ends_as_one_that_was_left_alone(tmp_path) -> None:
    whole = fit(4, tmp_path)[0].state_dict()
    resumed = fit(4, tmp_path, resume=str(tmp_path / "middle.ckpt"))[0].state_dict()
    assert all(torch.allclose(whole[k], resumed[k], atol=1e-6) for k in whole)


@pytest.mark.filterwarnings("ignore")
def test_portraits_are_an_update_of_their_own_at_a_tenth_of_the_rate(views) -> None:
    from avatarzoo.data.frames import to_float_batch

    batch = to_float_batch(batch_of(views, torch.zeros(6, dtype=torch.long)), 1.0)
    module = GaussianReconstruction(**{**TINY, "resolutions": [24, 32], "stage_steps": 1})
    rates = []

    class Counter(torch.optim.Adam):
        def step(self, *args, **kwargs):
            rates.append(self.param_groups[0]["lr"])
            return super().step(*args, **kwargs)

    module.configure_optimizers = lambda: [Counter(module.network.parameters()) for _ in range(2)]
    content = [{"views": batch, "people": 1, "portraits": batch}] * 2
    loader = torch.utils.data.DataLoader(content, batch_size=None)
    trainer = L.Trainer(
        max_steps=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, loader)
    assert rates == [1e-4, 1e-4, pytest.approx(1e-5)]
    assert module.global_step == 2
