"""Who answers a case: a checkpoint, a method that is trained on the person, a baseline, or pictures somebody made elsewhere."""

from __future__ import annotations

import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml
from torch import Tensor

from avatarzoo.data.frames import FrameDataModule
from avatarzoo.errors import BadSequenceError, UsageError
from avatarzoo.evaluation.baselines import BASELINES
from avatarzoo.evaluation.case import Case, Footage, Shot
from avatarzoo.evaluation.costs import Costs
from avatarzoo.evaluation.pictures import read_pictures
from avatarzoo.evaluation.protocol import Row
from avatarzoo.evaluation.results import config_hash
from avatarzoo.files import file_hash
from avatarzoo.models import load_avatar, method_named
from avatarzoo.models.base import AvatarModule, AvatarState

COMPLETE = ("GaussianReconstruction",)
"""Methods that a row's ``model`` alone can make: it names the weights, or none for the method's beginning."""
Performer = Callable[[Shot], Tensor]
"""A shot to pictures ``(B, 3, H, W)`` in [0, 1]."""


class Contender(ABC):
    """One row of the table.

    Attributes:
        row: its line in the protocol. device: where it runs. facts: what a result says of it.
    """

    def __init__(self, row: Row, device: str = "cpu") -> None:
        self.row, self.device = row, device
        self.facts: dict[str, Any] = {
            "method": row.method,
            "checkpoint_sha256": None,
            "config": None,
            "config_hash": None,
        }

    @property
    def slug(self) -> str:
        """Its folder name."""
        return slug(self.row.row)

    @property
    def key(self) -> str:
        """What its pictures depend on besides the case; finished pictures of another key are made again."""
        return config_hash(self.facts)

    @abstractmethod
    def prepare(self, case: Case, folder: Path, costs: Costs, seed: int) -> Performer:
        """Look at the sources (or train on them), and be ready for shots.

        Args:
            folder: where what was made for this case may be kept. costs: takes the training time.
        """


class ModuleContender(Contender):
    """A module that needs no training here: a checkpoint, or a baseline."""

    def __init__(self, row: Row, module: AvatarModule, device: str = "cpu") -> None:
        super().__init__(row, device)
        self.module = module.eval().to(device)
        config = dict(module.hparams)
        self.facts |= {"method": type(module).__name__, "config": config, "config_hash": config_hash(config)}

    @classmethod
    def from_checkpoint(cls, row: Row, path: Path, device: str) -> ModuleContender:
        contender = cls(row, load_avatar(path, device), device)
        contender.facts["checkpoint_sha256"] = file_hash(path)
        return contender

    def prepare(self, case: Case, folder: Path, costs: Costs, seed: int) -> Performer:
        self.module.check_head(case.head.signature)
        costs.count(self.module)
        with costs.training(), torch.no_grad():
            state = self.state(case)
        return performer(self.module, state, case, self.device)

    def state(self, case: Case) -> AvatarState:
        if case.sources is None:
            return self.module.generate(case.seed)
        device = self.device
        seen = case.sources
        return self.module.reconstruct(
            seen["image"].to(device), seen["params"].to(device), seen["camera"].to(device)
        )


