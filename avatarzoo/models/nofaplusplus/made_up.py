"""NOFA++'s synthetic data (section 3.4): people of the frozen prior, each seen twice."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatarzoo.models.made_up_people import BATCH, RESOLUTION, SAMPLES, CodeError, KeptPictures, many_people
from avatarzoo.models.nofaplusplus.generator import Volume, render_volume
from avatarzoo.priors.cameras import frontal_label
from avatarzoo.priors.eg3d import TriPlaneGenerator, TriPlaneImage


class MadeUp(NamedTuple):
    """b people.

    Attributes:
        codes: the truth.
        labels: 2 b cameras: source and target of the first person, of the second, and so on.
        source: I_s, RGB in [0, 1].
    """

    codes: Float[Tensor, "b n w"]
    labels: Float[Tensor, "b2 25"]
    source: Float[Tensor, "b 3 s s"]

    @property
    def source_labels(self) -> Float[Tensor, "b 25"]:
        return self.labels[::2]


@torch.no_grad()
def make_up(
    prior: TriPlaneGenerator,
    latent: Float[Tensor, "b z"],
    labels: Float[Tensor, "b 2 25"],
    truncation: float = 1.0,
    numbers: Int[Tensor, " b"] | None = None,
    drawn: KeptPictures | None = None,
    samples: tuple[int, int] | None = None,
) -> MadeUp:
    """People from latent numbers, with the source pictures that the encoder sees; they are conditioned on a frontal camera.

    Args:
        numbers: of people who come again; drawn: where their source pictures are kept.
        samples: on a ray of the source pictures in the two passes; None: the prior's own.
    """
    front = frontal_label(1, prior.config).to(labels).expand(len(latent), -1)
    codes = prior.codes(latent, front, truncation)

    def draw(rows: Tensor) -> Tensor:
        volume = Volume(prior.planes(codes[rows]), codes[rows])
        return render_volume(prior, volume, labels[rows, 0], samples=samples).rgb.clamp(0, 1)

    if numbers is None or drawn is None:
        source = draw(torch.arange(len(latent), device=latent.device))
    else:
        source = drawn(numbers, draw)
    return MadeUp(codes, labels.flatten(0, 1), source)


@torch.no_grad()
def true_views(
    prior: TriPlaneGenerator,
    people: MadeUp,
    resolution: int | None = None,
    samples: tuple[int, int] | None = None,
) -> TriPlaneImage:
    """What reconstructions are compared with: both views of everybody."""
    volume = Volume(prior.planes(people.codes), people.codes).repeated(2)
    return render_volume(prior, volume, people.labels, resolution=resolution, samples=samples)


def code_error(prior: TriPlaneGenerator, truncation: float = 1.0, seed: int = 0) -> CodeError:
    """The error of codes of a frozen prior."""
    return CodeError(*draw_people(prior, truncation, seed))


def draw_people(
    prior: TriPlaneGenerator, truncation: float, seed: int
) -> tuple[Float[Tensor, "p w"], Float[Tensor, "p x"]]:
    """Codes and flattened frontal raw pictures of random people."""
    device, draws = next(prior.parameters()).device, torch.Generator().manual_seed(seed)
    labels = frontal_label(BATCH, prior.config).to(device)

    def draw(_: int) -> tuple[Tensor, Tensor]:
        latent = torch.randn(BATCH, prior.config.latent_dim, generator=draws).to(device)
        codes = prior.codes(latent, labels, truncation)
        view = render_volume(prior, Volume(prior.planes(codes), codes), labels, None, RESOLUTION, SAMPLES)
        return codes, view.raw

    return many_people(draw)
