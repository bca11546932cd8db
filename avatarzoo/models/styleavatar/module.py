"""StyleAvatar as a trainable module (paper sections 3.2 to 3.4): a video, or several for pre-training, to a drivable portrait."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from avatarzoo.data.batch import AvatarBatch
from avatarzoo.errors import UsageError
from avatarzoo.geometry.camera import Camera
from avatarzoo.heads import load_head
from avatarzoo.heads.base import HeadParams
from avatarzoo.losses.adversarial import discriminator_loss, generator_loss, r1_penalty
from avatarzoo.models.base import AvatarImage, AvatarModule, AvatarState
from avatarzoo.models.styleavatar.cache import ConditionCache, videos_of
from avatarzoo.models.styleavatar.codes import identity_code, inference_code, time_code
from avatarzoo.models.styleavatar.conditions import ConditionRenderer
from avatarzoo.models.styleavatar.generator import Person, PortraitGenerator, Variant
from avatarzoo.models.styleavatar.objective import Perceptual, PortraitLoss, Preset, psnr_of
from avatarzoo.models.styleavatar.portrait import composed, person_of, person_tensors
from avatarzoo.models.styleavatar.samples import Sample, Window, make_sample
from avatarzoo.models.styleavatar.start import take_networks
from avatarzoo.models.styleavatar.watchdog import Action, DiscriminatorWatchdog
from avatarzoo.models.styleavatar.windows import centred, crop_condition
from avatarzoo.networks.haar_discriminator import HaarDiscriminator
from avatarzoo.networks.training import finite_gradients, update_average

HALF_LIFE = 10_000 / 32
"""Steps in which the running average forgets half (released code: 0.5 ** (32 / 10000) a step)."""
R1_INTERVAL = 16


class StyleAvatar(AvatarModule):
    """A person's portrait, drawn by StyleUNets from renders of a head model.

    Args:
        head: name of the head model (``procedural``, ``ict``, ``flame``, ``faceverse``); faceverse is the paper's.
        head_file: the user's own model file, where the head needs one.
        input_size, output_size: R and S, sides of condition renders and of pictures, powers of two (paper: 256 and 1024).
        channel_multiplier, channel_max: width of all networks; the published table has 2 and 512.
        variant: ``full`` or a network of the ablation study, see :class:`PortraitGenerator`.
        preset: ``avatarzoo``, ``paper`` or ``official_release``, see :data:`objective.PRESETS`.
        lambda_l1, lambda_perceptual, lambda_mask, lambda_gan, lambda_r1, lambda_features: override a weight; no GAN, no discriminator.
        perceptual: overrides the preset's: ``vgg19`` (the paper's, needs its weights), ``multiscale`` (needs none), ``none``.
        lr, momentum, weight_decay: of AdamW for generators and discriminator; momentum (beta 1) pays where there is no GAN.
        max_norm: gradients of each generator are clipped to it.
        freeze_features_after: steps of this run after which face texture and background stay as they are.
        window: windows per ``sample``, per ``batch`` (as published) or ``none``. videos: people in the data (pretraining: > 1).
        watchdog, watchdog_patience: what happens when the discriminator wins, and after how many steps.
        compile: run generator and discriminator through torch.compile while training.
        background: grey level behind the person. seed: of weights, noise and windows.
        start: checkpoint of an earlier run whose networks are taken; steps are counted anew, so that a new person gets new features.

    Weights of a perceptual loss and ``start`` are read when training begins, so that an avatar loads on machines without them.
    """

    def __init__(
        self,
        head: str = "procedural",
        head_file: str | None = None,
        input_size: int = 256,
        output_size: int = 1024,
        channel_multiplier: float = 2,
        channel_max: int = 512,
        variant: Variant = "full",
        preset: Preset = "avatarzoo",
        lambda_l1: float | None = None,
        lambda_perceptual: float | None = None,
        lambda_mask: float | None = None,
        lambda_gan: float | None = None,
        lambda_r1: float | None = None,
        lambda_features: float | None = None,
        perceptual: Perceptual | None = None,
        lr: float = 2e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.01,
        max_norm: float = 1.0,
        freeze_features_after: int = 10_000,
        window: Window = "sample",
        videos: int = 1,
        watchdog: Action = "restart",
        watchdog_patience: int = 200,
        compile: bool = False,
        background: float = 1.0,
        seed: int = 0,
        start: str | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.head = load_head(head, head_file)
        self.renderer = ConditionRenderer(self.head, input_size)
        overrides = {k: v for k, v in self.hparams.items() if k.startswith("lambda_")}
        self.loss = PortraitLoss(preset, overrides, perceptual)
        width = {"channel_multiplier": channel_multiplier, "channel_max": channel_max}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.generator = PortraitGenerator(variant, input_size, output_size, **width)
            # paper section 3.2: the discriminator sees the texture render beside the picture
            self.discriminator = HaarDiscriminator(output_size, 6, **width) if self.loss.adversarial else None
        self.average = copy.deepcopy(self.generator).requires_grad_(False)
        self.watchdog = DiscriminatorWatchdog(watchdog, patience=watchdog_patience)
        self.register_buffer("iteration", torch.zeros((), dtype=torch.long))
        self.register_buffer("identity", torch.zeros(videos, self.head.n_identity))
        # grey level behind the training pictures; nan where the filmed background was kept
        self.register_buffer("ground", torch.tensor(float("nan")))
        self.frozen: Person | None = None

    # ---- the avatar ------------------------------------------------------------------------------------------------

    def forward(
        self,
        params: HeadParams,
        camera: Camera,
        person: Person,
        video: Int[Tensor, " b"] | None = None,
        foreground: Int[Tensor, "b 2"] | None = None,
        background: Int[Tensor, "b 2"] | None = None,
    ) -> AvatarImage:
        """Figure 2 with the averaged weights: expression and pose of ``params`` (B rows), one camera or B.

        Args:
            person: features of one person, or of B.
            video: which person's head shape each row has; the first's where not given.
            foreground, background: corners of the windows in cells; centred where not given.
        """
        shape = self.identity[:1] if video is None else self.identity[video]
        params = params._replace(identity=shape.expand(params.batch, -1))
        conditions = self.renderer(params, camera)
        if foreground is None:
            foreground = centred(params.batch, self.average.grid, self.device)
        style, noise = inference_code(params.batch, self.device), self.average.fixed_noise
        drawn = self.average(conditions, person, style, foreground, background, noise)
        return composed(drawn, self.ground, self.hparams["background"], camera.size)

    @torch.no_grad()
    def people(self) -> Person:
        """Averaged features of every video."""
        return self.average.features(identity_code(torch.arange(len(self.identity), device=self.device)))

    def reconstruct(self, images=None, params=None, cameras=None, video: int = 0) -> AvatarState:
        """The person of one of the training videos: averaged image network, features, noise, head shape."""
        kept = ("average.image.", "average.noise_", "ground")
        tensors = {k: v.detach() for k, v in self.state_dict().items() if k.startswith(kept)}
        tensors["identity"] = self.identity[video : video + 1]
        tensors |= person_tensors(self.people(), video)
        meta = {"hyper_parameters": dict(self.hparams), "head": self.head.signature}
        return AvatarState(type(self).__name__, tensors, meta)

    @torch.no_grad()
    def animate(
        self,
        state: AvatarState,
        params: HeadParams,
        camera: Camera,
        foreground: Int[Tensor, "b 2"] | None = None,
        background: Int[Tensor, "b 2"] | None = None,
    ) -> AvatarImage:
        """See :meth:`AvatarModule.animate`; windows as in :meth:`forward` (paper figure 4: they may move apart).

        Raises:
            HeadModelMismatchError: the state belongs to another head model.
        """
        self.check_head(state.meta["head"])
        tensors = {k: v.to(self.device) for k, v in state.tensors.items()}
        person = person_of(tensors)
        own = {k: v for k, v in tensors.items() if not k.startswith(Person._fields)}
        return torch.func.functional_call(self, own, (params, camera, person, None, foreground, background))

    def animation(self, state: AvatarState) -> Callable[..., AvatarImage]:
        """:meth:`animate` on the folded network, which draws the same pictures faster."""
        from avatarzoo.models.styleavatar.folded import animation  # folded networks know this class

        return animation(self, state)

    # ---- training --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def adapt(self, progress=print) -> None:
        """The start of a run: networks of an earlier one, the people's mean head shapes, the ground they stand on.

        Raises:
            UsageError: the data brings more videos than ``videos``. BadCheckpointError: ``start`` is no checkpoint of such networks.
        """
        if self.hparams["start"] is not None:
            take_networks(self, self.hparams["start"])
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        self.check_head(data.head_signature)
        frames = data.training_frames()
        video = videos_of(frames)
        if int(video.max()) >= len(self.identity):
            raise UsageError(f"The data has {int(video.max()) + 1} videos; say so with --model.videos.")
        for number in video.unique():
            self.identity[number] = frames.params.identity[video == number].mean(0).to(self.device)
        self.ground.fill_(float("nan") if data.background is None else data.background)

    def on_fit_start(self) -> None:
        """Everything that is made once; of a resumed run the iteration is known here, the global step is not.

        Raises:
            MissingAssetError: the perceptual loss needs weights that are not on this machine.
        """
        self.loss.prepare(self.device)
        if int(self.iteration) == 0:
            self.adapt()
        frames = self.trainer.datamodule.training_frames()  # type: ignore[attr-defined]
        self.conditions = ConditionCache(self.renderer, frames, videos_of(frames), self.identity, self.device)
        if self.hparams["compile"]:
            for network in (self.generator, self.discriminator):
                if network is not None:
                    network.compile()

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        hp = self.hparams
        networks = [n for n in (self.generator, self.discriminator) if n is not None]
        options = {"lr": hp["lr"], "betas": (hp["momentum"], 0.99), "weight_decay": hp["weight_decay"]}
        fused = self.device.type in ("cpu", "cuda")
        return [torch.optim.AdamW(n.parameters(), fused=fused, **options) for n in networks]

    def training_step(self, batch: AvatarBatch, batch_idx: int) -> None:
        """One step of each player; everything random depends on (seed, iteration) alone, so that resumed runs agree."""
        iteration = int(self.iteration)
        seed = (self.hparams["seed"] * 1_000_003 + iteration) * 1009
        sides = self.generator.grid, self.generator.output_size
        options = self.hparams["window"], iteration, seed, *self.place
        sample = make_sample(batch, self.conditions, *sides, *options)
        image, logs = self.generator_step(sample, torch.Generator(self.device).manual_seed(seed))
        if self.discriminator is not None:
            logs |= self.discriminator_step(sample, image.detach(), iteration)
            self.watch(logs)
        self.iteration += 1
        update_average(self.average, self.generator, self.average_decay(iteration))
        self.log_dict({f"loss/{k}": v for k, v in logs.items()})
        self.log("psnr", psnr_of(image, sample.target), prog_bar=True)

    def average_decay(self, iteration: int) -> float:
        """Share of the old running average that a step keeps; with the ramp it forgets the random start."""
        decay = 0.5 ** (1 / HALF_LIFE)
        return min(decay, (1 + iteration) / (10 + iteration)) if self.loss.average_ramp else decay

    def generator_step(self, sample: Sample, draws: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Eq. 4 for the generators; returns the picture, equal to the target where nothing was filmed."""
        optimizer = self.optimizers()
        optimizer = optimizer[0] if isinstance(optimizer, list) else optimizer
        optimizer.zero_grad()
        image, mask = self.draw(sample, draws)
        truth = sample.target, sample.background, sample.known, sample.features
        terms = self.loss.supervised(image, mask, *truth)
        if self.discriminator is not None:
            self.discriminator.requires_grad_(False)
            fooled = generator_loss(self.judge(image, sample))
            terms["gan"] = self.loss.weights["gan"] * fooled
            self.discriminator.requires_grad_(True)
        self.manual_backward(torch.stack(list(terms.values())).sum())
        finite_gradients(self.generator)
        for network in (self.generator.image, self.generator.face, self.generator.back):
            if network is not None:
                torch.nn.utils.clip_grad_norm_(network.parameters(), self.hparams["max_norm"])
        optimizer.step()
        logs = {name: value.detach() for name, value in terms.items()}
        return image, logs | ({"fooled": fooled.detach()} if self.discriminator is not None else {})

    def draw(self, sample: Sample, draws: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Pictures of the sample's windows, with gradients to all networks that are not frozen."""
        generator = self.generator
        noise = generator.draw_noise(len(sample.target), draws, *self.place)
        if noise is not None and generator.has_mask and self.loss.fixed_background_noise:
            # paper section 3.3: a fixed noise for the static background; released code: drawn anew at every step
            noise = (*noise[:2], generator.fixed_noise[2])  # type: ignore[index]
        person = self.person(sample.video)
        drawn = generator(sample.conditions, person, time_code(sample.index), sample.offset, None, noise)
        return torch.where(sample.valid > 0, drawn.image.float(), sample.target), drawn.mask

    def person(self, video: Int[Tensor, " b"]) -> Person:
        """Features for each row; after ``freeze_features_after`` steps they are constants."""
        if int(self.iteration) < self.hparams["freeze_features_after"]:
            self.frozen = None
            seen, rows = video.unique(return_inverse=True)
            return self.generator.features(identity_code(seen)).rows(rows)
        if self.frozen is None:
            with torch.no_grad():
                everybody = torch.arange(len(self.identity), device=self.device)
                self.frozen = self.generator.features(identity_code(everybody))
        return self.frozen.rows(video)

    def judge(self, image: Float[Tensor, "b 3 s s"], sample: Sample) -> Float[Tensor, "b 1"]:
        """Logits for pictures beside their texture render, moved by the window and enlarged without interpolation."""
        assert self.discriminator is not None
        render = crop_condition(sample.conditions.render, sample.offset)
        beside = F.interpolate(render, image.shape[-2:], mode="nearest")
        return self.discriminator(torch.cat([image, beside], 1))

    def discriminator_step(self, sample: Sample, image: Tensor, iteration: int) -> dict[str, Tensor]:
        """Tell drawn from filmed pictures; every sixteenth step also keep its slope at filmed ones small."""
        assert self.discriminator is not None
        loss = discriminator_loss(self.judge(image, sample), self.judge(sample.target, sample))
        self.improve_discriminator(loss)
        logs = {"discriminator": loss.detach()}
        if self.loss.weights["r1"] > 0 and iteration % R1_INTERVAL == 0:
            with torch.autocast(self.device.type, enabled=False):  # second derivatives need float32
                filmed = sample.target.detach().requires_grad_()
                logs["r1"] = r1_penalty(self.judge(filmed, sample), [filmed])
                self.improve_discriminator(self.loss.weights["r1"] * R1_INTERVAL * logs["r1"])
        return {name: value.detach() for name, value in logs.items()}

    def improve_discriminator(self, loss: Tensor) -> None:
        """A step of its optimiser that Lightning's step counter does not see."""
        assert self.discriminator is not None
        optimizer = self.optimizers()[1].optimizer
        optimizer.zero_grad()
        self.manual_backward(loss)
        finite_gradients(self.discriminator)
        optimizer.step()

    def watch(self, logs: dict[str, Tensor]) -> None:
        """Let the watchdog see this step's losses; it acts when the discriminator has won."""
        assert self.discriminator is not None
        mean = self.trainer.strategy.reduce  # of all processes, so that all act alike
        losses = float(mean(logs.pop("fooled"))), float(mean(logs["discriminator"].clone()))
        if news := self.watchdog.attend(*losses, self.discriminator, self.optimizers()[1].optimizer):
            print(f"Step {self.global_step}: {news}")
            self.trainer.should_stop = self.watchdog.action == "stop"

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        if "optimizer_states" in checkpoint:  # of a run that can be resumed
            checkpoint["avatarzoo_watchdog"] = self.watchdog.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        if "avatarzoo_watchdog" in checkpoint:
            self.watchdog.load_state_dict(checkpoint["avatarzoo_watchdog"])

    def on_test_start(self) -> None:
        self.cast = self.people()

    on_predict_start = on_test_start

    @torch.no_grad()
    def test_step(self, batch: AvatarBatch, batch_idx: int) -> AvatarImage:
        video = batch.get("video", torch.zeros_like(batch["index"]))
        return self(batch["params"], batch["camera"], self.cast.rows(video), video)

    predict_step = test_step
