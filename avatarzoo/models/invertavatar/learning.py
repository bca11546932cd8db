"""How the stages learn (appendix A.2): people of photographs and people of the prior, whose features are known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from avatarzoo.losses.adversarial import discriminator_loss, generator_loss, r1_penalty
from avatarzoo.models.invertavatar.inversion import Drawn, Frames, Inversion, Person
from avatarzoo.models.invertavatar.latent_discriminator import LatentDiscriminator, codes_penalty
from avatarzoo.models.invertavatar.objective import InversionLoss, Stage, psnr
from avatarzoo.networks.discriminator import DualDiscriminator
from avatarzoo.priors.animatable_config import AnimatableConfig

SYNTHETIC_TRUNCATION: dict[Stage, float] = {"latent": 0.6, "image": 0.8, "recurrent": 0.6}
"""Of the prior's people that train (released code)."""
REAL_TRUNCATION = 0.8
"""Of codes that the latent discriminator takes for real (released code)."""
CODES_R1, PICTURES_R1 = 10.0, 1.0
"""Gradient penalties (released code), every :data:`R1_INTERVAL` steps."""
R1_INTERVAL = 16


class Lesson(NamedTuple):
    """B people: frames to reconstruct from, and frames to compare with (as many of each for everybody)."""

    source: Frames
    target: Frames
    people: int


class Outcome(NamedTuple):
    """Weighted terms; what was drawn and from whom; what it should look like; the PSNR in decibels."""

    terms: dict[str, Tensor]
    drawn: Drawn
    person: Person
    true: Float[Tensor, "b 3 s s"]
    true_raw: Float[Tensor, "b 3 r r"]
    psnr: Tensor


