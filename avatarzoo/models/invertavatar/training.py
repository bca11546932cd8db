"""The training half of InvertAvatar: hand-over between stages, iterations, discriminators, held-out people."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from avatarzoo.models.base import AvatarModule
from avatarzoo.models.invertavatar.inversion import Inversion
from avatarzoo.models.invertavatar.latent_discriminator import LatentDiscriminator
from avatarzoo.models.invertavatar.learning import R1_INTERVAL, Lesson, Lessons, Outcome, code_error_of
from avatarzoo.models.invertavatar.objective import DISCRIMINATOR_RATES, RATES, InversionLoss
from avatarzoo.models.invertavatar.start import take_networks
from avatarzoo.models.invertavatar.stream import Stream, as_frames
from avatarzoo.models.made_up_people import CodeError, KeptPictures
from avatarzoo.networks.discriminator import DualDiscriminator
from avatarzoo.networks.training import finite_gradients


class StagedTraining(AvatarModule):
    """What happens to the networks of :class:`.module.InvertAvatar`, which makes them.

    Attributes:
        networks: prior and encoders. loss: of the stage. discriminator: of codes or of pictures, or None. stream: crops pictures.
    """

    networks: Inversion
    loss: InversionLoss
    discriminator: LatentDiscriminator | DualDiscriminator | None
    stream: Stream

    def __init__(self) -> None:
        super().__init__()
        self.kept = KeptPictures()
        self.code_error: CodeError | None = None

    @property
    def lessons(self) -> Lessons:
        """How this run computes its iterations."""
        hp = self.hparams
        fixed = hp["stage"] == "recurrent" or hp["preset"] == "official_release"
        return Lessons(
            self.networks, self.loss, hp["stage"], hp["chunk"], hp["supervised"], fixed, hp["truncation"], self.kept, self.code_error
        )  # fmt: skip

    def train(self, mode: bool = True) -> StagedTraining:
        """Networks that do not learn keep the statistics of their batch normalisation."""
        super().train(mode)
        if mode:
            self.lessons.switch()
        return self

    def adapt(self, progress: Callable[[str], None] = print) -> None:
        """The start of a run: networks of the stage before."""
        if self.hparams["start"] is not None:
            progress(take_networks(self, self.hparams["start"]))

    def on_fit_start(self) -> None:
        """Everything that is made once; a resumed run has its networks already.

        Raises:
            MissingAssetError: a loss needs weights that are not on this machine. BadCheckpointError: see :func:`.start.take_networks`.
        """
        self.loss.prepare(self.device)
        self.check_head(self.trainer.datamodule.head_signature)  # type: ignore[attr-defined]
        if self.loss.weights.get("codes", 0.0) > 0 and self.hparams["stage"] == "latent":
            self.code_error = code_error_of(self.networks, self.lessons.truncation)
        if self.global_step == 0:
            self.adapt()

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        hp, fused = self.hparams, self.device.type in ("cpu", "cuda")
        preset, stage = hp["preset"], hp["stage"]
        self.train()
        weights = [p for p in self.networks.parameters() if p.requires_grad]
        made: list[torch.optim.Optimizer] = [
            torch.optim.Adam(weights, hp["lr"] or RATES[preset][stage], (0.5, 0.999), fused=fused)
        ]
        if self.discriminator is not None:
            rate = hp["discriminator_lr"] or DISCRIMINATOR_RATES[preset][stage]
            made.append(torch.optim.Adam(self.discriminator.parameters(), rate, (0.0, 0.99), fused=fused))
        return made

    def lesson(self, batch: dict[str, Any]) -> Lesson:
        """A batch of people; or frames of one person, which are both source and target."""
        if "source" in batch:
            source, people = batch["source"], batch["people"]
            first = source["video"] * 1_000_000 + source["index"]
            return Lesson(as_frames(source), as_frames(batch["target"]), people, first.view(people, -1)[:, 0])
        frames = self.stream.cropped(batch["image"], batch["params"], batch["camera"])
        people = 1 if self.hparams["stage"] == "recurrent" else len(frames.label)
        return Lesson(frames, frames, people, batch["index"][:people])

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """One step of the encoders, then one of the discriminator; everything random depends on (seed, step, process) alone."""
        step, lesson = self.global_step, self.lesson(batch)
        seed = (self.hparams["seed"] * 1_000_003 + step) * 1009 + self.trainer.global_rank
        draws = torch.Generator().manual_seed(seed)
        outcomes = self.improve(lesson, step, draws)
        for kind, outcome in outcomes.items():
            self.log_dict({f"{kind}/{name}": term.detach() for name, term in outcome.terms.items()})
            if outcome.psnr is not None:
                self.log(f"{kind}_psnr", outcome.psnr, prog_bar=True)
        told = outcomes.get("synthetic") or outcomes.get("real")
        if self.discriminator is not None and told is not None:
            self.improve_discriminator(told, draws, step % R1_INTERVAL == 0)

    def improve(self, lesson: Lesson, step: int, draws: torch.Generator) -> dict[str, Outcome]:
        """Equation 2 or 3: photographs and people of the prior, in turn (stage image, as released) or both."""
        kinds = ["real", "synthetic"] if self.hparams["synthetic"] else ["real"]
        synthetic = self.lessons.synthetic
        if self.lessons.codes_alone:  # of photographs no code is known
            kinds, synthetic = ["synthetic"], self.lessons.coded
        if self.hparams["stage"] == "image" and len(kinds) > 1:
            kinds = [kinds[step % 2]]
        optimizer, outcomes = self.optimizers(), {}
        optimizer = optimizer[0] if isinstance(optimizer, list) else optimizer
        optimizer.zero_grad()
        if self.discriminator is not None:
            self.discriminator.requires_grad_(False)
        for kind in kinds:
            outcome = self.lessons.real(lesson) if kind == "real" else synthetic(lesson, draws)
            if self.discriminator is not None and (kind == "synthetic" or self.hparams["stage"] == "latent"):
                outcome.terms.update(self.lessons.fooled(self.discriminator, outcome))
            self.manual_backward(torch.stack(list(outcome.terms.values())).sum())
            outcomes[kind] = outcome
        if self.discriminator is not None:
            self.discriminator.requires_grad_(True)
        finite_gradients(self.networks)
        optimizer.step()
        return outcomes

    def improve_discriminator(self, outcome: Outcome, draws: torch.Generator, penalised: bool) -> None:
        """A step of its optimiser that Lightning's step counter does not see."""
        assert self.discriminator is not None
        optimizer = self.optimizers()[1].optimizer
        terms = self.lessons.told_apart(self.discriminator, outcome, draws, penalised)
        optimizer.zero_grad()
        self.manual_backward(torch.stack(list(terms.values())).sum())
        finite_gradients(self.discriminator)
        optimizer.step()
        self.log_dict({name: term.detach() for name, term in terms.items()})

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Held-out people; see :meth:`.learning.Lessons.held_out`."""
        lesson = self.lesson(batch)
        measured = {f"held_out/{k}": v for k, v in self.lessons.held_out(lesson).items()}
        self.log_dict(measured, batch_size=lesson.people, sync_dist=True)
