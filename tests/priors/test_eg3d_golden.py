"""Every reference array of the official EG3D, one test each: tests/golden/eg3d/README.md says what they are.

AVATARZOO_GOLDEN and AVATARZOO_GOLDEN_SALT point the tests at other tensors made by the same rule.
"""

from __future__ import annotations

import functools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from golden import CONFIGS, COPY, FOLDER, KEYS, fill, load, picked, rule_input
from torch import Tensor

from avatarzoo.networks import DualDiscriminator
from avatarzoo.priors import TriPlaneGenerator, official_key_map
from avatarzoo.priors.rays import camera_rays

pytestmark = pytest.mark.golden


INPUTS = ("z", "c", "c_cond", "ws_syn")


def stored() -> list:
    """(case, array) of every output in the folder; the wide networks take long."""
    found = []
    for case in CONFIGS:
        path = FOLDER / f"{case}.npz"
        marks = [] if case == "tiny" else [pytest.mark.slow]
        if path.is_file():
            with np.load(path, allow_pickle=False) as data:
                outputs = [n for n in data.files if n not in INPUTS]
                found += [pytest.param(case, n, marks=marks, id=f"{case}-{n}") for n in outputs]
    return found


@functools.cache
def generator(width: str) -> TriPlaneGenerator:
    config = CONFIGS["tiny" if width == "tiny" else "full64"]
    return fill(TriPlaneGenerator(config), official_key_map("eg3d", config))


@functools.cache
def discriminator(width: str) -> DualDiscriminator:
    config = CONFIGS["tiny" if width == "tiny" else "full64"]
    network = DualDiscriminator(
        config.resolution, channel_base=config.channel_base, channel_max=config.channel_max
    )
    return fill(network, official_key_map("eg3d_discriminator", config))


@functools.cache
def computed(case: str) -> dict[str, Tensor]:
    """Whole tensors by the names they have in the file, without the part behind ``__``."""
    given, width, side = load(case), case.rstrip("0123456789"), CONFIGS[case].neural_resolution
    g, d = generator(width), discriminator(width)
    with torch.no_grad():
        out = end_to_end(g, d, given, side)
        out |= isolated(g, d, case, given, side)
    if "grad_ws" in given:
        codes = given["ws_syn"].clone().requires_grad_()
        loss = g.synthesise(codes, given["c"], resolution=side).rgb.square().mean()
        (out["grad_ws"],) = torch.autograd.grad(loss, codes)
        out["loss"] = loss.detach()
    if "iso_d_grad_image_sumsq" in given:
        out |= penalties(d, case, given, side)
    return out


def end_to_end(g: TriPlaneGenerator, d: DualDiscriminator, given: dict[str, Tensor], side: int) -> dict:
    z, label, codes = given["z"], given["c_cond"], given["ws_syn"]
    out = {
        "ws": g.codes(z, label)[:, 0],
        "ws_psi07": g.codes(z, label, 0.7)[:, 0],
        "ws_psi05_cut6": g.codes(z, label, 0.5, 6)[:, [0, 5, 6, 13]],
    }
    for site, stage in g.backbone.walk(codes):
        if not site.endswith("conv0"):
            out[f"block{site[1:]}_x"] = stage.x
            out["planes"] = stage.picture
    view = g.render(g.split(out["planes"]), given["c"], side)
    image = g.synthesise(codes, given["c"], g.split(out["planes"]), side)
    return out | {
        "features": view.features,
        "image_raw": image.raw,
        "image_depth": image.depth,
        "opacity": image.opacity,
        "image": image.rgb,
        "d_logits": d.score_pair(image.rgb, image.raw, given["c"]),
        "d_cmap": d.mapping(None, given["c"]),
    }


