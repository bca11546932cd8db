"""Reference tensors of the published StyleAvatar networks: the rule that rebuilds weights and inputs.

Sections are those of tests/golden/styleavatar/README.md. Offsets, texture coordinates and the salt are read from the folder's
inputs.json, sampled cells from its primitives.npz.
"""

from __future__ import annotations

import functools
import json
import os
import re

import golden
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from avatarzoo.priors.keys_styleavatar import official_names, official_shape

FOLDER = golden.ROOT / "styleavatar"
COPY = golden.COPY / "styleavatar"
KEYS = COPY / "keys.json"
INPUTS = json.loads((FOLDER if FOLDER.is_dir() else COPY).joinpath("inputs.json").read_text())
SALT = os.environ.get("AVATARZOO_GOLDEN_SALT", INPUTS["salt"])


def numbers(name: str, shape: tuple[int, ...]) -> Tensor:
    """Section "Random numbers"."""
    return golden.numbers(name, shape, SALT)


def weight(official: str, shape: tuple[int, ...]) -> Tensor:
    """Section "Fill rule"."""
    x = numbers(official, shape)
    tenth = np.float32(0.1) * x
    if re.fullmatch(r"mapping\..*\.weight", official):
        return x / 8
    if official.endswith((".modulation.bias", "batchnorm.weight")):
        return 1 + tenth
    if official.endswith(".noise.weight"):
        return np.float32(0.1) + np.float32(0.05) * x
    if official.endswith("running_var"):
        return 1 + tenth.abs()
    if official.endswith(("running_mean", "bias")):
        return tenth
    return x


def fill(kind: str, network: nn.Module) -> nn.Module:
    """Give every entry of ``network`` its weight by the rule."""
    state = network.state_dict()
    for official, ours in official_names(kind, network).items():
        if not official.endswith("num_batches_tracked"):
            shape = tuple(state[ours].shape)
            state[ours] = weight(official, official_shape(official, shape)).reshape(shape)
    network.load_state_dict(state, strict=True)
    return network.eval()


def picture(name: str, channels: int, side: int, batch: int) -> Tensor:
    """Section "Inputs", image(a, C, H, B)."""
    low = numbers(f"input:{name}.low", (batch, channels, side // 16, side // 16))
    high = numbers(f"input:{name}.high", (batch, channels, side, side))
    return (0.5 * low.repeat_interleave(16, 2).repeat_interleave(16, 3) + 0.25 * high).clamp(-1, 1)


def uv_image() -> Tensor:
    """Section "Inputs", the uv image (1, 3, 128, 128)."""
    given = INPUTS["uv"]
    i, j = torch.meshgrid(*2 * [torch.arange(128.0, dtype=torch.float64)], indexing="ij")
    (x0, x1), (y0, y1), (cx, cy, rx, ry) = given["x"], given["y"], given["ellipse"]
    red = ((x0 * j + x1 * i) % 128 + 0.5 + 0.25 * (i % 3 - 1)) / 64 - 1
    green = ((y0 * i + y1 * j) % 128 + 0.5 + 0.25 * (j % 3 - 1)) / 64 - 1
    inside = ((j - cx) / rx) ** 2 + ((i - cy) / ry) ** 2 < 1
    uv = torch.stack([red, green, torch.ones_like(red)])
    return torch.where(inside, uv, -torch.ones_like(uv))[None].float()


def face_mask() -> Tensor:
    """Section "Inputs": inside the face, eroded once with the cross."""
    outside = (uv_image()[:, 2:] <= -0.999).float()
    cross = torch.tensor([[[[0.0, 1, 0], [1, 1, 1], [0, 1, 0]]]])
    return (F.conv2d(F.pad(outside, (1, 1, 1, 1)), cross) == 0).float()


@functools.cache
def load(case: str) -> dict[str, Tensor]:
    """The arrays of ``case`` as tensors; none where the folder has no such file."""
    path = FOLDER / f"{case}.npz"
    if not path.is_file():
        return {}
    with np.load(path, allow_pickle=False) as data:
        return {name: torch.from_numpy(data[name]) for name in data.files}


def strided(whole: Tensor, reference: Tensor) -> Tensor:
    """Every n-th row and column of a map, so that its side is the reference's."""
    step = whole.shape[-1] // reference.shape[-1] if whole.ndim == 4 else 1
    return whole[..., ::step, ::step] if step > 1 else whole


def middle(x: Tensor, side: int) -> Tensor:
    """The central crop."""
    start = (x.shape[-1] - side) // 2
    return x[..., start : start + side, start : start + side]


def picture_parts(image: Tensor, p: int) -> dict[str, Tensor]:
    """What is stored of a picture: itself, crops of side ``p``, statistics of its channels."""
    statistics = torch.stack([image.mean((2, 3)), image.std((2, 3), correction=0)])
    return {
        "image": image, "image.tl": image[..., :p, :p], "image.br": image[..., -p:, -p:], "image.mid": middle(image, p),
        "image.stat": statistics,
    }  # fmt: skip


class Levels:
    """Mean and deviation of the outputs (or inputs) of modules, in execution order, under ``name.mean`` and ``name.std``."""

    def __init__(self) -> None:
        self.values: dict[str, list[tuple[Tensor, Tensor]]] = {}
        self.hooks: list[RemovableHandle] = []

    def note(self, name: str, x: Tensor) -> None:
        x = x.detach().double()
        self.values.setdefault(name, []).append((x.mean(), x.std(correction=0)))

    def outputs(self, name: str, modules: nn.ModuleList) -> None:
        for module in modules:
            self.hooks.append(module.register_forward_hook(lambda module, given, out: self.note(name, out)))

    def inputs(self, name: str, modules: nn.ModuleList) -> None:
        for module in modules:
            self.hooks.append(
                module.register_forward_pre_hook(lambda module, given: self.note(name, given[0]))
            )

    def take(self) -> dict[str, Tensor]:
        found = {}
        for name, pairs in self.values.items():
            mean, deviation = (torch.stack(x).float() for x in zip(*pairs))
            found |= {f"{name}.mean": mean, f"{name}.std": deviation}
        self.values = {}
        return found

    def remove(self) -> None:
        for hook in self.hooks:
            hook.remove()


def difference(ours: Tensor, reference: Tensor) -> float:
    """Largest difference, relative to the deviation of the stored array (to its size where it is one number)."""
    scale = reference.double().std(correction=0) if reference.numel() > 1 else reference.abs()
    return ((ours.double() - reference.double()).abs().max() / scale).item()
