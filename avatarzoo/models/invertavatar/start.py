"""Hand-over between stages: prior and encoders of an earlier run, or of a published file."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from avatarzoo.errors import BadCheckpointError
from avatarzoo.models.base import AvatarModule
from avatarzoo.priors.released_invertavatar import load_invertavatar

NETWORKS, OWN = "networks.", (".ckpt", ".partial")
MEMORIES = ".unet.memories."


def take_networks(module: AvatarModule, path: str) -> str:
    """Copy prior and encoders; recurrent memories start anew where the earlier run had none. Counters and optimisers are not taken.

    Returns:
        One sentence: what was taken, and what starts anew.

    Raises:
        BadCheckpointError: no checkpoint of InvertAvatar, or one of networks of other sizes.
    """
    stored = _own(path) if Path(path).suffix in OWN else _published(path)
    mine = {k: v for k, v in module.state_dict().items() if k.startswith(NETWORKS)}
    fitting = {k: v for k, v in stored.items() if k in mine and mine[k].shape == v.shape}
    missing = [k for k in mine if k not in fitting]
    if strange := [k for k in missing if MEMORIES not in k]:
        raise BadCheckpointError(
            f"{path} holds other networks ({strange[0]} does not fit); --model.start takes avatar.ckpt of an earlier stage with the "
            "same --model.prior, --model.encoder and --model.official."
        )
    module.load_state_dict(fitting, strict=False)
    return f"Start: networks of {path}{'; the memories are new' if missing else ''}."


def _own(path: str) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        return {k: v for k, v in content["state_dict"].items() if k.startswith(NETWORKS)}
    except Exception as error:
        raise BadCheckpointError(
            f"{path} cannot be read ({type(error).__name__}); --model.start takes avatar.ckpt of a run of InvertAvatar."
        ) from error


def _published(path: str) -> dict[str, Tensor]:
    checkpoint = load_invertavatar(path)
    state = {f"{NETWORKS}prior.{k}": v for k, v in checkpoint.generator.state_dict().items()}
    if checkpoint.encoders is not None:
        state |= {f"{NETWORKS}encoders.{k}": v for k, v in checkpoint.encoders.state_dict().items()}
    return state
