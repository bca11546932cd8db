"""Names of published state-dict entries in our modules."""

from __future__ import annotations

import re
from dataclasses import replace

import torch
from torch import nn

from avatarzoo.networks.discriminator import DualDiscriminator
from avatarzoo.priors.eg3d import TriPlaneGenerator
from avatarzoo.priors.eg3d_config import FFHQ, EG3DConfig
from avatarzoo.priors.keys_dejavu import dejavu_key_map
from avatarzoo.priors.keys_invertavatar import KINDS as INVERTAVATAR
from avatarzoo.priors.keys_styleavatar import KINDS as STYLEAVATAR
from avatarzoo.priors.keys_styleavatar import styleavatar_key_map

LAYERS = [
    (r"\bembed_label\b", "embed"),
    (r"\blayers\.(\d+)", r"fc\1"),
    (r"\bmean_code\b", "w_avg"),
    (r"\bstyle\b", "affine"),
    (r"\bnoise$", "noise_const"),
    (r"\bconstant$", "const"),
    (r"\bto_rgb\b", "torgb"),
    (r"\bfrom_rgb\b", "fromrgb"),
]
GENERATOR = [
    (r"^mapping\.", "backbone.mapping."),
    (r"^backbone\.blocks\.(\d+)", r"backbone.synthesis.b\1"),
    (r"^superresolution\.blocks\.(\d+)", r"superresolution.block\1"),
    (r"^decoder\.hidden", "decoder.net.0"),
    (r"^decoder\.output", "decoder.net.2"),
]
DISCRIMINATOR = [
    (r"^blocks\.(\d+)", r"b\1"),
    (r"^head\.conv", "b4.conv"),
    (r"^head\.hidden", "b4.fc"),
    (r"^head\.output", "b4.out"),
]
"""Rules from our names to the published ones."""


def official_key_map(
    kind: str, config: EG3DConfig = FFHQ, *, input_size: int = 256, output_size: int = 1024
) -> dict[str, str]:
    """Published state-dict key -> our key, one to one and complete.

    Args:
        kind: "eg3d" (generator, 176 entries for FFHQ), "eg3d_discriminator" (dual discriminator, 92 entries for 512 pixels),
            "dejavu" (reconstruction network, 32 entries), or, without the constants of the published files, StyleAvatar's
            "styleunet", "styleavatar_double", "styleavatar_feature" (of side ``input_size / 2``) and
            "styleavatar_discriminator" (of side ``output_size``). Released sizes only: "invertavatar" (animatable generator, 444
            entries), "invertavatar_encoders" (1519 entries), "next3d" (generator, 674 entries).
        config: the network of EG3D; its sizes decide which blocks there are.
        input_size, output_size: sides in pixels of StyleAvatar's renders and pictures, with the same effect.

    Raises:
        ValueError: the kind is unknown.
    """
    if kind in STYLEAVATAR:
        return styleavatar_key_map(kind, input_size, output_size)
    if kind in INVERTAVATAR:
        build, rules = INVERTAVATAR[kind]
        with torch.device("meta"):
            return renamed(build(), rules)
    thin = replace(config, channel_max=1)  # names do not depend on widths
    with torch.random.fork_rng(devices=[]):
        if kind == "dejavu":
            return dejavu_key_map()
        if kind == "eg3d":
            return renamed(TriPlaneGenerator(thin), GENERATOR)
        if kind == "eg3d_discriminator":
            return renamed(DualDiscriminator(thin.resolution, thin.label_dim, channel_max=1), DISCRIMINATOR)
    known = ", ".join(("eg3d", "eg3d_discriminator", "dejavu", *STYLEAVATAR, *INVERTAVATAR))
    raise ValueError(f"no key map {kind!r}; there are {known}")


def renamed(network: nn.Module, rules: list[tuple[str, str]]) -> dict[str, str]:
    """``{published name: our name}`` of every entry of ``network``'s state dict."""
    names = {}
    for ours in network.state_dict():
        official = ours
        for pattern, replacement in [*LAYERS, *rules]:
            official = re.sub(pattern, replacement, official)
        names[official] = ours
    return names
