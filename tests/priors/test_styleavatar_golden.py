"""Every reference array of the published StyleAvatar networks: tests/golden/styleavatar/README.md says what they are.

AVATARZOO_GOLDEN and AVATARZOO_GOLDEN_SALT point the tests at other tensors made by the same rule.
"""

from __future__ import annotations

import functools
import json

import golden_styleavatar as gold
import pytest
import torch
import torch.nn.functional as F
from golden_styleavatar import Levels, difference, fill, middle, numbers, picture, picture_parts, strided
from torch import Tensor

from avatarzoo.networks import double_styleunet
from avatarzoo.networks.double_styleunet import DoubleStyleUNet, Noises
from avatarzoo.networks.feature_generator import FeatureGenerator, Features
from avatarzoo.networks.haar import haar_merge, haar_split
from avatarzoo.networks.haar_discriminator import HaarDiscriminator
from avatarzoo.networks.ops import blur, resampling_filter, upsample
from avatarzoo.networks.styleunet import StyleUNet
from avatarzoo.priors import official_key_map
from avatarzoo.priors.keys_styleavatar import CONSTANTS, official_names, official_shape

pytestmark = pytest.mark.golden

CASES = ("primitives", "styleunet", "feature_generator", "discriminator", "double512", "double1024")
ELSEWHERE = ("code.", "window.", "uv.")  # inputs, compared in tests/models/styleavatar
SLOW = (
    "disc64.r1",
    "unet",
    "disc1024",
    "disc512",
    "double1024",
    "double512.d0.grid",
    "double512.d1.slice",
)
NETWORKS = {
    "StyleUNet": ("styleunet", StyleUNet),
    "DoubleStyleUnet": ("styleavatar_double", DoubleStyleUNet),
    "FeatureGenerator": ("styleavatar_feature", FeatureGenerator),
    "Discriminator": ("styleavatar_discriminator", HaarDiscriminator),
}
PENALISED = (
    "from_rgbs.0.conv.0.weight",
    "convs.0.conv1.0.weight",
    "convs.0.conv2.1.weight",
    "convs.2.conv2.1.weight",
    "final_conv.0.weight",
    "final_linear.0.weight",
    "final_linear.1.weight",
)


def arrays() -> list:
    """(case, array) of everything in the folder."""
    names = [(case, name) for case in CASES for name in gold.load(case) if not name.startswith(ELSEWHERE)]
    return [
        pytest.param(case, name, marks=[pytest.mark.slow] if name.startswith(SLOW) else [], id=name)
        for case, name in names
    ]


@functools.cache
def primitives(prefix: str) -> dict[str, Tensor]:
    kernel, x = resampling_filter(), numbers("input:blur.image", (1, 3, 16, 16))
    return {
        "haar.dwt": haar_split(numbers("input:haar.image", (1, 3, 32, 32))),
        "haar.iwt": haar_merge(numbers("input:haar.bands", (1, 12, 16, 16))),
        "blur.up": upsample(x, kernel),
        "blur.down": blur(x, kernel, padding=1, stride=2),
    }


@functools.cache
@torch.no_grad()
def styleunet(prefix: str) -> dict[str, Tensor]:
    side = int(prefix.removeprefix("unet"))
    network, levels = fill("styleunet", StyleUNet(256, side)), Levels()
    levels.inputs("rgb", network.unet.encoder.blocks)
    levels.outputs("enc", network.unet.encoder.blocks)
    levels.outputs("dec", network.unet.decoder.convs)
    levels.outputs("skip", network.unet.decoder.to_bands)
    rows = 2 if side == 512 else 1
    render, style = picture("unet.image", 3, 256, 2)[:rows], numbers("input:unet.style", (2, 64))[:rows]
    noise = [numbers(f"input:unet.noise.{k}", (1, 1, r, r)) for k, r in enumerate(network.noise_sides)]
    found = picture_parts(network(render, style, noise), 32)
    found |= {**levels.take(), "latent": network.mapping(style)}
    return found | {"enc.last": network.unet.encoder(haar_split(render))[-1][:, ::8]}


@functools.cache
@torch.no_grad()
def feature_generator(prefix: str) -> dict[str, Tensor]:
    """Both modes: ``eval.`` with the filled statistics, then ``train.``."""
    network, levels = fill("styleavatar_feature", FeatureGenerator(128)), Levels()
    levels.outputs("level", network.decoder.convs)
    style, found = numbers("input:feature.style", (2, 64)), {}
    for mode in ("eval", "train"):
        out = network.train(mode == "train")(style)
        parts = {
            "feature": out.feature[:, ::8],
            "feature.tl": out.feature[:1, ::32, :16, :16],
            "feature.br": out.feature[:1, ::32, -16:, -16:],
            "feature.channel_mean": out.feature.mean((2, 3)),
            "feature.channel_std": out.feature.std((2, 3), correction=0),
            "skip": out.skip,
            "skip.tl": out.skip[:1, :, :8, :8],
            "running_mean": network.norm.running_mean,
            "running_var": network.norm.running_var,
        }
        found |= {f"{mode}.{name}": x for name, x in {**parts, **levels.take()}.items()}
    return found


