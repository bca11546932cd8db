"""ProceduralHead: mesh, atlas, closing lids and lips, direction of expressions, joints, determinism, landmarks."""

import subprocess
import sys

import pytest
import torch

from avatarzoo.geometry.mesh import boundary_loops, connected_components
from avatarzoo.geometry.uv import uv_overlap
from avatarzoo.heads.procedural import ProceduralHead
from avatarzoo.heads.procedural_expressions import JAW_OPENING
from avatarzoo.heads.procedural_parts import head_mesh
from avatarzoo.heads.procedural_surface import EYE_RADIUS

UPPER_LIDS, LOWER_LIDS = (
    (161, 160, 159, 158, 157, 388, 387, 386, 385, 384),
    (163, 144, 145, 153, 154, 390, 373, 374, 380, 381),
)
UPPER_LIP, LOWER_LIP = (80, 81, 82, 13, 312, 311, 310), (88, 178, 87, 14, 317, 402, 318)
CORNER_LEFT, CORNER_RIGHT = 291, 61


@pytest.fixture(scope="module")
def head():
    return ProceduralHead()


def params(head, **coefficients):
    """One row with the named expressions; a name without side sets both."""
    p = head.zeros(1)
    for name, value in coefficients.items():
        names = [name] if name in head.expression_names else [f"{name}_L", f"{name}_R"]
        p.expression[:, [head.expression_names.index(n) for n in names]] = value
    return p


def points(head, p):
    return head.landmark_points(head(p))[0]


def gap(head, p, upper, lower):
    x = points(head, p)
    return (x[list(upper)] - x[list(lower)]).norm(dim=-1)


def identities(head, count=6):
    return torch.randn(count, head.n_identity, generator=torch.Generator().manual_seed(1))


def test_sizes(head):
    assert 4500 < len(head.v_template) < 5600
    assert (head.n_identity, head.n_expression) == (100, 50)
    assert len(set(head.expression_names)) == 50
    for value in (head.v_template, head.uv, *head.linear_basis()):
        assert torch.isfinite(value).all()
    low, high = head.v_template.amin(0), head.v_template.amax(0)
    assert 0.23 < high[1] - low[1] < 0.265
    assert abs(high[0] + low[0]) < 1e-6
    assert head.v_template[head.vertex_regions["eyeball_left"], 0].min() > 0
    assert head.v_template[head.v_template[:, 2].argmax(), 0].abs() < 0.003  # the tip of the nose


def test_each_mode_moves_something(head):
    _, identity, expression = head.linear_basis()
    assert (identity.norm(dim=1).amax(0) > 2e-4).all()
    assert (expression.norm(dim=1).amax(0) > 5e-4).all()
    assert expression.norm(dim=1).amax() < 0.04


def test_identity_modes_are_independent(head):
    basis = head.linear_basis()[1].flatten(0, 1).double()
    values = torch.linalg.svdvals(basis / basis.norm(dim=0))
    assert values[-1] > 0.02


def test_skin_is_closed_but_for_the_neck(head):
    skin = torch.cat([head.face_regions[k] for k in ("skin", "sockets", "mouth")])
    loops = boundary_loops(head.faces[skin])
    assert len(loops) == 1
    assert head.v_template[loops[0], 1].max() < -0.14


def test_loose_parts_are_closed_and_face_outward(head):
    for name, pieces in (("teeth", 2), ("eyeball_left", 1), ("eyeball_right", 1)):
        faces = head.faces[head.face_regions[name]]
        assert boundary_loops(faces) == []
        used = faces.unique()
        assert connected_components(faces, len(head.v_template))[used].unique().numel() == pieces
        a, b, c = head.v_template[faces].double().unbind(1)
        assert (torch.linalg.cross(a, b) * c).sum() > 0


def test_faces_belong_to_one_region(head):
    names = ("skin", "sockets", "mouth", "teeth", "eyeball_left", "eyeball_right")
    together = torch.cat([head.face_regions[k] for k in names])
    assert torch.equal(together.sort().values, torch.arange(len(head.faces)))


