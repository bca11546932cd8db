"""One contract for all methods: train a little, write what was promised, load elsewhere, animate, keep the person."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from avatarzoo.apps.training import AvatarCLI
from avatarzoo.errors import BadSequenceError, HeadModelMismatchError
from avatarzoo.geometry.camera import look_at_face
from avatarzoo.models import METHODS, AvatarModule, AvatarState, load_avatar
from tests.conftest import smoke_config

ROOT = Path(__file__).resolve().parent.parent
QUIET = ["--products.preview", "false", "--evaluator.baselines", "false", "--evaluator.lpips", "none"]


def train(method: type[AvatarModule], folder: Path, *options: str) -> Any:
    root = ["--trainer.default_root_dir", str(folder), "--trainer.accelerator", "cpu"]
    return AvatarCLI.launch("fit", ["-c", str(smoke_config(method)), *root, *QUIET, *options])


@pytest.fixture(scope="module", params=METHODS, ids=lambda m: m.__name__)
def trained(request: pytest.FixtureRequest, smoke_run: Any) -> tuple[type[AvatarModule], Path]:
    return request.param, smoke_run(request.param)


def some_params(module: AvatarModule):
    params = module.head.zeros(2)
    params.expression[1, 0] = 0.5
    params.rotation[1, 1] = 0.3
    return params


def test_every_method_has_a_folder_and_a_card() -> None:
    for method in METHODS:
        folder = method.__module__.split(".")[2]
        assert (ROOT / "avatarzoo" / "models" / folder / "README.md").is_file()


def test_the_smoke_run_ends_with_the_promised_files(trained: tuple[type[AvatarModule], Path]) -> None:
    folder = trained[1]
    written = {p.name for p in folder.iterdir()}
    assert {"avatar.ckpt", "last.ckpt", "result.json", "preview.mp4", "avatar.safetensors"} <= written
    module = load_avatar(folder / "avatar.ckpt")
    made_of_gaussians = module.gaussians_at(module.head.zeros(1)) is not None
    assert ("avatar.ply" in written) == made_of_gaussians
    shown = (folder / "printed.txt").read_text()
    assert "| avatar " in shown
    assert "nearest training frame" in shown
    assert "Procedural data" in shown
    content = torch.load(folder / "avatar.ckpt", weights_only=True)
    assert content["avatarzoo_method"]
    assert "optimizer_states" not in content


def test_loads_and_animates_without_data(trained: tuple[type[AvatarModule], Path]) -> None:
    module = load_avatar(trained[1] / "avatar.ckpt")
    state = module.reconstruct()
    image = module.animate(state, some_params(module), look_at_face(size=96))
    assert image.rgb.shape == (2, 3, 96, 96)
    assert image.alpha.shape == (2, 1, 96, 96)
    assert torch.isfinite(image.rgb).all()
    assert 0 <= image.rgb.min() <= image.rgb.max() <= 1
    assert 0.02 < image.alpha.mean() < 0.9
    assert (image.rgb[0] - image.rgb[1]).abs().max() > 0.05  # expression and pose are seen


def test_another_process_loads_weights_only(smoke_run: Any) -> None:
    """Issue bar 8: a plain import, weights_only=True, a picture; of all methods, since importing takes longest."""
    checkpoints = {m.__name__: str(smoke_run(m) / "avatar.ckpt") for m in METHODS}
    code = f"""
