"""What happens to a long training: full disks, damaged files, signals, losses that are no numbers, killed data workers."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from avatarzoo.apps import endurance
from avatarzoo.apps.checkpoints import LAST, PREVIOUS, VerifiedCheckpoints, newest, verify
from avatarzoo.apps.endurance import FiniteLoss, SaveOnSignal
from avatarzoo.apps.training import clear_worker_errors
from avatarzoo.errors import BadCheckpointError, LostWorkerError, NonFiniteLossError, OutputError


def save(folder: Path, step: int) -> Path:
    VerifiedCheckpoints().save_checkpoint({"step": step, "weights": torch.full((5000,), step)}, folder / LAST)
    return folder / LAST


def test_the_checkpoint_before_is_kept_and_used_when_the_last_is_damaged(tmp_path, capsys):
    assert newest(tmp_path) is None
    save(tmp_path, 1)
    last = save(tmp_path, 2)
    assert newest(tmp_path) == last
    whole = last.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:9000] + bytes([whole[9000] ^ 1]) + whole[9001:], b""):
        last.unlink()  # a link to what is kept
        last.write_bytes(damaged)
        with pytest.raises(BadCheckpointError, match=r"damaged|cut off"):
            VerifiedCheckpoints().load_checkpoint(last)
        assert newest(tmp_path) == tmp_path / PREVIOUS
    assert VerifiedCheckpoints().load_checkpoint(tmp_path / PREVIOUS, weights_only=True)["step"] == 1
    assert "Going on from" in capsys.readouterr().out
    (tmp_path / PREVIOUS).write_bytes(b"")
    with pytest.raises(BadCheckpointError, match="no other"):
        newest(tmp_path)


def test_a_full_disk_keeps_what_is_there(tmp_path):
    """A real limit on the size of files, met in the middle of writing."""
    before = save(tmp_path, 1).read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(OutputError, match="the one before it is kept"):
            save(tmp_path, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert (tmp_path / LAST).read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [LAST]
    verify(tmp_path / LAST)


class Numbers(Dataset):
    """0, 1, 2, ... with a nan in the place of each of ``bad``; number ``deadly`` kills the process that reads it."""

    def __init__(self, bad=(), deadly=None):
        self.bad, self.deadly = bad, deadly

    def __len__(self):
        return 100

    def __getitem__(self, number):
        if number == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.tensor(float("nan") if number in self.bad else float(number))


class Fit(L.LightningModule):
    """One weight, trained in either way."""

    def __init__(self, manual: bool):
        super().__init__()
        self.weight, self.automatic_optimization = nn.Parameter(torch.zeros(1)), not manual
        self.other = nn.Parameter(torch.zeros(1))
        self.register_buffer("iteration", torch.zeros((), dtype=torch.long))
        self.after: list[float] = []

    def training_step(self, batch, _):
        loss = (self.weight - batch).square().sum()
        if self.automatic_optimization:
            return loss
        self.other.requires_grad_(False)
        self.optimizers().zero_grad()
        self.manual_backward(loss)
        self.optimizers().step()
        self.other.requires_grad_(True)
        self.iteration += 1
        return None

    def on_train_batch_end(self, *_):
        self.after.append(self.weight.item())

    def configure_optimizers(self):
        return torch.optim.Adam([self.weight], 0.1)


def fit(folder, module, bad=(), steps=6, *callbacks, data=None):
    run = L.Trainer(
        max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder, callbacks=list(callbacks),
    )  # fmt: skip
    run.fit(module, data or DataLoader(Numbers(bad)))
    return run


@pytest.mark.parametrize("manual", [True, False])
def test_a_loss_that_is_no_number_stops_with_the_batch_or_is_left_out(tmp_path, manual, capsys):
    with pytest.raises(NonFiniteLossError, match=r"nan at step 3.*--nan skip"):
        fit(tmp_path, Fit(manual), [3], 6, FiniteLoss("stop"))
    kept = torch.load(tmp_path / "bad_batch_rank0.pt", weights_only=True)
    assert kept["step"] == 3
    assert kept["batch"].isnan().all()
    module, watch = Fit(manual), FiniteLoss("skip")
    run = fit(tmp_path, module, [2, 3], 6, watch)
    assert run.global_step == 6
    assert watch.skipped == 2
    assert module.after[1] == module.after[2] == module.after[3]  # not even momentum moves it
    assert module.after[4] != module.after[3]
    assert module.other.requires_grad
    assert int(module.iteration) == 6 * manual
    assert "2 steps were left out" in capsys.readouterr().out
    with pytest.raises(NonFiniteLossError, match="after each other"):
        fit(tmp_path, Fit(manual), range(100), 60, FiniteLoss("skip"))


def test_a_killed_data_worker_is_one_sentence(tmp_path):
    with pytest.raises(LostWorkerError, match="--ckpt_path last"), clear_worker_errors():
        fit(tmp_path, Fit(False), steps=20, data=DataLoader(Numbers(deadly=5), num_workers=1))


def test_under_slurm_the_job_is_queued_again(monkeypatch, capsys):
    called = []
    monkeypatch.setattr(endurance.subprocess, "run", lambda command, **_: called.append(command))
    endurance.requeue()
    assert not called
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    endurance.requeue()
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "70")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "4")
    endurance.requeue()
    assert [command[2] for command in called] == ["77", "70_4"]


def test_a_signal_ends_the_training_after_the_step(tmp_path):
    class Send(L.Callback):
        def on_train_batch_start(self, trainer, *_):
            if trainer.global_step == 3:
                os.kill(os.getpid(), signal.SIGTERM)

    callback, module = SaveOnSignal(), Fit(True)
    run = fit(tmp_path, module, (), 20, Send(), callback)
    assert run.global_step == 4
    assert callback.received == signal.SIGTERM
    saved = torch.load(tmp_path / LAST, weights_only=True)
    assert saved["global_step"] == 4
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
