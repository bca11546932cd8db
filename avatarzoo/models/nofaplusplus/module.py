"""NOFA++ as a trainable module: one picture to a head in a generator's volume, driven by expression and camera (figure 2)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from avatarzoo.data.batch import AvatarBatch
from avatarzoo.data.eg3d_views import eg3d_camera, eg3d_labels
from avatarzoo.data.frames import to_float_batch
from avatarzoo.errors import UsageError
from avatarzoo.geometry.camera import Camera
from avatarzoo.heads import load_head
from avatarzoo.heads.base import HeadParams
from avatarzoo.models.base import AvatarImage, AvatarState
from avatarzoo.models.nofaplusplus.adaptation import Schedule, adapt_feature
from avatarzoo.models.nofaplusplus.assembly import assemble, plain_config
from avatarzoo.models.nofaplusplus.condition import Condition
from avatarzoo.models.nofaplusplus.detail import INSIDE_B64
from avatarzoo.models.nofaplusplus.generator import Residual, Volume
from avatarzoo.models.nofaplusplus.learning import SyntheticExpression
from avatarzoo.models.nofaplusplus.made_up import make_up
from avatarzoo.models.nofaplusplus.objective import HeadLoss, Identity, Perceptual
from avatarzoo.models.nofaplusplus.pairs import Shown, cropped
from avatarzoo.models.nofaplusplus.person import cleared, drawing_tensors, person_tensors, volume_of
from avatarzoo.models.nofaplusplus.stages import StageName
from avatarzoo.models.nofaplusplus.training import StagedTraining
from avatarzoo.models.placing import on_ground, placed
from avatarzoo.perception.speech import Speech, load_speech
from avatarzoo.priors.cameras import frontal_label

MADE_UP_TRUNCATION = 0.7
"""Of people that are made up to be driven (usual for pictures of StyleGANs; ours)."""


class NOFAPlusPlus(StagedTraining):
    """One picture to a drivable head. Stages hand over by ``start``; stage 5 is :func:`.adaptation.adapted`.

    Args:
        stage: ``1a`` encoder, ``1b`` detail network, ``2`` deformation, ``3`` hybrid, ``4`` audio; see :data:`.stages.STAGES`.
        head, head_file: the head model that expressions come from. paper: Deep3DFaceRecon's 80 + 64 coefficients.
        prior: see :func:`.assembly.load_prior`. paper: EG3D trained on FFHQ.
        prior_config: sizes of a prior whose weights a checkpoint brings; the module writes it, people do not.
        start: checkpoint of the stage before, whose networks are taken; steps are counted anew.
        train_prior: "the entire model" of stages 2 and 3 includes the generator.
        encoder, detail, field: arguments of :class:`.encoder.CodeEncoder`, :class:`.detail.DetailNetwork` and
            :class:`.deformation.DeformationField` that differ from their defaults.
        detail_network: have C; False is the coarse row of table 4. site: where its features go.
        residual: ``canonical`` (paper) or ``source_expression``, see :class:`.generator.HeadGenerator`.
        weighting_network, identity_condition: False for the ablations of table 5.
        raw_resolution, samples: of volume-rendered training pictures, side and samples a ray in the two passes; the side also of the
            coarse picture that details are measured against. None: the prior's own.
        truncation: of the prior's made-up people that train, 1 for none.
        synthetic_expression: of made-up people in stage 3: ``rest`` runs the field with the mean person at rest, ``none`` leaves it
            out. paper: coefficients of the picture; the small prior's people are at rest, for others no estimator is at hand.
        perceptual, identity: see :class:`.objective.HeadLoss`.
        lambda_lpips, lambda_l2, lambda_depth, lambda_rec, lambda_bbox, lambda_id: override the stage's weight.
        lambda_code: ours, stage 1a: :class:`.code_error.CodeError` of made-up people; if it is the only weight, nothing but the
            encoder's input is rendered.
        lambda_surface: ours, on videos: :func:`.surface.surface_error`, which tells the field how the tracked head moves.
        field_warmup: ours: steps of :func:`.surface.warm_up`, which fits the field to that motion before stage 2 begins.
        lr: overrides the stage's rate. lr_field: of the deformation field where it differs, which starts from zero beside networks
            that are trained already. momentum: Adam's beta 1.
        average: decay of the running average of the networks, which is used outside of training; 0 for none.
        adaptation_steps: stage 5: so many steps at most for every picture that is reconstructed; 0 for none.
        speech, speech_config: the speech network that :meth:`speak` uses, a checkpoint of ``configs/nofaplusplus/speech.yaml`` or
            SadTalker's file; a checkpoint of a training keeps ours (and writes its sizes into ``speech_config``).
        background: grey level behind the pictures and the head.
        seed: of new weights.

    Weights of losses and ``start`` are read when training begins, so that an avatar loads on machines without them.
    """

    takes_pictures: ClassVar[bool] = True

    def __init__(
        self,
        stage: StageName = "1a",
        head: str = "procedural",
        head_file: str | None = None,
        prior: str = "small",
        prior_config: dict[str, Any] | None = None,
        start: str | None = None,
        train_prior: bool = True,
        encoder: dict[str, Any] | None = None,
        detail: dict[str, Any] | None = None,
        field: dict[str, Any] | None = None,
        detail_network: bool = True,
        site: str = INSIDE_B64,
        residual: Residual = "canonical",
        weighting_network: bool = True,
        identity_condition: bool = True,
        raw_resolution: int | None = None,
        samples: tuple[int, int] | None = None,
        truncation: float = 1.0,
        synthetic_expression: SyntheticExpression = "rest",
        perceptual: Perceptual = "vgg",
        identity: Identity = "facenet",
        lambda_lpips: float | None = None,
        lambda_l2: float | None = None,
        lambda_depth: float | None = None,
        lambda_rec: float | None = None,
        lambda_bbox: float | None = None,
        lambda_id: float | None = None,
        lambda_code: float = 0.0,
        lambda_surface: float = 0.0,
        field_warmup: int = 0,
        lr: float | None = None,
        lr_field: float | None = None,
        momentum: float = 0.9,
        average: float = 0.0,
        adaptation_steps: int = 0,
        speech: str | None = None,
        speech_config: dict[str, Any] | None = None,
        background: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.head = load_head(head, head_file)
        self.condition = Condition(self.head)
        self.generator = assemble(self.hparams, self.head, self.condition)
        self.hparams["prior_config"] = plain_config(self.generator.prior.config)
        self.average = copy.deepcopy(self.generator).requires_grad_(False) if average > 0 else None
        self.loss = HeadLoss(perceptual, identity)
        self.speech = None if speech_config is None else Speech(**speech_config)
        self.tested: AvatarState | None = None

    # ---- the avatar ------------------------------------------------------------------------------------------------

    def forward(self, params: HeadParams, camera: Camera, volume: Volume, alpha: Tensor) -> AvatarImage:
        """Deformed views of people: expression and pose of ``params`` (B rows), one camera or B.

        Args:
            volume: fine volumes of B people. alpha: their standardised identities.
        """
        crop = eg3d_camera(params, camera, self.networks.size)
        labels = eg3d_labels(params, crop)
        prepared = self.networks.field.prepare(alpha, self.condition.expression(params))
        view = self.networks.render(volume, labels, prepared)
        ground = self.hparams["background"]
        drawn_on = 1.0 if self.networks.prior.config.white_background else 0.0
        image = on_ground(cleared(view, drawn_on), view.opacity, drawn_on, ground)
        return placed(image, crop, camera, ground)

    @torch.no_grad()
    def reconstruct(
        self,
        images: Float[Tensor, "b 3 h w"] | None = None,
        params: HeadParams | None = None,
        cameras: Camera | None = None,
    ) -> AvatarState:
        """Planes of the person in the first picture (the method is made for one).

        Without pictures: the person of the test that was run last, else one that is made up (:meth:`generate`, seed 0).

        Args:
            images: RGB in [0, 1], on the plain background; params, cameras: what was tracked on them.

        Raises:
            UsageError: pictures without parameters and cameras.
        """
        if images is None:
            return self.tested or self.generate(0)
        if params is None or cameras is None:
            raise UsageError("NOFAPlusPlus needs pictures with their tracked head parameters and cameras.")
        camera = cameras if cameras.batch == 1 else cameras.rows(slice(0, 1))
        side, background = self.networks.size, self.hparams["background"]
        return self.state_of(cropped(images[:1], params.rows(0), camera, side, background))

    @torch.no_grad()
    def state_of(self, shown: Shown) -> AvatarState:
        """The person of one crop."""
        alpha = self.condition.identity(shown.params)
        own = self.networks.field.prepare(alpha, self.condition.expression(shown.params))
        if self.hparams["adaptation_steps"] == 0:
            return self.as_state(self.networks.fine(shown.image, shown.label, own), alpha)
        self.loss.prepare(self.device, {"rec": 1.0})
        schedule = Schedule(self.hparams["adaptation_steps"])
        return self.as_state(adapt_feature(self.networks, self.loss, shown, own, schedule).volume, alpha)

    def as_state(self, volume: Volume, alpha: Float[Tensor, "1 i"]) -> AvatarState:
        """Everything that :meth:`animate` needs of one person, networks included."""
        tensors = {f"networks.{k}": v for k, v in drawing_tensors(self.networks).items()}
        tensors |= {f"condition.{k}": v for k, v in self.condition.state_dict().items()}
        meta = {"hyper_parameters": dict(self.hparams), "head": self.head.signature}
        return AvatarState(type(self).__name__, tensors | person_tensors(volume, alpha), meta)

    def animate(self, state: AvatarState, params: HeadParams, camera: Camera) -> AvatarImage:
        """See :meth:`AvatarModule.animate`; the driver's identity is not used.

        Raises:
            HeadModelMismatchError: the state belongs to another head model.
        """
        return self.animation(state)(params, camera)

    def animation(self, state: AvatarState) -> Callable[..., AvatarImage]:
        """:meth:`animate` of one person, whose planes and networks are moved to the device once."""
        self.check_head(state.meta["head"])
        tensors = {k: v.to(self.device) for k, v in state.tensors.items()}
        name = "generator." if self.average is None else "average."
        own = {
            k.replace("networks.", name, 1): v
            for k, v in tensors.items()
            if k.startswith(("networks.", "condition."))
        }

        @torch.no_grad()
        def draw(params: HeadParams, camera: Camera) -> AvatarImage:
            volume, alpha = volume_of(tensors, params.batch), tensors["identity"].expand(params.batch, -1)
            return torch.func.functional_call(self, own, (params, camera, volume, alpha))

        return draw

    @torch.no_grad()
    def generate(self, seed: int) -> AvatarState:
        """A person of the prior (truncation 0.7), drawn once from the front and then reconstructed like a photograph."""
        prior, draws = self.networks.prior, torch.Generator().manual_seed(seed)
        latent = torch.randn(1, prior.config.latent_dim, generator=draws).to(self.device)
        front = frontal_label(1, prior.config).to(self.device)
        people = make_up(prior, latent, front[:, None], MADE_UP_TRUNCATION)
        return self.as_state(*self.of_nobody(people.source, front))

    def of_nobody(self, image: Tensor, label: Tensor) -> tuple[Volume, Tensor]:
        """The fine volume of pictures without head parameters: the mean person at rest is their condition."""
        alpha, beta = self.condition.rest(len(image))
        return self.networks.fine(image, label, self.networks.field.prepare(alpha, beta)), alpha

    def speak(
        self, state: AvatarState, samples: Float[Tensor, " n"], rate: int, fps: float, frames: int
    ) -> Float[Tensor, "t e"]:
        """See :meth:`AvatarModule.speak`; the mouth is still in silence.

        Raises:
            UsageError: neither the checkpoint has a speech network nor was one named. Also those of :func:`.load_speech`.
        """
        if self.speech is None and self.hparams["speech"] is None:
            raise UsageError(
                "This NOFAPlusPlus has no speech network; train one with avatarzoo fit -c configs/nofaplusplus/speech.yaml and name "
                "its checkpoint as speech."
            )
        network = self.speech or load_speech(self.hparams["speech"], self.head).to(self.device)
        return network.speak(samples, rate, fps, frames)

    # ---- one person's video ----------------------------------------------------------------------------------------

    def on_test_start(self) -> None:
        """The first training frame is the source; the test frames drive it."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        first = to_float_batch(data.training_frames().batch(torch.arange(1)), data.background)
        device = self.device
        source = first["image"].to(device), first["params"].to(device), first["camera"].to(device)
        self.tested = self.reconstruct(*source)
        self.tested_animation = self.animation(self.tested)

    on_predict_start = on_test_start

    def test_step(self, batch: AvatarBatch, batch_idx: int) -> AvatarImage:
        return self.tested_animation(batch["params"], batch["camera"])

    predict_step = test_step