class FittedContender(Contender):
    """A method that is trained on every person, by an experiment config; finished avatars are found again."""

    def __init__(self, row: Row, device: str = "cpu") -> None:
        super().__init__(row, device)
        try:
            config = yaml.safe_load(Path(row.fit).read_text())
            self.arguments = {**config["model"].get("init_args", {}), **row.model}
            self.batch_size = int(config.get("data", {}).get("init_args", {}).get("batch_size", 2))
            self.trainer = {**config.get("trainer", {}), **row.trainer}
            method = method_named(config["model"]["class_path"].rsplit(".", 1)[1])
            if method is None:
                raise KeyError("class_path")
            self.method = method
        except OSError as error:
            raise UsageError(
                f"Row {row.row} is trained by {row.fit}, which cannot be read; run from a source checkout."
            ) from error
        except (KeyError, TypeError, IndexError, yaml.YAMLError) as error:
            raise UsageError(f"{row.fit} is no experiment config of a known method.") from error
        self.facts |= {
            "method": self.method.__name__,
            "config": {"file": row.fit, "model": self.arguments, "trainer": self.trainer},
        }
        self.facts["config_hash"] = config_hash(self.facts["config"])

    def prepare(self, case: Case, folder: Path, costs: Costs, seed: int) -> Performer:
        if case.training is None:
            raise UsageError(
                f"{self.row.row} is trained on a person, but {case.name} shows none to train on."
            )
        path = folder / "avatar.ckpt"
        if path.is_file():
            module = load_avatar(path, self.device)
        else:
            module = self.fit(case, path, costs, seed)
        costs.count(module)
        module = module.eval().to(self.device)
        return performer(module, module.reconstruct(), case, self.device)

    def fit(
        self, case: Case, path: Path, costs: Costs, seed: int, callbacks: list[L.Callback] | None = None
    ) -> AvatarModule:
        """Train on the person of a case; the checkpoint is written to ``path`` when complete."""
        assert case.training is not None
        L.seed_everything(seed, verbose=False)
        logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
        ground = case.training.ground
        arguments = {**self.arguments, "head": case.head.name}
        if "background" in arguments or ground is not None:
            arguments["background"] = 1.0 if ground is None else ground
        with costs.training():
            module = self.method(**arguments)
            trainer = L.Trainer(
                max_steps=int(self.trainer["max_steps"]), max_epochs=1, logger=False, enable_checkpointing=False,
                enable_model_summary=False, callbacks=callbacks, default_root_dir=path.parent, devices=1,
                accelerator="cpu" if self.device == "cpu" else "auto",
            )  # fmt: skip
            trainer.fit(module, datamodule=FootageDataModule(case.training, self.batch_size, seed))
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        trainer.save_checkpoint(partial, weights_only=True)
        partial.replace(path)
        return module


class PicturesContender(Contender):
    """Pictures made elsewhere: ``FOLDER/<part>/<case>/000000.png``, in the order of the case's shots."""

    def __init__(self, row: Row, folder: Path) -> None:
        super().__init__(row)
        if not folder.is_dir():
            raise BadSequenceError(f"There is no folder {folder} with the pictures of {row.row}.")
        self.folder, self.part = folder, ""
        self.facts |= {"method": "pictures made elsewhere", "config": {"folder": folder.name}}

    def prepare(self, case: Case, folder: Path, costs: Costs, seed: int) -> Performer:
        shown = self.folder / self.part / case.name

        def perform(shot: Shot) -> Tensor:
            return read_pictures(shown, shot.rows, shot.camera.size)

        return perform


class FootageDataModule(FrameDataModule):
    """All frames of footage as training data; what is held out lies in the case's shots."""

    def __init__(self, footage: Footage, batch_size: int, seed: int) -> None:
        super().__init__(batch_size, 0.5, 1.0 if footage.ground is None else footage.ground, seed)
        self.frames, self.fps = footage.frames, footage.fps
        self.head_signature = footage.head.signature
        self.is_procedural = footage.procedural

    @property
    def n_train(self) -> int:
        return len(self.frames)

    def describe(self) -> dict[str, Any]:
        return {"kind": "footage of a benchmark", "frames": len(self.frames)}


def performer(module: AvatarModule, state: AvatarState, case: Case, device: str) -> Performer:
    """Animate ``state``; where a case is driven by sound, the expressions are the method's own."""
    spoken = None
    if case.sound is not None:
        sound = torch.from_numpy(case.sound.samples)
        spoken = module.speak(state, sound, case.sound.rate, case.fps, case.count)

    @torch.no_grad()
    def perform(shot: Shot) -> Tensor:
        params = shot.params if spoken is None else shot.params.spoken(spoken[shot.rows])
        return module.animate(state, params.to(device), shot.camera.to(device)).rgb

    return perform


def make_contender(
    row: Row,
    head: str,
    head_file: str | None,
    ground: float | None,
    checkpoint: Path | None = None,
    device: str = "cpu",
) -> Contender:
    """The contender of a protocol's row; ``ground`` is the grey level behind heads in all pictures (``None``: they keep theirs).

    Raises:
        UsageError: the row's method does not exist in this version, or it needs a checkpoint that was not given.
    """
    if checkpoint is not None:
        return ModuleContender.from_checkpoint(row, checkpoint, device)
    method = BASELINES.get(row.method) or method_named(row.method)
    if row.method in BASELINES or (row.method in COMPLETE and row.model):
        arguments = {"head": head, "head_file": head_file, "background": ground, **row.model}
        return ModuleContender(row, method(**arguments), device)
    if method is None:
        raise UsageError(f"{row.method} is not in this version of avatarzoo.")
    if row.fit:
        return FittedContender(row, device)
    raise UsageError(f'{row.row} needs a checkpoint; add --ckpt "{row.row}=FILE".')


def slug(name: str) -> str:
    """A name as a folder."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
