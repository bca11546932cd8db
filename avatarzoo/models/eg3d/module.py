"""EG3D trained as a GAN on portraits with camera labels (Chan et al. 2022; StyleGAN2's schedule)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from jaxtyping import Float
from torch import Tensor

from avatarzoo.errors import BadCheckpointError, UsageError
from avatarzoo.losses.adversarial import density_variation, discriminator_loss, generator_loss, r1_penalty
from avatarzoo.models.eg3d.schedules import (
    average_decay,
    gaussian_blur,
    lazy,
    ramp,
    swap_labels,
)
from avatarzoo.networks.discriminator import DualDiscriminator
from avatarzoo.networks.modulation import Noise
from avatarzoo.networks.ops import resize
from avatarzoo.networks.training import finite_gradients, update_average
from avatarzoo.priors.eg3d import TriPlaneGenerator, TriPlaneImage
from avatarzoo.priors.eg3d_config import RELEASED, EG3DConfig
from avatarzoo.priors.generator_file import save_generator

DENSITY_POINTS = 1000
DENSITY_STEP = 0.004
"""Standard deviation of the offsets of the density regularisation, in world units."""
G_MAIN, G_DENSITY, D_MAIN = range(3)
PARTS = 3
"""Parts of an iteration that draw random numbers."""


class EG3DTraining(L.LightningModule):
    """Generator, discriminator and the running average of the generator, which is what a user takes home.

    One iteration is one batch: a generator step, every fourth time a density step, a discriminator step, every sixteenth time a
    gradient penalty step. Everything random depends on (seed, iteration) alone, so that a resumed run goes on as if it had not
    stopped. ``trainer.global_step`` counts generator steps: the other optimiser steps bypass Lightning's counter on purpose.

    Args:
        network: name of a published configuration, see ``avatarzoo.priors.RELEASED``.
        changes: fields of :class:`~avatarzoo.priors.EG3DConfig` that differ from it.
        discriminator_channels: the discriminator's channel table (base, most); None: the backbone's.
        generator_rate, discriminator_rate: Adam's learning rates, before the correction for lazy steps.
        lambda_r1: gradient penalty (FFHQ 1, AFHQ 5, ShapeNet 0.3).
        lambda_density: density regularisation.
        r1_interval, density_interval: iterations between such steps; 0 for none.
        blur: sigma, in pixels, of the blur of the discriminator's pictures at the start (a fine-tuning run: 0).
        blur_over: thousand pictures over which it fades.
        swap_start, swap_end, swap_over: chance that the mapping sees another camera, from, to, over how many thousand pictures.
        neural_start, neural_over: raw resolution at the start and thousand pictures over which it grows to the network's own;
            None: constant.
        average_half_life: of the running average, in thousand pictures.
        average_ramp: it is at most this share of the pictures seen (a fine-tuning run: 0).
        stochastic: random sample positions and layer noise, as published; off for comparisons.
        seed: of weights and codes.
        start: checkpoint of an earlier stage whose weights are taken; counters start anew.

    Raises:
        UsageError: no such configuration, or no such field in it.
        BadCheckpointError: ``start`` is no checkpoint of such a network.
    """

    consent: dict[str, str] | None = None

    def __init__(
        self,
        network: str = "ffhq512-64",
        changes: dict[str, Any] | None = None,
        discriminator_channels: tuple[int, int] | None = None,
        generator_rate: float = 0.0025,
        discriminator_rate: float = 0.002,
        lambda_r1: float = 1.0,
        lambda_density: float = 0.25,
        r1_interval: int = 16,
        density_interval: int = 4,
        blur: float = 10.0,
        blur_over: float = 200.0,
        swap_start: float = 1.0,
        swap_end: float = 0.8,
        swap_over: float = 1000.0,
        neural_start: int | None = None,
        neural_over: float = 1000.0,
        average_half_life: float = 10.0,
        average_ramp: float = 0.05,
        stochastic: bool = True,
        seed: int = 0,
        start: str | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        config = configured(network, changes or {})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.generator = TriPlaneGenerator(config)
            base, most = discriminator_channels or (config.channel_base, config.channel_max)
            half = torch.float16 if config.half else None
            self.discriminator = DualDiscriminator(
                config.resolution, config.label_dim, channel_base=base, channel_max=most, half=half
            )
        self.average = copy.deepcopy(self.generator).requires_grad_(False).eval()
        self.iteration: Tensor
        self.seen: Tensor
        self.register_buffer("iteration", torch.zeros((), dtype=torch.long))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))
        if start is not None:
            self.take_weights(start)

    def take_weights(self, path: str) -> None:
        """Weights of an earlier stage; its counters are not taken.

        Raises:
            BadCheckpointError: the file is no checkpoint of such a network.
        """
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
            self.load_state_dict(state)
        except Exception as error:
            reason = str(error).splitlines()[0][:150]
            raise BadCheckpointError(
                f"{path} holds no weights for this network ({reason}); --model.start takes avatar.ckpt of a run with the "
                "same --model.changes."
            ) from error
        self.iteration.zero_()
        self.seen.zero_()

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        hp, made = self.hparams, []
        for network, rate, interval in (
            (self.generator, hp["generator_rate"], hp["density_interval"]),
            (self.discriminator, hp["discriminator_rate"], hp["r1_interval"]),
        ):
            rate, betas = lazy(rate, (0.0, 0.99), interval)
            made.append(torch.optim.Adam(network.parameters(), rate, betas, eps=1e-8))
        return made

    def forward(
        self, latent: Float[Tensor, "b z"], label: Float[Tensor, "b 25"], truncation: float = 1.0
    ) -> TriPlaneImage:
        """Pictures in [0, 1] of the averaged generator; its mapping sees the camera of the view."""
        return self.average(self.average.codes(latent, label, truncation), label)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """One iteration (fact: the order of steps is StyleGAN2's)."""
        hp, iteration = self.hparams, int(self.iteration)
        self.generator.neural_resolution = self.neural_resolution
        logs = {"loss_g": self.generator_step(batch)}
        if hp["density_interval"] and iteration % hp["density_interval"] == 0:
            logs["density"] = self.density_step(batch)
        logs["loss_d"] = self.discriminator_step(batch)
        if hp["r1_interval"] and iteration % hp["r1_interval"] == 0:
            logs["r1"] = self.r1_step(batch)
        count = len(batch["image"]) * self.trainer.world_size
        self.seen += count
        self.iteration += 1
        decay = average_decay(int(self.seen), count, 1000 * hp["average_half_life"], hp["average_ramp"])
        update_average(self.average, self.generator, decay)
        self.average.neural_resolution = self.generator.neural_resolution
        self.log_dict({**logs, "kimg": self.seen / 1000}, prog_bar=True, sync_dist=True)

    def generator_step(self, batch: dict[str, Tensor]) -> Tensor:
        """Generated pictures should look real."""

        def loss() -> Tensor:
            view = self.imagine(batch, G_MAIN)
            return generator_loss(self.judge(view.rgb, view.raw, batch["fake_label"]))

        return self.improve(self.generator, loss, counts=True)

    def density_step(self, batch: dict[str, Tensor]) -> Tensor:
        """Neighbouring points should be similarly dense (fact: most of the points lie outside the planes' box)."""

        def loss() -> Tensor:
            codes, draws = self.codes(batch, G_DENSITY)
            shape = (len(codes), DENSITY_POINTS, 3)
            points = self.draw(draws, torch.rand, *shape) * 2 - 1
            offsets = self.draw(draws, torch.randn, *shape) * DENSITY_STEP
            planes = self.generator.planes(codes, self.noise, self.jitter(draws))
            return density_variation(lambda p: self.generator.query(planes, p)[0], points, offsets)

        return self.improve(
            self.generator, loss, self.hparams["lambda_density"] * self.hparams["density_interval"]
        )

    def discriminator_step(self, batch: dict[str, Tensor]) -> Tensor:
        """Tell generated from real pictures."""

        def loss() -> Tensor:
            with torch.no_grad():
                view = self.imagine(batch, D_MAIN, update_mean=True)
            fake = self.judge(view.rgb, view.raw, batch["fake_label"])
            return discriminator_loss(fake, self.judge(*self.real(batch), batch["label"], real=True))

        return self.improve(self.discriminator, loss)

    def r1_step(self, batch: dict[str, Tensor]) -> Tensor:
        """Keep the discriminator's slope at real pictures small."""

        def loss() -> Tensor:
            pictures = [p.detach().requires_grad_() for p in self.real(batch)]
            return r1_penalty(self.judge(*pictures, batch["label"], real=True), pictures)

        return self.improve(self.discriminator, loss, self.hparams["lambda_r1"] * self.hparams["r1_interval"])

    def improve(
        self, network: torch.nn.Module, loss: Callable[[], Tensor], weight: float = 1.0, counts: bool = False
    ) -> Tensor:
        """One optimiser step for ``network`` alone on ``weight * loss()``; returns the loss.

        Args:
            counts: whether Lightning counts it as a global step.
        """
        optimiser = self.optimizers()[0 if network is self.generator else 1]
        optimiser.zero_grad()
        self.toggle_optimizer(optimiser)
        value = loss()
        self.manual_backward(value * weight)
        self.untoggle_optimizer(optimiser)
        finite_gradients(network)
        (optimiser if counts else optimiser.optimizer).step()
        return value.detach()

    def imagine(self, batch: dict[str, Tensor], part: int, update_mean: bool = False) -> TriPlaneImage:
        """Generated pictures in the network's range, seen by the batch's ``fake_label`` cameras."""
        codes, draws = self.codes(batch, part, update_mean)
        jitter = self.jitter(draws)
        return self.generator.synthesise(codes, batch["fake_label"], noise=self.noise, jitter=jitter)

    def codes(
        self, batch: dict[str, Tensor], part: int, update_mean: bool = False
    ) -> tuple[Float[Tensor, "b n w"], torch.Generator]:
        """Codes of new people; the mapping sees their camera or, with the scheduled chance, a neighbour's."""
        hp, own = self.hparams, batch["fake_label"]
        draws = torch.Generator().manual_seed((hp["seed"] * 1_000_003 + int(self.iteration)) * PARTS + part)
        latent = self.draw(draws, torch.randn, len(own), self.generator.config.latent_dim)
        chance = ramp(float(self.seen), 1000 * hp["swap_over"], hp["swap_start"], hp["swap_end"])
        shown = swap_labels(own, batch["neighbour_label"], chance, self.draw(draws, torch.rand, len(own)))
        return self.generator.codes(latent, shown, update_mean=update_mean), draws

    def draw(self, draws: torch.Generator, kind: Any, rows: int, *shape: int) -> Tensor:
        """Numbers for this process's rows out of those for the rows of all processes."""
        world, rank = self.trainer.world_size, self.trainer.global_rank
        return kind(rows * world, *shape, generator=draws)[rank::world].to(self.device)

    def judge(self, image: Tensor, raw: Tensor, label: Tensor, real: bool = False) -> Float[Tensor, "b 1"]:
        """Logits; pictures are blurred at first, of generated ones only the final (so the released code)."""
        hp = self.hparams
        sigma = ramp(float(self.seen), 1000 * hp["blur_over"], hp["blur"], 0.0)
        image = gaussian_blur(image, sigma)
        raw = gaussian_blur(raw, sigma) if real else raw
        return self.discriminator.score_pair(image, raw, label)

    def real(self, batch: dict[str, Tensor]) -> tuple[Float[Tensor, "b 3 s s"], Float[Tensor, "b 3 r r"]]:
        """Real pictures and what their raw counterparts should be, in the network's range."""
        image = batch["image"] * 2 - 1
        return image, resize(image, self.generator.neural_resolution)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.consent is not None:
            checkpoint["avatarzoo_consent"] = self.consent

    def export(self, folder: str | Path) -> Path:
        """Write the averaged generator to ``generator.safetensors``; :func:`avatarzoo.priors.load_generator` reads it."""
        facts = {
            "kimg": float(self.seen) / 1000,
            "iterations": int(self.iteration),
            "model": dict(self.hparams),
        }
        path = save_generator(self.average, Path(folder) / "generator.safetensors", facts)
        print(f"Generator: {path}")
        return path

    @property
    def neural_resolution(self) -> int:
        """Raw resolution at this moment of the training."""
        hp, final = self.hparams, self.generator.config.neural_resolution
        start = final if hp["neural_start"] is None else hp["neural_start"]
        return round(ramp(float(self.seen), 1000 * hp["neural_over"], start, final))

    @property
    def noise(self) -> Noise:
        return "random" if self.hparams["stochastic"] else "const"

    def jitter(self, draws: torch.Generator) -> torch.Generator | None:
        """Where samples and layer noise are drawn from; of several processes each has its own stream."""
        if not self.hparams["stochastic"]:
            return None
        seed = int(torch.randint(2**62, (), generator=draws)) + self.trainer.global_rank
        return torch.Generator(self.device).manual_seed(seed)


def configured(network: str, changes: dict[str, Any]) -> EG3DConfig:
    """A published configuration with changes.

    Raises:
        UsageError: no such configuration, or no such field in it.
    """
    if network not in RELEASED:
        raise UsageError(f"--model.network must be one of {', '.join(RELEASED)}, not {network!r}.")
    try:
        return EG3DConfig.from_dict({**RELEASED[network].to_dict(), **changes})
    except TypeError as error:
        raise UsageError(f"--model.changes names no field of the generator ({error}).") from error
