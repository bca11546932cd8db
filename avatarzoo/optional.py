"""Optional packages: imported when needed, or one sentence that names the extra."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from avatarzoo.errors import MissingExtraError


def available(name: str) -> bool:
    """Whether package ``name`` can be imported, without importing it."""
    return importlib.util.find_spec(name) is not None


def require(name: str, extra: str) -> ModuleType:
    """Import ``name`` now, or raise :class:`MissingExtraError` naming the extra that carries it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(
            f"{name} is not usable here ({error}); install it with: pip install 'avatarzoo[{extra}]'."
        ) from error
