"""fit, validate, test and predict: LightningCLI in subclass mode with the defaults of this project."""

from __future__ import annotations

import logging
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger

from avatarzoo.apps import consent
from avatarzoo.apps.checkpoints import LastCheckpoint, VerifiedCheckpoints, newest
from avatarzoo.apps.endurance import FiniteLoss, NanAction, SaveOnSignal
from avatarzoo.errors import AvatarZooError, BadSequenceError, LostWorkerError, OutputError, UsageError
from avatarzoo.evaluation import Evaluator
from avatarzoo.evaluation.products import Products

CHECKPOINT_EVERY = 100
"""Steps between checkpoints of a run that can be resumed."""


KNOWN_WARNINGS = (
    "does not have many workers",  # frames are in memory; workers would only copy them
    "args parameter is intended to run from within Python",
    "manual optimization",  # checkpoints are written after the step on purpose
    "LeafSpec",
    "smaller than the logging interval",
    "callbacks used to create the checkpoint",
)


class Parser(LightningArgumentParser):
    """Says what is wrong with an option in a few lines, without the page of all options."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if not self.exit_on_error:  # an inner parser that only tries
            super().error(message, ex)
        raise UsageError(f"{message.strip()}\navatarzoo COMMAND --help explains the options.") from ex


class AvatarCLI(LightningCLI):
    """One folder per run: config, log, ``last.ckpt`` to resume from, ``avatar.ckpt`` to use, and what testing writes."""

    @classmethod
    def launch(cls, command: str, args: list[str]) -> AvatarCLI:
        """Parse and run one subcommand."""
        torch.set_float32_matmul_precision("high")
        logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
        for known in KNOWN_WARNINGS:
            warnings.filterwarnings("ignore", message=f"(?s).*{known}")
        cls.explicit = explicit_model_options(args)
        with clear_worker_errors():
            return cls._launch(command, args)

    @classmethod
    def _launch(cls, command: str, args: list[str]) -> AvatarCLI:
        return cls(
            LightningModule,  # an AvatarModule, or a prior
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            parser_class=Parser,
            auto_configure_optimizers=False,
            seed_everything_default=0,
            save_config_callback=SaveConfigCallback,
            save_config_kwargs={"overwrite": True},
            trainer_defaults={
                "accelerator": "auto",
                "devices": 1,
                "default_root_dir": "runs/avatar",
                "max_epochs": 1,
            },
            args=[command, *(a.replace("--consent-statement", "--consent_statement", 1) for a in args)],
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_lightning_class_args(Evaluator, "evaluator")
        parser.add_lightning_class_args(Products, "products")
        parser.add_argument(
            "--nan",
            type=NanAction,
            default="stop",
            help="a loss that is not finite: stop, keeping the batch, or skip the step",
        )
        parser.add_argument("--consent", type=str | None, default=None, help="text file: the person agreed")
        parser.add_argument("--consent_statement", type=str | None, default=None, help="the same as a text")
        parser.link_arguments("model.init_args.head", "data.init_args.head")
        parser.link_arguments("model.init_args.head_file", "data.init_args.head_file")
        parser.link_arguments("model.init_args.background", "data.init_args.background")

    def _add_instantiators(self) -> None:
        """Checkpoints keep the plain constructor arguments and nothing that names code to run."""

    def _parse_ckpt_path(self) -> None:
        """A checkpoint's hyper-parameters replace those of the config file; options typed on the command line win over both.

        (LightningCLI lets the checkpoint win silently.)
        """
        config = self.config[self.config.subcommand]
        path = config.get("ckpt_path")
        if not path or path in ("last", "best"):
            return
        init_args = config.model.init_args
        for name, value in read_hyper_parameters(path).items():
            if name in init_args and name not in self.explicit:
                init_args[name] = value

    def instantiate_classes(self) -> None:
        """jsonargparse wraps what a constructor raises in a ValueError about unions; a user's mistake keeps its own sentence."""
        try:
            super().instantiate_classes()
        except Exception as error:
            raise user_error(error) or error  # noqa: B904 - the cause says nothing more
        if self.config.subcommand == "fit":
            self._ask_consent()

    def _ask_consent(self) -> None:
        """Before anything is tracked: a statement for real people, which checkpoints and tracked sequences keep.

        Raises:
            ConsentError: there is none.
        """
        if not consent.needed(self.datamodule):
            return
        config, hp = self.config.fit, self.datamodule.hparams
        given = consent.consent(config.consent, config.consent_statement or hp.get("consent"))
        self.model.consent = given
        if "consent" in hp:
            hp["consent"] = given["statement"]

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        config = self.config[self.config.subcommand]
        command = self.config.subcommand
        resume = command != "fit" or bool(config.get("ckpt_path"))
        root = run_folder(Path(config.trainer.default_root_dir), new=not resume)
        checkpoints = LastCheckpoint(root, CHECKPOINT_EVERY)
        kwargs.setdefault("enable_model_summary", False)
        extra = [*(kwargs.pop("callbacks", None) or []), checkpoints]
        if command == "fit":
            self.signals = SaveOnSignal()
            extra += [self.signals, FiniteLoss(config.nan)]
        if config.trainer.enable_progress_bar is not False:
            extra.append(TQDMProgressBar(refresh_rate=10))
        logger = CSVLogger(root, name="log", version="") if command == "fit" else False
        defaults = {"callbacks": extra, "default_root_dir": str(root)}
        if config.trainer.logger is None:
            defaults["logger"] = logger
        if config.trainer.plugins is None:
            defaults["plugins"] = [VerifiedCheckpoints()]
        if several_processes(config.trainer) and config.trainer.strategy in ("auto", "ddp"):
            defaults["strategy"] = (
                "ddp_find_unused_parameters_true"  # stages and turns train parts of a network
            )
        return super().instantiate_trainer(**{**kwargs, **defaults})

    def before_fit(self) -> None:
        if not self.trainer.max_steps or self.trainer.max_steps < 1:
            self.parser.error("--trainer.max_steps must say how many steps to train.")
        if self.trainer.accumulate_grad_batches > 1 and not self.model.automatic_optimization:
            raise UsageError(
                f"{type(self.model).__name__} takes its optimisers' steps itself, so --trainer.accumulate_grad_batches cannot be "
                "used; take a larger --data.batch_size or more --trainer.devices."
            )
        if self.config.fit.get("ckpt_path") == "last":
            last = newest(Path(self.trainer.default_root_dir))
            self.config_init.fit["ckpt_path"] = None if last is None else str(last)

    def after_fit(self) -> None:
        """Keep the finished avatar, then test it: a fit ends with a table, a video and files to take home.

        Networks that others start from are written as weights instead; data of many people may bring nothing to test on.
        """
        if self.trainer.interrupted:
            return
        if self.signals.received is not None:
            sys.exit(self.signals.say(self.trainer))
        path = Path(self.trainer.default_root_dir) / "avatar.ckpt"
        self.trainer.save_checkpoint(path, weights_only=True)
        if self.trainer.is_global_zero:
            print(f"Checkpoint: {path}")
        if hasattr(self.model, "export"):
            self.model.export(path.parent)
        elif type(self.datamodule).test_dataloader is not LightningDataModule.test_dataloader:
            self.trainer.test(self.model, datamodule=self.datamodule, verbose=False)


