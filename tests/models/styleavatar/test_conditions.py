"""Condition renders of every kind of head."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from avatarzoo.geometry.camera import Camera, look_at_face, project
from avatarzoo.geometry.rotations import axis_angle_to_matrix
from avatarzoo.heads import HeadModel, HeadParams, load_head
from avatarzoo.heads.procedural import ProceduralHead
from avatarzoo.models.styleavatar.conditions import ConditionRenderer, fixed_light, lookup_inputs

SIZE = 64


@pytest.fixture(scope="module")
def head() -> ProceduralHead:
    return ProceduralHead()


@pytest.fixture(scope="module")
def renderer(head) -> ConditionRenderer:
    return ConditionRenderer(head, SIZE)


@pytest.fixture(scope="module")
def camera() -> Camera:
    return look_at_face(1.0, 20.0, 200)


def with_expression(head: HeadModel, name: str, value: float = 1.0) -> HeadParams:
    params = head.zeros()
    params.expression[:, head.expression_names.index(name)] = value
    return params


def pixel_of(head: HeadModel, point: int, camera: Camera) -> tuple[int, int]:
    """Row and column of a MediaPipe point of the neutral head in a render of side SIZE."""
    place = head.landmark_points(head(head.zeros()))[:, [point]]
    x, y = project(place, camera.resized(SIZE, SIZE))[0, 0, :2].tolist()
    return int(y), int(x)


@pytest.mark.golden
def test_face_mask_is_the_published_one(primitives, golden_inputs) -> None:
    mask = lookup_inputs(golden_uv(golden_inputs["uv"]))[1]
    assert torch.equal(mask.byte(), primitives["uv.mask_face"])


def golden_uv(rule: dict[str, Any]) -> Tensor:
    """The uv image of the golden set at twice its size, so that nearest sampling gives it back."""
    side = 128
    i, j = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    (x0, x1), (y0, y1) = rule["x"], rule["y"]
    kx, ky = (x0 * j + x1 * i) % side, (y0 * i + y1 * j) % side
    red, green = (kx + 0.5 + 0.25 * (i % 3 - 1)) / 64 - 1, (ky + 0.5 + 0.25 * (j % 3 - 1)) / 64 - 1
    cx, cy, rx, ry = rule["ellipse"]
    inside = ((j - cx) / rx) ** 2 + ((i - cy) / ry) ** 2 < 1
    image = torch.where(inside, torch.stack([red, green, torch.ones_like(red)]), -1.0)[None]
    return image.repeat_interleave(2, -1).repeat_interleave(2, -2)


def test_light_is_the_published_one() -> None:
    """Against the public tracker's own formula: factors a c, bands 1, -y, z, ..., coefficients with 0.8 added to the first."""
    normals = torch.nn.functional.normalize(
        torch.randn(20, 3, generator=torch.Generator().manual_seed(0)), dim=-1
    )
    a = (math.pi, 2 * math.pi / math.sqrt(3), 2 * math.pi / math.sqrt(8))
    c = (1 / math.sqrt(4 * math.pi), math.sqrt(3 / (4 * math.pi)), 3 * math.sqrt(5) / math.sqrt(12 * math.pi))
    x, y, z = normals.unbind(-1)
    bands = [a[0] * c[0] + 0 * x, -a[1] * c[1] * y, a[1] * c[1] * z, -a[1] * c[1] * x, a[2] * c[2] * x * y]
    expected = sum(g * b for g, b in zip((0.9, -0.2, 0.2, 0.0, -0.1), bands))
    torch.testing.assert_close(fixed_light(normals)[:, 0], expected)


def test_renders_have_their_ranges(renderer, head, camera) -> None:
    render, uv = renderer(head.zeros(2), camera)
    assert render.shape == uv.shape == (2, 3, SIZE, SIZE)
    for image in (render, uv):
        assert image.dtype == torch.float32
        assert float(image.min()) == -1
        assert float(image.max()) <= 1
    assert (uv[:, 2][uv[:, 2] > -1] > 0.9999).all()
    drawn = uv[:, 2] > 0
    assert (uv[:, :2].transpose(0, 1)[:, ~drawn] == -1).all()
    assert (render[:, :, 0] == -1).all()


def test_rows_of_a_batch_are_drawn_as_if_alone(renderer, head) -> None:
    params = head.zeros(3)
    params.rotation[1, 1], params.expression[2, 0] = 0.4, 1.0
    camera = look_at_face(1.0, 20.0, 256, yaw=torch.tensor([0.0, 0.1, -0.2]))
    together = renderer(params, camera)
    for row in range(3):
        alone = renderer(params.rows(row), camera.rows([row]))
        for a, b in zip(together, alone):
            torch.testing.assert_close(a[row], b[0], atol=1e-5, rtol=0)


