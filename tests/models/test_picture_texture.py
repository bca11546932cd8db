"""What a picture shows, in texture space: seen texels have its colours, hidden ones those of the other side or of around."""

from __future__ import annotations

import pytest
import torch

from avatarzoo.data.multiview_procedural import draw_person
from avatarzoo.geometry.rotations import axis_angle_to_matrix
from avatarzoo.geometry.spherical_harmonics import sh0_to_rgb
from avatarzoo.heads.procedural import ProceduralHead
from avatarzoo.models.gaussian_dejavu import GaussianReconstruction
from avatarzoo.models.gaussian_dejavu.picture_texture import PictureTexture, inside_outline, spread


@pytest.fixture(scope="module")
def head() -> ProceduralHead:
    return ProceduralHead()


@pytest.fixture(scope="module")
def views():
    return draw_person(7, 3, 1, 64)  # from one side, from the front, from the other side


@pytest.fixture(scope="module")
def textures(head, views) -> torch.Tensor:
    return texture_of(head, views, views.images / 255)


def texture_of(head, views, images) -> torch.Tensor:
    params = views.params
    camera = views.camera.after(axis_angle_to_matrix(params.rotation), params.translation)
    return PictureTexture(head, 64)(images, head(params.in_head_frame()), camera)


def test_one_color_everywhere_is_that_color_everywhere(head, views) -> None:
    color = torch.tensor([0.2, 0.5, 0.7])[:, None, None]
    found = texture_of(head, views, color.expand(3, 3, 64, 64))
    inside = PictureTexture(head, 64).atlas.mask
    assert torch.allclose(sh0_to_rgb(found[:, :3])[:, :, inside], color[..., 0], atol=1e-4)
    assert (found[:, :, ~inside] == 0).all()


def test_a_side_view_sees_one_half_and_borrows_the_other(head, textures) -> None:
    own, other = textures[:, 3], textures[:, 4]
    inside = PictureTexture(head, 64).atlas.mask
    assert 0.15 < (own[1][inside] > 0.1).float().mean() < 0.7
    left, right = own[0] > 0.1, own[2] > 0.1
    assert (
        left & right
    ).sum() < 0.5 * left.sum()  # views from two sides agree on the middle of the face only
    assert (other[0] > 0.1)[right].float().mean() > 0.8  # what one hides is what its mirror image sees


def test_hidden_texels_are_nearer_to_the_truth_than_a_mean_color(textures) -> None:
    front, side = textures[1], textures[0]
    hidden = (side[3] == 0) & (front[3] > 0.5)
    truth = front[:3, hidden]
    mean = side[:3, side[3] > 0.1].mean(1, keepdim=True)
    assert (side[:3, hidden] - truth).abs().mean() < 0.7 * (mean - truth).abs().mean()


def test_the_plain_background_is_not_seen(head, views) -> None:
    """A picture whose lower half is masked away says nothing about the chin; a highlight as bright as the background does."""
    images = views.images[1:2] / 255
    images = images.expand(3, -1, -1, -1).clone()
    images[1, :, 36:] = 1.0
    images[2, :, 30, 33] = 1.0
    outline = inside_outline(images, 1.0)
    assert outline[1, :, 35:].sum() == 0 < outline[0, :, 35:].sum()
    assert torch.equal(outline[2], outline[0])
    front = views._replace(params=views.params.rows([1, 1, 1]), camera=views.camera.rows([1, 1, 1]))
    found = texture_of(head, front, images)
    assert (found[1, 3] > 0).sum() < 0.8 * (found[0, 3] > 0).sum()


def test_spread_keeps_the_known_and_fills_from_nearby() -> None:
    values, weight = torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 16, 16)
    values[..., 2, 2], values[..., 13, 13] = 1.0, 5.0
    weight[..., 2, 2] = weight[..., 13, 13] = 1.0
    filled = spread(values, weight)[0, 0]
    assert filled[2, 2] == 1
    assert filled[13, 13] == 5
    assert filled[0, 1] < 2 < 4 < filled[15, 14]
    assert filled.min() >= 1
    assert filled.max() <= 5
    assert (spread(values, torch.zeros_like(weight)) == 0).all()


def test_before_training_a_network_with_textures_shows_the_picture(views) -> None:
    """No learnt weight is needed to look like the person; without textures the first picture is grey."""
    sizes = {"uv_size": 64, "network_size": 32, "network_width": 4}
    images = views.images / 255
    errors = []
    for texture in (False, True):
        module = GaussianReconstruction(**sizes, texture=texture).eval()
        with torch.no_grad():
            front = (images[1:2], views.params.rows(1), views.camera.rows([1]))
            image = module(*front, views.params.rows(1), views.camera.rows([1])).rgb
        inside = views.faces[1] > 250
        errors.append(float((image[0] - images[1])[:, inside].abs().mean()))
    assert errors[1] < 0.4 * errors[0]
