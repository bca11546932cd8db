"""Every reference array of the released Deja-vu network: tests/golden/dejavu/README.md says what they are.

AVATARZOO_GOLDEN and AVATARZOO_GOLDEN_SALT point the tests at other tensors made by the same rule.
"""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from golden import COPY, numbers
from torch import Tensor

from avatarzoo.networks.ednet import EDNet, InputRange
from avatarzoo.networks.ops import resize
from avatarzoo.priors import official_key_map

pytestmark = pytest.mark.golden

FOLDER = Path(os.environ.get("AVATARZOO_GOLDEN", COPY)) / "dejavu"
LEVELS = ["inc", *(f"down{k}" for k in range(1, 5)), *(f"up{k}" for k in range(1, 5))]


@functools.cache
def reference() -> dict[str, Tensor]:
    path = FOLDER / "ednet.npz"
    if not path.is_file():
        return {}
    with np.load(path, allow_pickle=False) as data:
        return {name: torch.from_numpy(data[name]) for name in data.files}


def weight(official: str, shape: tuple[int, ...]) -> Tensor:
    """The README's fill rule."""
    x = numbers(official, shape)
    if official.endswith(".bias"):
        return np.float32(0.1) * x
    if official.endswith(".up.weight"):
        return x / np.float32(np.sqrt(shape[0]))
    return x / np.float32(np.sqrt(np.prod(shape[1:])))


@functools.cache
def network(input_range: InputRange) -> EDNet:
    net = EDNet(input_range=input_range)
    state = net.state_dict()
    for official, ours in official_key_map("dejavu").items():
        if not official.endswith(".f"):
            state[ours] = weight(official, tuple(state[ours].shape))
    net.load_state_dict(state, strict=True)
    return net.eval()


@functools.cache
def pixels() -> Tensor:
    """U of the README, ``(2, 3, 512, 512)`` integers 0 to 255."""
    low = numbers("input:dejavu.image.low", (2, 3, 32, 32))
    low = low.repeat_interleave(16, 2).repeat_interleave(16, 3)
    high = numbers("input:dejavu.image.high", (2, 3, 512, 512))
    y = (np.float32(0.5) * low + np.float32(0.25) * high).clamp(-1, 1)
    return ((y + 1) * np.float32(127.5)).floor()


def position_map(size: int) -> Tensor:
    """The README's map, batch 2."""
    p = json.loads((FOLDER / "inputs.json").read_text())["position_map"]
    centres = (np.arange(size) + 0.5) / size
    v, u = np.meshgrid(centres, centres, indexing="ij")
    rows = []
    for b in range(2):
        h = 0.7 * b
        turn = 2 * np.pi * p["f"] * u + h
        x = p["a"] * np.sin(turn) * np.cos(np.pi * (v - 0.5))
        y = p["b"] * (0.5 - v) + 0.01 * np.sin(6 * np.pi * u * v + h)
        z = p["c"] * np.cos(turn) * np.cos(np.pi * p["g"] * (v - 0.5))
        rows.append(np.stack([x, y, z]))
    return torch.from_numpy(np.stack(rows).astype(np.float32))


@functools.cache
def computed(case: str) -> dict[str, Tensor]:
    """Everything the README lists for a case."""
    rows = slice(0, 2 if case == "s320" else 1)
    size = 180 if case == "s180" else 320
    net = network("unit" if case == "unit" else "uint8")
    picture, positions = pixels()[rows] / 255, position_map(size)[rows]
    seen: dict[str, Tensor] = {}
    stages = [*net.encoder, *net.decoder]
    hooks = [
        stage.register_forward_hook(lambda m, i, out, name=name: seen.__setitem__(name, out))
        for name, stage in zip(LEVELS, stages)
    ]
    with torch.no_grad():
        code = net.encode(picture)
        offsets = net.decode(code, positions)
    for hook in hooks:
        hook.remove()
    scaled = picture / 127.5 - 1 if case == "unit" else picture * 2 - 1
    image, step = resize(scaled, 320, antialias=False), {"s320": 4, "s180": 3, "unit": 8}[case]
    out = {
        "input.u8": pixels()[:, :, ::16, ::16],
        "offsets": offsets[0, :, ::step, ::step],
        "offsets.tl": offsets[0, :, :16, :16],
        "offsets.br": offsets[0, :, -16:, -16:],
        "offsets.b1": offsets[-1, :, ::16, ::16],
        "offsets.stat": torch.stack([offsets.mean((2, 3)), offsets.std((2, 3), correction=0)]),
        "bottleneck": code[0, :: 32 if case == "unit" else 8],
        "level.mean": torch.stack([seen[name].mean() for name in LEVELS]),
        "level.std": torch.stack([seen[name].std(correction=0) for name in LEVELS]),
        "posmap": positions[0, :, :: size // 20, :: size // 20],
        "resized.image": image[:, :, ::8, ::8],
        "resized.image.tl": image[:, :, :24, :24],
    }
    for side in (20, 40, 80, 160):
        out[f"p{side}"] = resize(positions, side, antialias=False)[0, :, :: side // 20, :: side // 20]
    return out


def stored() -> list:
    """(case, array) of everything in the folder."""
    found = []
    for name in reference():
        case, _, array = name.partition(".")
        case, array = (case, array) if case in ("s320", "s180", "unit") else ("s320", name)
        found.append(pytest.param(case, array, name, id=name))
    return found


def tolerance(case: str, array: str, target: Tensor) -> float:
    """The README's limits; figures relative to the array's own standard deviation."""
    if array == "input.u8":
        return 0.0
    if array.startswith("resized"):
        return 1e-4
    if array in ("posmap", "p20", "p40", "p80", "p160"):
        return 1e-6
    return (5e-2 if case == "unit" else 5e-4) * target.float().std(correction=0).item()


@pytest.mark.parametrize(("case", "array", "name"), stored())
def test_array_is_reproduced(case: str, array: str, name: str, record_property) -> None:
    target = reference()[name].float()
    ours = computed(case)[array].reshape(target.shape)
    difference = (ours - target).abs().max().item()
    record_property("largest_difference", difference)
    record_property("largest_over_deviation", difference / target.std(correction=0).item())
    assert difference <= tolerance(case, array, target)


def test_there_is_something_to_compare_with() -> None:
    assert reference(), f"no reference tensors in {FOLDER}"


def test_keys_are_the_released_ones_with_their_shapes() -> None:
    official = json.loads((COPY / "dejavu" / "keys.json").read_text())["EDNet"]
    key_map, state = official_key_map("dejavu"), EDNet().state_dict()
    assert len(key_map) == 32
    assert set(key_map) == set(official["keys"])
    assert sorted(key_map.values()) == sorted(state)
    for key, (kind, shape) in official["keys"].items():
        assert list(state[key_map[key]].shape) == shape
        assert (key_map[key] in dict(EDNet(32, width=1).named_buffers())) == (kind == "buffer")


def test_size_is_the_published_one() -> None:
    net = EDNet()
    assert sum(p.numel() for p in net.parameters()) == 8_584_809
    assert sum(p.numel() for p in net.encoder.parameters()) == 4_757_184
