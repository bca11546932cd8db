"""Hand-over between stages: the networks of an earlier run, as far as they fit."""

from __future__ import annotations

from typing import Any

import torch

from avatarzoo.errors import BadCheckpointError
from avatarzoo.models.base import AvatarModule
from avatarzoo.models.nofaplusplus.generator import PARTS

CONDITION = "condition."
NEEDED = ("prior", "encoder")
OF_HEAD = ("field", "condition")
"""Parts whose inputs are numbers of a head model."""


def take_networks(module: AvatarModule, path: str) -> str:
    """Copy the networks of an earlier stage; a part (or the condition) is taken whole or not at all.

    Where the earlier run kept a running average, that is what is taken. Counters and optimisers are not.

    Returns:
        One sentence: what was taken, and what starts anew.

    Raises:
        BadCheckpointError: no checkpoint of NOFA++, or its encoder or prior are other networks.
    """
    stored, same_head = _networks(path, module)
    own = {k: v for k, v in module.state_dict().items() if k.startswith(("generator.", CONDITION))}
    taken, new = [], []
    for name, prefix in {**{p: f"generator.{p}." for p in PARTS}, "condition": CONDITION}.items():
        names = [k for k in own if k.startswith(prefix)]
        fits = all(k in stored and stored[k].shape == own[k].shape for k in names)
        if not fits and name in NEEDED:
            raise BadCheckpointError(
                f"{path} holds another {name}; --model.start takes avatar.ckpt of the stage before, with the same --model.prior and "
                "--model.encoder."
            )
        if not fits or (name in OF_HEAD and not same_head):
            new.append(name)
        elif names:
            taken.append(name)
            module.load_state_dict({k: stored[k] for k in names}, strict=False)
    fresh = f"; new: {', '.join(new)}" if new else ""
    return f"Start: {', '.join(taken)} of {path}{fresh}."


def _networks(path: str, module: AvatarModule) -> tuple[dict[str, Any], bool]:
    """Weights by their names in ``generator`` and ``condition``, and whether the run had the module's head model."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        state, head = content["state_dict"], content["avatarzoo_head"]
    except Exception as error:
        raise BadCheckpointError(
            f"{path} cannot be read ({type(error).__name__}); --model.start takes avatar.ckpt of a run of NOFA++."
        ) from error
    prefix = "average." if any(k.startswith("average.") for k in state) else "generator."
    renamed = {f"generator.{k.removeprefix(prefix)}": v for k, v in state.items() if k.startswith(prefix)}
    return renamed | {
        k: v for k, v in state.items() if k.startswith(CONDITION)
    }, head == module.head.signature
