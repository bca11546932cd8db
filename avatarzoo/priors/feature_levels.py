"""What a synthesis network computes on the way to its picture, and edits on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from avatarzoo.networks.modulation import Noise
from avatarzoo.networks.stylegan2 import Stage, SynthesisNetwork

Edits = Mapping[str, Callable[[Stage], Stage]]
"""Site of a synthesis network -> what to make of the stage there."""


class Levels(NamedTuple):
    """Pictures and features of a synthesis network of side R, coarse to fine."""

    coarse_picture: Float[Tensor, "b p r/8 r/8"]
    eighth: Float[Tensor, "b c8 r/8 r/8"]
    quarter: Float[Tensor, "b c4 r/4 r/4"]
    half: Float[Tensor, "b c2 r/2 r/2"]
    full: Float[Tensor, "b c1 r r"]
    picture: Float[Tensor, "b p r r"]

    def plus(self, offsets: list[Tensor]) -> Levels:
        """The first levels corrected by as many offsets."""
        corrected = [x + offset for x, offset in zip(self, offsets)]
        return Levels._make([*corrected, *self[len(offsets) :]])


def edited_walk(
    network: SynthesisNetwork,
    codes: Float[Tensor, "b n w"],
    edits: Edits,
    noise: Noise = "const",
    generator: torch.Generator | None = None,
    start: Stage | None = None,
    after: str | None = None,
) -> Iterator[tuple[str, Stage]]:
    """:meth:`SynthesisNetwork.walk` where every stage named in ``edits`` is replaced by its edit before the walk goes on.

    Raises:
        ValueError: an edit is meant for a site that the network does not have.
    """
    if unknown := set(edits) - set(network.sites):
        raise ValueError(f"there is no site {min(unknown)}; the sites are {', '.join(network.sites)}")
    last = network.sites[-1]
    while after != last:
        for site, stage in network.walk(codes, noise, generator, start, after):
            after, start = site, edits[site](stage) if site in edits else stage
            yield site, start
            if site in edits:
                break


def levels(
    network: SynthesisNetwork,
    codes: Float[Tensor, "b n w"],
    edits: Edits | None = None,
    noise: Noise = "const",
    generator: torch.Generator | None = None,
) -> Levels:
    """Run the network and keep the last four blocks' features and the first and last of their pictures."""
    last = [f"b{r}" for r in network.resolutions[-4:]]
    stages = [
        stage for site, stage in edited_walk(network, codes, edits or {}, noise, generator) if site in last
    ]
    first, final = stages[0].picture, stages[-1].picture
    assert first is not None
    assert final is not None
    return Levels._make([first, *(stage.x for stage in stages), final])
