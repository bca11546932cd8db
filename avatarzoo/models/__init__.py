"""The methods; each folder reads like its paper."""

from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from avatarzoo.errors import BadSequenceError
from avatarzoo.models.base import AvatarImage, AvatarModule, AvatarState
from avatarzoo.models.eg3d import EG3DTraining
from avatarzoo.models.gaussian_dejavu import GaussianDejaVu, GaussianReconstruction
from avatarzoo.models.invertavatar import InvertAvatar
from avatarzoo.models.nofaplusplus import NOFAPlusPlus
from avatarzoo.models.styleavatar import StyleAvatar

METHODS: tuple[type[AvatarModule], ...] = (GaussianDejaVu, InvertAvatar, NOFAPlusPlus, StyleAvatar)
STAGES: tuple[type[AvatarModule], ...] = (GaussianReconstruction,)
"""Stages of a method that make avatars by themselves."""
ENTRY_POINTS = "avatarzoo.methods"
"""Group of entry points under which installed packages name methods of their own: ``ClassName = "package:ClassName"``."""

__all__ = [
    "METHODS",
    "AvatarImage",
    "AvatarModule",
    "AvatarState",
    "EG3DTraining",
    "GaussianDejaVu",
    "GaussianReconstruction",
    "InvertAvatar",
    "NOFAPlusPlus",
    "StyleAvatar",
    "load_avatar",
    "method_named",
    "read_checkpoint",
]


def method_named(name: str) -> type[AvatarModule] | None:
    """The method whose class has this name: one of ours, or one that an installed package names as an entry point."""
    own = next((m for m in (*METHODS, *STAGES) if m.__name__ == name), None)
    if own is not None:
        return own
    others = entry_points(group=ENTRY_POINTS, name=name)
    return next((found for point in others if issubclass(found := point.load(), AvatarModule)), None)


def load_avatar(path: str | Path, device: str = "cpu") -> AvatarModule:
    """Load a checkpoint of any method, in evaluation mode; nothing in the file is executed.

    Raises:
        BadSequenceError: no such file, or no checkpoint of a known method.
    """
    name = read_checkpoint(path)["avatarzoo_method"]
    method = method_named(name)
    if method is None:
        raise BadSequenceError(
            f"{path} holds a {name}, which is not known here; update avatarzoo, or install the package that {name} comes with."
        )
    return method.load_from_checkpoint(path, map_location=device, weights_only=True).eval()


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """What a checkpoint of any method holds: tensors that are read from the file when used, and plain values; nothing is executed.

    Raises:
        BadSequenceError: no such file, or no checkpoint of a method.
    """
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        content["avatarzoo_method"]
    except FileNotFoundError as error:
        raise BadSequenceError(f"There is no checkpoint {path}; avatarzoo fit writes one.") from error
    except Exception as error:
        raise BadSequenceError(
            f"{path} is not a checkpoint of avatarzoo ({type(error).__name__})."
        ) from error
    return content
