"""How the stages learn (appendix A.2): people of photographs and people of the prior, whose features are known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatarzoo.losses.adversarial import discriminator_loss, generator_loss, r1_penalty
from avatarzoo.models.invertavatar.inversion import Drawn, Frames, Inversion, Person
from avatarzoo.models.invertavatar.latent_discriminator import LatentDiscriminator, codes_penalty
from avatarzoo.models.invertavatar.objective import COMPARED, InversionLoss, Stage, psnr
from avatarzoo.models.made_up_people import (
    BATCH,
    PEOPLE,
    RESOLUTION,
    SAMPLES,
    CodeError,
    KeptPictures,
    many_people,
)
from avatarzoo.networks.discriminator import DualDiscriminator
from avatarzoo.priors.animatable_config import AnimatableConfig
from avatarzoo.priors.cameras import frontal_label

SYNTHETIC_TRUNCATION: dict[Stage, float] = {"latent": 0.6, "image": 0.8, "recurrent": 0.6}
"""Of the prior's people that train (released code)."""
REAL_TRUNCATION = 0.8
"""Of codes that the latent discriminator takes for real (released code)."""
CODES_R1, PICTURES_R1 = 10.0, 1.0
"""Gradient penalties (released code), every :data:`R1_INTERVAL` steps."""
R1_INTERVAL = 16
VARIANTS = 2
"""Made-up people that share a frame's pose and expression, see :meth:`Lessons.coded`."""


class Lesson(NamedTuple):
    """B people: frames to reconstruct from, and frames to compare with (as many of each for everybody).

    ``numbers`` tells the people's first frames from all other frames of the data.
    """

    source: Frames
    target: Frames
    people: int
    numbers: Int[Tensor, " b"]


Pictures = tuple[Float[Tensor, "b 3 s s"], Float[Tensor, "b 3 r r"]]


