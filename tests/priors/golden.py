"""Reference tensors of the official EG3D: where they are, and the rule that rebuilds weights and inputs.

Sections are those of tests/golden/eg3d/README.md.
"""

from __future__ import annotations

import os
import re
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from avatarzoo.priors.eg3d_config import FFHQ, EG3DConfig

COPY = Path(__file__).parent.parent / "golden"
ROOT = Path(os.environ.get("AVATARZOO_GOLDEN", COPY))
FOLDER = ROOT / "eg3d"
KEYS = COPY / "eg3d" / "keys.json"
SALT = os.environ.get("AVATARZOO_GOLDEN_SALT", "golden:")

TINY = EG3DConfig(
    channel_base=1024,
    channel_max=32,
    superresolution="2X",
    neural_resolution=32,
    coarse_samples=12,
    fine_samples=12,
)
CONFIGS = {"tiny": TINY, "full64": FFHQ, "full128": replace(FFHQ, neural_resolution=128)}


def numbers(name: str, shape: tuple[int, ...], salt: str = SALT) -> Tensor:
    """Section 1: standard normal numbers that belong to ``name``."""
    seed = zlib.crc32((salt + name).encode())
    drawn = np.random.Generator(np.random.PCG64(seed)).standard_normal(shape)
    return torch.from_numpy(np.asarray(drawn).astype(np.float32))


def rule_input(case: str, name: str, shape: tuple[int, ...]) -> Tensor:
    """Section 5."""
    return numbers(f"input.{case}.{name}", shape)


def weight(official: str, shape: tuple[int, ...]) -> Tensor:
    """Section 2, without the first row (resampling filters stay as built)."""
    x = numbers(official, shape)
    if official.endswith("noise_strength"):
        return np.float32(0.1) + np.float32(0.05) * x
    if official.endswith("affine.bias"):
        return 1 + np.float32(0.1) * x
    if official.endswith((".bias", "w_avg")):
        return np.float32(0.1) * x
    if re.search(r"mapping\.fc\d+\.weight", official):
        return 100 * x
    if official == "decoder.net.2.weight":
        x[0, 32:] = -x[0, :32]
        x[0] *= 8
        x[1:] *= 2
    return x


def fill(network: nn.Module, key_map: dict[str, str]) -> nn.Module:
    """Give every entry of ``network`` its weight by the rule."""
    state = network.state_dict()
    for official, ours in key_map.items():
        if not official.endswith("resample_filter"):
            state[ours] = weight(official, tuple(state[ours].shape))
    network.load_state_dict(state, strict=True)
    return network.eval()


def load(case: str) -> dict[str, Tensor]:
    """The arrays of ``case`` as tensors."""
    with np.load(FOLDER / f"{case}.npz", allow_pickle=False) as data:
        return {name: torch.from_numpy(data[name]) for name in data.files}


def picked(name: str, full: Tensor) -> Tensor:
    """The part of a tensor that is stored under ``name`` (section 6)."""
    base, _, part = name.partition("__")
    if part == "stats":
        x = full.double()
        return torch.stack([x.mean(), x.std(correction=0), x.min(), x.max()]).float()
    if part.startswith("s"):
        step = int(part[1:])
        return full[..., ::step, ::step]
    if block := re.fullmatch(r"block(\d+)_x", base):
        step = max(1, int(block[1]) // 8 - 1)
        return full[:, :: max(1, full.shape[1] // 64) if full.shape[1] > 32 else 1, ::step, ::step]
    size = full.shape[-1] if full.ndim else 0
    if base == "planes" and part == "crop":
        return full[:, ::3, 100:108, 248:256]
    if base == "features" and part == "crop":
        return full[..., size // 2 : size // 2 + 8, size // 4 : size // 4 + 8]
    if part == "crop_mid":
        return full[..., size // 2 - 16 : size // 2 + 16, size // 2 - 16 : size // 2 + 16]
    if part == "crop_edge":
        return full[..., :16, -16:]
    if part == "crop":
        return full[..., -16:, :16]
    return full
