"""NOFA++'s synthetic data (section 3.4): people of the frozen prior, each seen twice."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from avatarzoo.models.nofaplusplus.generator import Volume, render_volume
from avatarzoo.priors.cameras import frontal_label
from avatarzoo.priors.eg3d import TriPlaneGenerator, TriPlaneImage


class MadeUp(NamedTuple):
    """b people.

    Attributes:
        volume: the truth.
        labels: 2 b cameras: source and target of the first person, of the second, and so on.
        source: I_s, RGB in [0, 1].
    """

    volume: Volume
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
) -> MadeUp:
    """People from latent numbers, with the source pictures that the encoder sees; they are conditioned on a frontal camera."""
    front = frontal_label(1, prior.config).to(labels).expand(len(latent), -1)
    codes = prior.codes(latent, front, truncation)
    volume = Volume(prior.planes(codes), codes)
    source = render_volume(prior, volume, labels[:, 0]).rgb.clamp(0, 1)
    return MadeUp(volume, labels.flatten(0, 1), source)


@torch.no_grad()
def true_views(
    prior: TriPlaneGenerator,
    people: MadeUp,
    resolution: int | None = None,
    samples: tuple[int, int] | None = None,
) -> TriPlaneImage:
    """What reconstructions are compared with: both views of everybody."""
    return render_volume(
        prior, people.volume.repeated(2), people.labels, resolution=resolution, samples=samples
    )
