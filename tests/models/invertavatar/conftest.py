"""A model small enough for tests: an animatable prior with random weights that a file brings, as a user's would."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from avatarzoo.models.invertavatar import InvertAvatar, assembly
from avatarzoo.networks.superresolution import LAYOUTS, Layout
from avatarzoo.networks.unet import UNetSize
from avatarzoo.priors import AnimatableConfig, AnimatableTriPlaneGenerator, save_generator

CONFIG = AnimatableConfig(
    latent_dim=8,
    code_dim=16,
    plane_resolution=32,
    plane_channels=8,
    channel_base=256,
    channel_max=16,
    superresolution="2X",
    half=False,
    neural_resolution=16,
    coarse_samples=6,
    fine_samples=6,
    white_background=True,
    plane_axes="fixed",
    pose_conditioning=False,
    ray_place=0.5,
    face_top=(48 / 256, 0.25, 0.25),
    upper_mouth=0.3,
)


@pytest.fixture(scope="module", autouse=True)
def tiny() -> Iterator[None]:
    """Pictures of 32 pixels, encoders of a few thousand parameters, for the tests of this folder alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(LAYOUTS, "2X", Layout(32, 16, (8, 8), (1, 2), True, True))
        patch.setitem(assembly.SIZES, "small", UNetSize(((16, 1), (16, 1), (16, 2), (16, 2)), (16, 8, 8, 8)))
        yield


@pytest.fixture(scope="module")
def prior_file(tiny: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    generator = AnimatableTriPlaneGenerator(CONFIG)
    with torch.no_grad():
        generator.decoder.output.weight[0] *= 20  # densities that differ
        generator.decoder.output.bias[0] += 4
    return save_generator(generator, tmp_path_factory.mktemp("prior") / "tiny.safetensors")


@pytest.fixture
def build(prior_file: Path):
    def make(**options) -> InvertAvatar:
        return InvertAvatar(**{"prior": str(prior_file), "seed": 1, **options})

    return make
