"""Inference networks draw what the generators and ``animate`` draw."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from avatarzoo.geometry.camera import look_at_face
from avatarzoo.heads import load_head
from avatarzoo.models.styleavatar import StyleAvatar
from avatarzoo.models.styleavatar.codes import identity_code, inference_code
from avatarzoo.models.styleavatar.conditions import Conditions
from avatarzoo.models.styleavatar.folded import FoldedPortrait, animation
from avatarzoo.models.styleavatar.generator import PortraitGenerator, Variant
from avatarzoo.models.styleavatar.windows import centred

R, S, G = 32, 64, 16
VARIANTS = pytest.mark.parametrize("variant", get_args(Variant))


def lively(network: torch.nn.Module) -> torch.nn.Module:
    """Biases and noise strengths as after training, so that their errors show."""
    draws = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith(("bias", "noise_strength")):
                parameter += 0.1 * torch.randn(parameter.shape, generator=draws)
    return network


def conditions(batch: int, side: int = R) -> Conditions:
    """Noise, with a face in the middle."""
    draws = torch.Generator().manual_seed(1)
    uv = torch.rand(batch, 3, side, side, generator=draws) * 2 - 1
    uv[:, 2] = -1
    uv[:, 2, side // 8 : -side // 8, side // 8 : -side // 8] = 1
    return Conditions(torch.rand(batch, 3, side, side, generator=draws) * 2 - 1, uv)


@VARIANTS
@torch.no_grad()
def test_equals_the_generator_in_every_window(variant: str) -> None:
    torch.manual_seed(0)
    generator = lively(PortraitGenerator(variant, R, S, channel_max=8)).eval()  # type: ignore[arg-type]
    person = generator.features(identity_code(torch.zeros(1)))
    folded = FoldedPortrait(generator, person)
    here = centred(2, G)
    there, behind = here + torch.tensor([[1, 0], [-2, 3]]), here + torch.tensor([[-3, 2], [0, 1]])
    for foreground, background in ((here, None), (there, None), (there, behind), ((5, 2), (3, 4))):
        as_tensor = [torch.tensor([w, w]) if isinstance(w, tuple) else w for w in (foreground, background)]
        full = generator(conditions(2), person, inference_code(2), *as_tensor, generator.fixed_noise)
        image, mask = folded(conditions(2), foreground, background)
        assert full.image.std() > 0.05
        assert torch.allclose(image, full.image, atol=1e-5)
        assert (mask is None) == (full.mask is None)
        assert mask is None or torch.allclose(mask, full.mask, atol=1e-5)


@VARIANTS
def test_half_precision_draws_nearly_the_same(variant: str) -> None:
    torch.manual_seed(0)
    generator = PortraitGenerator(variant, R, S, channel_max=8).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        person = generator.features(identity_code(torch.zeros(1)))
        folded = FoldedPortrait(generator, person)
        full = folded(conditions(1), (4, 4)).image
        half = folded.bfloat16()(conditions(1), (4, 4)).image
    assert half.dtype == torch.bfloat16
    assert (half - full).abs().mean() < 0.03 * full.abs().mean()


@pytest.mark.parametrize("variant", ["full", "single"])
def test_animation_equals_animate(variant: str) -> None:
    """Of a state that is not the module's own, as after loading."""
    options = {"input_size": R, "output_size": S, "channel_max": 8, "variant": variant, "lambda_gan": 0.0}
    maker, drawer = StyleAvatar(**options, seed=0), StyleAvatar(**options, seed=1)
    lively(maker.average)
    maker.ground.fill_(0.5)
    with torch.no_grad():
        maker.identity.normal_()
        state = maker.reconstruct()
    params = load_head("procedural").zeros(2)
    params.expression[1, 3] = 1.0
    camera = look_at_face(size=S)
    full = drawer.animate(state, params, camera)
    image = animation(drawer, state)(params, camera)
    assert full.rgb.std() > 0.02
    assert torch.allclose(image.rgb, full.rgb, atol=1e-4)
    assert torch.allclose(image.alpha, full.alpha, atol=1e-4)
