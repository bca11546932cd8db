"""The detail network: nothing changes at the start, at any site, and only the upper blocks are computed again."""

from __future__ import annotations

import pytest
import torch

from avatarzoo.models.nofaplusplus.detail import (
    PLANES,
    DetailNetwork,
    begin,
    feature,
    feature_shape,
    finish,
)
from avatarzoo.networks.stylegan2 import SynthesisBlock, SynthesisNetwork
from avatarzoo.priors.small_prior import small_prior

SITES = ["b32", "b64.conv0", "b64", "b128.conv0", PLANES]


@pytest.fixture(scope="module")
def backbone() -> SynthesisNetwork:
    return small_prior().backbone


@pytest.fixture(scope="module")
def codes(backbone: SynthesisNetwork) -> torch.Tensor:
    return torch.randn(2, backbone.codes, 128, generator=torch.Generator().manual_seed(0))


def tiny(backbone: SynthesisNetwork, site: str) -> DetailNetwork:
    torch.manual_seed(0)
    return DetailNetwork(*feature_shape(backbone, site), picture=128, width=4, width_max=8, units=2)


@pytest.mark.parametrize("site", SITES)
def test_it_starts_as_the_identity(backbone: SynthesisNetwork, codes: torch.Tensor, site: str) -> None:
    residual = torch.rand(2, 3, 128, 128) - 0.5
    with torch.no_grad():
        stage = begin(backbone, codes, site)
        coarse = feature(stage, site)
        fused = tiny(backbone, site)(residual).apply(coarse)
        assert tuple(coarse.shape[1:3]) == feature_shape(backbone, site)
        assert torch.equal(fused, coarse)
        assert torch.equal(finish(backbone, codes, site, stage, fused), backbone(codes))


@pytest.mark.parametrize("site", SITES)
def test_details_reach_the_planes_and_gradients_every_parameter(
    backbone: SynthesisNetwork, codes: torch.Tensor, site: str
) -> None:
    detail = tiny(backbone, site)
    for network in (detail.gain, detail.shift):
        torch.nn.init.normal_(network[-1].weight, std=0.1)
    with torch.no_grad():
        stage = begin(backbone, codes, site)
    fused = detail(torch.rand(2, 3, 128, 128) - 0.5).apply(feature(stage, site))
    fine = finish(backbone, codes, site, stage, fused)
    assert not torch.allclose(fine, backbone(codes))
    fine.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in detail.parameters())


def test_gradients_start_in_the_last_layers(backbone: SynthesisNetwork, codes: torch.Tensor) -> None:
    detail = tiny(backbone, "b64.conv0")
    stage = begin(backbone, codes)
    detail(torch.rand(2, 3, 128, 128)).apply(feature(stage)).square().mean().backward()
    assert detail.gain[-1].weight.grad.abs().sum() > 0
    assert detail.shift[-1].weight.grad.abs().sum() > 0


def test_only_upper_blocks_run_again(
    backbone: SynthesisNetwork, codes: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = begin(backbone, codes)
    ran: list[str] = []
    for name in ("begin", "finish"):
        method = getattr(SynthesisBlock, name)

        def spy(block: SynthesisBlock, *args: object, method=method, name=name, **more: object) -> object:
            ran.append(f"{name} {next(r for r, b in backbone.blocks.items() if b is block)}")
            return method(block, *args, **more)

        monkeypatch.setattr(SynthesisBlock, name, spy)
    finish(backbone, codes, "b64.conv0", stage, feature(stage))
    assert ran == ["finish 64", "begin 128", "finish 128"]


def test_fusion_scales_and_shifts() -> None:
    detail = DetailNetwork(3, 8, 16, 4, 8, 1)
    torch.nn.init.constant_(detail.gain[-1].bias, 0.5)
    torch.nn.init.constant_(detail.shift[-1].bias, 2.0)
    coarse = torch.randn(1, 3, 8, 8)
    assert torch.allclose(detail(torch.rand(1, 3, 32, 32)).apply(coarse), 1.5 * coarse + 2)


def test_unknown_sites_and_sides_are_refused(backbone: SynthesisNetwork, codes: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"b64\.conv0.*planes"):
        feature_shape(backbone, "b63")
    for site in ("b63", "b128"):  # nothing reads the features behind the last block
        with pytest.raises(ValueError, match=site):
            begin(backbone, codes, site)
    for picture in (32, 96):
        with pytest.raises(ValueError, match="cannot be halved"):
            DetailNetwork(4, 64, picture)


@pytest.mark.parametrize(
    ("site", "shape"),
    [
        ("b32", (512, 32)),
        ("b64.conv0", (512, 64)),
        ("b64", (512, 64)),
        ("b128", (256, 128)),
        (PLANES, (96, 256)),
    ],
)
def test_full_size(site: str, shape: tuple[int, int]) -> None:
    with torch.device("meta"):
        backbone = SynthesisNetwork(512, 256, 96)
        assert feature_shape(backbone, site) == shape
        fusion = DetailNetwork(*shape)(torch.empty(1, 3, 512, 512))
        codes = torch.empty(1, 14, 512)
        stage = begin(backbone, codes, site)
        fine = finish(backbone, codes, site, stage, fusion.apply(feature(stage, site)))
    assert fine.shape == (1, 96, 256, 256)
