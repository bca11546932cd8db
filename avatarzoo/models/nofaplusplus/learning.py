"""One iteration of NOFA++'s training as losses (section 3.4), and what is measured on held-out people."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from avatarzoo.heads.base import HeadModel
from avatarzoo.models.made_up_people import CodeError, KeptPictures
from avatarzoo.models.nofaplusplus.condition import Condition
from avatarzoo.models.nofaplusplus.deformation import Prepared
from avatarzoo.models.nofaplusplus.generator import HeadGenerator, Volume
from avatarzoo.models.nofaplusplus.made_up import MadeUp, make_up, true_views
from avatarzoo.models.nofaplusplus.objective import HeadLoss, boxes_psnr, psnr
from avatarzoo.models.nofaplusplus.pairs import Pair, pair_of
from avatarzoo.models.nofaplusplus.regions import region_boxes
from avatarzoo.models.nofaplusplus.stages import Iteration
from avatarzoo.models.nofaplusplus.surface import surface_error, surface_motion
from avatarzoo.priors.eg3d import TriPlaneGenerator

SyntheticExpression = Literal["rest", "none"]
RENDERED = ("lpips", "l2", "depth")
OURS = ("code", "surface")


class Outcome(NamedTuple):
    """Weighted terms of a loss and, where a picture was drawn, its PSNR."""

    terms: dict[str, Tensor]
    psnr: Tensor | None


class Lessons(NamedTuple):
    """How iterations are computed; the fields are options of the method.

    Attributes:
        weights: overrides of the iterations' weights, by name; ``code`` and ``surface`` are only here.
        resolution, samples: of volume-rendered training pictures.
        drawn: pictures of people who come again. code_error: where ``code`` has a weight.
    """

    head: HeadModel
    condition: Condition
    loss: HeadLoss
    weights: dict[str, float]
    resolution: int | None
    samples: tuple[int, int] | None
    truncation: float
    synthetic_expression: SyntheticExpression
    background: float
    drawn: KeptPictures
    code_error: CodeError | None

    def of(self, iteration: Iteration) -> dict[str, float]:
        """Weights of an iteration's losses, overrides included."""
        own = {name: self.weights.get(name, weight) for name, weight in iteration.weights.items()}
        return own | {k: w for k, w in self.weights.items() if k in OURS}

    def synthetic(
        self,
        networks: HeadGenerator,
        teacher: TriPlaneGenerator,
        batch: dict[str, Tensor],
        iteration: Iteration,
    ) -> Outcome:
        """Equations 5 to 9 on made-up people of ``teacher``."""
        weights = self.of(iteration)
        numbers = batch.get("number")
        people = make_up(
            teacher, batch["latent"], batch["labels"], self.truncation, numbers, self.drawn, self.samples
        )
        with _gradients("encoder" in iteration.trained or "prior" in iteration.trained):
            halfway = networks.encode(people.source)
        terms: dict[str, Tensor] = {}
        if weights["code"] > 0 and not iteration.fine:
            assert self.code_error is not None
            terms["code"] = weights["code"] * self.code_error(halfway.codes, people.codes)
        if not any(weights[name] > 0 for name in RENDERED):
            return Outcome(terms, None)
        prepared = self.made_up_condition(networks, people) if iteration.deformed else None
        fused = None
        if iteration.fine:
            fused = networks.fuse(halfway, people.source, people.source_labels, prepared)
        volume = networks.volume(halfway, fused).repeated(2)
        twice = None if prepared is None else prepared.repeated(2)
        made = networks.render(volume, people.labels, twice, self.resolution, self.samples)
        true = true_views(teacher, people, self.resolution, self.samples)
        return Outcome(terms | self.loss.synthetic(made, true, weights), psnr(made.rgb, true.rgb))

    def made_up_condition(self, networks: HeadGenerator, people: MadeUp) -> Prepared | None:
        """What the field is told about people without head parameters."""
        if self.synthetic_expression == "none":
            return None
        return networks.field.prepare(*self.condition.rest(len(people.source)))

    def video(self, networks: HeadGenerator, batch: dict[str, Any], iteration: Iteration) -> Outcome:
        """Equations 10 to 13 on pairs of frames."""
        pair = pair_of(batch, networks.size, self.background)
        prepared = self.target_condition(networks, pair)
        with _gradients(set(iteration.trained) != {"field"}):
            volume = self.source_volume(networks, pair)
        made = networks.render(volume, pair.target.label, prepared, self.resolution, self.samples).rgb
        boxes = region_boxes(self.head, pair.target.params, pair.target.camera)
        weights = self.of(iteration)
        terms = self.loss.video(made, pair.target.image, boxes, weights, iteration.mouth_only)
        if weights["surface"] > 0:
            motion = surface_motion(self.head, pair.target.params)
            terms["surface"] = weights["surface"] * surface_error(networks.field, prepared, motion)
        return Outcome(terms, psnr(made, pair.target.image))

    def target_condition(self, networks: HeadGenerator, pair: Pair) -> Prepared:
        """(alpha_s, beta_t)."""
        alpha = self.condition.identity(pair.source.params)
        return networks.field.prepare(alpha, self.condition.expression(pair.target.params))

    def source_volume(self, networks: HeadGenerator, pair: Pair) -> Volume:
        """V_e of the source picture."""
        source = pair.source
        own = networks.field.prepare(
            self.condition.identity(source.params), self.condition.expression(source.params)
        )
        return networks.fine(source.image, source.label, own)

    @torch.no_grad()
    def held_out_synthetic(
        self, networks: HeadGenerator, teacher: TriPlaneGenerator, batch: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """PSNR of the average latent, of V_c and of V_e (canonical) over both views of held-out people, at full size."""
        people = make_up(teacher, batch["latent"], batch["labels"], self.truncation)
        truth = true_views(teacher, people).rgb
        halfway = networks.encode(people.source)
        mean = networks.encoder.average.expand_as(halfway.codes)
        volumes = {
            "average": Volume(networks.prior.planes(mean), mean),
            "coarse": networks.volume(halfway),
            "fine": networks.volume(halfway, networks.fuse(halfway, people.source, people.source_labels)),
        }
        drawn = {k: networks.render(v.repeated(2), people.labels).rgb for k, v in volumes.items()}
        return {f"psnr_{k}": psnr(made, truth) for k, made in drawn.items()}

    @torch.no_grad()
    def held_out_video(self, networks: HeadGenerator, batch: dict[str, Any]) -> dict[str, Tensor]:
        """PSNR of target pictures under their expression, and of the same volume without the field; whole and in the boxes."""
        pair = pair_of(batch, networks.size, self.background)
        volume, label = self.source_volume(networks, pair), pair.target.label
        boxes = region_boxes(self.head, pair.target.params, pair.target.camera)
        made = networks.render(volume, label, self.target_condition(networks, pair)).rgb
        still = networks.render(volume, label).rgb
        truth = pair.target.image
        return {
            "psnr": psnr(made, truth),
            "psnr_canonical": psnr(still, truth),
            "psnr_boxes": boxes_psnr(made, truth, boxes),
            "psnr_boxes_canonical": boxes_psnr(still, truth, boxes),
        }


def _gradients(wanted: bool):
    return nullcontext() if wanted else torch.no_grad()
