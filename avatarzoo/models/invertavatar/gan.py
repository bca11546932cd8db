"""InvertAvatar's prior as a GAN that trains (section 3.2, appendix A.1): driven people, and landmarks for the discriminator."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from avatarzoo.data.eg3d_views import eg3d_labels
from avatarzoo.errors import UsageError
from avatarzoo.heads import load_head
from avatarzoo.models.eg3d import EG3DTraining
from avatarzoo.models.eg3d.schedules import gaussian_blur, ramp
from avatarzoo.models.invertavatar.contours import contour_maps
from avatarzoo.models.invertavatar.maps import HeadMaps
from avatarzoo.networks.discriminator import Discriminator
from avatarzoo.networks.ops import resize
from avatarzoo.priors.animatable import AnimatableTriPlaneGenerator
from avatarzoo.priors.animatable_config import RELEASED_ANIMATABLE, AnimatableConfig
from avatarzoo.priors.eg3d import TriPlaneImage
from avatarzoo.priors.generator_file import load_generator
from avatarzoo.priors.released import load_eg3d
from avatarzoo.priors.small_prior import small_prior


class AnimatableTraining(EG3DTraining):
    """Generator, discriminator, and the running average of the generator; ``export`` writes what ``--model.prior`` takes.

    Batches are pairs of frames as :class:`avatarzoo.data.clip_pairs_modules.ClipPairsDataModule` gives them: sources are the real
    pictures, targets lend their expressions and cameras to the made-up people. The density step looks at people without a driven face.

    Args:
        head, head_file: the head model; faceverse is the paper's.
        changes: fields of :class:`~avatarzoo.priors.AnimatableConfig` that differ from the released generator's.
        contours: show the discriminator landmark maps (paper); False is what the released script does.
        views: planes that are driven, 1 (released) or 3 (the paper's text).
        heads: what training starts from: ``small``, a generator file of ours, or a published EG3D file; none: random weights.
        background: grey level behind the people, for the data module.
        generator_rate, discriminator_rate, lambda_r1, lambda_density, swap_start, swap_end, neural_start, neural_over,
            average_half_life, stochastic, seed: see :class:`EG3DTraining`; the defaults are those of InvertAvatar's script.

    Raises:
        UsageError: no such field. Also what loading ``heads`` raises.
    """

    def __init__(
        self,
        head: str = "procedural",
        head_file: str | None = None,
        changes: dict[str, Any] | None = None,
        contours: bool = True,
        views: int = 1,
        heads: str | None = None,
        background: float = 1.0,
        generator_rate: float = 0.0025,
        discriminator_rate: float = 0.002,
        lambda_r1: float = 8.0,
        lambda_density: float = 0.25,
        swap_start: float = 0.5,
        swap_end: float = 0.5,
        neural_start: int | None = 64,
        neural_over: float = 1000.0,
        average_half_life: float = 10.0,
        stochastic: bool = True,
        seed: int = 0,
    ) -> None:
        super(EG3DTraining, self).__init__()  # its own networks are other ones
        self.save_hyperparameters()
        # of the schedule, what a run that starts from a trained generator leaves out (fact: EG3D's --resume does)
        self.hparams.update(
            r1_interval=16, density_interval=4, blur=0.0, blur_over=0.0, swap_over=0.0, average_ramp=0.0
        )
        self.automatic_optimization = False
        self.head = load_head(head, head_file)
        config = changed(changes or {})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.generator = AnimatableTriPlaneGenerator(config)
            if heads is not None:
                self.generator.begin_with(small_prior() if heads == "small" else trained(heads))
            half = torch.float16 if config.half else None
            table = {"channel_base": config.channel_base, "channel_max": config.channel_max}
            self.discriminator = Discriminator(
                config.resolution, 9 if contours else 6, config.label_dim, half=half, **table
            )
        self.average = copy.deepcopy(self.generator).requires_grad_(False).eval()
        self.maps = HeadMaps(self.head, config, views=views)
        self.register_buffer("iteration", torch.zeros((), dtype=torch.long))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """One iteration of :class:`EG3DTraining`."""
        real, fake = batch["source"], batch["target"]
        side = self.generator.config.resolution
        if real["image"].shape[-1] != side:
            raise UsageError(
                f"The generator makes pictures of {side} pixels, the data has {real['image'].shape[-1]}; set --data.size {side}."
            )
        label, fake_label = (eg3d_labels(x["params"], x["camera"]) for x in (real, fake))
        self.driven = self.maps.driving(fake["params"])
        self.drawn: dict[bool, Tensor] = {}
        if self.hparams["contours"]:
            self.drawn = {
                known: contour_maps(self.head, x["params"], x["camera"], side)
                for known, x in ((True, real), (False, fake))
            }
        labels = {"label": label, "fake_label": fake_label, "neighbour_label": fake_label.roll(1, 0)}
        super().training_step({"image": real["image"], **labels}, batch_idx)

    def imagine(self, batch: dict[str, Tensor], part: int, update_mean: bool = False) -> TriPlaneImage:
        """Made-up people with the targets' expressions, seen by their cameras."""
        codes, draws = self.codes(batch, part, update_mean)
        jitter, generator = self.jitter(draws), self.generator
        person = generator.person(codes, noise=self.noise, generator=jitter)
        planes = generator.animate(codes, person, self.driven, self.noise, jitter)
        return generator.synthesise(codes, batch["fake_label"], planes, noise=self.noise, jitter=jitter)

    def judge(self, image: Tensor, raw: Tensor, label: Tensor, real: bool = False) -> Tensor:
        """Logits of picture, landmarks and raw picture; the released order: picture first, then the others at the raw size."""
        hp, side, small = self.hparams, image.shape[-1], raw.shape[-1]
        image = gaussian_blur(image, ramp(float(self.seen), 1000 * hp["blur_over"], hp["blur"], 0.0))
        beside = [resize(resize(self.drawn[real], small), side)] if self.drawn else []
        return self.discriminator.score(torch.cat([image, *beside, resize(raw, side)], 1), label)


def changed(changes: dict[str, Any]) -> AnimatableConfig:
    """The released configuration with changes.

    Raises:
        UsageError: no such field.
    """
    try:
        return AnimatableConfig.from_dict({**RELEASED_ANIMATABLE.to_dict(), **changes})
    except TypeError as error:
        raise UsageError(f"--model.changes names no field of the generator ({error}).") from error


def trained(path: str):
    """An EG3D generator of ours or a published one."""
    return load_generator(path) if path.endswith(".safetensors") else load_eg3d(path)
