"""Published StyleAvatar checkpoints in our modules: full ones, StyleUNet ones, and files with the averaged generator only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from avatarzoo.errors import BadCheckpointError
from avatarzoo.networks.double_styleunet import DoubleStyleUNet
from avatarzoo.networks.feature_generator import FeatureGenerator, Features
from avatarzoo.networks.haar_discriminator import HaarDiscriminator
from avatarzoo.networks.styleunet import StyleUNet
from avatarzoo.networks.styleunet_layers import BANDS
from avatarzoo.priors.checkpoints import ImportedCheckpoint, ImportedModule, import_checkpoint
from avatarzoo.priors.keys_styleavatar import CONSTANTS, KINDS, official_names, official_shape

PARTS = {
    "g_ema": KINDS[:2], "i_g": KINDS[1:2], "g": KINDS[:1], "model": KINDS[:2], "b_g": KINDS[2:3], "f_g": KINDS[2:3],
    "d": KINDS[3:],
}  # fmt: skip
"""Networks of the published files and what each may be; ``model`` is a bare state dictionary."""
MARKS = dict(
    zip(
        KINDS,
        ("from_rgbs.0.conv.0.weight", "from_rgbs_0.0.conv.0.weight", "input.input", "final_linear.0.weight"),
    )
)
"""A tensor that tells the kind of a network."""
GENERATORS = ("g_ema", "model", "i_g", "g")
MOST_LEVELS = 10
State = dict[str, Tensor]


@dataclass
class StyleAvatarCheckpoint:
    """What a published file holds.

    Attributes:
        networks: the file's names -> networks in evaluation mode: ``g_ema`` (averaged), ``i_g``, ``b_g``, ``f_g``, ``d``, or
            ``g_ema``, ``g``, ``d`` of a StyleUNet. The feature generators ``b_g`` and ``f_g`` were only ever used in
            training mode (normalised over their batch); rebuild features so, or take the stored ones.
        face, back: the stored neural texture and background features, one row, or ``None``.
        arguments: what the training was started with.
    """

    networks: dict[str, nn.Module]
    face: Features | None
    back: Features | None
    arguments: dict[str, Any]

    @property
    def generator(self) -> nn.Module:
        """The network that people use: the averaged one where there is one."""
        return next(self.networks[name] for name in GENERATORS if name in self.networks)


def load_styleavatar(source: str | Path | ImportedCheckpoint) -> StyleAvatarCheckpoint:
    """The networks of a published file with their weights, and its stored features; sizes and widths are read off the tensors.

    Args:
        source: a published file, a folder of ``avatarzoo assets import``, or what was read from either.

    Raises:
        MissingAssetError, UnsafeCheckpointError: see :func:`~avatarzoo.priors.checkpoints.import_checkpoint`.
        BadCheckpointError: it is damaged, holds no generator, or a network's tensors are not exactly those published.
    """
    if isinstance(source, ImportedCheckpoint):
        checkpoint, name = source, "The checkpoint"
    else:
        read = ImportedCheckpoint.load if Path(source).is_dir() else import_checkpoint
        checkpoint, name = read(source), str(source)
    modules = {part: module for part, module in checkpoint.modules.items() if part in PARTS}
    if not set(GENERATORS) & set(modules):
        raise BadCheckpointError(
            f"{name} holds no generator of StyleAvatar (g_ema, i_g or g, but {', '.join(checkpoint.modules)[:200]}); give one of its "
            "published checkpoints."
        )
    networks = {part: _network(module, PARTS[part], f"{name} ({part})") for part, module in modules.items()}
    stored = checkpoint.modules["tensors"].state if "tensors" in checkpoint.modules else {}
    face, back = (_features(stored, which, networks, name) for which in ("face", "back"))
    arguments = checkpoint.meta.get("args", {})
    return StyleAvatarCheckpoint(networks, face, back, arguments if isinstance(arguments, dict) else {})


def _network(module: ImportedModule, kinds: tuple[str, ...], source: str) -> nn.Module:
    kind = next((kind for kind in kinds if MARKS[kind] in module.state), None)
    if kind is None:
        raise BadCheckpointError(
            f"{source} lacks the tensor {MARKS[kinds[0]]!r} of the network it is meant for; give the checkpoint of that network."
        )
    state = {key: x for key, x in module.state.items() if key.rpartition(".")[2] not in CONSTANTS}
    try:
        with torch.device("meta"):
            planned = BUILDERS[kind](state)
    except (KeyError, IndexError, ValueError, ZeroDivisionError, RuntimeError) as error:
        raise BadCheckpointError(
            f"{source} has not the tensors of the network it is meant for ({type(error).__name__}: {error}); give one of the "
            "published checkpoints."
        ) from error
    names, built = official_names(kind, planned), planned.state_dict()
    expected = {key: official_shape(key, tuple(built[ours].shape)) for key, ours in names.items()}
    ImportedModule(None, state).require(expected, source)
    network = BUILDERS[kind](state)  # for real, now that the file is known to hold as many numbers
    loaded = {ours: state[key].reshape(built[ours].shape) for key, ours in names.items()}
    network.load_state_dict(network.state_dict() | loaded)
    return network.eval()


def _features(stored: State, which: str, networks: dict[str, nn.Module], source: str) -> Features | None:
    """The first row of the stored features: the published rows are copies, one for each sample of the last batch."""
    names = [f"{part}_{which}" for part in ("feature", "skip")]
    if not any(name in stored for name in names):
        return None
    user = next((x for x in networks.values() if isinstance(x, DoubleStyleUNet)), None)
    if user is None:
        raise BadCheckpointError(
            f"{source} has features but no network for them; give a published checkpoint."
        )
    side = (user.grid, user.grid)
    expected = {name: (1, n, *side) for name, n in zip(names, (user.feature_channels, BANDS))}
    rows = {name: stored[name][:1] for name in names if name in stored and stored[name].ndim}
    ImportedModule(None, rows).require(expected, f"{source} ({which})")
    return Features(*(rows[name].clone() for name in names))


def _levels(state: State, pattern: str) -> int:
    count = next(n for n in range(MOST_LEVELS + 2) if n > MOST_LEVELS or pattern.format(n) not in state)
    if not 1 <= count <= MOST_LEVELS:
        raise ValueError(f"{count} levels of {pattern.format(0)}")
    return count


def _multiplier(width: int, most: int, side: int) -> int:
    """Of the channel table; the published one where the cap hides it."""
    return width * side // 16384 if width < most else 2


def _styleunet(state: State) -> StyleUNet:
    input_size = 2 ** (_levels(state, "cond_convs.{}.conv1.0.weight") + 5)
    output_size = 2 ** (_levels(state, "to_rgbs.{}.bias") + 4)
    width, bands = state["from_rgbs.0.conv.0.weight"].shape[:2]
    most, style_dim = state["convs.0.conv.weight"].shape[1], len(state["mapping.0.weight"])
    multiplier = _multiplier(width, most, input_size)
    return StyleUNet(input_size, output_size, multiplier, most, style_dim, bands // 4)


def _double(state: State) -> DoubleStyleUNet:
    input_size = 2 ** (_levels(state, "cond_convs_1.{}.conv1.0.weight") + 5)
    output_size = 2 ** (_levels(state, "to_rgbs_1.{}.bias") + 4)
    width, most = len(state["from_rgbs_1.0.conv.0.weight"]), state["convs_1.0.conv.weight"].shape[1]
    multiplier = _multiplier(width, most, input_size)
    return DoubleStyleUNet(input_size, output_size, multiplier, most, len(state["mapping.0.weight"]))


def _feature_generator(state: State) -> FeatureGenerator:
    size = 2 ** (_levels(state, "to_rgbs.{}.bias") + 2)
    width, most = len(state["batchnorm.weight"]), state["input.input"].shape[1]
    return FeatureGenerator(size, _multiplier(width, most, size), most, len(state["mapping.0.weight"]))


def _discriminator(state: State) -> HaarDiscriminator:
    size = 2 ** (_levels(state, "from_rgbs.{}.conv.0.weight") + 2)
    width, bands = state["from_rgbs.0.conv.0.weight"].shape[:2]
    most = state["final_linear.1.weight"].shape[1]
    return HaarDiscriminator(size, bands // 4, _multiplier(width, most, size), most)


BUILDERS: dict[str, Callable[[State], nn.Module]] = dict(
    zip(KINDS, (_styleunet, _double, _feature_generator, _discriminator))
)
"""Networks of the sizes and widths that the tensors have; inputs below 64 pixels were never published."""
