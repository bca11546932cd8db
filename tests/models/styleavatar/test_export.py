"""Exported networks draw what the trained ones draw, in onnxruntime too."""

from __future__ import annotations

import json
from typing import get_args

import numpy as np
import pytest
import torch

from avatarzoo.errors import MissingExtraError, UsageError
from avatarzoo.models import program
from avatarzoo.models.program import write_program
from avatarzoo.models.styleavatar import StyleAvatar
from avatarzoo.models.styleavatar.codes import inference_code
from avatarzoo.models.styleavatar.conditions import Conditions
from avatarzoo.models.styleavatar.export import program_of
from avatarzoo.models.styleavatar.generator import Variant


def trained(variant: str, r: int, s: int, most: int) -> StyleAvatar:
    """With biases and noise strengths as after training."""
    module = StyleAvatar(
        input_size=r,
        output_size=s,
        channel_max=most,
        variant=variant,  # type: ignore[arg-type]
        lambda_gan=0.0,
    )
    draws = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in module.average.named_parameters():
            if name.endswith(("bias", "noise_strength")):
                parameter += 0.1 * torch.randn(parameter.shape, generator=draws)
    return module.eval()


def conditions(batch: int, side: int) -> Conditions:
    """Noise, with a face in the middle."""
    draws = torch.Generator().manual_seed(1)
    uv = torch.rand(batch, 3, side, side, generator=draws) * 2 - 1
    uv[:, 2] = -1
    uv[:, 2, side // 8 : -side // 8, side // 8 : -side // 8] = 1
    return Conditions(torch.rand(batch, 3, side, side, generator=draws) * 2 - 1, uv)


@torch.no_grad()
def agrees(module: StyleAvatar, path, batch: int, foreground=None, background=None) -> None:
    """The file in onnxruntime against the trained network, not folded."""
    import onnxruntime

    given = conditions(batch, module.hparams["input_size"])
    grid, network = module.average.grid, module.average
    corner = torch.tensor([foreground or (grid // 4, grid // 4)])
    behind = corner if background is None else torch.tensor([background])
    windows = corner.expand(batch, -1), behind.expand(batch, -1)
    full = network(given, module.people(), inference_code(batch), *windows, network.fixed_noise)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    fed = {i.name: getattr(given, i.name).numpy() for i in session.get_inputs()}
    image, *mask = session.run(None, fed)
    assert full.image.std() > 0.05
    assert np.abs(image - full.image.numpy()).max() < 1e-4
    assert [o.name for o in session.get_outputs()] == (["image", "mask"] if network.has_mask else ["image"])
    if network.has_mask:
        assert np.abs(mask[0] - full.mask.numpy()).max() < 1e-4


@pytest.mark.parametrize(
    "variant",
    [
        pytest.param(v, marks=[pytest.mark.slow] if v in ("full", "no_neural_texture") else [])
        for v in get_args(Variant)
    ],
)
def test_onnx_of_every_variant(variant: str, tmp_path) -> None:
    module = trained(variant, 32, 64, 4)
    write_program(program_of(module, module.reconstruct()), tmp_path / "a.onnx")
    agrees(module, tmp_path / "a.onnx", 1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "a.onnx"]
    facts = json.loads((tmp_path / "a.json").read_text())
    assert facts["opset"] >= 16
    assert facts["tensorrt"]["static_shapes"] is True
    assert bool(facts["tensorrt"]["keep_float32"]) == ("uv" in facts["inputs"])


def test_any_batch_and_windows_apart(tmp_path) -> None:
    module = trained("full", 32, 32, 4)
    made = program_of(module, module.reconstruct(), (5, 2), (3, 4))
    write_program(made, tmp_path / "a.onnx", "dynamic")
    for batch in (1, 3):
        agrees(module, tmp_path / "a.onnx", batch, (5, 2), (3, 4))


@torch.no_grad()
def test_torchs_own_format_draws_the_same(tmp_path) -> None:
    module = trained("full", 32, 32, 4)
    write_program(program_of(module, module.reconstruct()), tmp_path / "a.pt2")
    given, network, grid = conditions(1, 32), module.average, module.average.grid
    windows = torch.tensor([[grid // 4, grid // 4]])
    full = network(given, module.people(), inference_code(1), windows, windows, network.fixed_noise)
    image, mask = torch.export.load(tmp_path / "a.pt2").module()(render=given.render, uv=given.uv)
    assert (image - full.image).abs().max() < 1e-4
    assert (mask - full.mask).abs().max() < 1e-4


def test_windows_have_to_be_in_the_wide_picture() -> None:
    module = trained("full", 32, 32, 4)
    with pytest.raises(UsageError, match="between 0 and 8"):
        program_of(module, module.reconstruct(), (0, 9))


def test_onnx_without_its_packages(tmp_path, monkeypatch) -> None:
    module = trained("dvp", 32, 32, 4)

    def missing(name: str, extra: str):
        raise MissingExtraError(f"{name}: avatarzoo[{extra}]")

    monkeypatch.setattr(program, "require", missing)
    made = program_of(module, module.reconstruct())
    with pytest.raises(MissingExtraError, match=r"avatarzoo\[export\]"):
        write_program(made, tmp_path / "a.onnx")
    assert not [*tmp_path.iterdir()]


@pytest.mark.slow
def test_published_width_at_512(tmp_path) -> None:
    module = trained("full", 256, 512, 512)
    write_program(program_of(module, module.reconstruct()), tmp_path / "a.onnx")
    agrees(module, tmp_path / "a.onnx", 1)
