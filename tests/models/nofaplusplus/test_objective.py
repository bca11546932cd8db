"""Losses and regions: what is summed, where eyes and mouths are, and what happens without weights."""

from __future__ import annotations

import pytest
import torch

from avatarzoo.data.procedural_people import HEAD_CENTRE, portrait_cameras
from avatarzoo.errors import MissingAssetError
from avatarzoo.models.nofaplusplus.condition import Condition
from avatarzoo.models.nofaplusplus.objective import HeadLoss, boxes_psnr
from avatarzoo.models.nofaplusplus.regions import aligned_faces, cut, region_boxes, similarity
from avatarzoo.perception.face_embedding import TEMPLATE
from avatarzoo.priors.eg3d import TriPlaneImage


def views(seed: int) -> TriPlaneImage:
    draws = torch.Generator().manual_seed(seed)
    sizes = ((3, 32), (3, 16), (1, 16), (1, 16))
    return TriPlaneImage(*(torch.rand(4, c, s, s, generator=draws) for c, s in sizes))


def test_synthetic_terms_are_sums_over_source_and_target() -> None:
    made, true = views(0), views(1)
    loss = HeadLoss("none", "none")
    terms = loss.synthetic(made, true, {"lpips": 1.0, "l2": 1.0, "depth": 2.0})
    assert set(terms) == {"l2", "depth"}
    halves = [(x[::2] * 2 - 1, y[::2] * 2 - 1) for x, y in ((made.rgb, true.rgb), (made.raw, true.raw))]
    halves += [(x[1::2] * 2 - 1, y[1::2] * 2 - 1) for x, y in ((made.rgb, true.rgb), (made.raw, true.raw))]
    torch.testing.assert_close(terms["l2"], sum((a - b).square().mean() for a, b in halves))
    depth = sum((made.depth[i::2] - true.depth[i::2]).square().mean() for i in range(2))
    torch.testing.assert_close(terms["depth"], 2 * depth)


@pytest.fixture(scope="module")
def seen(head):
    """A head at rest and one with an open mouth, from the front and from the side."""
    centre = -torch.tensor([HEAD_CENTRE]).expand(2, 3)
    params = head.zeros(2)._replace(translation=centre)
    params.expression[1, head.expression_names.index("jawOpen")] = 1.0
    return params, portrait_cameras(torch.tensor([0.0, 0.5]), torch.zeros(2), 128)


def test_boxes_hold_eyes_and_mouth(head, seen) -> None:
    boxes = region_boxes(head, *seen)
    right_eye, left_eye, nose, right_corner, left_corner = boxes.points.unbind(1)
    for box, points in ((boxes.mouth, (right_corner, left_corner)), (boxes.eyes, (right_eye, left_eye))):
        for point in points:
            assert ((point - box[:, :2]).abs() < box[:, 2:]).all()
    assert (boxes.eyes[:, 1] < nose[:, 1]).all()
    assert (nose[:, 1] < boxes.mouth[:, 1]).all()
    assert (right_eye[:, 0] < left_eye[:, 0]).all()  # the subject's right is on the picture's left
    assert (boxes.mouth[:, 2:] >= 1 / 8).all()


def test_crops_show_their_box(head, seen) -> None:
    boxes = region_boxes(head, *seen)
    y, x = torch.meshgrid(*[(torch.arange(128) + 0.5) / 64 - 1] * 2, indexing="ij")
    place = torch.stack([x, y, 0 * x])[None].repeat(2, 1, 1, 1)
    middle = cut(place, boxes.mouth, 65)[:, :2, 32, 32]
    torch.testing.assert_close(middle, boxes.mouth[:, :2], atol=1e-4, rtol=0)


def test_local_loss_feels_the_mouth_alone(head, seen) -> None:
    boxes, loss = region_boxes(head, *seen), HeadLoss("multiscale", "none")
    true = torch.rand(2, 3, 128, 128).requires_grad_()
    made = torch.rand(2, 3, 128, 128)
    terms = loss.video(true, made, boxes, {"bbox": 1.0, "id": 1.0}, mouth_only=True)
    assert set(terms) == {"bbox"}
    (slope,) = torch.autograd.grad(terms["bbox"], true)
    rows = slope[0].abs().sum((0, 2)).nonzero()[:, 0] / 64 - 1
    low, high = boxes.mouth[0, 1] - boxes.mouth[0, 3], boxes.mouth[0, 1] + boxes.mouth[0, 3]
    assert low - 0.05 < rows.min()
    assert rows.max() < high + 0.05
    assert torch.isfinite(boxes_psnr(true, made, boxes))


def test_faces_are_aligned_to_arcfaces_template(head, seen) -> None:
    boxes = region_boxes(head, *seen)
    y, x = torch.meshgrid(*[(torch.arange(128) + 0.5) / 64 - 1] * 2, indexing="ij")
    place = torch.stack([x, y, 0 * x])[None].repeat(2, 1, 1, 1)
    seen_at = aligned_faces(place, boxes, 112)[0, :2]
    for point, (u, v) in zip(boxes.points[0], TEMPLATE):
        assert (seen_at[:, int(v), int(u)] - point).norm() < 0.12  # the least squares of five points


def test_similarity_recovers_one() -> None:
    points = torch.randn(3, 5, 2)
    turn = torch.tensor([[0.8, -0.6], [0.6, 0.8]]) * 1.7
    moved = points @ turn.T + torch.tensor([0.3, -2.0])
    found = similarity(points, moved)
    torch.testing.assert_close(found[0, :, :2], turn, atol=1e-4, rtol=0)
    torch.testing.assert_close(found[2, :, 2], torch.tensor([0.3, -2.0]), atol=1e-4, rtol=0)


def test_missing_weights_are_named_with_the_way_out() -> None:
    device = torch.device("cpu")
    with pytest.raises(MissingAssetError, match="perceptual multiscale"):
        HeadLoss("vgg", "none").prepare(device, {"rec": 1.0})
    HeadLoss("vgg", "none").prepare(device, {"code": 1.0})
    HeadLoss("none", "facenet").prepare(device, {"rec": 1.0})


def test_conditions_are_of_order_one_and_rest_is_zero(head) -> None:
    condition, params = Condition(head), head.zeros(50)
    draws = torch.Generator().manual_seed(0)
    params = params._replace(
        identity=3 + 2 * torch.randn(50, head.n_identity, generator=draws),
        expression=0.3 * torch.rand(50, head.n_expression, generator=draws),
    )
    condition.learn(params)
    alpha, beta = condition.identity(params), condition.expression(params)
    torch.testing.assert_close(alpha.std(0, correction=0), torch.ones(head.n_identity), atol=1e-3, rtol=0)
    assert alpha.mean(0).abs().max() < 1e-3
    assert 0.5 < beta[:, : head.n_expression].square().mean().sqrt() < 1.5
    assert torch.equal(condition.expression(head.zeros(1)), condition.rest(1)[1])
