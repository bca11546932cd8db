"""What a tracked head says of the deformation field (ours): every point of its surface comes from its place at rest.

Pictures alone teach the field slowly, since an open mouth is a few pixels of a volume-rendered picture. The head model that the
expression comes from knows where its skin, eyes and teeth go; near them the field can be told without rendering anything.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from avatarzoo.data.procedural_people import HEAD_CENTRE, UNITS_PER_METRE
from avatarzoo.heads.base import HeadModel, HeadParams
from avatarzoo.models.nofaplusplus.condition import Condition
from avatarzoo.models.nofaplusplus.deformation import DeformationField, Prepared

POINTS = 1024
"""About so many vertices of a head are looked at, evenly spread over its list."""
NEIGHBOURHOOD = 0.01
"""Standard deviation in world units of the points round the vertices: the head in the volume is not exactly the model's."""
MOVING = ("expression", "jaw", "eyes", "eyelids")
WARMUP_BATCH, WARMUP_RATE = 8, 2e-3
SMALLEST_MOTION = 1e-6
"""Mean squared motion (world units) below which faces count as at rest."""


class SurfaceMotion(NamedTuple):
    """Points near the surface in EG3D's world: where they are seen, and where they are at rest."""

    seen: Float[Tensor, "b n 3"]
    rest: Float[Tensor, "b n 3"]


@torch.no_grad()
def surface_motion(head: HeadModel, params: HeadParams) -> SurfaceMotion:
    """Of the heads' faces, their rigid motion left to the cameras."""
    params = params.in_head_frame()
    still = {
        name: torch.zeros_like(getattr(params, name)) for name in ("expression", "jaw", "eyes", "eyelids")
    }
    places = [
        head(heads)[:, :: max(1, len(head.v_template) // POINTS)]
        for heads in (params, params._replace(**still))
    ]
    draws = torch.Generator().manual_seed(0)  # the same for all steps, so that resumed runs agree
    around = NEIGHBOURHOOD * torch.randn(places[0].shape[1:], generator=draws).to(places[0])
    centre = places[0].new_tensor(HEAD_CENTRE)
    return SurfaceMotion(*((x - centre) * UNITS_PER_METRE + around for x in places))


def surface_error(field: DeformationField, prepared: Prepared, motion: SurfaceMotion) -> Float[Tensor, ""]:
    """Mean squared distance of the field's canonical points to those at rest; about 1 for a field that moves nothing."""
    moved = (motion.seen - motion.rest).square().mean().clamp_min(SMALLEST_MOTION)
    return (field(motion.seen, prepared) - motion.rest).square().mean() / moved


def warm_up(
    field: DeformationField, condition: Condition, head: HeadModel, params: HeadParams, steps: int, seed: int
) -> float:
    """Fit a field to the motion of tracked heads before any picture is drawn; returns the mean error of the last tenth.

    The expressions are made by new people every time, as different from each other as those of the frames: the few people at hand
    would be learnt by heart (held-out people: 88 % of the motion explained with theirs, 90 % with new ones).

    Args:
        params: of training frames; each step takes eight of them at random.
        steps: about 35 ms each on one core with the small networks.
    """
    optimizer = torch.optim.Adam(field.parameters(), WARMUP_RATE)
    draws, errors = torch.Generator().manual_seed(seed), []
    bar = tqdm(range(steps), desc="Deformation field, from tracked heads", leave=False)
    with torch.enable_grad():
        for _ in bar:
            rows = torch.randint(len(params.identity), (WARMUP_BATCH,), generator=draws)
            heads = params.rows(rows.to(params.identity.device))
            person = torch.randn(heads.identity.shape, generator=draws).clamp(-2, 2).to(heads.identity)
            heads = heads._replace(identity=condition.identity_mean + condition.identity_scale * person)
            prepared = field.prepare(condition.identity(heads), condition.expression(heads))
            error = surface_error(field, prepared, surface_motion(head, heads))
            optimizer.zero_grad()
            error.backward()
            optimizer.step()
            errors.append(error.detach())
    return float(torch.stack(errors[-max(1, steps // 10) :]).mean())
