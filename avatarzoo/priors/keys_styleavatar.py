"""Names and shapes of the published StyleAvatar state dicts in our modules.

The published files also hold constants (blur and Haar filters), which our modules build themselves.
"""

from __future__ import annotations

import re

import torch
from torch import nn

from avatarzoo.networks.double_styleunet import DoubleStyleUNet
from avatarzoo.networks.feature_generator import FeatureGenerator
from avatarzoo.networks.haar_discriminator import HaarDiscriminator
from avatarzoo.networks.styleunet import StyleUNet

KINDS = ("styleunet", "styleavatar_double", "styleavatar_feature", "styleavatar_discriminator")
CONSTANTS = ("kernel", "ll", "lh", "hl", "hh")
"""Last parts of published keys that are filters."""
OUR_CONSTANT = "resample_filter"

U_NET = [
    (r"^(image|foreground)\.encoder\.from_bands\.(\d+)\.conv\.", r"from_rgbs\1.\2.conv.0."),
    (r"^(image|foreground)\.encoder\.blocks\.(\d+)\.conv1\.", r"cond_convs\1.\2.conv1.0."),
    (r"^(image|foreground)\.encoder\.blocks\.(\d+)\.conv2\.", r"cond_convs\1.\2.conv2.1."),
    (r"^(image|foreground)\.decoder\.joins\.(\d+)\.", r"comb_convs\1.\2.0."),
    (r"^(image|foreground)\.decoder\.convs\.", r"convs\1."),
    (r"^(image|foreground)\.decoder\.to_bands\.", r"to_rgbs\1."),
]
MODULATED = [
    (r"^((?:convs|to_rgbs)\w*\.\d+|tex_up\.\d)\.weight$", r"\1.conv.weight"),
    (r"\bstyle\.", "conv.modulation."),
    (r"\bnoise_strength$", "noise.weight"),
]
"""Rules from our names to the published ones, in this order."""
RULES = {
    "styleunet": [(r"^unet\.", "image."), *U_NET, (r"^(\w+)image\.", r"\1."), *MODULATED],
    "styleavatar_double": [
        *U_NET,
        (r"^(\w+)foreground\.", r"\1_0."),
        (r"^(\w+)image\.", r"\1_1."),
        (r"^foreground\.up\.", "tex_up.0."),
        (r"^foreground\.widen\.", "tex_up.1."),
        (r"^foreground\.to_bands\.", "tex_up.2."),
        (r"^mask\.", "get_mask.0."),
        (r"^mask_bias$", "get_mask.0.bias"),
        (r"^addition\.conv1\.", "cond_addition.conv1.0."),
        (r"^addition\.conv2\.", "cond_addition.conv2.1."),
        *MODULATED,
    ],
    "styleavatar_feature": [
        (r"^decoder\.convs\.", "convs."),
        (r"^decoder\.to_bands\.", "to_rgbs."),
        (r"^constant$", "input.input"),
        (r"^norm\.", "batchnorm."),
        *MODULATED,
    ],
    "styleavatar_discriminator": [
        (r"^from_bands\.(\d+)\.weight$", r"from_rgbs.\1.conv.0.weight"),
        (r"^from_bands\.(\d+)\.bias$", r"from_rgbs.\1.conv.1.bias"),
        (r"^blocks\.(\d+)\.conv1\.weight$", r"convs.\1.conv1.0.weight"),
        (r"^blocks\.(\d+)\.conv1\.bias$", r"convs.\1.conv1.1.bias"),
        (r"^blocks\.(\d+)\.conv2\.weight$", r"convs.\1.conv2.1.weight"),
        (r"^blocks\.(\d+)\.conv2\.bias$", r"convs.\1.conv2.2.bias"),
        (r"^conv\.weight$", "final_conv.0.weight"),
        (r"^conv\.bias$", "final_conv.1.bias"),
        (r"^hidden\.", "final_linear.0."),
        (r"^output\.", "final_linear.1."),
    ],
}
SHAPES = [
    (r"(convs(_\d)?|to_rgbs(_\d)?|tex_up)\.\d+\.bias", lambda shape: (1, *shape, 1, 1)),
    (r"(convs(_\d)?|to_rgbs(_\d)?|tex_up)\.\d+\.conv\.weight", lambda shape: (1, *shape)),
    (r".*\.noise\.weight", lambda shape: (1,)),
    (r"input\.input", lambda shape: (1, *shape)),
]
"""Published keys whose tensors have more axes than ours; the numbers are in the same order."""


def styleavatar_key_map(kind: str, input_size: int = 256, output_size: int = 1024) -> dict[str, str]:
    """Published key -> our key of every entry that is no constant, one to one; see :func:`~avatarzoo.priors.official_key_map`."""
    with torch.device("meta"):
        network: nn.Module
        if kind == "styleunet":
            network = StyleUNet(input_size, output_size, channel_max=2)
        elif kind == "styleavatar_double":
            network = DoubleStyleUNet(input_size, output_size, channel_max=2)
        elif kind == "styleavatar_feature":
            network = FeatureGenerator(input_size // 2, channel_max=2)
        else:
            network = HaarDiscriminator(output_size, channel_max=2)
    return official_names(kind, network)


def official_names(kind: str, network: nn.Module) -> dict[str, str]:
    """``{published name: our name}`` of every entry of ``network`` that is no constant."""
    names = {}
    for ours in network.state_dict():
        official = ours
        for pattern, replacement in RULES[kind]:
            official = re.sub(pattern, replacement, official)
        if not ours.endswith(OUR_CONSTANT):
            names[official] = ours
    return names


def official_shape(official: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of a published tensor whose counterpart here has ``shape``."""
    return next((more(shape) for pattern, more in SHAPES if re.fullmatch(pattern, official)), shape)
