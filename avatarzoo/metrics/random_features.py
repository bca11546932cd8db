"""A fixed feature extractor that needs no weights: random filters on a pyramid. For quick comparisons of sets; it is not FID."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from avatarzoo.metrics.distribution import FrechetDistance

LABEL = "Frechet distance of random filters"
LEVELS = (64, 32, 16, 8)
FILTERS = 12
COLOURS = 4


class RandomFeatures(nn.Module):
    """What a picture looks like at four sizes, in 240 numbers.

    Pictures are resized to 64 pixels (antialiased), then halved three times. On every level twelve zero-mean 5 x 5 colour filters,
    drawn from N(0, 1) with seed 0 and scaled to unit length, are applied; the mean absolute response of each filter in each
    quarter of the picture is a feature (4 levels x 12 filters x 4 quarters). To these come the mean colours of a 4 x 4 grid. The
    same pictures give the same numbers on every machine up to rounding.
    """

    filters: Tensor
    features = len(LEVELS) * FILTERS * 4 + 3 * COLOURS**2

    def __init__(self) -> None:
        super().__init__()
        drawn = torch.randn(len(LEVELS), FILTERS, 3, 5, 5, generator=torch.Generator().manual_seed(0))
        drawn = drawn - drawn.mean((-2, -1), keepdim=True)
        length = drawn.flatten(2).norm(dim=2)[..., None, None, None]
        self.register_buffer("filters", drawn / length, persistent=False)

    def forward(self, pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 240"]:
        """Features of pictures in [0, 1]."""
        numbers = [F.adaptive_avg_pool2d(pictures, COLOURS).flatten(1)]
        for side, filters in zip(LEVELS, self.filters):
            pictures = F.interpolate(pictures, (side, side), mode="bilinear", antialias=True)
            response = F.conv2d(F.pad(pictures, (2, 2, 2, 2), mode="reflect"), filters).abs()
            numbers.append(F.adaptive_avg_pool2d(response, 2).flatten(1))
        return torch.cat(numbers, 1)


def random_feature_distance() -> FrechetDistance:
    """:class:`~avatarzoo.metrics.distribution.FrechetDistance` on :class:`RandomFeatures`, under its honest name."""
    return FrechetDistance(RandomFeatures(), RandomFeatures.features, LABEL)
