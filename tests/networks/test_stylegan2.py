import pytest
import torch

from avatarzoo.networks import MappingNetwork, SuperResolution, SynthesisNetwork
from avatarzoo.networks.superresolution import LAYOUTS


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    net = SynthesisNetwork(16, 64, 6, channel_base=512, channel_max=16).eval()
    for name, parameter in net.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.1)
    return net


@pytest.fixture(scope="module")
def codes(network):
    return torch.randn(2, network.codes, 16)


def test_every_site_splits_the_network_without_a_trace(network, codes):
    whole = network(codes)
    assert whole.shape == (2, 6, 64, 64)
    assert network.sites == [
        "b4",
        "b8.conv0",
        "b8",
        "b16.conv0",
        "b16",
        "b32.conv0",
        "b32",
        "b64.conv0",
        "b64",
    ]
    for site in network.sites:
        stage = network.forward_until(codes, site)
        assert torch.equal(network.forward_from(codes, site, *stage), whole)
        edited = network.forward_from(codes, site, stage.x + 1, stage.picture)
        # behind the last layer only the picture is left
        assert torch.equal(edited, whole) == (site == "b64")


def test_half_of_a_block_still_has_the_smaller_picture(network, codes):
    stage = network.forward_until(codes, "b32.conv0")
    assert stage.x.shape[-1] == 32
    assert stage.picture.shape[-1] == 16


@pytest.mark.parametrize("call", ["forward_until", "forward_from"])
def test_unknown_site_names_the_known_ones(network, codes, call):
    more = (torch.zeros(2, 1, 1, 1), None) if call == "forward_from" else ()
    with pytest.raises(ValueError, match="the sites are b4, "):
        getattr(network, call)(codes, "b7", *more)


@pytest.mark.parametrize(
    ("index", "first"), [(0, "b4"), (2, "b8"), (3, "b16.conv0"), (5, "b32.conv0"), (8, "b64"), (9, "b64")]
)
def test_codes_reach_their_layer_and_no_earlier_one(network, codes, index, first):
    other = codes.clone()
    other[:, index] += 1
    pairs = zip(network.walk(codes), network.walk(other))
    changed = [site for (site, a), (_, b) in pairs if not torch.equal(a.x, b.x)]
    pictures = zip(network.walk(codes), network.walk(other))
    moved = [
        s for (s, a), (_, b) in pictures if a.picture is not None and not torch.equal(a.picture, b.picture)
    ]
    assert (changed or moved)[0] == first
    # the code of a convolution also makes the picture of the block before it
    if index in (3, 5):
        assert moved[0] == network.sites[network.sites.index(first) - 1]
    if index == 9:
        assert not changed


def test_random_noise_follows_its_generator(network, codes):
    draws = [network(codes, "random", torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert not torch.equal(network(codes, "none"), network(codes))


def test_truncation_and_the_running_mean():
    mapping = MappingNetwork(8, 5, 16, layers=2)
    code = mapping(torch.randn(64, 8), torch.randn(64, 5))
    for _ in range(3000):
        mapping.update_mean(code)
    torch.testing.assert_close(mapping.mean_code, code.mean(0).detach(), atol=2e-3, rtol=0.01)
    codes = code[:, None].repeat(1, 4, 1)
    assert mapping.truncate(codes, 1.0) is codes
    cut = mapping.truncate(codes, 0.25, cutoff=3)
    torch.testing.assert_close(cut[:, :3], mapping.mean_code + 0.25 * (codes[:, :3] - mapping.mean_code))
    assert torch.equal(cut[:, 3], codes[:, 3])


@pytest.mark.parametrize("variant", LAYOUTS)
def test_super_resolutions_have_the_published_sizes(variant):
    with torch.device("meta"):
        network = SuperResolution(variant, code_dim=32)
    for side in (32, 64, 128):
        features = torch.empty(1, 32, side, side, device="meta")
        rgb = network(features[:, :3], features, torch.empty(1, 32, device="meta"))
        assert rgb.shape[-1] == LAYOUTS[variant].output == int({"8": 512, "4": 256, "2": 128}[variant[0]])


def test_super_resolution_leaves_its_input_alone():
    network = SuperResolution("2X", code_dim=8)
    features = torch.randn(1, 32, 64, 64)
    before = features.clone()
    with torch.no_grad():
        network(features[:, :3], features, torch.randn(1, 8))
    assert torch.equal(features, before)
