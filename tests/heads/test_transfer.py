"""Another's motion on a head: offsets, pose, and the range of what was trained."""

import torch

from avatarzoo.geometry.rotations import axis_angle_to_matrix
from avatarzoo.heads.base import HeadParams
from avatarzoo.heads.transfer import median, projected, with_face, with_pose

WIDTHS = (4, 5, 3, 3, 6, 2, 3, 3)


def params(rows, seed, scale=0.2):
    generator = torch.Generator().manual_seed(seed)
    return HeadParams(*(scale * torch.randn(rows, w, generator=generator) for w in WIDTHS))


def test_a_driver_at_rest_is_the_avatar_at_rest():
    neutral, rest = params(1, 0), params(1, 1)._replace(eyelids=torch.tensor([[0.1, 0.2]]))
    driven = with_pose(with_face(neutral, neutral, rest, None), neutral, rest)
    for name in ("expression", "jaw", "neck", "eyes", "eyelids", "translation"):
        torch.testing.assert_close(getattr(driven, name), getattr(rest, name), msg=name)
    turned, own = (axis_angle_to_matrix(p.rotation) for p in (driven, rest))
    torch.testing.assert_close(turned, own, atol=1e-5, rtol=0)


def test_offsets_are_added_within_the_models_bounds():
    drive, neutral, rest = params(7, 0), params(1, 1), params(1, 2)
    driven = with_face(drive, neutral, rest, (-0.1, 0.15))
    wanted = (drive.expression - neutral.expression + rest.expression).clamp(-0.1, 0.15)
    torch.testing.assert_close(driven.expression, wanted)
    assert 0 <= driven.eyelids.min() <= driven.eyelids.max() <= 1
    assert driven.identity is drive.identity


def test_projection_keeps_the_face_in_range_and_the_pose_alone():
    drive = params(50, 0, scale=1.0)
    low, high = (HeadParams(*(torch.full((1, w), v) for w in WIDTHS)) for v in (-0.3, 0.4))
    kept = projected(drive, low, high)
    for name in ("expression", "jaw", "eyes", "eyelids"):
        assert -0.3 <= getattr(kept, name).min() < getattr(kept, name).max() <= 0.4
    assert kept.rotation is drive.rotation
    assert kept.translation is drive.translation


def test_median_of_rows():
    rows = params(9, 0)
    assert median(rows).batch == 1
    torch.testing.assert_close(median(rows).jaw[0], rows.jaw.median(0).values)