import avatarzoo.models as models
from avatarzoo.geometry.camera import look_at_face
for name, path in {checkpoints!r}.items():
    m = getattr(models, name).load_from_checkpoint(path, weights_only=True, map_location="cpu").eval()
    rgb = m.animate(m.reconstruct(), m.head.zeros(1), look_at_face(size=64)).rgb
    print(*rgb.shape, float(rgb.std()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    pictures = [line.rsplit(" ", 1) for line in done.stdout.strip().splitlines()[-len(METHODS) :]]
    assert all(shape == "1 3 64 64" and float(spread) > 0.01 for shape, spread in pictures)


def test_state_file_keeps_the_person(trained: tuple[type[AvatarModule], Path], tmp_path: Path) -> None:
    module = load_avatar(trained[1] / "avatar.ckpt")
    state = module.reconstruct()
    again = AvatarState.load(state.save(tmp_path / "person.safetensors"))
    params, camera = some_params(module), look_at_face(size=64)
    before = module.animate(state, params, camera).rgb
    with torch.no_grad():
        for parameter in module.parameters():  # the state alone decides who is seen
            parameter.add_(torch.randn_like(parameter))
    assert (module.animate(again, params, camera).rgb - before).abs().max() < 1e-5
    assert again.meta["head"] == module.head.signature


def test_a_foreign_head_is_refused(trained: tuple[type[AvatarModule], Path]) -> None:
    module = load_avatar(trained[1] / "avatar.ckpt")
    state = module.reconstruct()
    state.meta["head"] = {"name": "flame", "version": "2020", "hash": "0" * 64}
    with pytest.raises(HeadModelMismatchError, match="flame"):
        module.animate(state, module.head.zeros(1), look_at_face(size=32))


def test_training_changes_the_avatar(trained: tuple[type[AvatarModule], Path]) -> None:
    method, folder = trained
    module = load_avatar(folder / "avatar.ckpt")
    untrained, state = method(**module.hparams), module.state_dict()
    assert any(not torch.equal(v, state[k]) for k, v in untrained.state_dict().items())


def sending_sigterm(make: Any, step: int) -> Any:
    """``instantiate_trainer`` whose trainer gets the signal at the beginning of a step."""

    class Send(Callback):
        def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == step:
                os.kill(os.getpid(), signal.SIGTERM)

    return lambda self, **options: make(self, callbacks=[Send()], **options)


def test_a_killed_run_resumes_to_the_same_result(
    trained: tuple[type[AvatarModule], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 after a checkpoint, then SIGTERM, then a damaged file: same weights as the run that was left alone.

    So runs are repeatable, too.
    """
    method, folder = trained
    config = smoke_config(method)
    code = f"""
import os, signal, avatarzoo.apps.training as t
from lightning.pytorch.callbacks import Callback
t.CHECKPOINT_EVERY = 5
class Kill(Callback):
    def on_train_batch_start(self, trainer, module, batch, index):
        if trainer.global_step == 8: os.kill(os.getpid(), signal.SIGKILL)
make = t.AvatarCLI.instantiate_trainer
def with_kill(self, **kw): kw["callbacks"] = [*(kw.get("callbacks") or []), Kill()]; return make(self, **kw)
t.AvatarCLI.instantiate_trainer = with_kill
root = ["--trainer.default_root_dir", {str(tmp_path / "run")!r}, "--trainer.accelerator", "cpu"]
t.AvatarCLI.launch("fit", ["-c", {str(config)!r}, *root])
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == -9
    assert (tmp_path / "run" / "last.ckpt").is_file()
    assert not (tmp_path / "run" / "avatar.ckpt").exists()
    with monkeypatch.context() as patch:
        patch.setattr(
            AvatarCLI, "instantiate_trainer", sending_sigterm(AvatarCLI.instantiate_trainer, step=8)
        )
        with pytest.raises(SystemExit) as stop:
            train(method, tmp_path / "run", "--ckpt_path", "last")
    assert stop.value.code == 128 + signal.SIGTERM
    last = tmp_path / "run" / "last.ckpt"
    whole = last.read_bytes()
    assert torch.load(last, weights_only=True)["global_step"] == 9
    if (
        method is METHODS[0]
    ):  # of one method: the end of the last checkpoint is lost, the one before it is taken
        last.unlink()
        last.write_bytes(whole[:-500])
    train(method, tmp_path / "run", "--ckpt_path", "last")
    first, second = (
        torch.load(f / "avatar.ckpt", weights_only=True)["state_dict"] for f in (folder, tmp_path / "run")
    )
    assert all(torch.allclose(first[k], second[k], atol=1e-6) for k in first)


def test_checkpoint_options_lose_to_typed_ones(
    trained: tuple[type[AvatarModule], Path], tmp_path: Path
) -> None:
    method, folder = trained
    args = ["-c", str(smoke_config(method)), "--ckpt_path", str(folder / "avatar.ckpt")]
    args += ["--trainer.default_root_dir", str(tmp_path), *QUIET]
    args += ["--trainer.accelerator", "cpu", "--products.state", "false"]
    cli = AvatarCLI.launch("test", [*args, "--model.background", "0.5"])
    assert cli.model.hparams["background"] == 0.5
    assert cli.datamodule.background == 0.5


def test_a_stranger_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "x.ckpt").write_bytes(b"not a checkpoint")
    with pytest.raises(BadSequenceError, match="not a checkpoint"):
        load_avatar(tmp_path / "x.ckpt")
    with pytest.raises(BadSequenceError, match="There is no checkpoint"):
        load_avatar(tmp_path / "missing.ckpt")
