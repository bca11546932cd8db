"""Every variant draws, learns in all its parts and keeps people apart."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from avatarzoo.models.styleavatar.codes import identity_code, time_code
from avatarzoo.models.styleavatar.conditions import Conditions
from avatarzoo.models.styleavatar.generator import PortraitGenerator, Variant
from avatarzoo.models.styleavatar.windows import centred

R, S, G = 32, 64, 16
VARIANTS = pytest.mark.parametrize("variant", get_args(Variant))


def made(variant: str) -> PortraitGenerator:
    torch.manual_seed(0)
    return PortraitGenerator(variant, R, S, channel_max=8)  # type: ignore[arg-type]


def conditions(batch: int = 2) -> Conditions:
    draws = torch.Generator().manual_seed(1)
    uv = torch.rand(batch, 3, R, R, generator=draws) * 2 - 1
    uv[:, 2] = -1
    uv[:, 2, 4:28, 4:28] = 1
    return Conditions(torch.rand(batch, 3, R, R, generator=draws) * 2 - 1, uv)


def draw(generator: PortraitGenerator, given: Conditions, **windows):
    batch = len(given.render)
    person = generator.features(identity_code(torch.zeros(1)))
    style = time_code(torch.arange(batch))
    noise = generator.fixed_noise
    return generator(
        given, person, style, windows.pop("foreground", centred(batch, G)), noise=noise, **windows
    )


@VARIANTS
def test_shapes_and_gradients_reach_every_part(variant: str) -> None:
    generator = made(variant)
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            if name.endswith("noise_strength"):
                parameter.fill_(0.1)
    image, mask = draw(generator, conditions())
    assert image.shape == (2, 3, S, S)
    assert (mask is not None) == generator.has_mask == (variant in ("full", "no_neural_texture"))
    total = image.square().sum()
    if mask is not None:
        assert mask.shape == (2, 1, G, G)
        total = total + mask.sum()
    total.backward()
    parts = {
        name.split(".")[0] for name, p in generator.named_parameters() if p.grad is not None and p.grad.any()
    }
    assert parts == {"image"} | ({"face"} if variant in ("full", "dnr") else set()) | (
        {"back"} if generator.has_mask else set()
    )


@VARIANTS
def test_moving_the_window_moves_the_picture(variant: str) -> None:
    """The picture depends on the foreground window; only variants with a background know a second one."""
    generator, given = made(variant), conditions()
    still = draw(generator, given).image
    moved = centred(2, G) + torch.tensor([2, -1])
    assert not torch.allclose(draw(generator, given, foreground=moved).image, still, atol=1e-5)
    apart = draw(generator, given, background=moved).image
    assert torch.allclose(apart, still, atol=1e-6) != generator.has_mask


def test_no_background_window_means_the_foregrounds() -> None:
    generator, given = made("full"), conditions()
    window = centred(2, G) + torch.tensor([[1, 0], [-2, 3]])
    both = draw(generator, given, foreground=window, background=window)
    assert torch.equal(draw(generator, given, foreground=window).image, both.image)


@VARIANTS
def test_inference_repeats_and_rows_do_not_mix(variant: str) -> None:
    generator, given = made(variant).eval(), conditions(3)
    with torch.no_grad():
        first = draw(generator, given).image
        assert torch.equal(first, draw(generator, given).image)
        alone = draw(generator, Conditions(*(x[:1] for x in given))).image
    assert torch.allclose(first[:1], alone, atol=1e-5)


def test_features_of_a_person_do_not_depend_on_the_others() -> None:
    """Normalised per person, in training as in inference, and no running statistics are kept."""
    generator = made("full")
    before = {k: v.clone() for k, v in generator.state_dict().items()}
    people = generator.features(identity_code(torch.arange(3)))
    alone = generator.eval().features(identity_code(torch.tensor([2])))
    assert people.face is not None
    assert alone.face is not None
    assert torch.allclose(people.face.feature[2:], alone.face.feature, atol=1e-5)
    assert (people.face.feature[0] - people.face.feature[1]).abs().max() > 1e-3
    assert torch.allclose(alone.face.feature.mean((2, 3)), torch.zeros(1), atol=1e-4)
    assert all(torch.equal(v, before[k]) for k, v in generator.state_dict().items())
    rows = people.rows(torch.tensor([2, 0, 2]))
    assert rows.back is not None
    assert people.back is not None
    assert torch.equal(rows.back.skip[1], people.back.skip[0])


def test_noise_for_inference_is_part_of_the_weights() -> None:
    generator, other = made("full"), PortraitGenerator("full", R, S, channel_max=8)
    assert generator.fixed_noise is not None
    assert other.fixed_noise is not None
    assert all(torch.equal(a, b) for a, b in zip(generator.fixed_noise, other.fixed_noise))
    assert {"noise_0", "noise_1", "noise_2"} <= set(generator.state_dict())
    assert made("dvp").fixed_noise is None
