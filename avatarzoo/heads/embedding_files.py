"""Where the 478-point landmark embedding of a head model lives: packaged with the project, or in the user's cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from avatarzoo import assets
from avatarzoo.errors import HeadModelMismatchError, MissingAssetError
from avatarzoo.files import atomic_path
from avatarzoo.heads.base import HeadModel, LandmarkEmbedding

PACKAGED = Path(__file__).parent / "embeddings"


def embedding_file_name(head: HeadModel) -> str:
    """``<name>-<first 8 digits of the source hash>.npz``."""
    return f"{head.name}-{head.source_hash[:8]}.npz"


def load_embedding(head: HeadModel) -> LandmarkEmbedding:
    """The stored embedding, as indices into ``head.faces``, on the head's device.

    The file names triangles by their corner vertices, so that it serves whichever parts of the head were chosen as faces.

    Raises:
        MissingAssetError: none is stored; the message names the command that makes one.
        HeadModelMismatchError: a stored triangle is not among this head's faces.
    """
    name = embedding_file_name(head)
    folders = (PACKAGED, assets.cache_folder() / "embeddings")
    path = next((folder / name for folder in folders if (folder / name).is_file()), None)
    if path is None:
        raise MissingAssetError(
            f"No landmark embedding is stored for this {head.name} file ({name}); run: avatarzoo embed --head {head.name}"
        )
    stamp = (str(path), path.stat().st_mtime_ns, len(head.faces), head.faces.device)
    known = head.__dict__.get("_embedding")
    if known is None or known[0] != stamp:
        with np.load(path, allow_pickle=False) as file:
            corners, weights = file["corners"].astype(np.int64), file["barycentrics"].astype(np.float32)
        faces = torch.from_numpy(_triangle_numbers(head, corners)).to(head.faces.device)
        known = (stamp, LandmarkEmbedding(faces, torch.from_numpy(weights).to(head.faces.device)))
        head.__dict__["_embedding"] = known
    return known[1]


def save_embedding(head: HeadModel, embedding: LandmarkEmbedding, folder: Path | None = None) -> Path:
    """Store an embedding for this head model file, atomically; by default in the user's cache folder.

    Raises:
        OutputError: the folder cannot be written.
    """
    path = (folder or assets.cache_folder() / "embeddings") / embedding_file_name(head)
    corners = head.faces[embedding.faces.to(head.faces.device)].cpu().numpy().astype(np.int32)
    weights = embedding.barycentrics.detach().cpu().numpy().astype(np.float32)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, corners=corners, barycentrics=weights)
    return path


def _triangle_numbers(head: HeadModel, corners: np.ndarray) -> np.ndarray:
    """Position in ``head.faces`` of the triangles with these corners, in the same order of corners."""
    faces = head.faces.cpu().numpy()
    base = int(max(faces.max(), corners.max())) + 1

    def key(triangles: np.ndarray) -> np.ndarray:
        return (triangles[:, 0] * base + triangles[:, 1]) * base + triangles[:, 2]

    order = np.argsort(key(faces), kind="stable")
    found = order[np.searchsorted(key(faces)[order], key(corners)).clip(max=len(order) - 1)]
    if not (faces[found] == corners).all():
        raise HeadModelMismatchError(
            f"The stored landmark embedding uses triangles that are not among the chosen faces of this {head.name} head; "
            "load the head with its default parts."
        )
    return found
