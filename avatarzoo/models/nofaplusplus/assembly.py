"""Networks from plain options: which prior, how large an encoder, where details go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from avatarzoo.errors import MissingAssetError, UsageError
from avatarzoo.heads.base import HeadModel
from avatarzoo.models.nofaplusplus.condition import Condition
from avatarzoo.models.nofaplusplus.deformation import DeformationField
from avatarzoo.models.nofaplusplus.detail import DetailNetwork, feature_shape
from avatarzoo.models.nofaplusplus.encoder import CodeEncoder, average_codes
from avatarzoo.models.nofaplusplus.generator import HeadGenerator
from avatarzoo.priors.cameras import frontal_label
from avatarzoo.priors.eg3d import TriPlaneGenerator
from avatarzoo.priors.eg3d_config import RELEASED, EG3DConfig
from avatarzoo.priors.generator_file import load_generator
from avatarzoo.priors.released import load_eg3d
from avatarzoo.priors.small_prior import small_prior


def load_prior(name: str, seed: int = 0) -> TriPlaneGenerator:
    """G with its weights.

    Args:
        name: ``small`` (comes with avatarzoo, knows made-up heads only), a generator file of ours (``.safetensors``), a published
            file or an imported folder of one, or the name of a published configuration, whose weights are then random.
        seed: of random weights.

    Raises:
        MissingAssetError: there is no such file. BadCheckpointError, UnsafeCheckpointError: it is no generator.
    """
    if name == "small":
        return small_prior()
    if name in RELEASED:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return TriPlaneGenerator(RELEASED[name]).eval()
    if not Path(name).exists():
        raise MissingAssetError(
            f"There is no prior {name}; --model.prior takes small, a generator file, or one of "
            f"{', '.join(RELEASED)} for random weights."
        )
    return load_generator(name) if name.endswith(".safetensors") else load_eg3d(name)


def plain_config(config: EG3DConfig) -> dict[str, Any]:
    """A configuration as it stands in JSON files and checkpoints."""
    return json.loads(json.dumps(config.to_dict()))


def assemble(hp: dict[str, Any], head: HeadModel, condition: Condition) -> HeadGenerator:
    """The networks that hyper-parameters describe, new ones with the weights of ``seed``.

    With ``prior_config`` the prior's weights are left random, to be filled from a checkpoint.

    Raises:
        UsageError: sizes that do not fit each other. Also those of :func:`load_prior`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(hp["seed"])
        stored = hp["prior_config"]
        prior = (
            TriPlaneGenerator(EG3DConfig.from_dict(stored)) if stored else load_prior(hp["prior"], hp["seed"])
        )
        try:
            detail = DetailNetwork(**_detail_sizes(hp, prior)) if hp["detail_network"] else None
            width = prior.config.code_dim
            encoder = CodeEncoder(prior.code_count, width, **_tuples(hp["encoder"] or {}))
            field = DeformationField(
                condition.n_identity, condition.n_expression, prior.config.box, weighted=hp["weighting_network"],
                identity_condition=hp["identity_condition"], **(hp["field"] or {}),
            )  # fmt: skip
        except (TypeError, ValueError) as error:
            raise UsageError(f"--model options do not fit the networks: {error}.") from error
    if not stored:
        encoder.average.copy_(average_codes(prior, frontal_label(1, prior.config)))
    networks = HeadGenerator(prior, encoder, detail, field, hp["site"], hp["residual"], hp["raw_resolution"])
    return (
        networks.train()
    )  # no part behaves differently, and Lightning warns of some that are in evaluation mode


def _detail_sizes(hp: dict[str, Any], prior: TriPlaneGenerator) -> dict[str, Any]:
    channels, side = feature_shape(prior.backbone, hp["site"])
    sizes = {"channels": channels, "side": side, "picture": max(prior.config.resolution, side)}
    return {**sizes, **(hp["detail"] or {})}


def _tuples(options: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
