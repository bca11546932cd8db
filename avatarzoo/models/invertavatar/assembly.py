"""Networks from plain options: which prior, how large encoders, what they read and change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch

from avatarzoo.errors import BadCheckpointError, MissingAssetError, UsageError
from avatarzoo.heads.base import HeadModel
from avatarzoo.models.invertavatar.inversion import Inversion, Sketch
from avatarzoo.models.invertavatar.maps import HeadMaps
from avatarzoo.networks.fusion import Fusion
from avatarzoo.networks.inversion_encoders import InversionEncoders, PriorShape
from avatarzoo.networks.stylegan2 import channels_at
from avatarzoo.networks.unet import UNetSize
from avatarzoo.priors.animatable import AnimatableTriPlaneGenerator
from avatarzoo.priors.animatable_config import RELEASED_ANIMATABLE, AnimatableConfig
from avatarzoo.priors.generator_file import load_generator
from avatarzoo.priors.released_invertavatar import load_invertavatar
from avatarzoo.priors.small_prior import small_animatable_prior

Aggregation = Literal["recurrent", "mean", "conv", "attention"]
"""Several frames: by memory (the method), by averaging what each gives (Ours-OS of table 3), by windows (figures 6 and 12)."""
EncoderSize = Literal["small", "published"]
SIZES: dict[EncoderSize, UNetSize] = {
    "small": UNetSize(((16, 1), (32, 1), (64, 2), (128, 2)), (128, 64, 48, 24)),
    "published": UNetSize(),
}
"""``small`` belongs to the small prior: 14 million parameters instead of 361 million."""
FUSIONS: dict[Aggregation, Fusion | None] = {
    "recurrent": "gru", "mean": None, "conv": "conv", "attention": "attention",
}  # fmt: skip


def load_prior(name: str, seed: int = 0) -> AnimatableTriPlaneGenerator:
    """G with its weights.

    Args:
        name: ``small`` (comes with avatarzoo, knows made-up heads only), ``published`` for the published sizes with random weights,
            a generator file of ours (``.safetensors``), or a published file.
        seed: of random weights.

    Raises:
        MissingAssetError: there is no such file. BadCheckpointError, UnsafeCheckpointError: it is no animatable generator.
    """
    if name == "small":
        return small_animatable_prior()
    if name == "published":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return AnimatableTriPlaneGenerator(RELEASED_ANIMATABLE).eval()
    if not Path(name).exists():
        raise MissingAssetError(
            f"There is no prior {name}; --model.prior takes small, a generator file, a published file, or published (random weights)."
        )
    if not name.endswith(".safetensors"):
        return load_invertavatar(name, encoders=False).generator
    generator = load_generator(name)
    if not isinstance(generator, AnimatableTriPlaneGenerator):
        raise BadCheckpointError(
            f"{name} holds an EG3D generator, which no face drives; --model.prior takes an animatable one."
        )
    return generator


def shape_of(prior: AnimatableTriPlaneGenerator) -> PriorShape:
    """What encoders must know of a prior."""
    config = prior.config
    sides = (config.plane_resolution // n for n in (16, 8, 4, 2, 1))
    channels = tuple(channels_at(s, config.channel_base, config.channel_max) for s in sides)
    return PriorShape(
        config.plane_resolution, prior.code_count, config.code_dim, config.plane_channels, channels
    )


def assemble(hp: dict[str, Any], head: HeadModel) -> Inversion:
    """The networks that hyper-parameters describe, new ones with the weights of ``seed``.

    With ``prior_config`` the prior's weights are left random, to be filled from a checkpoint.

    Raises:
        UsageError: options that do not fit each other. Also those of :func:`load_prior`.
    """
    stored = hp["prior_config"]
    if hp["stage"] == "recurrent" and hp["aggregation"] == "mean":
        raise UsageError(
            "--model.aggregation mean averages single pictures; it belongs to --model.stage image."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(hp["seed"])
        if stored:
            prior = AnimatableTriPlaneGenerator(AnimatableConfig.from_dict(stored)).eval()
        else:
            prior = load_prior(hp["prior"], hp["seed"])
        fusion = FUSIONS[hp["aggregation"]] if hp["stage"] == "recurrent" else None
        encoders = InversionEncoders(
            fusion is not None, hp["official"], shape_of(prior), SIZES[hp["encoder"]], fusion or "gru"
        )
    if not stored:
        encoders.mean_code.copy_(prior.mapping.mean_code[None])
    maps = HeadMaps(head, prior.config, views=hp["views"], official=hp["official"])
    sketch = Sketch(hp["raw_resolution"], tuple(hp["samples"]) if hp["samples"] else None)
    inputs = hp["texture_encoder"], hp["triplane_encoder"]
    return Inversion(prior.requires_grad_(False), encoders, maps, *inputs, sketch)


def plain_config(config: AnimatableConfig) -> dict[str, Any]:
    """A configuration as it stands in JSON files and checkpoints."""
    return json.loads(json.dumps(config.to_dict()))
