"""Names of InvertAvatar's published encoder entries in our modules."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import torch

from avatarzoo.networks.inversion_encoders import InversionEncoders

Rules = Sequence[tuple[str, str | Callable[[re.Match[str]], str]]]

ENCODERS: Rules = [
    (r"^mean_code$", "latent_avg"),
    (r"^background$", "black_uv_bg"),
    (r"^latent\.", "encoder."),
    (r"^texture\.", "unet_encoder.texture_unet."),
    (r"^triplane\.", "unet_encoder.triplane_unet."),
    (r"(\.unet)?\.body\.stem\.", ".input_layer."),
    (r"(\.unet)?\.body\.units\.", ".body."),
    (r"\.shortcut\.", ".shortcut_layer."),
    (r"\.residual\.", ".res_layer."),
    (r"\.squeeze\.", ".fc1."),
    (r"\.excite\.", ".fc2."),
    (r"^encoder\.heads\.(\d+)\.convolutions\.", r"encoder.styles.\1.convs."),
    (r"^encoder\.heads\.", "encoder.styles."),
    (r"\.lateral_middle\.", ".latlayer1."),
    (r"\.lateral_fine\.", ".latlayer2."),
    (r"\.unet\.blocks\.(\d)\.layers\.", lambda m: f".up{int(m[1]) + 1}.conv.double_conv."),
    (r"\.unet\.memories\.(\d)\.gates\.", lambda m: f".up{int(m[1]) + 1}.conv_gru.ih.0."),
    (r"\.unet\.memories\.(\d)\.candidate\.", lambda m: f".up{int(m[1]) + 1}.conv_gru.hh.0."),
    (r"\.texture_unet\.heads\.", ".texture_unet.outconv"),
    (r"\.finest\.", ".final_head."),
    (r"\.(scale|shift)s\.(\d)\.", lambda m: f".condition_{m[1]}{16 << int(m[2])}."),
]
"""From our names to the published ones, applied one after the other."""


def encoders_key_map() -> dict[str, str]:
    """Published state-dict key -> our key of :class:`InversionEncoders`: 1519 entries."""
    with torch.device("meta"):
        return {substituted(ours, ENCODERS): ours for ours in InversionEncoders().state_dict()}


def substituted(name: str, rules: Rules) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name
