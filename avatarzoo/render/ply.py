"""Gaussians as PLY in the full 62-property layout of 3D Gaussian Splatting, which every viewer reads."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import torch

from avatarzoo.errors import OutputError
from avatarzoo.geometry.spherical_harmonics import rgb_to_sh0
from avatarzoo.render.gaussians import Gaussians

PROPERTIES = (
    *("x", "y", "z", "nx", "ny", "nz"),
    *(f"f_dc_{i}" for i in range(3)),
    *(f"f_rest_{i}" for i in range(45)),
    "opacity",
    *(f"scale_{i}" for i in range(3)),
    *(f"rot_{i}" for i in range(4)),
)
"""62 names; the higher harmonics f_rest are zero here (degree 0), but viewers that expect degree 3 refuse files without them."""


def ply_bytes(gaussians: Gaussians) -> bytes:
    """Binary little-endian PLY of the first set of a batch: opacity as logit, scale as logarithm, rotation (w, x, y, z)."""
    means, quaternions, scales, opacities, colors = (x[0].detach().cpu().float() for x in gaussians)
    table = torch.zeros(len(means), len(PROPERTIES))
    table[:, 0:3] = means
    table[:, 6:9] = rgb_to_sh0(colors)
    table[:, 54] = torch.logit(opacities, eps=1e-6)
    table[:, 55:58] = scales.clamp_min(1e-9).log()
    table[:, 58:62] = quaternions
    finite = torch.isfinite(table).all(1)
    rows = table[finite].numpy().astype("<f4")
    lines = ["ply", "format binary_little_endian 1.0", "comment Gaussians in metres, y up, face towards +z"]
    lines += [
        f"element vertex {len(rows)}",
        *(f"property float {name}" for name in PROPERTIES),
        "end_header\n",
    ]
    return "\n".join(lines).encode("ascii") + np.ascontiguousarray(rows).tobytes()


def write_ply(path: str | Path, gaussians: Gaussians) -> Path:
    """Write :func:`ply_bytes` under a temporary name, then rename.

    Raises:
        OutputError: the folder cannot be written, or the disk is full.
    """
    path = Path(path)
    partial, content = path.with_name(path.name + ".partial"), ply_bytes(gaussians)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise OutputError(
            f"{path} cannot be written ({error.strerror or error}); free some space or choose another place."
        ) from error
    return path
