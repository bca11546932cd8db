"""Reconstruction networks on disk: ours as one safetensors file, and the released checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from avatarzoo.errors import BadCheckpointError, MissingAssetError, UsageError
from avatarzoo.files import atomic_path
from avatarzoo.geometry.camera import Camera
from avatarzoo.heads.base import HeadParams
from avatarzoo.models.base import AvatarModule
from avatarzoo.models.gaussian_dejavu.reconstruction import GaussianReconstruction
from avatarzoo.networks.ednet import EDNet, InputRange
from avatarzoo.priors import import_checkpoint, official_key_map

FORMAT = "avatarzoo-dejavu-reconstruction-1"
SMALL_NETWORK = Path(__file__).parent / "weights" / "small_reconstruction.safetensors"
"""The network that comes with avatarzoo. It has seen made-up people only (:class:`avatarzoo.data.ProceduralPeopleDataModule`), never a
real one; results made with it must say so. ``benchmarks/small_reconstruction`` has the recipe and the scores."""
ARCHITECTURE = (
    "head", "uv_size", "network_size", "network_width", "input_range", "antialias", "texture", "initialization",
    "background",
)  # fmt: skip
"""Hyper-parameters without which the weights mean nothing."""


def save_reconstruction(
    module: GaussianReconstruction, path: str | Path, steps: int, data: dict[str, Any] | None = None
) -> Path:
    """Write the network's weights and what it needs to be used; atomic.

    Args:
        steps: of its training; data: what it was trained on, as a data module describes it.
    """
    options = {name: module.hparams[name] for name in ARCHITECTURE}
    header = {
        "format": FORMAT,
        "options": json.dumps(options),
        "head": json.dumps(module.head.signature),
        "provenance": json.dumps({"steps": steps, "data": data}),
    }
    tensors = {k: v.detach().cpu().contiguous() for k, v in module.network.state_dict().items()}
    with atomic_path(path) as partial:
        save_file(tensors, partial, metadata=header)
    return Path(path)


def load_reconstruction(
    path: str | Path, head_file: str | None = None, uv_size: int | None = None
) -> GaussianReconstruction:
    """A network that :func:`save_reconstruction` wrote, in evaluation mode; nothing in the file is executed.

    Args:
        uv_size: another S than that of the training.

    Raises:
        MissingAssetError: no such file, or the head model's file is not here.
        BadCheckpointError: damaged, or no network of ours.
        HeadModelMismatchError: the head model found here is another one.
    """
    header, tensors = _read(path)
    try:
        options, signature = json.loads(header["options"]), json.loads(header["head"])
        if uv_size is not None:
            options["uv_size"] = uv_size
        module = GaussianReconstruction(head_file=head_file, **options)
        module.provenance = json.loads(header["provenance"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadCheckpointError(f"{path} does not say how its network is built ({error}).") from error
    module.check_head(signature)
    module.network.load_state_dict(_fitting(tensors, module.network, path))
    return module.eval()


def read_weights(path: str | Path, module: GaussianReconstruction) -> dict[str, Tensor]:
    """Weights for the network of ``module`` from a file of :func:`save_reconstruction`, or ``small``.

    Raises:
        MissingAssetError: no such file. BadCheckpointError: damaged, or of another size.
        UsageError: trained with another head model or other initial Gaussians, whose maps mean something else.
    """
    header, tensors = _read(network_file(path))
    check_surface(path, json.loads(header["head"]), json.loads(header["options"])["initialization"], module)
    return _fitting(tensors, module.network, path)


def check_surface(path: str | Path, head: dict[str, str], initialization: str, module: AvatarModule) -> None:
    """That a network's maps mean to ``module`` what they mean to itself.

    Args:
        head, initialization: of the network: signature of its head model, its initial Gaussians.

    Raises:
        UsageError: they are not the module's.
    """
    own = module.head.signature, module.hparams["initialization"]
    if (head, initialization) != own:
        raise UsageError(
            f"The reconstruction network {path} belongs to --model.head {head['name']} and --model.initialization {initialization}, "
            f"not to {own[0]['name']} and {own[1]}; choose those, or another network."
        )


def network_file(name: str | Path) -> Path:
    """``small`` is the network that comes with avatarzoo, anything else a file."""
    return SMALL_NETWORK if name == "small" else Path(name)


def load_released(
    path: str | Path,
    head: str = "flame",
    head_file: str | None = None,
    uv_size: int = 320,
    input_range: InputRange = "uint8",
) -> GaussianReconstruction:
    """The published ``dejavu_network.pt`` with the head model and the start it was trained on, in evaluation mode.

    The released code loads it leniently and without saying what did not fit; here everything must fit. Only the four constant
    blur filters may be absent.

    Args:
        input_range: which of two readings of a picture the weights expect is not known; :func:`choose_input_range` decides.

    Raises:
        MissingAssetError, UnsafeCheckpointError: see :func:`avatarzoo.priors.import_checkpoint`.
        BadCheckpointError: it is damaged, or its tensors are not exactly the network's.
    """
    checkpoint = import_checkpoint(path)
    released = checkpoint.modules[checkpoint.main]
    module = GaussianReconstruction(
        head, head_file, uv_size, input_range=input_range, initialization="official_release"
    )
    key_map, state = official_key_map("dejavu"), module.network.state_dict()
    for official, ours in key_map.items():
        if official.endswith(".blur_layer.f"):
            released.state.setdefault(official, state[ours])
    released.require({official: tuple(state[ours].shape) for official, ours in key_map.items()}, str(path))
    module.network.load_state_dict({ours: released.state[official] for official, ours in key_map.items()})
    return module.eval()


@torch.no_grad()
def choose_input_range(
    module: GaussianReconstruction, images: Float[Tensor, "b 3 h w"], params: HeadParams, cameras: Camera
) -> dict[InputRange, float]:
    """Let ``module`` read pictures the way that reproduces given ones best; returns the mean absolute error of each way.

    Args:
        images: RGB in [0, 1] on the plain background, with their parameters and cameras.
    """
    errors: dict[InputRange, float] = {}
    for way in get_args(InputRange):
        module.network.input_range = way
        rendered = module(images, params, cameras, params, cameras).rgb.clamp(0, 1)
        errors[way] = float((rendered - images).abs().mean())
    best = min(errors, key=lambda way: errors[way])
    module.network.input_range = module.hparams["input_range"] = best
    return errors


def _read(path: str | Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(str(path), framework="pt") as file:
            header = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    except FileNotFoundError as error:
        raise MissingAssetError(
            f"There is no reconstruction network {path}; avatarzoo fit -c configs/gaussian_dejavu/reconstruct_procedural.yaml "
            "writes one."
        ) from error
    except (SafetensorError, OSError) as error:
        raise BadCheckpointError(f"{path} is damaged or no safetensors file ({error}).") from error
    if header.get("format") != FORMAT:
        raise BadCheckpointError(
            f"{path} is no reconstruction network; avatarzoo fit writes reconstruction.safetensors."
        )
    return header, tensors


def _fitting(tensors: dict[str, Tensor], network: EDNet, path: str | Path) -> dict[str, Tensor]:
    expected = {k: tuple(v.shape) for k, v in network.state_dict().items()}
    if {k: tuple(v.shape) for k, v in tensors.items()} != expected:
        raise BadCheckpointError(
            f"{path} holds a network of another size; give --model.network_width and --model.network_size of its training."
        )
    return tensors
