"""The first appearance: colours read from frames whose texture is known."""

from __future__ import annotations

import pytest
import torch

from avatarzoo.data.procedural import ProceduralActor
from avatarzoo.geometry.spherical_harmonics import SH0
from avatarzoo.models import GaussianDejaVu
from avatarzoo.models.gaussian_dejavu.start import baked_offsets
from avatarzoo.render import rasterize_mesh
from avatarzoo.render.mesh import interpolate


@pytest.fixture(scope="module")
def baked():
    """Unlit frames of a moving procedural head painted by position; the ears are cut out of the masks."""
    module = GaussianDejaVu(uv_size=64, n_blendmaps=1)
    head, actor = module.head, ProceduralActor(seed=3, size=192)
    params = actor.motion(60).rows(slice(0, 60, 6))
    module.identity.copy_(params.identity[:1])
    rest = head.v_template
    paint = 0.5 + 0.4 * torch.sin(rest * 45)
    ears = torch.zeros(len(rest), 1)
    ears[head.vertex_regions["ears"]] = 1
    vertices = head(params)
    drawn = rasterize_mesh(vertices, head.faces, actor.camera)
    picture = interpolate(drawn, head.faces, torch.cat([paint, ears], 1)[None])
    covered = drawn.covered[:, None].float()
    mask = covered * (picture[:, 3:] < 0.5)
    camera = actor.camera._replace(
        world_to_camera=actor.camera.world_to_camera.expand(len(vertices), 4, 4),
        intrinsics=actor.camera.intrinsics.expand(len(vertices), 3, 3),
    )
    image = picture[:, :3] * mask + 1 - mask
    batch = {"image": image, "mask": mask, "features": mask, "params": params, "camera": camera}
    offsets = baked_offsets(module, batch)
    truth = module.uv_map.positions(torch.stack([paint, ears.expand(-1, 3)]))
    return module, offsets, truth[0], truth[1, :, 0]


def frontal(module):
    """What these frames show: the front half of the skin (behind the ears nothing is seen, the nearest point decides)."""
    rest = module.uv_map.positions(module.head.v_template[None])[0]
    cavity = torch.zeros(len(module.head.v_template), 1)
    cavity[torch.cat([module.head.vertex_regions[k] for k in ("mouth", "teeth")])] = 1
    inside = module.uv_map.positions(cavity.expand(-1, 3)[None])[0, :, 0] > 0
    return (rest[:, 2] > 0.02) & ~inside


def test_colors_recover_the_texture(baked):
    module, offsets, paint, _ = baked
    color = (module.uv_map.initial + offsets)[:, 10:] * SH0 + 0.5
    front = frontal(module)
    error = (color - paint)[front].abs().amax(1)
    assert error.median() < 0.01
    assert error.quantile(0.8) < 0.05
    assert (color[front].std(0) > 0.1).all()


def test_points_outside_the_mask_are_hidden(baked):
    module, offsets, _, ears = baked
    opacity = (module.uv_map.initial + offsets)[:, 9].sigmoid()
    assert (ears > 0.9).sum() > 20
    assert (opacity[ears > 0.9] < 1 / 255).float().mean() > 0.9
    assert (opacity[frontal(module)] > 0.5).all()


def test_other_channels_are_left_alone(baked):
    assert (baked[1][:, :9] == 0).all()
    assert torch.isfinite(baked[1]).all()
