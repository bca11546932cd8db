"""Generators on disk: what goes in comes out, anything else is refused in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from avatarzoo.errors import BadCheckpointError, MissingAssetError
from avatarzoo.priors.cameras import frontal_label
from avatarzoo.priors.eg3d import TriPlaneGenerator
from avatarzoo.priors.eg3d_config import EG3DConfig
from avatarzoo.priors.generator_file import load_generator, save_generator

TINY = EG3DConfig(
    latent_dim=8, code_dim=8, plane_resolution=8, plane_channels=4, channel_base=64, channel_max=8,
    superresolution="2X", half=False, neural_resolution=8, coarse_samples=4, fine_samples=4, camera_pivot=(0.0, 0.1, 0.0),
)  # fmt: skip


def test_round_trip(tmp_path: Path) -> None:
    generator = TriPlaneGenerator(TINY).eval()
    again = load_generator(save_generator(generator, tmp_path / "g.safetensors", {"kimg": 3}))
    assert again.config == TINY
    assert not again.training
    latent, label = torch.randn(1, 8), frontal_label()
    with torch.no_grad():
        ours, theirs = (g(g.codes(latent, label), label).rgb for g in (generator, again))
    assert torch.equal(ours, theirs)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingAssetError, match="avatarzoo fit"):
        load_generator(tmp_path / "nothing.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights")
    save_file({"x": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    whole = save_generator(TriPlaneGenerator(TINY), tmp_path / "g.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-100])
    for name in ("text", "foreign", "cut"):
        with pytest.raises(BadCheckpointError, match="no generator that avatarzoo wrote"):
            load_generator(tmp_path / f"{name}.safetensors")


def test_an_animatable_generator_in_half_precision(tmp_path: Path) -> None:
    from avatarzoo.priors.animatable import AnimatableTriPlaneGenerator
    from avatarzoo.priors.animatable_config import AnimatableConfig

    config = AnimatableConfig(**{**TINY.to_dict(), "plane_resolution": 32, "face_top": (0.2, 0.25, 0.25)})
    generator = AnimatableTriPlaneGenerator(config)
    whole = save_generator(generator, tmp_path / "whole.safetensors")
    again = load_generator(save_generator(generator, tmp_path / "half.safetensors", half=True))
    assert isinstance(again, AnimatableTriPlaneGenerator)
    assert again.config == config
    assert (tmp_path / "half.safetensors").stat().st_size < 0.6 * whole.stat().st_size
    for name, x in again.state_dict().items():
        assert x.dtype == generator.state_dict()[name].dtype
        torch.testing.assert_close(x, generator.state_dict()[name], rtol=1e-3, atol=1e-3)