@functools.lru_cache(1)
def double_network(side: int) -> DoubleStyleUNet:
    return fill("styleavatar_double", DoubleStyleUNet(256, side))


def double_inputs() -> dict:
    def given(name: str, *shape: int) -> Tensor:
        return numbers(f"input:double.{name}", shape)

    side, noises = (128, 128), [(256, 256), (128, 128), (128, 128)]
    face, back = (
        Features(given(f"feature_{x}", 1, 256, *side), 0.25 * given(f"skip_{x}", 1, 12, *side))
        for x in ("face", "back")
    )
    drawn = (given(f"noise_{x}", 1, 21, *size) for x, size in zip(("base", "face", "back"), noises))
    uv, mask = gold.uv_image()[:, :2], gold.face_mask()
    return {
        "render": picture("double.render", 3, 256, 1), "style": given("style", 1, 64), "uv": uv, "mask_face": mask,
        "face": face, "back": back, "noise": Noises(*drawn),
    }  # fmt: skip


@functools.cache
@torch.no_grad()
def double(prefix: str) -> dict[str, Tensor]:
    """``prefix`` is doubleH.dI.slice or doubleH.dI.grid; the latter samples the cells that the official grid does."""
    name, window, mode = prefix.split(".")
    network, levels, seen = double_network(int(name.removeprefix("double"))), Levels(), {}
    for which, part in enumerate((network.foreground, network.image)):
        levels.outputs(f"enc{which}", part.encoder.blocks)
        levels.outputs(f"dec{which}", part.decoder.convs)
    levels.outputs("skip1", network.image.decoder.to_bands)
    hooks = [
        network.foreground.register_forward_hook(lambda m, given, out: seen.update(tex=out.feature)),
        network.image.register_forward_pre_hook(lambda m, given: seen.update(skip=given[0], noise=given[2])),
        network.addition.register_forward_pre_hook(lambda m, given: seen.update(fused=given[0])),
    ]
    offset = torch.tensor([gold.INPUTS["window_offsets_dx_dy"][int(window[1:])]])
    with pytest.MonkeyPatch.context() as patch:
        if mode == "grid":
            cells = torch.stack([gold.load("primitives")[f"window.{window}.{axis}"] for axis in "xy"])[
                None
            ].long()
            patch.setattr(double_styleunet, "window_cells", lambda offset, grid: cells)
        image, mask = network(**double_inputs(), offset=offset)
    levels.hooks += hooks
    levels.remove()
    maps = {f"noise{n}": x for n, x in enumerate(seen["noise"]) if x is not None}
    border = torch.cat([mask[0, 0, [0, -1]], mask[0, 0, :, [0, -1]].t()])
    return {
        **picture_parts(image, 24), **levels.take(), "mask": mask, "mask.border": border,
        **{name: x[..., :24, :24] for name, x in maps.items()}, **{f"{name}.mid": middle(x, 24) for name, x in maps.items()},
        "latent": network.mapping(double_inputs()["style"]), "fused": seen["fused"][:, ::16], "skip_fused": seen["skip"],
        "feature_tex": seen["tex"][:, ::32],
    }  # fmt: skip


def discriminator_network(side: int) -> HaarDiscriminator:
    return fill("styleavatar_discriminator", HaarDiscriminator(side, 3 if side == 64 else 6))


def discriminator_inputs(side: int) -> tuple[Tensor, ...]:
    """Picture, and the render at its side where the network sees one."""
    count = 8 if side == 64 else 2
    shown = picture(f"disc{side}.image", 3, side, count)
    return (
        (shown,) if side == 64 else (shown, F.interpolate(picture(f"disc{side}.render", 3, 256, count), side))
    )


@functools.cache
@torch.no_grad()
def discriminator(prefix: str) -> dict[str, Tensor]:
    side = int(prefix.removeprefix("disc"))
    network, levels = discriminator_network(side), Levels()
    levels.outputs("level", network.blocks)
    logits = network(torch.cat(discriminator_inputs(side), 1))
    return {"logits": logits, **levels.take()}


