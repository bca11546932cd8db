"""Latent codes of time and identity."""

from __future__ import annotations

import math

import pytest
import torch

from avatarzoo.models.styleavatar.codes import embed, identity_code, inference_code, time_code


@pytest.mark.golden
def test_time_codes_are_the_published_ones(primitives) -> None:
    codes = time_code(primitives["code.time.frames"])
    assert (codes - primitives["code.time"]).abs().max() < 2e-7


@pytest.mark.golden
def test_identity_codes_are_the_published_ones(primitives) -> None:
    codes = identity_code(primitives["code.identity.videos"])
    assert (codes - primitives["code.identity"]).abs().max() < 2e-7


def test_embedding_holds_the_value_and_its_octaves() -> None:
    code = embed(torch.tensor([0.0, 0.3]))
    assert code.shape == (2, 64)
    assert code.dtype == torch.float32
    assert code[0].tolist() == [0.0] + [0.0, 1.0] * 31 + [0.0]
    value = float(torch.tensor(0.3))
    expected = [value, math.sin(value), math.cos(value), math.sin(2 * value), math.cos(2 * value)]
    assert code[1, :5].tolist() == pytest.approx(expected, abs=1e-7)
    assert float(code[1, 63]) == pytest.approx(math.sin(2**31 * value), abs=1e-6)


def test_first_person_has_the_code_of_zero() -> None:
    assert torch.equal(identity_code(torch.tensor([0])), embed(torch.zeros(1)))


def test_inference_stands_in_the_middle_of_the_unit() -> None:
    assert torch.equal(inference_code(2), time_code(torch.tensor([2500, 2500])))