@contextmanager
def clear_worker_errors() -> Iterator[None]:
    """torch reports a killed data worker wherever the training is at that moment.

    Raises:
        LostWorkerError: that happened.
    """
    try:
        yield
    except (RuntimeError, ConnectionError, EOFError) as error:
        try:
            lost = tells_of_lost_worker(error)
        except RuntimeError as late:  # the report came just now, after the connection's end
            lost = tells_of_lost_worker(late)
        if not lost:
            raise
        raise LostWorkerError(
            "A process that reads data was killed, most often because memory ran out; go on from the last checkpoint with "
            "--ckpt_path last, and fewer --data.workers or a smaller --data.batch_size."
        ) from error


def tells_of_lost_worker(error: Exception) -> bool:
    """torch's report of a killed data worker, or a connection to one that is cut off."""
    if isinstance(error, RuntimeError):
        return "DataLoader worker" in str(error)
    files = {frame.filename for frame in traceback.extract_tb(error.__traceback__)}
    return any("torch" in f and "dataloader" in f for f in files)


def several_processes(trainer: Any) -> bool:
    """Whether a trainer's options ask for more than one device or node."""
    return trainer.devices not in (1, "1") or int(trainer.num_nodes) > 1


def user_error(error: BaseException | None) -> AvatarZooError | None:
    """The first error among ``error`` and its causes that is written for users."""
    while error is not None and not isinstance(error, AvatarZooError):
        error = error.__cause__ or error.__context__
    return error


def explicit_model_options(args: list[str]) -> set[str]:
    """Names typed as ``--model.NAME`` or ``--model.init_args.NAME`` on the command line."""
    flags = (a.split("=")[0] for a in args if a.startswith("--model."))
    return {flag.removeprefix("--model.").removeprefix("init_args.") for flag in flags}


def read_hyper_parameters(path: str | Path) -> dict[str, Any]:
    """Plain constructor arguments stored in one of our checkpoints.

    Raises:
        BadSequenceError: no such file, or not a checkpoint of ours.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return dict(checkpoint["hyper_parameters"])
    except FileNotFoundError as error:
        raise BadSequenceError(
            f"There is no checkpoint {path}; --ckpt_path takes a file that avatarzoo fit wrote."
        ) from error
    except Exception as error:
        raise BadSequenceError(
            f"{path} is not a checkpoint of avatarzoo ({type(error).__name__}: {str(error)[:100]})."
        ) from error


def run_folder(base: Path, new: bool) -> Path:
    """``base``, or for a new run ``base-2``, ``base-3``... when an earlier run is kept there; resuming takes the newest.

    Raises:
        OutputError: the folder cannot be written.
    """
    taken = [
        base,
        *sorted(base.parent.glob(f"{base.name}-[0-9]*"), key=lambda p: int(p.name.rsplit("-", 1)[1])),
    ]
    used = [p for p in taken if (p / "last.ckpt").exists() or (p / "avatar.ckpt").exists()]
    folder = used[-1] if used else base
    if new and used:
        last = used[-1].name.removeprefix(base.name).removeprefix("-")
        folder = base.with_name(f"{base.name}-{int(last or 1) + 1}")
        print(f"{used[-1]} holds an earlier run; writing to {folder} (--ckpt_path last resumes instead).")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(
            f"The folder {folder} cannot be written ({error.strerror}); choose another with --trainer.default_root_dir."
        ) from error
    return folder
