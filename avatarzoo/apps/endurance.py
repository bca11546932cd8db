"""Long trainings: signals that stop them in an orderly way, and losses that are not numbers."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor

from avatarzoo.apps.checkpoints import LAST
from avatarzoo.errors import NonFiniteLossError
from avatarzoo.files import atomic_path

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name))
NanAction = Literal["stop", "skip"]
MOST_IN_A_ROW = 20
"""Steps without a finite loss after which leaving them out is no help."""


class SaveOnSignal(L.Callback):
    """SIGTERM or SIGUSR1: the step is finished, a checkpoint written, the training ended; under SLURM the job is queued again.

    Attributes:
        received: the signal, or None.
    """

    def __init__(self) -> None:
        self.received: int | None = None

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """After Lightning, whose handlers save under SLURM only, and wait for other processes inside of the handler."""
        main_thread = threading.current_thread() is threading.main_thread()
        for number in SIGNALS if main_thread else ():
            signal.signal(number, self.handle)

    def handle(self, number: int, frame: FrameType | None) -> None:
        self.received = number

    def on_train_batch_end(
        self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, index: int
    ) -> None:
        """Of several processes, all stop when one was told to."""
        if not trainer.strategy.reduce_boolean_decision(self.received is not None, all=False):
            return
        self.received = self.received or signal.SIGTERM
        trainer.save_checkpoint(Path(trainer.default_root_dir) / LAST)
        trainer.should_stop = True

    def say(self, trainer: L.Trainer) -> int:
        """What happened and what to do; queues a SLURM job again. Returns the exit code that is usual for the signal."""
        assert self.received is not None
        if trainer.is_global_zero:
            print(
                f"Stopped by {signal.Signals(self.received).name} after step {trainer.global_step}; "
                f"{Path(trainer.default_root_dir) / LAST} is written, --ckpt_path last goes on from there."
            )
            requeue()
        return 128 + self.received


def requeue() -> None:
    """Queue the SLURM job again in which this process runs, if it runs in one."""
    job, array = os.environ.get("SLURM_JOB_ID"), os.environ.get("SLURM_ARRAY_JOB_ID")
    if job is None:
        return
    name = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else job
    try:
        subprocess.run(["scontrol", "requeue", name], check=True, capture_output=True)
        print(f"SLURM job {name} is queued again.")
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"SLURM job {name} could not be queued again ({error}); submit it anew.")


class FiniteLoss(L.Callback):
    """Watches every loss before it is differentiated.

    Args:
        action: ``stop`` saves the batch for inspection and ends the training; ``skip`` leaves the step out and counts it.

    Attributes:
        skipped: steps that were left out.
    """

    def __init__(self, action: NanAction = "stop") -> None:
        self.action, self.skipped, self.in_a_row = action, 0, 0
        self.flagged = False

    def state_dict(self) -> dict[str, int]:
        return {"skipped": self.skipped}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.skipped = state["skipped"]

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        step, backward = module.training_step, module.manual_backward

        def checked_backward(loss: Tensor, *args: Any, **options: Any) -> None:
            if not self.finite(trainer, loss):
                raise StopIteration  # Lightning's way to leave a manual step
            backward(loss, *args, **options)

        module.training_step = self.guarded(trainer, module, step)  # type: ignore[method-assign]
        module.manual_backward = checked_backward  # type: ignore[method-assign]

    def guarded(self, trainer: L.Trainer, module: L.LightningModule, step: Callable) -> Callable:
        """The module's step, of which nothing remains where a loss is not finite."""

        def run(batch: Any, *args: Any, **options: Any) -> Any:
            self.batch, self.flagged = batch, False
            before = trainer.global_step, counter(module)
            learning = [(p, p.requires_grad) for p in module.parameters()]
            try:
                loss = step(batch, *args, **options)
            except StopIteration:
                for parameter, wanted in learning:
                    parameter.requires_grad_(wanted)
                module._param_requires_grad_state = {}
                self.leave_out(trainer, module, before)
                raise
            if module.automatic_optimization and isinstance(loss, Tensor) and not self.finite(trainer, loss):
                return (
                    torch.stack([p.sum() * 0 for p in module.parameters() if p.requires_grad])
                    .sum()
                    .nan_to_num()
                )
            self.in_a_row = 0
            return loss

        return run

    def finite(self, trainer: L.Trainer, loss: Tensor) -> bool:
        """Whether the loss is finite in all processes; if not, what :attr:`action` says has been done.

        Raises:
            NonFiniteLossError: the training should stop, or has left out too many steps after each other.
        """
        own = bool(torch.isfinite(loss).all())
        if not trainer.strategy.reduce_boolean_decision(not own, all=False):
            return True
        self.flagged, self.skipped, self.in_a_row = True, self.skipped + 1, self.in_a_row + 1
        if self.action == "skip" and self.in_a_row <= MOST_IN_A_ROW:
            return False
        path = Path(trainer.default_root_dir) / f"bad_batch_rank{trainer.global_rank}.pt"
        about = {"step": trainer.global_step, "loss": loss.detach().cpu(), "batch": plain(self.batch)}
        with atomic_path(path) as temporary:
            torch.save(about, temporary)
        many = f" for {self.in_a_row} steps after each other" if self.action == "skip" else ""
        raise NonFiniteLossError(
            f"The loss is {float(loss):g} at step {trainer.global_step}{many}; the batch is in {path} (torch.load). Try a smaller "
            "learning rate from --ckpt_path last, or leave such steps out with --nan skip."
        )

    def leave_out(
        self, trainer: L.Trainer, module: L.LightningModule, before: tuple[int, int | None]
    ) -> None:
        """Count the step, so that data and random numbers stay functions of the step."""
        if trainer.global_step == before[0]:
            progress = trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
            progress.increment_ready()
            progress.increment_completed()
        if counter(module) == before[1] is not None:
            module.iteration += 1

    def on_before_optimizer_step(
        self, trainer: L.Trainer, module: Any, optimizer: torch.optim.Optimizer
    ) -> None:
        """A step without gradients moves nothing, not even by momentum."""
        if self.flagged and module.automatic_optimization:
            optimizer.zero_grad(set_to_none=True)

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        del module.training_step, module.manual_backward
        if self.skipped and trainer.is_global_zero:
            print(f"{self.skipped} steps were left out because their loss was not finite.")


def counter(module: L.LightningModule) -> int | None:
    """Of modules that count their iterations themselves."""
    iteration = dict(module.named_buffers(recurse=False)).get("iteration")
    return None if iteration is None else int(iteration)


def plain(batch: Any) -> Any:
    """Tensors on the CPU in dictionaries and lists, which ``torch.load(weights_only=True)`` reads."""
    if isinstance(batch, Tensor):
        return batch.detach().cpu()
    if hasattr(batch, "_asdict"):
        batch = batch._asdict()
    if isinstance(batch, dict):
        return {str(key): plain(value) for key, value in batch.items()}
    return [plain(value) for value in batch] if isinstance(batch, (list, tuple)) else batch
