"""The generator's behaviour; its numbers are compared with the official ones in test_eg3d_golden.py."""

import json
from dataclasses import replace

import pytest
import torch

from avatarzoo.networks.superresolution import LAYOUTS
from avatarzoo.priors import RELEASED, EG3DConfig, TriPlaneGenerator, official_key_map
from avatarzoo.priors.cameras import frontal_label, sphere_label

SMALL = EG3DConfig(
    latent_dim=16,
    code_dim=16,
    plane_resolution=32,
    channel_base=256,
    channel_max=8,
    superresolution="2X",
    neural_resolution=16,
    coarse_samples=6,
    fine_samples=6,
)


@pytest.fixture(scope="module")
def generator():
    torch.manual_seed(0)
    network = TriPlaneGenerator(SMALL).eval()
    network.decoder.output.weight.data[0] *= 20  # densities that differ
    return network


@pytest.fixture(scope="module")
def codes(generator):
    with torch.no_grad():
        return generator.codes(
            torch.randn(2, 16, generator=torch.Generator().manual_seed(3)), frontal_label(2)
        )


LABEL = sphere_label(torch.tensor([0.3, -0.4]), torch.tensor([-0.1, 0.2]))


@torch.no_grad()
def test_public_pictures_are_zero_to_one(generator, codes):
    public, inside = generator(codes, LABEL), generator.synthesise(codes, LABEL)
    assert public.rgb.shape == (2, 3, 128, 128)
    assert public.raw.shape == (2, 3, 16, 16)
    torch.testing.assert_close(2 * public.rgb - 1, inside.rgb, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(2 * public.raw - 1, inside.raw, atol=1e-5, rtol=1e-5)
    assert public.raw.min() >= -0.002
    assert public.raw.max() <= 1.002


@torch.no_grad()
def test_kept_planes_give_the_same_view(generator, codes):
    whole = generator(codes, LABEL)
    again = generator(codes, LABEL, generator.planes(codes))
    assert all(torch.equal(a, b) for a, b in zip(whole, again))


@torch.no_grad()
def test_jitter_is_drawn_from_its_generator(generator, codes):
    planes = generator.planes(codes)
    still = generator.render(planes, LABEL).features
    assert torch.equal(still, generator.render(planes, LABEL).features)
    drawn = [
        generator.render(planes, LABEL, jitter=torch.Generator().manual_seed(s)).features for s in (1, 1, 2)
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], still)


@torch.no_grad()
@pytest.mark.parametrize("seed", [None, 5])
@pytest.mark.parametrize("chunk", [1, 100, 256, 1000])
def test_chunks_do_not_change_the_view(generator, codes, seed, chunk):
    planes = generator.planes(codes)
    jitter = lambda: None if seed is None else torch.Generator().manual_seed(seed)  # noqa: E731
    whole = generator.render(planes, LABEL, jitter=jitter())
    parts = generator.render(planes, LABEL, jitter=jitter(), chunk=chunk)
    for a, b in zip(whole, parts):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-5)


@torch.no_grad()
def test_every_resolution_down_to_one_ray(generator, codes):
    planes = generator.planes(codes[:1])
    assert generator.render(planes, LABEL[:1], 1).depth.shape == (1, 1, 1, 1)
    assert generator.render(planes, LABEL[:1]).depth.shape[-1] == SMALL.neural_resolution
    generator.neural_resolution = 8
    try:
        assert generator.render(planes, LABEL[:1]).depth.shape[-1] == 8
    finally:
        generator.neural_resolution = SMALL.neural_resolution


def test_gradients_reach_codes_and_planes(generator, codes):
    own = codes.clone().requires_grad_()
    planes = generator.planes(own).detach().requires_grad_()
    view = generator(own, LABEL, planes)
    total = view.rgb.square().mean() + view.depth.mean() + view.opacity.mean()
    for slope in torch.autograd.grad(total, [own, planes]):
        assert slope.isfinite().all()
        assert slope.abs().sum() > 0


def test_identity_sees_the_label_only_if_it_may():
    latent = torch.randn(2, 16)
    results = {}
    for name, change in {
        "seen": {},
        "hidden": {"pose_conditioning": False},
        "no scale": {"label_scale": 0.0},
    }.items():
        torch.manual_seed(1)
        network = TriPlaneGenerator(replace(SMALL, **change))
        results[name] = torch.equal(network.codes(latent, LABEL), network.codes(latent, LABEL.flip(0)))
    assert results == {"seen": False, "hidden": True, "no scale": True}


def test_running_mean_moves_only_when_asked():
    network = TriPlaneGenerator(SMALL)
    latent = torch.randn(4, 16)
    network.codes(latent, frontal_label(4))
    assert not network.mapping.mean_code.any()
    code = network.codes(latent, frontal_label(4), update_mean=True)[:, 0]
    torch.testing.assert_close(network.mapping.mean_code, 0.002 * code.mean(0).detach())


@pytest.mark.parametrize("name", RELEASED)
def test_released_networks_can_be_built(name):
    config = RELEASED[name]
    network = TriPlaneGenerator(replace(config, channel_max=2))
    output, raw = name.split("-")[-2:]
    assert network.config.resolution == int("".join(c for c in output if c.isdigit()))
    assert network.neural_resolution == int(raw)
    assert network.backbone.codes == 14
    assert EG3DConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("variant", LAYOUTS)
def test_key_maps_are_one_to_one_for_every_super_resolution(variant):
    config = replace(SMALL, superresolution=variant)
    names = official_key_map("eg3d", config)
    assert len(set(names.values())) == len(names)
    assert ("superresolution.resample_filter" in names) == (variant != "8XDC")


def test_unknown_key_map_is_refused():
    with pytest.raises(ValueError, match="no key map 'eg4d'"):
        official_key_map("eg4d")


@torch.no_grad()
def test_bfloat16_stays_close(codes):
    torch.manual_seed(0)
    network = TriPlaneGenerator(SMALL).eval()
    exact = network(codes, LABEL).rgb
    close = network.use_half(torch.bfloat16, backbone=True)(codes, LABEL).rgb
    assert close.dtype == torch.float32
    assert 0 < (close - exact).abs().mean() < 0.02 * exact.std()


@pytest.mark.slow
@torch.no_grad()
def test_one_graph_holds_the_whole_generator(generator, codes):
    """No data-dependent control flow: the tracer may not break the graph, which CUDA graphs need too."""
    compiled = torch.compile(generator, backend="eager", fullgraph=True, dynamic=False)
    for a, b in zip(compiled(codes, LABEL), generator(codes, LABEL)):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
