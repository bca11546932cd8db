"""Names of InvertAvatar's and Next3D's published entries in our modules."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from avatarzoo.networks.inversion_encoders import InversionEncoders
from avatarzoo.priors.animatable import AnimatableTriPlaneGenerator
from avatarzoo.priors.next3d import Next3DGenerator

Rules = list[tuple[str, str]]

GENERATOR: Rules = [
    (r"^mapping\.", "backbone.mapping."),
    (r"^blending_mapping\.", "neural_blending.mapping."),
    (r"^(\w+)_mapping\.", r"\1_backbone.mapping."),
    (r"^(\w*backbone)\.blocks\.(\d+)", r"\1.synthesis.b\2"),
    (r"^superresolution\.blocks\.(\d+)", r"superresolution.block\1"),
    (r"^decoder\.hidden", "decoder.net.0"),
    (r"^decoder\.output", "decoder.net.2"),
]
NEXT3D: Rules = [
    *GENERATOR,
    (r"^(\w+)\.synthesis\.blocks\.(\d+)", r"\1.synthesis.b\2"),
    (r"^(\w+)\.(encoder|fusion)\.", r"\1.synthesis.\2."),
    (r"^topology\.grid_faces$", "dense_faces"),
    (r"^topology\.uv$", "raw_uvcoords"),
    (r"^topology\.texture_places$", "uvcoords"),
    (r"^topology\.corner_places$", "face_uvcoords"),
    (r"^topology\.uv_faces$", "uvfaces"),
    (r"^topology\.faces$", "faces"),
]
ENCODERS: Rules = [
    (r"^w_avg$", "latent_avg"),
    (r"^background$", "black_uv_bg"),
    (r"^latent\.", "encoder."),
    (r"^(texture|triplane)\.", r"unet_encoder.\1_unet."),
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
    *[(rf"\.unet\.blocks\.{i}\.convolutions\.", f".up{i + 1}.conv.double_conv.") for i in range(4)],
    *[(rf"\.unet\.memories\.{i}\.", f".up{i + 1}.conv_gru.") for i in range(4)],
    (r"\.conv_gru\.gates\.", ".conv_gru.ih.0."),
    (r"\.conv_gru\.candidate\.", ".conv_gru.hh.0."),
    (r"\.texture_unet\.heads\.", ".texture_unet.outconv"),
    (r"\.finest\.", ".final_head."),
    *[(rf"\.(scale|shift)s\.{i}\.", rf".condition_\g<1>{16 << i}.") for i in range(5)],
]

KINDS: dict[str, tuple[Callable[[], nn.Module], Rules]] = {
    "invertavatar": (AnimatableTriPlaneGenerator, GENERATOR),
    "invertavatar_encoders": (lambda: InversionEncoders(released=True), ENCODERS),
    "next3d": (Next3DGenerator, NEXT3D),
}
"""The network that each kind names and the rules from our names to the published ones, applied after those of all StyleGAN2 layers."""
