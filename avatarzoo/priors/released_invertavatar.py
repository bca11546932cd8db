"""Published InvertAvatar and Next3D checkpoints in our modules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from avatarzoo.errors import BadCheckpointError
from avatarzoo.networks.inversion_encoders import InversionEncoders
from avatarzoo.priors.animatable import AnimatableTriPlaneGenerator
from avatarzoo.priors.checkpoints import ImportedCheckpoint, ImportedModule, import_checkpoint
from avatarzoo.priors.keys import renamed
from avatarzoo.priors.keys_invertavatar import KINDS
from avatarzoo.priors.next3d import Next3DGenerator
from avatarzoo.priors.next3d_views import TexturedTopology

INSIDE = "generator."
"""In front of the generator's keys where a file holds encoders too."""
ENCODER_PARTS = ("encoder", "unet_encoder", "latent_avg", "black_uv_bg")
CONSTANTS = {"black_uv_bg": -1, "dense_faces": 0}
"""Entries that nothing here reads and whose size is not known from public text; ours are filled with these values."""


@dataclass
class InvertAvatarCheckpoint:
    """What a published file holds, in evaluation mode; ``encoders`` is ``None`` for a file of the GAN alone."""

    generator: AnimatableTriPlaneGenerator
    encoders: InversionEncoders | None


def expected_shapes(kind: str) -> dict[str, tuple[int, ...]]:
    """Official key -> shape of every tensor of a kind of :func:`~avatarzoo.priors.keys.official_key_map`.

    For :func:`~avatarzoo.priors.checkpoints.import_checkpoint`.
    """
    build, rules = KINDS[kind]
    with torch.device("meta"):
        network = build()
    state = network.state_dict()
    return {official: tuple(state[ours].shape) for official, ours in renamed(network, rules).items()}


def load_invertavatar(
    source: str | Path | ImportedCheckpoint, encoders: bool = True
) -> InvertAvatarCheckpoint:
    """The generator of a published file and, where it has them, the encoders.

    Args:
        source: a published file, a folder of ``avatarzoo assets import``, or what was read from either.
        encoders: False takes the generator alone; needed for the "improved one-shot" file, whose encoders hold transformers
            that the paper does not describe.

    Raises:
        MissingAssetError, UnsafeCheckpointError: see :func:`~avatarzoo.priors.checkpoints.import_checkpoint`.
        BadCheckpointError: it is damaged, or its tensors are not exactly those of the published networks.
    """
    module, name = _main(source)
    generator, others = _divided(module.state)
    strange = [key for key in others if key.split(".")[0] not in ENCODER_PARTS]
    if strange:
        raise BadCheckpointError(
            f"{name} has the tensor {strange[0][:120]!r}, which InvertAvatar does not know; give one of its published checkpoints."
        )
    with torch.device("meta"):
        loaded, read = AnimatableTriPlaneGenerator(), InversionEncoders(released=True)
    _load(loaded, "invertavatar", generator, name)
    if not others or not encoders:
        return InvertAvatarCheckpoint(loaded.eval(), None)
    _load(read, "invertavatar_encoders", others, f"{name} (its encoders; encoders=False leaves them)")
    return InvertAvatarCheckpoint(loaded.eval(), read.eval())


def load_next3d(source: str | Path | ImportedCheckpoint) -> Next3DGenerator:
    """A published Next3D generator with its head topology, in evaluation mode; raises as :func:`load_invertavatar`.

    The file does not hold the mask of driven texels: set ``generator.topology.uv_mask``.
    """
    module, name = _main(source)
    topology = TexturedTopology()
    with torch.device("meta"):
        generator = Next3DGenerator(topology=topology)
    _load(generator, "next3d", dict(module.state), name)
    return generator.eval()


def _main(source: str | Path | ImportedCheckpoint) -> tuple[ImportedModule, str]:
    if isinstance(source, ImportedCheckpoint):
        return source.modules[source.main], "The checkpoint"
    read = ImportedCheckpoint.load if Path(source).is_dir() else import_checkpoint
    checkpoint = read(source)
    return checkpoint.modules[checkpoint.main], str(source)


def _divided(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The generator's entries under its own names, and the others."""
    if not any(key.startswith(INSIDE) for key in state):
        return dict(state), {}
    inner = {key.removeprefix(INSIDE): x for key, x in state.items() if key.startswith(INSIDE)}
    return inner, {key: x for key, x in state.items() if not key.startswith(INSIDE)}


def _load(network: nn.Module, kind: str, state: dict[str, Tensor], source: str) -> None:
    """Give a network without memory of its own the tensors of a file, which must be exactly its."""
    ours, names = network.state_dict(), renamed(network, KINDS[kind][1])
    expected = {official: tuple(ours[name].shape) for official, name in names.items()}
    free = {key: tuple(state[key].shape) for key in CONSTANTS if key in expected and key in state}
    ImportedModule(None, state).require(expected | free, source)
    loaded = {}
    for official, name in names.items():
        wanted = ours[name]
        if official in CONSTANTS:
            loaded[name] = torch.full(wanted.shape, CONSTANTS[official], dtype=wanted.dtype)
        else:
            loaded[name] = state[official].to(wanted.dtype, copy=True).contiguous()
    network.load_state_dict(loaded, assign=True)
    network.requires_grad_(True)