@functools.cache
def penalty(prefix: str) -> dict[str, Tensor]:
    """R1 in float64: in float32 the side of rectifiers whose input is zero up to rounding depends on torch's kernels."""
    side = int(prefix.removeprefix("disc"))
    network = discriminator_network(side).double()
    shown, *render = (x.double() for x in discriminator_inputs(side))
    logits = network(torch.cat([shown.requires_grad_(), *render], 1))
    (slope,) = torch.autograd.grad(logits.sum(), shown, create_graph=side == 64)
    each = slope.square().sum((1, 2, 3))
    found = {"r1_per_sample": each, "r1": each.mean(), "r1_grad": slope[:1]}
    if side == 64:
        names, parameters = (
            official_names("styleavatar_discriminator", network),
            dict(network.named_parameters()),
        )
        slopes = torch.autograd.grad(found["r1"], [parameters[names[official]] for official in PENALISED])
        # the reference's norms are sums in float32, which is off by up to 4e-4 for millions of numbers; so are these
        found["r1_param_grad_norm"] = torch.stack([x.float().norm() for x in slopes])
    return {name: x.detach() for name, x in found.items()}


def computed(name: str) -> Tensor:
    """Our tensor for an array; maps are whole."""
    prefixes = {
        "unet": (styleunet, 1),
        "feature": (feature_generator, 1),
        "double": (double, 3),
        "disc": (discriminator, 1),
    }
    compute, parts = next((x for start, x in prefixes.items() if name.startswith(start)), (primitives, 0))
    words = name.split(".")
    compute = penalty if ".r1" in name else compute
    return compute(".".join(words[:parts]))[".".join(words[parts:])]


def is_reproduced(name: str, ours: Tensor, reference: Tensor) -> bool:
    """Section "Tolerance": relative differences, of logits absolute ones."""
    apart = (ours.double() - reference.double()).abs()
    if name.endswith("logits"):
        return bool(apart.max() <= 1e-4)
    if name.endswith("r1_grad"):
        # the reference has rectifiers on the other side of zero too: single pixels, then, are off by more than the limit
        relative = apart / reference.std(correction=0)
        return bool(relative.max() <= 0.05 and (relative <= 1e-4).double().mean() >= 0.95)
    if ".r1" in name:  # few numbers of nearly one size: relative to them
        return bool((apart / reference.abs()).max() <= 1e-4)
    return difference(ours, reference) <= (1e-4 if name.startswith(("feature.train", "disc")) else 1e-5)


@pytest.mark.parametrize(("case", "name"), arrays())
def test_array_is_reproduced(case: str, name: str, record_property) -> None:
    reference = gold.load(case)[name]
    ours = strided(computed(name), reference)
    assert ours.shape == reference.shape
    found = difference(ours, reference)
    record_property("relative_difference", found)
    assert is_reproduced(name, ours, reference), found


@pytest.mark.parametrize("window", [0, 1])
def test_inputs_are_the_stored_ones(window: int) -> None:
    """Our window is the official one but for an end sample on a rounding tie, and the face mask is equal."""
    stored = gold.load("primitives")
    offset = torch.tensor([gold.INPUTS["window_offsets_dx_dy"][window]])
    cells = double_styleunet.window_cells(offset, 128)[0]
    for ours, axis in zip(cells, "xy"):
        apart = (ours - stored[f"window.d{window}.{axis}"]).abs()
        assert apart.max() <= 1
        assert apart[1:-1].max() == 0
    assert torch.equal(gold.face_mask(), stored["uv.mask_face"].float())


def test_there_is_something_to_compare_with() -> None:
    found = {case for case in CASES if gold.load(case)}
    assert found == set(CASES) if gold.FOLDER == gold.COPY else found, (
        f"no reference tensors in {gold.FOLDER}"
    )


@pytest.mark.parametrize("name", json.loads(gold.KEYS.read_text()))
def test_keys_shapes_and_counts_are_the_published_ones(name: str) -> None:
    """Constants are the only entries of the published files without a counterpart here."""
    published = json.loads(gold.KEYS.read_text())[name]
    family, *sizes = name.removesuffix("ch").split("_")
    kind, make = NETWORKS[family]
    with torch.device("meta"):
        network = make(*map(int, sizes))
    wanted = {
        k: tuple(shape)
        for k, (_, shape) in published["keys"].items()
        if k.rpartition(".")[2] not in CONSTANTS
    }
    state, names = network.state_dict(), official_names(kind, network)
    assert {
        official: official_shape(official, tuple(state[key].shape)) for official, key in names.items()
    } == wanted
    assert sum(p.numel() for p in network.parameters()) == published["params"]


@pytest.mark.parametrize(
    ("family", "entries"),
    [("StyleUNet", 116), ("DoubleStyleUnet", 200), ("FeatureGenerator", 84), ("Discriminator", 50)],
)
def test_key_map_by_kind(family: str, entries: int) -> None:
    kind, make = NETWORKS[family]
    with torch.device("meta"):
        network = make()
    assert official_key_map(kind) == official_names(kind, network)
    assert len(set(official_key_map(kind).values())) == entries
