"""Reference tensors of the official InvertAvatar: where they are, and the rules that rebuild weights and inputs.

Sections are those of tests/golden/invertavatar/README.md. Whatever differs between sets (maps, visibility) is read from the folder.
"""

from __future__ import annotations

import functools
import json
import os
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

COPY = Path(__file__).parent.parent / "golden" / "invertavatar"
SALT = os.environ.get("AVATARZOO_GOLDEN_SALT", "golden:")
GAIN, OFFSET = 16.0, -3.0
ENCODERS = ("encoder.", "unet_encoder.")


def folder() -> Path:
    """``AVATARZOO_GOLDEN`` holds a folder per method, or is the one of this method."""
    given = Path(os.environ.get("AVATARZOO_GOLDEN", COPY.parent))
    return given / "invertavatar" if (given / "invertavatar").is_dir() else given


@functools.cache
def index() -> dict[str, Any]:
    path = folder() / "index.json"
    return json.loads(path.read_text()) if path.is_file() else {"outputs": {}}


@functools.cache
def stored(file: str) -> dict[str, Tensor]:
    """Arrays of ``inputs`` or ``outputs``."""
    with np.load(folder() / f"{file}.npz", allow_pickle=False) as data:
        return {name: torch.from_numpy(data[name]) for name in data.files}


def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Section 1: float64 standard normal numbers that belong to ``name``."""
    seed = zlib.crc32((SALT + name).encode())
    return np.asarray(np.random.Generator(np.random.PCG64(seed)).standard_normal(shape))


def numbers(name: str, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(draw(name, shape).astype(np.float32))


def weight(key: str, shape: tuple[int, ...], siblings: set[str]) -> Tensor | None:
    """Section 2; None leaves the tensor as built. ``siblings`` are all official keys."""
    x = numbers(key, shape)
    plain = key.startswith(ENCODERS) and not re.search(r"^encoder\.styles\.\d+\.linear\.", key)
    if key.endswith(("resample_filter", "num_batches_tracked", "black_uv_bg")):
        return None
    if key == "latent_avg":
        return 0.1 * numbers("backbone.mapping.w_avg", (512,))[None]
    return plain_weight(key, x, siblings) if plain else equalised_weight(key, x)


def equalised_weight(key: str, x: Tensor) -> Tensor:
    if key.startswith("decoder.net.2."):
        gain, offset = index().get("density_gain", GAIN), index().get("density_offset", OFFSET)
        if key.endswith("bias"):
            x = 0.1 * x
            x[0] = offset
        else:
            x[0] = gain * (x[0] - np.float32(x[0].double().mean().item()))
        return x
    if match := re.search(r"mapping\.fc\d\.(weight|bias)$", key):
        return (100 if match[1] == "weight" else 10) * x
    if key.endswith("noise_strength"):
        return 0.1 + 0.05 * x
    if key.endswith("affine.bias"):
        return 1 + 0.1 * x
    return 0.1 * x if key.endswith((".bias", "w_avg")) else x


def plain_weight(key: str, x: Tensor, siblings: set[str]) -> Tensor:
    stem, _, kind = key.rpartition(".")
    if kind == "running_var":
        return 1 + 0.1 * x.abs()
    if kind in ("bias", "running_mean"):
        return 0.1 * x
    if x.ndim >= 2:
        return x / np.float32(np.sqrt(x[0].numel()))
    return 1 + 0.1 * x if f"{stem}.running_mean" in siblings else 0.25 + 0.05 * x


def fill(network: nn.Module, key_map: dict[str, str]) -> nn.Module:
    """Give every entry of ``network`` its weight by the rule."""
    state, siblings = network.state_dict(), set(key_map)
    for official, ours in key_map.items():
        value = weight(official, tuple(state[ours].shape), siblings)
        if value is not None:
            state[ours] = value
    network.load_state_dict(state, strict=True)
    return network.eval()


def centres(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel centres ``u`` (along columns) and ``v`` (along rows), in [-1, 1]."""
    places = (2 * np.arange(size) + 1) / size - 1
    return np.broadcast_to(places[None], (size, size)), np.broadcast_to(places[:, None], (size, size))


def smooth(name: str, channels: int, size: int) -> np.ndarray:
    u, v = centres(size)
    p, noise = draw(name, (channels, 6, 4)), draw(f"{name}.n", (channels, size, size))
    waves = np.zeros((channels, size, size))
    for k in range(6):
        a, fu, fv, phase = (p[:, k, i, None, None] for i in range(4))
        waves += a * np.sin(2 * np.pi * (fu * u + fv * v) + 3 * phase)
    return np.tanh(0.6 * waves + 0.2 * noise)


def as_tensor(x: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(x).astype(np.float32))


def picture(name: str, channels: int, size: int) -> Tensor:
    return as_tensor(smooth(name, channels, size))


def driving_map(name: str) -> Tensor:
    """``(1, 256, 256, 3)``."""
    rule = index()["config"][name]
    line = np.linspace(-1, 1, 256)
    x, y = np.broadcast_to(line[None], (256, 256)), np.broadcast_to(line[:, None], (256, 256))
    covered = (x**2 + y**2 < 0.7).astype(np.float64)
    top, bottom, left, right = rule["hole"]
    covered[top:bottom, left:right] = 0
    u, v = (a * x + b * y + c for a, b, c in (rule["rx"], rule["ry"]))
    return as_tensor(np.stack([u * covered, v * covered, covered], -1))[None]


def visibility(t: int) -> np.ndarray:
    u, v = centres(256)
    return ((u**2 + v**2 < 0.8) & (u + 0.5 * v > -0.9 + index()["config"]["vis"] * t)).astype(np.float64)


def texel_places(t: int) -> np.ndarray:
    """``(256, 256, 2)``."""
    u, v = centres(256)
    return np.stack([0.7 * u + 0.05 * np.sin(3 * v + t), 0.7 * v + 0.05 * np.sin(2 * u - t)], -1)


def texture_frame(t: int) -> Tensor:
    """E_tex's input ``(7, 256, 256)``."""
    s, m = smooth(f"in.tex.{t}", 6, 256), visibility(t)
    return as_tensor(np.concatenate([s[:3] * m + (1 - m), s[3:] * m - (1 - m), m[None]]))


def stored_part(name: str, full: Tensor) -> Tensor:
    """Section 6: the part of a tensor that is stored."""
    return full[tuple(slice(None, None, step) for step in index()["outputs"][name]["step"])]
