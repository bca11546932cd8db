"""Networks of an earlier run as the start of a new one (paper section 3.4: pre-training)."""

from __future__ import annotations

from typing import Any

import torch

from avatarzoo.errors import BadCheckpointError
from avatarzoo.models.base import AvatarModule

NETWORKS = ("generator.", "average.", "discriminator.")


def take_networks(module: AvatarModule, path: str) -> None:
    """Copy networks and running averages; counters, optimisers and people of the earlier run are not taken.

    The released code reads the step from the checkpoint's name, so a new person keeps the old one's frozen features; here steps
    count from the new run's start.

    Raises:
        BadCheckpointError: the file is no checkpoint of such networks.
        HeadModelMismatchError: it was trained with another head model.
    """
    content = _read(path)
    mine = {name for name in module.state_dict() if name.startswith(NETWORKS)}
    try:
        module.check_head(content["avatarzoo_head"])
        state = {name: content["state_dict"][name] for name in mine}
        module.load_state_dict(state, strict=False)
    except (KeyError, RuntimeError) as error:
        reason = str(error).splitlines()[-1].strip()[:150]
        raise BadCheckpointError(
            f"{path} holds other networks ({reason}); --model.start takes avatar.ckpt of a StyleAvatar run with the same "
            "variant, sizes, channels and, for its discriminator, a lambda_gan above 0."
        ) from error


def _read(path: str) -> dict[str, Any]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise BadCheckpointError(
            f"{path} cannot be read ({type(error).__name__}); --model.start takes avatar.ckpt of a StyleAvatar run."
        ) from error
