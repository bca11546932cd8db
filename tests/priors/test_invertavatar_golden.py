"""Every reference array of the official InvertAvatar, one test each: tests/golden/invertavatar/README.md says what they are.

AVATARZOO_GOLDEN and AVATARZOO_GOLDEN_SALT point the tests at other tensors made by the same rule. The networks have the
released size: all of it takes minutes.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from golden_invertavatar import (
    COPY,
    as_tensor,
    driving_map,
    fill,
    folder,
    index,
    numbers,
    picture,
    stored,
    stored_part,
    texel_places,
    texture_frame,
    visibility,
)  # fmt: skip
from torch import Tensor

from avatarzoo.networks.inversion_encoders import InversionEncoders, texture_input
from avatarzoo.networks.irse import batch_statistics
from avatarzoo.networks.unet import Memory
from avatarzoo.priors import AnimatableTriPlaneGenerator, Next3DGenerator, PersonFeatures, official_key_map
from avatarzoo.priors.driving import read_driving

pytestmark = [pytest.mark.golden, pytest.mark.timeout(1800)]  # the first test of a group computes all of it

TOLERANCE = 3e-4
"""Of the full tensor's standard deviation (section 7)."""
MASKS = 1e-6
Outputs = dict[str, Tensor]


def cases() -> list:
    return [pytest.param(name, marks=pytest.mark.slow, id=name) for name in index()["outputs"]]


@functools.cache
def generator() -> AnimatableTriPlaneGenerator:
    return fill(AnimatableTriPlaneGenerator(), official_key_map("invertavatar"))


@functools.cache
def encoders() -> InversionEncoders:
    return fill(InversionEncoders(released=True), official_key_map("invertavatar_encoders"))


def first_w(psi: float, cutoff: int) -> Tensor:
    return generator().codes(numbers("in.z", (1, 512)), stored("inputs")["label"][:, :25], psi, cutoff)


def frame(t: int) -> Tensor:
    return picture(f"in.image.{t}", 3, 512)


@contextlib.contextmanager
def closed_samples(g: AnimatableTriPlaneGenerator) -> Iterator[None]:
    before = g.config
    g.config = replace(before, closed_samples=True)
    yield
    g.config = before


@functools.cache
def generator_outputs() -> Outputs:
    g, camera = generator(), stored("inputs")["label"][:, 25:]
    codes = first_w(0.7, 14) + 0.3 * numbers("in.dws", (1, 14, 512))
    person = g.person(codes)
    out = {f"G.texture.{i}": x for i, x in enumerate(person.texture)}
    out |= {f"G.static.{i}": x for i, x in enumerate(person.static)}
    rays = g.rays(camera, g.neural_resolution)
    out["G.ray_dirs"] = rays.directions.unflatten(1, (g.neural_resolution, -1))
    out["G.ray_origins"] = rays.origins[None]
    for name in ("uvA", "uvB"):
        out |= {f"G.{name}.{key}": x for key, x in driven(g, codes, person, name, camera).items()}
    return out


def driven(
    g: AnimatableTriPlaneGenerator, codes: Tensor, person: PersonFeatures, name: str, camera: Tensor
) -> Outputs:
    maps = driving_map(name)
    driving = read_driving(maps)
    out = {"alpha_filled": driving.filled, "mouth_hole": driving.hole, "face": g.face(codes, person, driving)}
    for i in range(6):
        out[f"cond.{i}"] = g.condition(person, driving, i)
        out[f"cond.{i}.alpha"] = out[f"cond.{i}"][:, -1:]
    planes = out["planes"] = g.animate(codes, person, maps[:, None])
    out["feature_image"] = g.render(planes, camera).features
    view = g.synthesise(codes, camera, planes)
    out |= {"image": view.rgb, "image_raw": view.raw, "depth": view.depth}
    with closed_samples(g):
        view = g.render(planes, camera)
    return out | {"linspace_u.image_raw": view.features[:, :3], "linspace_u.depth": view.depth}


