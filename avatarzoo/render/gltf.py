"""Gaussians as binary glTF with KHR_gaussian_splatting, as ratified by Khronos: what game engines and map viewers read.

Scales are linear standard deviations (drafts of the extension had their logarithm), opacities linear, rotations (x, y, z, w),
colours the degree-0 harmonic in display-referred sRGB. ``COLOR_0`` shows viewers without the extension a cloud of points.
"""

from __future__ import annotations

import json
import struct
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avatarzoo.files import atomic_path
from avatarzoo.geometry.spherical_harmonics import rgb_to_sh0
from avatarzoo.render.gaussians import Gaussians

EXTENSION = "KHR_gaussian_splatting"
FLOAT, ARRAY_BUFFER, POINTS = 5126, 34962, 0
TYPES = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}


def glb_bytes(gaussians: Gaussians, extras: dict[str, Any] | None = None) -> bytes:
    """One binary glTF of the first set of a batch; y up, metres.

    Args:
        extras: plain values for ``asset.extras``.
    """
    attributes = _attributes(gaussians)
    views, accessors, offset = [], [], 0
    for number, values in enumerate(attributes.values()):
        views.append({"buffer": 0, "byteOffset": offset, "byteLength": values.nbytes, "target": ARRAY_BUFFER})
        accessors.append(
            {
                "bufferView": number,
                "componentType": FLOAT,
                "count": len(values),
                "type": TYPES[values.shape[1]],
            }
        )
        offset += values.nbytes
    position = attributes["POSITION"]
    accessors[0] |= {"min": position.min(0).tolist(), "max": position.max(0).tolist()}
    primitive = {
        "mode": POINTS,
        "attributes": {name: number for number, name in enumerate(attributes)},
        "extensions": {EXTENSION: {"kernel": "ellipse", "colorSpace": "srgb_rec709_display"}},
    }
    asset = {"version": "2.0", "generator": f"avatarzoo {version('avatarzoo')}"}
    content = {
        "asset": asset | ({"extras": extras} if extras else {}),
        "extensionsUsed": [EXTENSION],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "avatar"}],
        "meshes": [{"primitives": [primitive]}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": offset}],
    }
    text = json.dumps(content, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    body = b"".join(values.tobytes() for values in attributes.values())
    chunks = (
        struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(body), 0x004E4942) + body
    )
    return struct.pack("<III", 0x46546C67, 2, 12 + len(chunks)) + chunks


def _attributes(gaussians: Gaussians) -> dict[str, np.ndarray]:
    """``(N, n)`` little-endian float32 by name; Gaussians that are not finite are left out."""
    means, quaternions, scales, opacities, colors = (x[0].detach().cpu().float() for x in gaussians)
    opacities = opacities[:, None].clamp(0, 1)
    turned = torch.nn.functional.normalize(quaternions, dim=-1)[:, [1, 2, 3, 0]]
    named = {
        "POSITION": means,
        f"{EXTENSION}:ROTATION": turned,
        f"{EXTENSION}:SCALE": scales.clamp_min(0),
        f"{EXTENSION}:OPACITY": opacities,
        f"{EXTENSION}:SH_DEGREE_0_COEF_0": rgb_to_sh0(colors),
        "COLOR_0": torch.cat([colors.clamp(0, 1), opacities], 1),
    }
    finite = torch.stack([x.isfinite().all(1) for x in named.values()]).all(0)
    return {name: x[finite].numpy().astype("<f4") for name, x in named.items()}


def write_glb(path: str | Path, gaussians: Gaussians, extras: dict[str, Any] | None = None) -> Path:
    """Write :func:`glb_bytes`, complete or not at all.

    Raises:
        OutputError: the folder cannot be written, or the disk is full.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(glb_bytes(gaussians, extras))
    return Path(path)
