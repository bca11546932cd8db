"""The first appearance: colours read from frames whose texture is known, or what the reconstruction network says."""

from __future__ import annotations

import os

import pytest
import torch

from avatarzoo.data.procedural import ProceduralActor
from avatarzoo.data.procedural_people import portrait_cameras
from avatarzoo.errors import UsageError
from avatarzoo.geometry.spherical_harmonics import SH0
from avatarzoo.models import GaussianDejaVu
from avatarzoo.models.gaussian_dejavu.start import baked_offsets, reconstructed_offsets
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


# ---- the reconstruction network ----------------------------------------------------------------------------------------


def portraits_of(actor: ProceduralActor, count: int) -> dict:
    """The head alone, as large as a tracker's crop shows it, from several sides."""
    params = actor.motion(60).rows(slice(0, 60, 60 // count)).in_head_frame()
    angles = torch.linspace(-0.3, 0.3, count)
    camera = portrait_cameras(angles, torch.zeros(count), 128)
    image, _, mask = actor.render(params, camera)
    image = image * mask + 1 - mask
    return {"image": image, "mask": mask, "features": mask, "params": params, "camera": camera}


def test_the_network_shows_the_person_before_any_training():
    """A made-up person whom it has not seen, much closer than the bare surface; the mean over the frames is taken."""
    actor = ProceduralActor(seed=20001, size=128)
    batch = portraits_of(actor, 3)
    module = GaussianDejaVu(uv_size=96, n_blendmaps=1, reconstruction="small")
    module.identity.copy_(batch["params"].identity[:1])
    bare = module(batch["params"], batch["camera"]).rgb
    module.mean_offsets.copy_(reconstructed_offsets(module, batch))
    start = module(batch["params"], batch["camera"]).rgb
    face = slice(40, 100)  # hair is thicker than the head model
    errors = [(x - batch["image"])[..., face, face].square().mean() for x in (bare, start)]
    assert errors[1] < 0.4 * errors[0]
    alone = {k: v[:1] if isinstance(v, torch.Tensor) else v.rows([0]) for k, v in batch.items()}
    assert not torch.allclose(reconstructed_offsets(module, alone), module.mean_offsets)


def test_a_network_of_another_head_is_refused():
    if not os.environ.get("AVATARZOO_ASSETS"):
        pytest.skip("AVATARZOO_ASSETS is not set: no second head model")
    module = GaussianDejaVu(head="ict", uv_size=16, n_blendmaps=1, reconstruction="small")
    with pytest.raises(UsageError, match=r"--model\.head procedural"):
        reconstructed_offsets(module, {})
