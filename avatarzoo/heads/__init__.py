"""Head models: parameters in, vertices out (metres, y up, face towards +z)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from avatarzoo.errors import MissingAssetError
from avatarzoo.heads.base import HeadModel, HeadParams, LandmarkEmbedding
from avatarzoo.heads.faceverse import FaceVerse
from avatarzoo.heads.flame import FLAME
from avatarzoo.heads.ict import ICTFace

if TYPE_CHECKING:
    from avatarzoo.heads.procedural import ProceduralHead

__all__ = [
    "FLAME",
    "FaceVerse",
    "HeadModel",
    "HeadParams",
    "ICTFace",
    "LandmarkEmbedding",
    "ProceduralHead",
    "load_head",
]

HEADS: dict[str, tuple[str, dict[str, str]]] = {
    "procedural": ("ProceduralHead", {}),
    "ict": ("ICTFace", {}),
    "flame": ("FLAME", {}),
    "flame2020": ("FLAME", {"version": "2020"}),
    "flame2023": ("FLAME", {"version": "2023"}),
    "flame2023-open": ("FLAME", {"version": "2023_open"}),
    "faceverse": ("FaceVerse", {}),
    "faceverse3": ("FaceVerse", {"version": "3"}),
    "faceverse3.1": ("FaceVerse", {"version": "3.1"}),
    "faceverse4": ("FaceVerse", {"version": "4"}),
}


def __getattr__(name: str) -> Any:
    if name == "ProceduralHead":  # it builds its mesh on import of its modules: only who asks for it waits
        from avatarzoo.heads.procedural import ProceduralHead

        return ProceduralHead
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load_head(name: str, path: str | None = None) -> HeadModel:
    """A head model by the name people type.

    Args:
        name: a key of :data:`HEADS`.
        path: the model's file instead of the one the asset table finds; the procedural head has none.

    Raises:
        MissingAssetError: no such name, or no file.
    """
    if name not in HEADS:
        raise MissingAssetError(f"There is no head model named {name!r}; the names are {', '.join(HEADS)}.")
    kind, arguments = HEADS[name]
    if kind == "ProceduralHead":
        return __getattr__(kind)()
    classes: dict[str, Any] = {"ICTFace": ICTFace, "FLAME": FLAME, "FaceVerse": FaceVerse}
    return classes[kind](path, **arguments)