def test_mirror(head):
    mirror = torch.from_numpy(head_mesh().mirror)
    flip = torch.tensor([-1.0, 1.0, 1.0])
    assert torch.equal(head.v_template[mirror] * flip, head.v_template)
    left, right = (
        head(params(head, eyeBlink_L=1.0, mouthSmile_L=1.0)),
        head(params(head, eyeBlink_R=1.0, mouthSmile_R=1.0)),
    )
    torch.testing.assert_close(left[0][mirror] * flip, right[0], atol=1e-6, rtol=0)


def test_atlas_has_no_overlaps(head):
    assert head.uv.min() >= 0
    assert head.uv.max() <= 1
    assert uv_overlap(head.uv, head.uv_faces, 512).max() <= 1
    corners = head.uv[head.uv_faces].double()
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    assert (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0] > 0).all()


def test_lips_are_closed_at_rest_for_every_identity(head):
    for row in identities(head):
        assert gap(head, head.zeros(1)._replace(identity=row[None]), UPPER_LIP, LOWER_LIP).max() < 3e-4


def test_blink_closes_exactly(head):
    open_eye = gap(head, head.zeros(1), UPPER_LIDS, LOWER_LIDS)
    assert open_eye.min() > 0.004
    for row in identities(head):
        closed = params(head, eyeBlink=1.0)._replace(identity=row[None])
        assert gap(head, closed, UPPER_LIDS, LOWER_LIDS).max() < 3e-4
    by_lids = head.zeros(1)._replace(eyelids=torch.ones(1, 2))
    assert torch.equal(head(by_lids), head(params(head, eyeBlink=1.0)))
    half = gap(head, params(head, eyeBlink_L=1.0), UPPER_LIDS, LOWER_LIDS)
    assert half[5:].max() < 3e-4
    torch.testing.assert_close(half[:5], open_eye[:5])