def discriminator_of(
    hp: Mapping[str, Any], loss: InversionLoss, config: AnimatableConfig
) -> LatentDiscriminator | DualDiscriminator | None:
    """D_W in stage latent; a dual discriminator without pose condition (paper) where a later stage is adversarial; else none."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(hp["seed"] + 1)
        if hp["stage"] == "latent":
            return LatentDiscriminator(config.code_dim) if loss.weights["code"] > 0 else None
        if not hp["adversarial"]:
            return None
        sizes = {"channel_base": config.channel_base, "channel_max": config.channel_max}
        return DualDiscriminator(config.resolution, 0, **sizes)


class Lessons:
    """The computations of one iteration.

    Args:
        networks, loss, stage: of the module.
        chunk, supervised: see :class:`.module.InvertAvatar`.
        fixed_bodies: E_tex and E_tri learn with their decoders alone (paper: in stage recurrent; released code: in stage image, too).
    """

    def __init__(
        self,
        networks: Inversion,
        loss: InversionLoss,
        stage: Stage,
        chunk: int,
        supervised: int,
        fixed_bodies: bool,
    ) -> None:
        self.networks, self.loss, self.stage = networks, loss, stage
        self.chunk, self.supervised, self.fixed_bodies = chunk, supervised, fixed_bodies

    def switch(self) -> None:
        """Let learn what the stage changes; everything else is fixed, its batch normalisation included."""
        networks, encoders = self.networks, self.networks.encoders
        networks.eval().requires_grad_(False)
        if self.stage == "latent":
            encoders.latent.train().requires_grad_(True)
            return
        for network, use in ((encoders.texture, networks.texture), (encoders.triplane, networks.triplane)):
            if use != "none":
                network.train().requires_grad_(True)
                if self.fixed_bodies:
                    network.unet.body.eval().requires_grad_(False)

    def invert(self, source: Frames, people: int) -> Person:
        """What the stage reconstructs; what earlier stages trained gets no gradients."""
        networks = self.networks
        first = source.window(people, 0, 1).image
        if self.stage == "latent":
            return networks.coarse(networks.codes(first))
        with torch.no_grad():
            codes = networks.codes(first)
        if self.stage == "image":
            return networks(source.window(people, 0, 1), people, codes)
        return networks(source, people, codes, chunk=self.chunk, supervised=self.supervised)

    def real(self, lesson: Lesson) -> Outcome:
        """Photographs, or whatever else the data module brings."""
        person = self.invert(lesson.source, lesson.people)
        drawn = self.networks.views(person, lesson.target)
        true = 2 * lesson.target.image - 1
        terms = self.loss.pictures(drawn, true) | self.about_codes(person)
        return Outcome(terms, drawn, person, true, true, psnr(drawn.image, true))

    def synthetic(self, lesson: Lesson, draws: torch.Generator) -> Outcome:
        """Random people of the prior with the poses and expressions of the lesson."""
        networks, device = self.networks, lesson.source.image.device
        with torch.no_grad():
            latent = torch.randn(lesson.people, networks.prior.config.latent_dim, generator=draws).to(device)
            truth = networks.coarse(networks.frontal_codes(latent, SYNTHETIC_TRUNCATION[self.stage]))
            seen = (networks.views(truth, lesson.source).image.clamp(-1, 1) + 1) / 2
            true = networks.views(truth, lesson.target)
        person = self.invert(lesson.source._replace(image=seen), lesson.people)
        drawn = networks.views(person, lesson.target)
        terms = self.loss.features(drawn, person, true, truth) | self.about_codes(person)
        if (weight := self.loss.weights.get("codes", 0.0)) > 0:
            terms["codes"] = weight * F.l1_loss(person.codes, truth.codes)
        return Outcome(terms, drawn, person, true.image, true.features[:, :3], psnr(drawn.image, true.image))

    def about_codes(self, person: Person) -> dict[str, Tensor]:
        """Codes should not differ much from the first (e4e, section 3.2)."""
        weight = self.loss.weights.get("delta", 0.0)
        if self.stage != "latent" or weight == 0:
            return {}
        deltas = person.codes[:, 1:] - person.codes[:, :1]
        return {"delta": weight * deltas.norm(dim=2).sum(1).mean()}

    # ---- adversaries -----------------------------------------------------------------------------------------------

    def fooled(self, judge: LatentDiscriminator | DualDiscriminator, outcome: Outcome) -> dict[str, Tensor]:
        """The adversarial term of the encoders."""
        if isinstance(judge, LatentDiscriminator):
            return {
                "code": self.loss.weights["code"] * generator_loss(judge(outcome.person.codes.flatten(0, 1)))
            }
        fake = judge.score_pair(outcome.drawn.image, outcome.drawn.features[:, :3], None)  # type: ignore[arg-type]
        return {"adv": self.loss.weights["adv"] * generator_loss(fake)}

    def told_apart(
        self,
        judge: LatentDiscriminator | DualDiscriminator,
        outcome: Outcome,
        draws: torch.Generator,
        penalised: bool,
    ) -> dict[str, Tensor]:
        """The discriminator's terms: codes of the mapping against the encoder's, or pictures of the prior against re-encoded ones."""
        if isinstance(judge, LatentDiscriminator):
            fake = judge(outcome.person.codes.detach().flatten(0, 1))
            codes = self.real_codes(len(fake), draws).requires_grad_(penalised)
            real = judge(codes)
            terms = {"discriminator": discriminator_loss(fake, real)}
            if penalised:
                terms["r1"] = CODES_R1 * R1_INTERVAL * codes_penalty(real, codes)
            return terms
        made = outcome.drawn.image.detach(), outcome.drawn.features[:, :3].detach()
        true = [x.clone().requires_grad_(penalised) for x in (outcome.true, outcome.true_raw)]
        real = judge.score_pair(*true, None)  # type: ignore[arg-type]
        terms = {"discriminator": discriminator_loss(judge.score_pair(*made, None), real)}  # type: ignore[arg-type]
        if penalised:
            terms["r1"] = PICTURES_R1 * R1_INTERVAL * r1_penalty(real, true)
        return terms

    @torch.no_grad()
    def real_codes(self, count: int, draws: torch.Generator) -> Float[Tensor, "n w"]:
        """Codes of the mapping network."""
        networks = self.networks
        latent = torch.randn(count, networks.prior.config.latent_dim, generator=draws)
        device = networks.encoders.mean_code.device
        return networks.frontal_codes(latent.to(device), REAL_TRUNCATION)[:, 0]

    # ---- held-out people -------------------------------------------------------------------------------------------

    @torch.no_grad()
    def held_out(self, lesson: Lesson) -> dict[str, Any]:
        """PSNR of target frames: of the mean code, of E_latent, and of what this stage reconstructs."""
        networks = self.networks
        true = 2 * lesson.target.image - 1
        mean = networks.encoders.mean_code[:, None].expand(lesson.people, networks.prior.code_count, -1)
        first = networks.codes(lesson.source.window(lesson.people, 0, 1).image)
        measured = {
            "psnr_mean_code": psnr(networks.views(networks.coarse(mean), lesson.target).image, true),
            "psnr_latent": psnr(networks.views(networks.coarse(first), lesson.target).image, true),
        }
        if self.stage != "latent":
            person = self.invert(lesson.source, lesson.people)
            measured["psnr"] = psnr(networks.views(person, lesson.target).image, true)
        return measured