def encoder_outputs(network: str, frames: Tensor, memory: Memory | None = None) -> tuple[Outputs, Memory]:
    """What ``E_tex`` or ``E_tri`` says, by the last part of the stored names."""
    if network == "E_tex":
        corrections, memory = encoders().texture(frames, memory)
        out = {f"offset.{i}": x for i, x in enumerate(corrections)}
    else:
        corrections, memory = encoders().triplane(frames, memory)
        out = {f"sft{16 << i}": torch.stack(m) for i, m in enumerate(corrections)}
    assert memory is not None
    return out | {f"hidden.{i}": x for i, x in enumerate(memory)}, memory


@functools.cache
def sequence(network: str) -> Tensor:
    if network == "E_tex":
        return torch.stack([texture_frame(t) for t in range(4)])[None]
    return torch.stack([picture(f"in.tri.{t}", 6, 512) for t in range(4)])[None]


@functools.cache
def recurrent_outputs(network: str, frames: str, frozen: bool) -> Outputs:
    """``frames`` as in the stored names: ``T1``, ``T2``, ``T4`` or ``T2then2``; ``frozen`` as for :func:`pipeline`."""
    memory, out, at = None, {}, 0
    with decoder_statistics(frozen):
        for count in map(int, re.findall(r"\d", frames)):
            out, memory = encoder_outputs(network, sequence(network)[:, at : at + count], memory)
            at += count
    return out


def decoder_statistics(frozen: bool) -> contextlib.AbstractContextManager:
    """Of the blocks of E_tex and E_tri: the stored ones, or those of the frames (section 3)."""
    unets = encoders().texture.unet, encoders().triplane.unet
    return contextlib.nullcontext() if frozen else batch_statistics(*(unet.blocks for unet in unets))


@functools.cache
def coarse() -> tuple[Tensor, Tensor]:
    """Codes of the first frame and the four coarse pictures."""
    g, labels = generator(), stored("inputs")["label_frames"]
    codes = encoders().codes(frame(0)[None])
    person = g.person(codes)
    views = []
    for t in range(4):
        planes = g.animate(codes, person, driving_map(("uvA", "uvB")[t % 2])[:, None])
        views.append(g.synthesise(codes, labels[t : t + 1, 25:], planes).rgb)
    return codes, torch.cat(views)


@functools.cache
def pipeline(frozen: bool) -> Outputs:
    """Reconstruction from four frames; ``frozen`` False: decoders use the statistics of these frames."""
    codes, views = coarse()
    images = torch.stack([frame(t) for t in range(4)])
    seen = torch.stack([as_tensor(visibility(t)) for t in range(4)])[:, None]
    places = torch.stack([as_tensor(texel_places(t)) for t in range(4)])
    unwrapped = torch.stack([picture(f"in.gttex.{t}", 3, 256) for t in range(4)]) * seen + (1 - seen)
    tex_input = texture_input(unwrapped, views - images, places, seen)
    with decoder_statistics(frozen):
        offsets, memory_tex = encoders().texture(tex_input[None])
        modulations, memory_tri = encoders().triplane(torch.cat([images, views - images], 1)[None])
    person = generator().person(codes, offsets, modulations)
    out = {"codes": codes[0], "coarse_image": views, "tex_input": tex_input}
    for name, parts in (("texture", person.texture), ("static", person.static)):
        out |= {f"{name}.{i}": x for i, x in enumerate(parts)}
    for name, memory in (("hidden_tex", memory_tex), ("hidden_tri", memory_tri)):
        out |= {f"{name}.{i}": x for i, x in enumerate(memory)}
    return out | final_render(codes, person)


def final_render(codes: Tensor, person: PersonFeatures) -> Outputs:
    g, camera = generator(), stored("inputs")["label_drive"][:, 25:]
    planes = g.animate(codes, person, driving_map("uvB")[:, None])
    view = g.synthesise(codes, camera, planes)
    with closed_samples(g):
        closed = g.synthesise(codes, camera, planes)
    return {
        "image": view.rgb, "image_raw": view.raw, "linspace_u.image": closed.rgb, "linspace_u.image_raw": closed.raw,
    }  # fmt: skip


