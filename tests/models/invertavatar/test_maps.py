"""Driving maps and unwrapped pictures: what they show is compared with projections made another way."""

import pytest
import torch
import torch.nn.functional as F

from avatarzoo.data.procedural import ProceduralActor
from avatarzoo.data.procedural_people import HEAD_CENTRE, UNITS_PER_METRE, neutral, portrait_cameras
from avatarzoo.heads.base import HeadParams
from avatarzoo.heads.procedural import ProceduralHead
from avatarzoo.models.invertavatar.maps import HeadMaps, textured_faces
from avatarzoo.priors.animatable_config import AnimatableConfig
from avatarzoo.priors.driving import read_driving

SIDE = 96
CONFIG = AnimatableConfig(face_top=(48 / 256, 0.25, 0.25))


@pytest.fixture(scope="module")
def maps(head: ProceduralHead) -> HeadMaps:
    return HeadMaps(head, CONFIG, SIDE, views=3)


def opened(head: ProceduralHead, rows: int = 2) -> HeadParams:
    """Rest, then an open jaw."""
    params = head.zeros(rows)
    params.expression[1, head.expression_names.index("jawOpen")] = 1
    return params


def test_the_open_mouth_is_the_only_hole(head, maps):
    views = maps.driving(opened(head))
    assert views.shape == (2, 3, SIDE, SIDE, 3)
    closed, open_ = (read_driving(v[None]).hole.sum() for v in views[:, 0])
    assert closed < 0.01 * SIDE**2 < 0.02 * SIDE**2 < open_ < 0.1 * SIDE**2
    rows = read_driving(views[1:, 0]).hole[0, 0].nonzero()[:, 0]
    assert rows.max() < SIDE / 2  # rows grow upwards in the world: the mouth lies in the first half


def test_pixels_look_where_the_surface_is(head, maps):
    """A frontal vertex, moved to its pixel by hand, has its own texture coordinates there."""
    params = opened(head)
    frontal = maps.driving(params)[:, 0]
    vertices = (head(params) - torch.tensor(HEAD_CENTRE)) * UNITS_PER_METRE
    nose = int(head.v_template[:, 2].argmax())
    uv = head.uv[head.uv_faces[(head.faces == nose).any(1)]].flatten(0, 1)
    corner = head.faces[(head.faces == nose).any(1)].flatten() == nose
    for one, points in zip(frontal, vertices):
        x, y = points[nose, :2]  # the plane spans [-0.5, 0.5], the square half of it
        column, row = (x + 0.25) / 0.5 * SIDE, (y + 0.5 - 48 / 256) / 0.5 * SIDE
        found = one[int(row), int(column)]
        expected = uv[corner][0] * torch.tensor([2.0, -2.0]) + torch.tensor([-1.0, 1.0])
        assert found[2] == 1
        assert (found[:2] - expected).abs().max() < 0.05


def test_motion_of_the_head_does_not_matter(head, maps):
    params = opened(head)
    moved = params._replace(rotation=params.rotation + 0.4, translation=params.translation + 1)
    assert torch.equal(maps.driving(params), maps.driving(moved))


def test_rows_do_not_see_each_other(head, maps):
    params = opened(head)
    assert torch.equal(maps.driving(params)[1:], maps.driving(params.rows(1)))


def test_the_three_views_agree_on_the_texture(head, maps):
    """The side view sees the nose at the depth where it is: to the right of its square's middle, at the front view's row."""
    views = maps.driving(head.zeros(1))[0]
    covered = views[..., 2].mean((1, 2))
    assert (covered > 0.1).all()
    front_rows, side = views[0, ..., 2].any(1), views[2]
    assert side[..., 2].any(1)[front_rows].float().mean() > 0.5
    right = side[..., 2].flip(1).argmax(1)  # distance of the profile from the right edge
    assert right[side[..., 2].any(1)].float().std() > 1  # a profile, no vertical line


def test_untextured_faces(head):
    kept = set(textured_faces(head).tolist())
    for name in ("mouth", "teeth", "neck"):
        assert not kept & set(head.face_regions[name].tolist())
    for name in ("eyeball_left", "lips", "sockets"):
        assert kept >= set(head.face_regions[name].tolist())


@pytest.fixture(scope="module")
def seen():
    actor = ProceduralActor(5, 128, shoulders=False, background=1.0)
    camera = portrait_cameras(torch.tensor([0.0, 0.6]), torch.zeros(2), 128)
    params = neutral(actor, 2)
    with torch.no_grad():
        return actor.render(params, camera)[0], params, camera


def test_unwrapping_shows_the_same_texel_from_both_sides(maps, seen):
    image, params, camera = seen
    frames = maps.texture_frames(image * 2 - 1, torch.zeros_like(image), params, camera)
    assert frames.shape == (2, 7, SIDE, SIDE)
    both = frames[:, 6].min(0).values > 0
    assert both.float().mean() > 0.1
    difference = (frames[0, :3] - frames[1, :3]).abs().mean(0)[both]
    assert difference.mean() < 0.1  # one fixed light; texels agree up to the grid
    assert torch.equal(frames[:, 3:6] * frames[:, 6:], -frames[:, :3] * frames[:, 6:])
    unseen = frames[:, 6] == 0
    assert (frames[:, :3].movedim(1, -1)[unseen] == 1).all()
    assert (frames[:, 3:6].movedim(1, -1)[unseen] == -1).all()


def test_the_official_rule_sees_through_the_nose(head, maps, seen):
    """From the side the nose hides a part of the far cheek, whose normal still faces the camera."""
    image, params, camera = seen
    official = HeadMaps(head, CONFIG, SIDE, official=True)
    ours, theirs = (m.texture_frames(image, image, params, camera)[1, 6] for m in (maps, official))
    assert not (ours > theirs).any()
    assert (theirs > ours).any()


def test_labels_put_vertices_where_the_camera_does(head, maps):
    params = head.zeros(1)._replace(
        rotation=torch.tensor([[0.1, -0.3, 0.05]]), translation=torch.tensor([[0.01, 0.02, -0.03]])
    )
    camera = portrait_cameras(torch.tensor([0.2]), torch.tensor([0.1]), SIDE)
    label = maps.labels(params, camera)
    pose, lens = label[0, :16].view(4, 4), label[0, 16:].view(3, 3)
    world = (head(params.in_head_frame())[0] - torch.tensor(HEAD_CENTRE)) * UNITS_PER_METRE
    local = (world - pose[:3, 3]) @ pose[:3, :3]
    places = (local @ lens.T)[:, :2] / local[:, 2:] * SIDE
    from avatarzoo.geometry.camera import project

    assert F.l1_loss(places, project(head(params), camera)[0, :, :2]) < 0.3  # the radius is normalised