@pytest.mark.parametrize("closing", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_lids_stay_outside_the_eyeball(head, closing):
    p = params(head, eyeBlink=closing)._replace(identity=identities(head, 1))
    rim = head.vertex_regions["lid_rim"]
    vertices, joints = head(p)[0], head.joints(p)
    for side, name in ((1, "eye_left"), (-1, "eye_right")):
        here = rim[side * head.v_template[rim, 0] > 0]
        assert (vertices[here] - joints[name]).norm(dim=-1).min() > EYE_RADIUS


def test_smile_moves_the_corners_up_and_out(head):
    move = points(head, params(head, mouthSmile=1.0)) - points(head, head.zeros(1))
    assert move[CORNER_LEFT, 0] > 0.004
    assert move[CORNER_RIGHT, 0] < -0.004
    assert move[[CORNER_LEFT, CORNER_RIGHT], 1].min() > 0.004
    one = points(head, params(head, mouthSmile_L=1.0)) - points(head, head.zeros(1))
    assert one[CORNER_RIGHT].norm() < 0.2 * one[CORNER_LEFT].norm()


def test_directions_of_expressions(head):
    neutral = points(head, head.zeros(1))

    def move(index, axis, **names):
        return float(points(head, params(head, **names))[index, axis] - neutral[index, axis])

    assert move(CORNER_LEFT, 1, mouthFrown=1.0) < -0.004
    assert move(CORNER_LEFT, 0, mouthPucker=1.0) < -0.005
    assert move(0, 2, mouthPucker=1.0) > 0.003
    assert move(0, 2, mouthFunnel=1.0) > 0.003
    assert move(152, 1, jawOpen=1.0) < -0.015
    assert move(152, 0, jawLeft=1.0) > 0.005
    assert move(152, 2, jawForward=1.0) > 0.004
    assert move(17, 1, mouthLowerDown=1.0) < -0.002
    assert move(13, 1, mouthUpperUp=1.0) > 0.0015
    assert move(55, 1, browDown=1.0) < -0.003
    assert move(55, 1, browInnerUp=1.0) > 0.003
    assert move(293, 1, browOuterUp=1.0) > 0.003
    assert move(386, 1, eyeWide=1.0) > 0.001
    assert move(374, 1, eyeSquint=1.0) > 0.001
    assert move(13, 0, mouthLeft=1.0) > 0.004


def test_jaw_opens_and_lips_close_over_it(head):
    assert gap(head, params(head, jawOpen=1.0), (13,), (14,)) > 0.015
    closed = gap(head, params(head, jawOpen=1.0, mouthClose=1.0), UPPER_LIP, LOWER_LIP)
    assert closed.max() < 1e-3
    turned = head.zeros(1)._replace(jaw=torch.tensor([[float(JAW_OPENING), 0.0, 0.0]]))
    torch.testing.assert_close(head(turned), head(params(head, jawOpen=1.0)), atol=4e-3, rtol=0)


def test_open_jaw_shows_teeth(head):
    from avatarzoo.geometry.camera import look_at_face
    from avatarzoo.render.mesh import rasterize_mesh

    teeth = torch.zeros(len(head.faces) + 1, dtype=torch.bool)
    teeth[head.face_regions["teeth"]] = True
    seen = [
        teeth[rasterize_mesh(head(p), head.faces, look_at_face(0.8, size=256)).face_id].sum()
        for p in (head.zeros(1), params(head, jawOpen=0.6))
    ]
    assert seen[0] == 0
    assert seen[1] > 30


def test_skinning(head):
    torch.testing.assert_close(head.skin_weights.sum(1), torch.ones(len(head.v_template)))
    assert head.skin_weights.min() >= 0
    turned = head.zeros(1)._replace(neck=torch.tensor([[0.0, 0.5, 0.0]]))
    move = (head(turned) - head(head.zeros(1)))[0].norm(dim=-1)
    rim = head.v_template[:, 1] < -0.1439
    assert move[rim].max() < 1e-6
    assert move[head.v_template[:, 2].argmax()] > 0.04
    look = head.zeros(1)._replace(eyes=torch.tensor([[0.0, 0.3, 0.0, 0.0, 0.0, 0.0]]))
    pupils = points(head, look) - points(head, head.zeros(1))
    assert pupils[473, 0] > 0.003
    assert pupils[468].norm() < 1e-6


def test_eyeballs_stay_round(head):
    for row in identities(head):
        p = head.zeros(1)._replace(identity=row[None])
        ball = head(p)[0, head.vertex_regions["eyeball_left"]]
        radius = (ball - head.joints(p)["eye_left"]).norm(dim=-1)
        assert (radius - EYE_RADIUS).abs().max() < 5e-4


def test_rest_is_linear_but_for_the_lids(head):
    template, identity, expression = head.linear_basis()
    p = head.zeros(1)._replace(
        identity=identities(head, 1), expression=torch.rand(1, 50, generator=torch.Generator().manual_seed(2))
    )
    expected = template + identity @ p.identity[0] + expression @ p.expression[0]
    far = torch.ones(len(template), dtype=torch.bool)
    far[head.lid_vertices_0], far[head.lid_vertices_1] = False, False
    torch.testing.assert_close(head(p)[0, far], expected[far], atol=1e-5, rtol=0)


def test_gradients_and_batches(head):
    p = head.zeros(3)._replace(
        expression=torch.full((3, 50), 0.2, requires_grad=True),
        jaw=torch.full((3, 3), 0.1, requires_grad=True),
    )
    head(p).square().sum().backward()
    assert torch.isfinite(p.expression.grad).all()
    assert p.expression.grad.abs().min() > 0 or (p.expression.grad != 0).float().mean() > 0.9
    single = torch.cat([head(p.rows(k)) for k in range(3)])
    torch.testing.assert_close(single, head(p), atol=1e-6, rtol=0)


def test_landmarks_lie_on_their_parts(head):
    x = points(head, head.zeros(1))
    assert x.shape == (478, 3)
    assert abs(float(x[473, 0]) - 0.0315) < 1e-3
    for left, right in ((291, 61), (473, 468), (263, 33), (386, 159), (454, 234)):
        torch.testing.assert_close(x[left] * torch.tensor([-1.0, 1.0, 1.0]), x[right], atol=2e-3, rtol=0)
    faces = head.landmarks().faces
    assert torch.isin(faces[468:473], head.face_regions["eyeball_right"]).all()
    assert torch.isin(faces[:468], head.face_regions["skin"]).all()


def test_same_in_another_process(head):
    code = (
        "from avatarzoo.heads.procedural import ProceduralHead; head = ProceduralHead(); "
        "print(head.source_hash, *(float(x.double().sum()) for x in head.linear_basis()))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert out[0] == head.source_hash
    for text, value in zip(out[1:], head.linear_basis()):
        assert float(text) == pytest.approx(float(value.double().sum()), rel=1e-6, abs=1e-6)


def test_nothing_enters_checkpoints(head):
    assert head.state_dict() == {}