def isolated(
    g: TriPlaneGenerator, d: DualDiscriminator, case: str, given: dict[str, Tensor], side: int
) -> dict:
    label, batch = given["c"], len(given["c"])
    rays = camera_rays(label, side)
    places = [0, side * side // 2 + side // 2, side * side - 1]
    planes = rule_input(case, "planes", (batch, 96, 32, 32)).unflatten(1, (3, 32))
    points = np.float32(0.3) * rule_input(case, "points", (batch, 256, 3))
    density, colours = g.query(planes, points)
    features = rule_input(case, "sr_features", (batch, 32, side, side))
    code = given["ws_syn"][:, -1]
    image, raw, labels = discriminator_inputs(case, given, side)
    out = {
        "iso_ray_origin": rays.origins,
        "iso_ray_dirs": rays.directions[:, places],
        "iso_points_sigma": density[..., None],
        "iso_points_rgb": colours[:, ::4],
        "iso_sr": g.superresolution(features[:, :3], features, code),
        "iso_sr_clamped": g.superresolution(400 * features[:, :3], 400 * features, code),
        "iso_d_logits": d.score_pair(image, raw, labels),
        "iso_d_logits_clamped": d.score_pair(400 * image, 400 * raw, labels),
    }
    variants = {
        "": {},
        "_zy": {"plane_axes": "fixed"},
        "_auto": {"depth_range": "auto", "box": 0.5, "white_background": True},
    }
    config = g.config
    for name, change in variants.items():
        g.config = replace(config, **change)
        for key, value in g.render(planes, label, side)._asdict().items():
            out[f"iso_render{name}_{key}"] = value
    g.config = config
    return out


def discriminator_inputs(case: str, given: dict[str, Tensor], side: int) -> tuple[Tensor, Tensor, Tensor]:
    count, size = (8, 128) if case == "tiny" else (2, 512)
    image = np.float32(0.5) * rule_input(case, "d_image", (count, 3, size, size))
    raw = np.float32(0.5) * rule_input(case, "d_image_raw", (count, 3, side, side))
    return image, raw, given["c"][torch.arange(count) % len(given["c"])]


def penalties(d: DualDiscriminator, case: str, given: dict[str, Tensor], side: int) -> dict[str, Tensor]:
    """The quantities of the R1 penalty."""
    image, raw, labels = discriminator_inputs(case, given, side)
    image, raw = image.requires_grad_(), raw.requires_grad_()
    slopes = torch.autograd.grad(d.score_pair(image, raw, labels).sum(), [image, raw])
    return {
        "iso_d_grad_image_sumsq": slopes[0].square().sum((1, 2, 3)),
        "iso_d_grad_raw_sumsq": slopes[1].square().sum((1, 2, 3)),
        "iso_d_grad_image_s8": slopes[0][..., ::8, ::8],
    }


def tolerances(case: str, name: str, reference: Tensor) -> tuple[float, float]:
    """Section 7: largest and mean difference allowed."""
    largest = reference.abs().max().item()
    tiny = case == "tiny"
    rules = [
        ("ws", 2e-6),
        ("block", 3e-5),
        ("planes", 6e-5),
        ("image_depth", 1e-4),
        ("features", (1e-3, 1e-5) if tiny else 1e-4),
        ("image_raw", (1e-3, 1e-5) if tiny else 1e-4),
        ("opacity", (1e-3, 1e-5) if tiny else 1e-4),
        ("image", (5e-4, 1e-5) if tiny else 1e-4),
        ("iso_render", 2e-4),
        ("iso_points", 1e-5),
        ("iso_sr_clamped", 3e-3),
        ("iso_sr", 3e-5),
        ("iso_d_logits_clamped", 2e-5 * largest),
        ("iso_d_grad", 1e-5 * largest),
        ("iso_d_logits", 1e-5),
        ("d_", 1e-5),
        ("grad_ws", 2e-5),
        ("loss", 2e-5),
        ("iso_ray", 1e-6),
    ]
    allowed = next((t for prefix, t in rules if name.startswith(prefix)), 0.0)
    return allowed if isinstance(allowed, tuple) else (allowed, allowed)


@pytest.mark.parametrize(("case", "name"), stored())
def test_array_is_reproduced(case: str, name: str, record_property) -> None:
    reference = load(case)[name]
    whole = computed(case)[name if name == "iso_d_grad_image_s8" else name.partition("__")[0]]
    ours = whole if name.startswith("iso_ray_dirs") else picked(name, whole)
    assert ours.shape == reference.shape
    difference = (ours - reference).abs()
    record_property("largest_difference", difference.max().item())
    most, mean = tolerances(case, name, reference)
    assert difference.max() <= most
    assert difference.mean() <= mean


def test_there_is_something_to_compare_with() -> None:
    found = {case for case in CONFIGS if (FOLDER / f"{case}.npz").is_file()}
    assert found == set(CONFIGS) if FOLDER == COPY / "eg3d" else found, f"no reference tensors in {FOLDER}"


@pytest.mark.parametrize("width", ["tiny", "full"])
def test_keys_are_the_official_ones_with_their_shapes(width: str) -> None:
    official = json.loads(KEYS.read_text())[width]
    config = CONFIGS["tiny" if width == "tiny" else "full64"]
    with torch.device("meta"):
        networks = {
            "G": ("eg3d", TriPlaneGenerator(config)),
            "D": (
                "eg3d_discriminator",
                DualDiscriminator(
                    config.resolution, channel_base=config.channel_base, channel_max=config.channel_max
                ),
            ),
        }
    for part, (kind, network) in networks.items():
        key_map, state = official_key_map(kind, config), network.state_dict()
        assert set(key_map) == set(official[part])
        assert sorted(key_map.values()) == sorted(state)
        shapes = {key: list(state[ours].shape) for key, ours in key_map.items()}
        assert shapes == official[part]


def test_sizes_are_the_published_ones() -> None:
    with torch.device("meta"):
        g, d = TriPlaneGenerator(CONFIGS["full64"]), DualDiscriminator(512)
    assert len(official_key_map("eg3d")) == 176
    assert len(official_key_map("eg3d_discriminator")) == 92
    count = [sum(p.numel() for p in network.parameters()) / 1e6 for network in (g, d)]
    assert count == pytest.approx([30.66, 31.36], abs=0.005)
