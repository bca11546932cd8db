"""Imported checkpoints in our generator: the configuration is read off the file, every tensor lands in its place."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from golden import TINY

from avatarzoo.errors import BadCheckpointError
from avatarzoo.priors.checkpoints import ImportedCheckpoint, ImportedModule
from avatarzoo.priors.eg3d import TriPlaneGenerator
from avatarzoo.priors.eg3d_config import FFHQ
from avatarzoo.priors.keys import official_key_map
from avatarzoo.priors.released import expected_shapes, load_eg3d, stored_config

RENDERING = {
    "superresolution_module": "training.superresolution.SuperresolutionHybrid8XDC", "depth_resolution": 48,
    "depth_resolution_importance": 48, "ray_start": 2.25, "ray_end": 3.3, "box_warp": 1, "sr_antialias": True,
    "c_gen_conditioning_zero": False, "c_scale": 1, "decoder_lr_mul": 1, "avg_camera_radius": 2.7,
    "avg_camera_pivot": [0, 0, 0.2], "white_back": False,
}  # fmt: skip
ARGUMENTS = {
    "z_dim": 512, "c_dim": 25, "w_dim": 512, "img_resolution": 512, "mapping_kwargs": {"num_layers": 2}, "channel_base": 32768,
    "channel_max": 512, "sr_num_fp16_res": 4, "rendering_kwargs": RENDERING,
}  # fmt: skip


def checkpoint(state: dict[str, torch.Tensor], **changes) -> ImportedCheckpoint:
    arguments = {**ARGUMENTS, **changes}
    module = ImportedModule("TriPlaneGenerator", state, init_kwargs=arguments)
    return ImportedCheckpoint({"G_ema": module}, {}, "eg3d", 64, "")


def test_expected_shapes_are_the_published_ones():
    shapes = expected_shapes()
    assert len(shapes) == 176
    assert shapes["backbone.synthesis.b4.const"] == (512, 4, 4)
    assert shapes["decoder.net.2.weight"] == (33, 64)


def test_configuration_is_read_off_the_file():
    assert stored_config(checkpoint({})) == FFHQ
    read = checkpoint(
        {}, rendering_kwargs={**RENDERING, "ray_start": "auto", "ray_end": "auto", "white_back": True}
    )
    read.plane_axes, read.neural_resolution = "fixed", 128
    expected = replace(
        FFHQ, depth_range="auto", white_background=True, plane_axes="fixed", neural_resolution=128
    )
    assert stored_config(read) == expected
    unnamed = {key: x for key, x in RENDERING.items() if key not in ("superresolution_module", "c_scale")}
    small = stored_config(checkpoint({}, rendering_kwargs=unnamed, img_resolution=128))
    assert (small.superresolution, small.label_scale) == ("2X", 0)
    with pytest.raises(BadCheckpointError, match="does not say how"):
        stored_config(checkpoint({}, rendering_kwargs={}))


def test_weights_land_in_their_places(tmp_path):
    torch.manual_seed(0)
    original = TriPlaneGenerator(TINY).eval()
    names = official_key_map("eg3d", TINY)
    state = {official: original.state_dict()[ours] for official, ours in names.items()}
    read = checkpoint(state)
    loaded = load_eg3d(read.save(tmp_path / "out"), TINY)
    for key, tensor in original.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], tensor), key
    assert not loaded.training
    with pytest.raises(BadCheckpointError, match="of shape"):
        load_eg3d(read, replace(TINY, channel_max=16))
    del state["decoder.net.0.bias"]
    with pytest.raises(BadCheckpointError, match=r"lacks the tensor 'decoder\.net\.0\.bias'"):
        load_eg3d(read, TINY)
