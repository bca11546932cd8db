"""The tracked head tells the deformation field where its surface comes from."""

from __future__ import annotations

from collections.abc import Callable

import torch

from avatarzoo.data.procedural_people import HEAD_CENTRE, UNITS_PER_METRE
from avatarzoo.models.nofaplusplus import NOFAPlusPlus
from avatarzoo.models.nofaplusplus.surface import surface_error, surface_motion, warm_up


def faces(module: NOFAPlusPlus, count: int = 12):
    draws = torch.Generator().manual_seed(2)
    params = module.head.zeros(count)
    opened = module.head.expression_names.index("jawOpen")
    params.expression[:, opened] = torch.rand(count, generator=draws)
    params.rotation[:, 1] = torch.randn(count, generator=draws)
    return params._replace(identity=0.5 * torch.randn(params.identity.shape, generator=draws))


def test_points_lie_on_the_face_in_eg3ds_world_and_the_rest_keeps_the_identity(
    make: Callable[..., NOFAPlusPlus],
) -> None:
    module = make()
    params = faces(module)
    motion = surface_motion(module.head, params)
    still = params._replace(expression=torch.zeros_like(params.expression)).in_head_frame()
    for places, heads in ((motion.seen, params.in_head_frame()), (motion.rest, still)):
        vertices = (module.head(heads) - torch.tensor(HEAD_CENTRE)) * UNITS_PER_METRE
        assert torch.cdist(places, vertices).amin(-1).mean() < 0.03
    assert (motion.seen - motion.rest).norm(dim=-1).amax() > 0.05  # an open jaw is centimetres


def test_no_motion_costs_one_and_the_right_field_nothing(make: Callable[..., NOFAPlusPlus]) -> None:
    module = make()
    motion = surface_motion(module.head, faces(module))
    assert abs(float(surface_error(lambda x, prepared: x, None, motion)) - 1) < 1e-5  # type: ignore[arg-type]
    assert surface_error(lambda x, prepared: motion.rest, None, motion) == 0  # type: ignore[arg-type]


def test_warming_up_explains_an_open_jaw_of_other_faces(make: Callable[..., NOFAPlusPlus]) -> None:
    module = make()
    params = faces(module, 64)
    module.condition.learn(params)
    field = module.generator.field
    left = warm_up(field, module.condition, module.head, params.rows(slice(0, 48)), 150, seed=0)
    assert left < 0.3
    others = params.rows(slice(48, 64))
    prepared = field.prepare(module.condition.identity(others), module.condition.expression(others))
    assert surface_error(field, prepared, surface_motion(module.head, others)) < 0.4