def test_uv_names_the_surface_seen(renderer, head, camera) -> None:
    """At the pixel of a landmark, u and v are the landmark's own."""
    uv = renderer(head.zeros(), camera).uv
    faces, weights = head.landmarks()
    for point in (4, 9, 50, 280):  # tip of the nose, between the brows, cheeks
        row, column = pixel_of(head, point, camera)
        expected = (head.uv[head.uv_faces[faces[point]]] * weights[point][:, None]).sum(0) * 2 - 1
        assert (uv[0, :2, row, column] - expected).abs().max() < 0.03


def test_face_region_leaves_out_scalp_neck_and_back(renderer, head, camera) -> None:
    covered, face = (x[0].amax(0) > -1 for x in renderer(head.zeros(), camera))
    assert face[covered].float().mean() > 0.3
    assert not (face & ~covered).any()
    rows = covered.nonzero()[:, 0]
    assert not face[rows.min() : rows.min() + 4].any()
    assert not face[rows.max() - 4 :].any()
    turned = head.zeros()._replace(rotation=torch.tensor([[0.0, math.pi, 0.0]]))
    assert (renderer(turned, camera).uv == -1).all()


def test_gaze_lids_lips_and_teeth_are_seen(renderer, head, camera) -> None:
    """What moves is seen in the texture render where it moves."""
    neutral = renderer(head.zeros(), camera).render[0]
    looking = head.zeros()
    looking.eyes[:, [1, 4]] = 0.4
    cases = {
        "gaze": (looking, 468),
        "lids": (head.zeros()._replace(eyelids=torch.ones(1, 2)), 468),
        "jaw": (with_expression(head, "jawOpen"), 13),
        "smile": (with_expression(head, "mouthSmile_L"), 291),
        "brows": (with_expression(head, "browInnerUp"), 55),
    }
    for name, (params, point) in cases.items():
        row, column = pixel_of(head, point, camera)
        change = (renderer(params, camera).render[0] - neutral).abs().amax(0)
        assert change[row - 2 : row + 3, column - 2 : column + 3].max() > 0.2, name
        assert change[:8].max() < 0.2, name


def test_a_mean_texture_takes_the_place_of_the_fixed_colors(camera) -> None:
    head = ProceduralHead()
    head.vertex_colors = torch.tensor([0.0, 0.3, 0.0]).repeat(len(head.v_template), 1)
    green = ConditionRenderer(head, SIZE)(head.zeros(), camera).render
    assert (green[:, [0, 2]] == -1).all()
    assert green[:, 1].max() > -0.5


def test_light_and_face_stay_with_the_camera_when_the_head_carries_the_motion(renderer, head, camera) -> None:
    """A turned head seen by a fixed camera looks as a fixed head seen by the camera turned the other way."""
    turn = torch.tensor([[0.1, 0.5, -0.2]])
    moved = renderer(head.zeros()._replace(rotation=turn), camera)
    seen = renderer(head.zeros(), camera.after(axis_angle_to_matrix(turn), torch.zeros(1, 3)))
    for a, b in zip(moved, seen):
        assert ((a - b).abs().amax(1) > 0.02).float().mean() < 0.002


def test_half_precision_training_does_not_reach_the_geometry(renderer, head, camera) -> None:
    params = with_expression(head, "jawOpen", 0.5)
    plain = renderer(params, camera)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = renderer(params, camera)
    assert torch.equal(plain.uv, mixed.uv)
    assert mixed.render.dtype == torch.float32


def test_renderer_adds_nothing_to_checkpoints(renderer) -> None:
    assert not renderer.state_dict()
    assert not list(renderer.parameters())


def test_mask_loses_its_rim_and_keeps_the_picture_border() -> None:
    uv = torch.full((1, 3, 16, 16), -1.0)
    uv[:, :, 4:16, 0:12] = 0.5
    coordinates, mask = lookup_inputs(uv)
    assert coordinates.shape == (1, 2, 8, 8)
    expected = torch.zeros(8, 8)
    expected[3:8, 0:5] = 1
    assert torch.equal(mask[0, 0], expected)
    uv[:, :, 8, 6] = -1.0
    hole = lookup_inputs(uv)[1][0, 0]
    assert hole[4, 3] == hole[3, 3] == hole[4, 2] == 0
    assert hole[3, 2] == hole[5, 4] == 1


@pytest.mark.assets
def test_ict_head_shows_its_teeth_and_irises() -> None:
    ict = load_head("ict")
    renderer, camera = ConditionRenderer(ict, SIZE), look_at_face(1.0, 20.0, SIZE)
    render = renderer(ict.zeros(), camera).render[0]
    row, column = pixel_of(ict, 468, camera)
    assert float(render[:, row, column].mean()) < -0.3
    row, column = pixel_of(ict, 13, camera)
    opened = renderer(with_expression(ict, "jawOpen"), camera).render[0, :, row : row + 4, column]
    assert float((opened - render[:, row : row + 4, column]).abs().max()) > 0.3
