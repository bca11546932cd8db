"""The training half of NOFA++: freezing by the stage's table, hand-over, losses, running average, held-out people."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from avatarzoo.errors import UsageError
from avatarzoo.models.base import AvatarModule
from avatarzoo.models.made_up_people import CodeError, KeptPictures
from avatarzoo.models.nofaplusplus.assembly import load_prior
from avatarzoo.models.nofaplusplus.condition import Condition, training_params
from avatarzoo.models.nofaplusplus.generator import HeadGenerator, Part
from avatarzoo.models.nofaplusplus.learning import Lessons, Outcome
from avatarzoo.models.nofaplusplus.made_up import code_error
from avatarzoo.models.nofaplusplus.objective import HeadLoss
from avatarzoo.models.nofaplusplus.stages import STAGES, Iteration, Kind, Stage
from avatarzoo.models.nofaplusplus.start import take_networks
from avatarzoo.models.nofaplusplus.surface import warm_up
from avatarzoo.networks.training import finite_gradients, update_average
from avatarzoo.perception.speech import Speech, load_speech
from avatarzoo.priors.eg3d import TriPlaneGenerator

WARMUP_BATCHES = 128
"""Batches of pairs whose head parameters the field is fitted to before training."""


class StagedTraining(AvatarModule):
    """What happens to the networks of :class:`.module.NOFAPlusPlus`, which makes them.

    Attributes:
        generator: the networks that train. average: their running average, or None.
        condition, loss, speech: parts that the subclass makes.
        teacher: see :meth:`the_teacher`.
    """

    generator: HeadGenerator
    average: HeadGenerator | None
    condition: Condition
    loss: HeadLoss
    speech: Speech | None
    teacher: TriPlaneGenerator | None = None

    def __init__(self) -> None:
        super().__init__()
        self.drawn = KeptPictures()
        self.code_error: CodeError | None = None

    @property
    def networks(self) -> HeadGenerator:
        """The averaged networks where there are any."""
        return self.generator if self.average is None else self.average

    @property
    def stage(self) -> Stage:
        return STAGES[self.hparams["stage"]]

    @property
    def lessons(self) -> Lessons:
        """How this run computes its iterations."""
        hp = self.hparams
        weights = {
            k.removeprefix("lambda_"): v for k, v in hp.items() if k.startswith("lambda_") and v is not None
        }
        return Lessons(
            self.head, self.condition, self.loss, weights, hp["raw_resolution"], hp["samples"], hp["truncation"],
            hp["synthetic_expression"], hp["background"], self.drawn,
            self.code_error,
        )  # fmt: skip

    def trained(self, iteration: Iteration) -> tuple[Part, ...]:
        """Parts that an iteration changes."""
        return tuple(p for p in iteration.trained if p != "prior" or self.hparams["train_prior"])

    def setup(self, stage: str) -> None:
        """Say which weights train before they are spread over processes.

        Raises:
            UsageError: the stage trains what there is not.
        """
        if stage != "fit":
            return
        if self.hparams["stage"] == "1b" and not self.hparams["detail_network"]:
            raise UsageError("Stage 1b trains the detail network; leave --model.detail_network true.")
        self.generator.train_only(self.parts())

    def parts(self) -> tuple[Part, ...]:
        """Parts that any iteration of this stage changes."""
        kinds = [i for i in (self.stage.synthetic, self.stage.video) if i is not None]
        return tuple({part: None for iteration in kinds for part in self.trained(iteration)})

    def adapt(self, progress: Callable[[str], None] = print) -> None:
        """The start of a run: networks of the stage before, scales of the data's parameters."""
        if self.hparams["start"] is not None:
            progress(take_networks(self, self.hparams["start"]))
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if self.stage.video is not None and not self.condition.known:
            self.condition.learn(training_params(data).to(self.device))
        if self.hparams["field_warmup"] > 0 and "field" in self.parts():
            shown = training_params(data, WARMUP_BATCHES).to(self.device)
            options = self.hparams["field_warmup"], self.hparams["seed"]
            left = warm_up(self.generator.field, self.condition, self.head, shown, *options)
            progress(f"The deformation field explains {1 - left:.0%} of the tracked heads' motion.")

    def on_fit_start(self) -> None:
        """Everything that is made once; a resumed run has its networks already.

        Raises:
            MissingAssetError: a loss needs weights that are not on this machine. BadCheckpointError: see :func:`.start.take_networks`.
        """
        iterations = [i for i in (self.stage.synthetic, self.stage.video) if i is not None]
        for iteration in iterations:
            self.loss.prepare(self.device, self.lessons.of(iteration))
        if self.hparams["lambda_code"] > 0 and self.hparams["stage"] == "1a":
            self.code_error = code_error(self.the_teacher(), self.hparams["truncation"])
        if self.stage.video is not None:
            self.check_head(self.trainer.datamodule.head_signature)  # type: ignore[attr-defined]
        if self.hparams["speech"] is not None and self.speech is None:
            network = load_speech(self.hparams["speech"], self.head)
            if isinstance(network, Speech):  # SadTalker's stays where it is
                self.speech, self.hparams["speech_config"] = network.to(self.device), network.config
        if self.global_step == 0:
            self.adapt()
            if self.average is not None:
                self.average.load_state_dict(self.generator.state_dict())

    def the_teacher(self) -> TriPlaneGenerator:
        """The prior as it was before any stage changed it; not a part of this module, so that it enters no checkpoint."""
        if self.teacher is None:
            own = self.generator.prior
            if "prior" in self.parts():
                own = load_prior(self.hparams["prior"], self.hparams["seed"]).to(self.device)
            object.__setattr__(self, "teacher", own.requires_grad_(False).eval())
        return self.teacher

    def configure_optimizers(self) -> torch.optim.Optimizer:
        hp = self.hparams
        rate = hp["lr"] or self.stage.rate
        field = dict.fromkeys(self.generator.field.parameters())
        others = [p for p in self.generator.parameters() if p.requires_grad and p not in field]
        groups = [
            {"params": others, "lr": rate},
            {"params": [p for p in field if p.requires_grad], "lr": hp["lr_field"] or rate},
        ]
        fused = self.device.type in ("cpu", "cuda")
        return torch.optim.Adam(
            [g for g in groups if g["params"]], betas=(hp["momentum"], 0.999), fused=fused
        )

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """One iteration: the batch says of which kind, the stage whether it is that kind's turn."""
        kind: Kind = "synthetic" if "latent" in batch else "video"
        iteration = self.stage.iteration(self.global_step, kind)
        self.generator.train_only(self.trained(iteration))
        outcome = self.outcome(batch, iteration, kind)
        self.log_dict({f"{kind}/{name}": term.detach() for name, term in outcome.terms.items()})
        if outcome.psnr is not None:
            self.log(f"{kind}_psnr", outcome.psnr, prog_bar=True)
        return torch.stack(list(outcome.terms.values())).sum()

    def outcome(self, batch: dict[str, Any], iteration: Iteration, kind: Kind) -> Outcome:
        """Losses of a batch."""
        if kind == "video":
            return self.lessons.video(self.generator, batch, iteration)
        return self.lessons.synthetic(self.generator, self.the_teacher(), batch, iteration)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        finite_gradients(self.generator)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Move the running average, faster at first so that it forgets the start."""
        if self.average is not None:
            decay = min(self.hparams["average"], self.global_step / (10 + self.global_step))
            update_average(self.average, self.generator, decay)

    @torch.no_grad()
    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Held-out people; see :class:`.learning.Lessons`."""
        if "latent" in batch:
            measured = self.lessons.held_out_synthetic(self.networks, self.the_teacher(), batch)
        else:
            measured = self.lessons.held_out_video(self.networks, batch)
        count = len(batch["latent"] if "latent" in batch else batch["target"]["image"])
        self.log_dict({f"held_out/{k}": v for k, v in measured.items()}, batch_size=count, sync_dist=True)
