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
from avatarzoo.models.base import AvatarImage, AvatarState
from avatarzoo.models.invertavatar.assembly import Aggregation, EncoderSize, assemble, plain_config
from avatarzoo.models.invertavatar.inversion import (
    Person,
    TextureInput,
    TriPlaneOutput,
)
from avatarzoo.models.invertavatar.learning import discriminator_of
from avatarzoo.models.invertavatar.objective import Identity, Perceptual, Preset, Stage, loss_of
from avatarzoo.models.invertavatar.person import drawing_tensors, person_of, person_tensors, shown_to
from avatarzoo.models.invertavatar.stream import Known, Stream, check_widths
from avatarzoo.models.invertavatar.training import StagedTraining
from avatarzoo.models.placing import on_ground, placed

MADE_UP_TRUNCATION = 0.7
"""Of people that are made up to be driven (the released script's)."""


class InvertAvatar(StagedTraining):
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
        lambda_l1, lambda_lpips, lambda_id, lambda_code, lambda_raw, lambda_tri, lambda_tex, lambda_adv, lambda_codes: override
            one weight.
        synthetic: train on people of the prior, too: in every second step (stage image), in every step (recurrent).
        truncation: of made-up people that train; None: as released, 0.6 or 0.8 by stage.
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
        lambda_codes: float | None = None,
        synthetic: bool = True,
        truncation: float | None = None,
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
    def stream(self) -> Stream:  # type: ignore[override]
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
