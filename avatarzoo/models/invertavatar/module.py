"""InvertAvatar as a trainable module: few pictures, or a stream of them, to a head that a driving map animates (figure 3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from avatarzoo.data.batch import AvatarBatch
from avatarzoo.data.eg3d_views import eg3d_camera, eg3d_labels
from avatarzoo.errors import UsageError
from avatarzoo.geometry.camera import Camera
from avatarzoo.heads import load_head
from avatarzoo.heads.base import HeadParams
from avatarzoo.models.base import AvatarImage, AvatarModule, AvatarState
from avatarzoo.models.invertavatar.assembly import Aggregation, EncoderSize, assemble, plain_config
from avatarzoo.models.invertavatar.inversion import (
    Person,
    TextureInput,
    TriPlaneOutput,
)
from avatarzoo.models.invertavatar.learning import R1_INTERVAL, Lesson, Lessons, Outcome, discriminator_of
from avatarzoo.models.invertavatar.objective import (
    DISCRIMINATOR_RATES,
    RATES,
    Identity,
    Perceptual,
    Preset,
    Stage,
    loss_of,
)
from avatarzoo.models.invertavatar.person import drawing_tensors, person_of, person_tensors, shown_to
from avatarzoo.models.invertavatar.start import take_networks
from avatarzoo.models.invertavatar.stream import Known, Stream, as_frames, check_widths
from avatarzoo.models.placing import on_ground, placed
from avatarzoo.networks.training import finite_gradients

MADE_UP_TRUNCATION = 0.7
"""Of people that are made up to be driven (the released script's)."""


class InvertAvatar(AvatarModule):
    """Pictures of a person to a drivable head. Stages hand over by ``start``.

        state = model.start(first_frames)
        state = model.update(state, more_frames)      # any number of times, at the same cost
        picture = model.animate(state, params, camera)

    Args:
        stage: ``latent`` trains E_latent, ``image`` E_tex and E_tri on single pictures, ``recurrent`` their recurrent decoders.
        head, head_file: the head model; faceverse is the paper's.
        prior: see :func:`.assembly.load_prior`.
        prior_config: sizes of a prior whose weights a checkpoint brings; the module writes it, people do not.
        encoder: ``small`` or ``published`` sizes.
        texture_encoder, triplane_encoder: ablations of table 4, see :class:`.inversion.Inversion`.
        aggregation: how several frames are fused, see :data:`.assembly.Aggregation`.
        views: planes that are driven, 1 (released) or 3 (the paper's text).
        official: as the released weights need it: raw scales and random start of the encoders, visibility by normals alone, batch
            statistics in the decoders.
        preset: ``avatarzoo``, ``paper`` or ``official_release``, see :mod:`.objective`.
        perceptual, identity: override the preset's networks.
        adversarial: train against a discriminator of pictures (stages image and recurrent).
        lambda_l1, lambda_lpips, lambda_id, lambda_code, lambda_raw, lambda_tri, lambda_tex, lambda_adv: override one weight.
        synthetic: train on people of the prior, too: in every second step (stage image), in every step (recurrent).
        lr, discriminator_lr: override the preset's rates.
        chunk: frames in a pass of the encoders (paper: at most 4).
        supervised: passes, counted from the last, whose encoders get gradients; the memory of the others is taken as given.
        raw_resolution, samples: see :class:`.inversion.Sketch`; smaller ones make training cheap (ours).
        background: grey level behind pictures and heads.
        seed: of new weights and made-up people.
        start: checkpoint of an earlier stage, or a published file, whose networks are taken; steps are counted anew.

    Weights of losses and ``start`` are read when training begins, so that an avatar loads on machines without them.
    """

    takes_pictures: ClassVar[bool] = True

    def __init__(
        self,
        stage: Stage = "recurrent",
        head: str = "procedural",
        head_file: str | None = None,
        prior: str = "small",
        prior_config: dict[str, Any] | None = None,
        encoder: EncoderSize = "small",
        texture_encoder: TextureInput = "uv",
        triplane_encoder: TriPlaneOutput = "modulation",
        aggregation: Aggregation = "recurrent",
        views: int = 1,
        official: bool = False,
        preset: Preset = "avatarzoo",
        perceptual: Perceptual | None = None,
        identity: Identity = "facenet",
        adversarial: bool = False,
        lambda_l1: float | None = None,
        lambda_lpips: float | None = None,
        lambda_id: float | None = None,
        lambda_code: float | None = None,
        lambda_raw: float | None = None,
        lambda_tri: float | None = None,
        lambda_tex: float | None = None,
        lambda_adv: float | None = None,
        synthetic: bool = True,
        lr: float | None = None,
        discriminator_lr: float | None = None,
        chunk: int = 4,
        supervised: int = 1,
        raw_resolution: int | None = None,
        samples: tuple[int, int] | None = None,
        background: float = 1.0,
        seed: int = 0,
        start: str | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.head = load_head(head, head_file)
        self.networks = assemble(self.hparams, self.head)
        self.hparams["prior_config"] = plain_config(self.networks.prior.config)
        self.loss = loss_of(self.hparams)
        self.discriminator = discriminator_of(self.hparams, self.loss, self.networks.prior.config)
        self.tested: AvatarState | None = None

    # ---- the avatar ------------------------------------------------------------------------------------------------

    def forward(self, params: HeadParams, camera: Camera, person: Person) -> AvatarImage:
        """Views of a person whose features are known: expression and pose of ``params`` (B rows), one camera or B."""
        networks, ground = self.networks, self.hparams["background"]
        crop = eg3d_camera(params, camera, networks.size)
        maps, label = networks.maps.driving(params), eg3d_labels(params, crop)
        drawn = networks.draw(shown_to(person, params.batch), label, maps)
        drawn_on = float(networks.prior.config.white_background)
        rgb = ((drawn.image + 1) / 2).clamp(0, 1)
        return placed(on_ground(rgb, drawn.opacity, drawn_on, ground), crop, camera, ground)

    @torch.no_grad()
    def reconstruct(
        self,
        images: Float[Tensor, "b 3 h w"] | None = None,
        params: HeadParams | None = None,
        cameras: Camera | None = None,
    ) -> AvatarState:
        """A person from one or more tracked pictures, in their order.

        Without pictures: the person of the test that was run last, else one that is made up (:meth:`generate`, seed 0).

        Args:
            images: RGB in [0, 1], on the plain background; params, cameras: what was tracked on them (one camera serves all).

        Raises:
            UsageError: no picture, or pictures without parameters and cameras. NoFaceError: no picture with a face.
            HeadModelMismatchError: parameters of another head model.
        """
        if images is None:
            return self.tested or self.generate(0)
        if params is None or cameras is None or len(images) == 0:
            raise UsageError(
                "InvertAvatar needs at least one picture of a person, with tracked head parameters and camera."
            )
        return self.start(AvatarBatch(image=images, params=params, camera=cameras))

    @torch.no_grad()
    def start(self, frame: AvatarBatch) -> AvatarState:
        """A person from the first picture, or pictures, of a stream; errors as :meth:`reconstruct`.

        Pictures without a face are skipped and counted (``state.meta["skipped"]``); pictures of different people are warned of.
        """
        return self.as_state(
            self.stream.extended(Known(None, self.head.zeros(1, self.device).identity), frame)
        )

    @torch.no_grad()
    def update(self, state: AvatarState, frame: AvatarBatch) -> AvatarState:
        """The person after one or more further pictures; the old state stays as it is. The cost does not depend on what came before.

        Raises:
            HeadModelMismatchError: the state, or the parameters, belong to another head model.
        """
        self.check_head(state.meta["head"])
        tensors = {k: v.to(self.device) for k, v in state.tensors.items()}
        known = Known(person_of(tensors), tensors["identity"], state.meta["frames"], state.meta["skipped"])
        return self.as_state(self.stream.extended(known, frame))

    @property
    def stream(self) -> Stream:
        """Takes pictures in, as the stage can."""
        hp = self.hparams
        fusing = {"latent": "first", "image": "mean"}.get(hp["stage"], hp["aggregation"])
        return Stream(self.networks, self.head, fusing, hp["chunk"], hp["official"], hp["background"])

    def as_state(self, known: Known) -> AvatarState:
        """Everything that :meth:`animate` and :meth:`update` need of one person, drawing networks included."""
        assert known.person is not None
        tensors = drawing_tensors(self.networks) | person_tensors(known.person) | {"identity": known.identity}
        counts = {"frames": known.frames, "skipped": known.skipped}
        facts = {"hyper_parameters": dict(self.hparams), "head": self.head.signature}
        return AvatarState(type(self).__name__, tensors, {**counts, **facts})

    def animate(self, state: AvatarState, params: HeadParams, camera: Camera) -> AvatarImage:
        """See :meth:`AvatarModule.animate`; the head's shape is the person's, the rest the driver's.

        Raises:
            HeadModelMismatchError: the state, or the parameters, belong to another head model.
        """
        return self.animation(state)(params, camera)

    def animation(self, state: AvatarState) -> Callable[..., AvatarImage]:
        """:meth:`animate` of one person, whose features and networks are moved to the device once."""
        self.check_head(state.meta["head"])
        tensors = {k: v.to(self.device) for k, v in state.tensors.items()}
        own = {k: v for k, v in tensors.items() if k.startswith("networks.")}
        person, identity = person_of(tensors), tensors["identity"]

        @torch.no_grad()
        def draw(params: HeadParams, camera: Camera) -> AvatarImage:
            check_widths(self.head, params)
            worn = params._replace(identity=identity.expand(params.batch, -1))
            return torch.func.functional_call(self, own, (worn, camera, person))

        return draw

    @torch.no_grad()
    def generate(self, seed: int) -> AvatarState:
        """A person of the prior (truncation 0.7), on the mean head's shape."""
        prior, draws = self.networks.prior, torch.Generator().manual_seed(seed)
        latent = torch.randn(1, prior.config.latent_dim, generator=draws).to(self.device)
        codes = self.networks.frontal_codes(latent, MADE_UP_TRUNCATION)
        identity = self.head.zeros(1, self.device).identity
        return self.as_state(Known(self.networks.coarse(codes), identity))

    # ---- training --------------------------------------------------------------------------------------------------

    @property
    def lessons(self) -> Lessons:
        """How this run computes its iterations."""
        hp = self.hparams
        fixed = hp["stage"] == "recurrent" or hp["preset"] == "official_release"
        return Lessons(self.networks, self.loss, hp["stage"], hp["chunk"], hp["supervised"], fixed)

    def train(self, mode: bool = True) -> InvertAvatar:
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
            return Lesson(as_frames(batch["source"]), as_frames(batch["target"]), batch["people"])
        frames = self.stream.cropped(batch["image"], batch["params"], batch["camera"])
        return Lesson(frames, frames, 1 if self.hparams["stage"] == "recurrent" else len(frames.label))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """One step of the encoders, then one of the discriminator; everything random depends on (seed, step, process) alone."""
        step, lesson = self.global_step, self.lesson(batch)
        seed = (self.hparams["seed"] * 1_000_003 + step) * 1009 + self.trainer.global_rank
        draws = torch.Generator().manual_seed(seed)
        outcomes = self.improve(lesson, step, draws)
        for kind, outcome in outcomes.items():
            self.log_dict({f"{kind}/{name}": term.detach() for name, term in outcome.terms.items()})
            self.log(f"{kind}_psnr", outcome.psnr, prog_bar=True)
        told = outcomes.get("synthetic") or outcomes.get("real")
        if self.discriminator is not None and told is not None:
            self.improve_discriminator(told, draws, step % R1_INTERVAL == 0)

    def improve(self, lesson: Lesson, step: int, draws: torch.Generator) -> dict[str, Outcome]:
        """Equation 2 or 3: photographs and people of the prior, in turn (stage image, as released) or both."""
        kinds = ["real", "synthetic"] if self.hparams["synthetic"] else ["real"]
        if self.hparams["stage"] == "image" and len(kinds) > 1:
            kinds = [kinds[step % 2]]
        optimizer, outcomes = self.optimizers(), {}
        optimizer = optimizer[0] if isinstance(optimizer, list) else optimizer
        optimizer.zero_grad()
        if self.discriminator is not None:
            self.discriminator.requires_grad_(False)
        for kind in kinds:
            outcome = self.lessons.real(lesson) if kind == "real" else self.lessons.synthetic(lesson, draws)
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

    def on_test_start(self) -> None:
        """Training frames, spread over the video, are the sources; the test frames drive the person."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        seen = data.spread_batch(self.hparams["chunk"])
        self.tested = self.reconstruct(seen["image"], seen["params"], seen["camera"])
        self.tested_animation = self.animation(self.tested)

    on_predict_start = on_test_start

    def test_step(self, batch: AvatarBatch, batch_idx: int) -> AvatarImage:
        return self.tested_animation(batch["params"], batch["camera"])

    predict_step = test_step