def computed(name: str) -> Tensor:
    """The whole tensor of a stored name."""
    plain = name.removeprefix("bntrain.")
    frozen = plain == name
    if match := re.fullmatch(r"G\.ws_psi([\d.]+)_cut(\d+)", plain):
        return first_w(float(match[1]), int(match[2]))
    if plain == "e4e.codes":
        with batch_statistics(*([] if frozen else [encoders().latent])):
            return encoders().codes(frame(0)[None])[0]
    if match := re.fullmatch(r"(E_tex|E_tri)\.(T\w+)\.(.+)", plain):
        return recurrent_outputs(match[1], match[2], frozen)[match[3]]
    if plain.startswith("pipe."):
        return pipeline(frozen)[plain.removeprefix("pipe.")]
    return generator_outputs()[plain]


@torch.no_grad()
@pytest.mark.parametrize("name", cases())
def test_array_is_reproduced(name: str, record_property) -> None:
    reference, ours = stored("outputs")[name], stored_part(name, computed(name))
    assert ours.shape == reference.shape
    deviation = index()["outputs"][name]["std"]
    difference = (ours - reference).abs().max().item()
    record_property("largest_difference_in_deviations", difference / deviation)
    mask = name.endswith(("alpha", "alpha_filled", "mouth_hole"))
    assert difference <= (MASKS if mask else TOLERANCE * deviation)


@torch.no_grad()
@pytest.mark.slow
def test_rules_rebuild_weights_and_inputs() -> None:
    """Sections 1, 2 and 5: sums in the index tell a wrong rebuild from a wrong network."""
    for kind, network in (("invertavatar", generator()), ("invertavatar_encoders", encoders())):
        names, state = official_key_map(kind), network.state_dict()
        for key in names.keys() & index()["fill_check"].keys():
            check = index()["fill_check"][key]
            assert state[names[key]].flatten()[:3].tolist() == pytest.approx(check["first"], abs=0)
            assert state[names[key]].double().sum().item() == pytest.approx(check["sum"], abs=1e-3)
    given = {"in.z": numbers("in.z", (1, 512)), "uvA": driving_map("uvA"), "uvB": driving_map("uvB")}
    given |= {"in.tri.0": picture("in.tri.0", 6, 512), "in.tex.0": picture("in.tex.0", 6, 256)}
    given |= {"in.image.0": frame(0), "vis.2": as_tensor(visibility(2))}
    for name, x in given.items():
        assert x.double().sum().item() == pytest.approx(index()["input_check"][name]["sum"], abs=0.05)


def test_there_is_something_to_compare_with() -> None:
    found = set(index()["outputs"])
    assert found, f"no reference tensors in {folder()}"
    assert found == set(stored("outputs"))
    assert folder() != COPY or len(found) == 174


COUNTS = {
    "generator": 88_301_010,
    "encoder (E_latent)": 209_450_688,
    "unet_encoder.texture_unet (E_tex)": 68_518_304,
    "unet_encoder.triplane_unet (E_tri)": 82_784_960,
}


def test_parameters_are_as_many_as_published() -> None:
    with torch.device("meta"):
        g, e, next3d = AnimatableTriPlaneGenerator(), InversionEncoders(), Next3DGenerator()
    count = [sum(p.numel() for p in n.parameters()) for n in (g, e.latent, e.texture, e.triplane)]
    assert count == list(COUNTS.values())
    assert COUNTS.items() <= index().get("params", COUNTS).items()
    assert sum(p.numel() for p in next3d.parameters()) == 172_815_807


@pytest.mark.parametrize(
    ("kind", "network", "entries"),
    [
        ("invertavatar", AnimatableTriPlaneGenerator, 444),
        ("invertavatar_encoders", InversionEncoders, 1519),
        ("next3d", Next3DGenerator, 674),
    ],
)
def test_key_maps_are_complete_both_ways(kind, network, entries) -> None:
    names = official_key_map(kind)
    with torch.device("meta"):
        ours = network().state_dict()
    assert len(names) == len(set(names.values())) == entries
    assert set(names.values()) == set(ours)