class Outcome(NamedTuple):
    """Weighted terms; the codes that were found; pictures, volume-rendered ones too, as drawn and as they should be, and their PSNR in
    decibels, unless nothing was drawn."""

    terms: dict[str, Tensor]
    codes: Float[Tensor, "b n w"]
    made: Pictures | None = None
    true: Pictures | None = None
    psnr: Tensor | None = None


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
        truncation: of made-up people; None: :data:`SYNTHETIC_TRUNCATION`.
        kept, code_error: of :meth:`coded`.
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
        truncation: float | None,
        kept: KeptPictures,
        code_error: CodeError | None,
    ) -> None:
        self.networks, self.loss, self.stage = networks, loss, stage
        self.chunk, self.supervised, self.fixed_bodies = chunk, supervised, fixed_bodies
        self.truncation = SYNTHETIC_TRUNCATION[stage] if truncation is None else truncation
        self.kept, self.code_error = kept, code_error

    @property
    def codes_alone(self) -> bool:
        """Nothing that is predicted has to be drawn: codes are all that is compared."""
        return self.stage == "latent" and not any(self.loss.weights[k] > 0 for k in COMPARED)

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
        terms = self.loss.pictures(drawn, true) | self.about_codes(person.codes)
        return Outcome(terms, person.codes, shown(drawn), (true, true), psnr(drawn.image, true))

    def synthetic(self, lesson: Lesson, draws: torch.Generator) -> Outcome:
        """Random people of the prior with the poses and expressions of the lesson."""
        networks, device = self.networks, lesson.source.image.device
        with torch.no_grad():
            latent = torch.randn(lesson.people, networks.prior.config.latent_dim, generator=draws).to(device)
            truth = networks.coarse(networks.frontal_codes(latent, self.truncation))
            seen = (networks.views(truth, lesson.source).image.clamp(-1, 1) + 1) / 2
            true = networks.views(truth, lesson.target)
        person = self.invert(lesson.source._replace(image=seen), lesson.people)
        drawn = networks.views(person, lesson.target)
        terms = self.loss.features(drawn, person, true, truth) | self.about_codes(person.codes, truth.codes)
        return Outcome(terms, person.codes, shown(drawn), shown(true), psnr(drawn.image, true.image))

    def coded(self, lesson: Lesson, draws: torch.Generator) -> Outcome:
        """Made-up people by their codes alone (ours), each with the pose and expression of a first frame.

        There are :data:`VARIANTS` of them for each frame of the data, so that they come again and their pictures are drawn once.
        """
        networks, first = self.networks, lesson.source.window(lesson.people, 0, 1)
        variants = torch.randint(VARIANTS, (lesson.people,), generator=draws)
        numbers = lesson.numbers.cpu() * VARIANTS + variants
        latent = numbered_latents(numbers, networks.prior.config.latent_dim).to(first.image.device)
        codes = networks.frontal_codes(latent, self.truncation)

        @torch.no_grad()
        def draw(rows: Tensor) -> Tensor:
            some = first.rows(rows.to(first.image.device))
            drawn = networks.draw(
                networks.coarse(codes[rows]), some.label, networks.maps.driving(some.params)
            )
            return ((drawn.image + 1) / 2).clamp(0, 1)

        found = networks.codes(self.kept(numbers, draw).to(codes))
        return Outcome(self.about_codes(found, codes), found)

    def about_codes(
        self, found: Float[Tensor, "b n w"], true: Float[Tensor, "b n w"] | None = None
    ) -> dict[str, Tensor]:
        """Codes should not differ much from the first (e4e, section 3.2), nor from true ones where these are known."""
        if self.stage != "latent":
            return {}
        terms, weights = {}, self.loss.weights
        if weights["delta"] > 0:
            deltas = found[:, 1:] - found[:, :1]
            terms["delta"] = weights["delta"] * deltas.norm(dim=2).sum(1).mean()
        if true is not None and weights.get("codes", 0.0) > 0:
            assert self.code_error is not None
            terms["codes"] = weights["codes"] * self.code_error(found, true)
        return terms

    # ---- adversaries -----------------------------------------------------------------------------------------------

    def fooled(self, judge: LatentDiscriminator | DualDiscriminator, outcome: Outcome) -> dict[str, Tensor]:
        """The adversarial term of the encoders."""
        if isinstance(judge, LatentDiscriminator):
            return {"code": self.loss.weights["code"] * generator_loss(judge(outcome.codes.flatten(0, 1)))}
        assert outcome.made is not None
        fake = judge.score_pair(*outcome.made, None)  # type: ignore[arg-type]
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
            fake = judge(outcome.codes.detach().flatten(0, 1))
            codes = self.real_codes(len(fake), draws).requires_grad_(penalised)
            real = judge(codes)
            terms = {"discriminator": discriminator_loss(fake, real)}
            if penalised:
                terms["r1"] = CODES_R1 * R1_INTERVAL * codes_penalty(real, codes)
            return terms
        assert outcome.made is not None
        assert outcome.true is not None
        made = [x.detach() for x in outcome.made]
        true = [x.clone().requires_grad_(penalised) for x in outcome.true]
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
        """PSNR of target frames as they are animated: of the mean code, of E_latent, and of what this stage reconstructs."""
        networks = self.networks
        true = 2 * lesson.target.image - 1
        mean = networks.encoders.mean_code[:, None].expand(lesson.people, networks.prior.code_count, -1)
        first = networks.codes(lesson.source.window(lesson.people, 0, 1).image)
        found = {"psnr_mean_code": networks.coarse(mean), "psnr_latent": networks.coarse(first)}
        if self.stage != "latent":
            found["psnr"] = self.invert(lesson.source, lesson.people)
        drawn = {k: networks.views(person, lesson.target, sketched=False) for k, person in found.items()}
        return {k: psnr(view.image, true) for k, view in drawn.items()}


def shown(drawn: Drawn) -> Pictures:
    """What a discriminator sees."""
    return drawn.image, drawn.features[:, :3]


def numbered_latents(numbers: Int[Tensor, " b"], width: int) -> Float[Tensor, "b z"]:
    """A number's latent is always the same."""
    return torch.stack(
        [torch.randn(width, generator=torch.Generator().manual_seed(n)) for n in numbers.tolist()]
    )


def code_error_of(networks: Inversion, truncation: float) -> CodeError:
    """The error of codes of the prior."""
    head, prior, device = networks.maps.head, networks.prior, networks.encoders.mean_code.device
    maps = networks.maps.driving(head.zeros(BATCH, device))
    label = frontal_label(BATCH, prior.config).to(device)

    def draw(first: int) -> tuple[Tensor, Tensor]:
        numbers = torch.arange(first, first + BATCH) - PEOPLE  # apart from those that train
        latent = numbered_latents(numbers, prior.config.latent_dim).to(device)
        people = networks.coarse(networks.frontal_codes(latent, truncation))
        planes = prior.animate(people.codes, people.features, maps)
        view = prior.render(planes, label, RESOLUTION, samples=SAMPLES)
        return people.codes, view.features[:, :3]

    return CodeError(*many_people(draw))
