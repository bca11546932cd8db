"""Our own generators on disk: one safetensors file whose header says how the network is built."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from avatarzoo.errors import BadCheckpointError, MissingAssetError
from avatarzoo.files import atomic_path
from avatarzoo.priors.animatable import AnimatableTriPlaneGenerator
from avatarzoo.priors.animatable_config import AnimatableConfig
from avatarzoo.priors.eg3d import TriPlaneGenerator
from avatarzoo.priors.eg3d_config import EG3DConfig

FORMAT, ANIMATABLE_FORMAT = "avatarzoo-eg3d-1", "avatarzoo-animatable-1"
KINDS: dict[str, tuple[type[TriPlaneGenerator], type[EG3DConfig]]] = {
    FORMAT: (TriPlaneGenerator, EG3DConfig),
    ANIMATABLE_FORMAT: (AnimatableTriPlaneGenerator, AnimatableConfig),
}


def save_generator(
    generator: TriPlaneGenerator, path: str | Path, facts: dict[str, Any] | None = None, half: bool = False
) -> Path:
    """Write weights and configuration; atomic.

    Args:
        facts: JSON-able notes on how the weights came about.
        half: keep the weights in half precision, which halves the file.
    """
    header = {
        "format": ANIMATABLE_FORMAT if isinstance(generator, AnimatableTriPlaneGenerator) else FORMAT,
        "config": json.dumps(generator.config.to_dict()),
        "facts": json.dumps(facts or {}),
    }
    tensors = {k: v.detach().cpu().contiguous() for k, v in generator.state_dict().items()}
    if half:
        tensors = {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}
    with atomic_path(path) as partial:
        save_file(tensors, partial, metadata=header)
    return Path(path)


def load_generator(path: str | Path) -> TriPlaneGenerator:
    """Read what :func:`save_generator` wrote, of the same class, in evaluation mode; nothing in the file is executed.

    Raises:
        MissingAssetError: there is no such file.
        BadCheckpointError: the file is damaged, or no generator of ours.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            header = file.metadata() or {}
            tensors = {key: _full(file.get_tensor(key)) for key in file.keys()}  # noqa: SIM118 - not a dict
        network, config = KINDS[header.get("format", "")]
        with torch.random.fork_rng(
            devices=[]
        ):  # the meta device would be slower: its first use imports torch's compiler
            generator = network(config.from_dict(json.loads(header["config"])))
        generator.load_state_dict(tensors, assign=True)
    except FileNotFoundError as error:
        raise MissingAssetError(
            f"There is no generator {path}; avatarzoo fit -c configs/eg3d/... writes one."
        ) from error
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0][:150]
        raise BadCheckpointError(
            f"{path} is no generator that avatarzoo wrote ({reason}); train or copy it again."
        ) from error
    return generator.requires_grad_(True).eval()


def _full(x: Tensor) -> Tensor:
    """Weights may be kept in half precision; networks start in float32."""
    return x.float() if x.dtype == torch.float16 else x
