import pytest
import torch

from avatarzoo.networks.double_styleunet import DoubleStyleUNet, Noises, crop_cells, look_up, window_cells
from avatarzoo.networks.feature_generator import Features

SMALL = {"channel_max": 8}


def features(batch: int, network: DoubleStyleUNet) -> Features:
    g = network.grid
    return Features(torch.randn(batch, network.feature_channels, g, g), torch.randn(batch, 12, g, g))


def inputs(network: DoubleStyleUNet, batch: int = 1) -> dict:
    r, g = network.input_size, network.grid
    return {
        "render": torch.rand(batch, 3, r, r) * 2 - 1, "style": torch.randn(batch, 64), "uv": torch.rand(batch, 2, g, g) * 2 - 1,
        "mask_face": (torch.rand(batch, 1, g, g) > 0.5).float(), "face": features(batch, network), "back": features(batch, network),
    }  # fmt: skip


def sample(given: dict, n: int) -> dict:
    def part(x):
        return Features(*map(part, x)) if isinstance(x, Features) else x[n : n + 1]

    return {name: part(x) for name, x in given.items()}


@pytest.fixture
def network() -> DoubleStyleUNet:
    torch.manual_seed(0)
    network = DoubleStyleUNet(64, 64, **SMALL)
    for conv in network.image.decoder.convs:
        torch.nn.init.constant_(conv.noise_strength, 0.1)
    return network.eval()


@pytest.mark.parametrize(
    ("r", "s", "n"), [(32, 16, 0), (32, 64, 5), (64, 64, 1), (64, 256, 21), (128, 128, 1)]
)
def test_sides_and_training(r, s, n):
    network = DoubleStyleUNet(r, s, **SMALL)
    assert network.noise_channels == n
    offset = torch.tensor([[0, network.grid // 2], [3, 5]])
    given = inputs(network, 2)
    image, mask = network(**given, noise=network.draw_noise(2), offset=offset)
    assert image.shape == (2, 3, s, s)
    assert mask.shape == (2, 1, r // 2, r // 2)
    (image.square().mean() + mask.mean()).backward()
    unused = {name for name, p in network.named_parameters() if p.grad is None}
    assert all(name.endswith("noise_strength") for name in unused)


def test_samples_do_not_mix(network):
    given = inputs(network, 3) | {"offset": torch.tensor([[2, 9], [8, 8], [16, 0]])}
    noise = network.draw_noise(3, torch.Generator().manual_seed(1))
    together = network(**given, noise=noise)
    for n in range(3):
        alone = network(**sample(given, n), noise=Noises(*(x[n : n + 1] for x in noise)))
        torch.testing.assert_close(together.image[n : n + 1], alone.image, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(together.mask[n : n + 1], alone.mask, rtol=1e-4, atol=1e-5)


def test_one_row_of_features_and_noise_serves_all(network):
    given, noise = inputs(network, 2), network.draw_noise(1)
    one = {name: Features(*(x[:1] for x in given[name])) for name in ("face", "back")}
    rows = {name: Features(*(x.expand(2, -1, -1, -1) for x in one[name])) for name in one}
    torch.testing.assert_close(network(**given | one, noise=noise), network(**given | rows, noise=noise))


def test_no_offset_is_the_centre_and_windows_are_slices(network):
    given = inputs(network, 2)
    quarter = network.grid // 4
    centred = network(**given, offset=torch.full((2, 2), quarter))
    torch.testing.assert_close(network(**given), centred)
    x = torch.randn(2, 3, 64, 64)
    cells = window_cells(torch.tensor([[0, 16], [3, 7]]), 32)
    assert torch.equal(crop_cells(x, cells, 32)[1], x[1, :, 15:47, 11:43])
    assert torch.equal(crop_cells(x, cells, 32)[0], x[0, :, 24:56, 8:40])
    assert torch.equal(crop_cells(x, None, 32), x[..., 16:48, 16:48])


def test_moving_the_window_moves_only_the_foreground(network):
    given = inputs(network)
    first, second = (network(**given, offset=torch.tensor([[x, 8]])).mask for x in (4, 8))
    assert not torch.allclose(first, second)
    base = {**given, "back": None, "face": None}
    pictures = [network(**base, offset=torch.tensor([[x, 8]])).image for x in (4, 8)]
    shifted = (
        pictures[0][..., 8:][..., 20:-20],
        pictures[1][..., :-8][..., 20:-20],
    )  # four cells of two pixels
    assert torch.corrcoef(torch.stack([x.flatten() for x in shifted]))[0, 1] > 0.5


def test_look_up_takes_the_nearest_cell():
    texture = torch.arange(16.0).reshape(1, 1, 4, 4)
    uv = torch.tensor([[-0.75, 0.2], [0.8, -0.3]]).reshape(1, 2, 1, 2)  # x, then y
    assert look_up(texture, uv).flatten().tolist() == [12.0, 6.0]


def test_face_acts_only_inside_its_mask(network):
    given = inputs(network)
    nothing = network(**given | {"mask_face": torch.zeros_like(given["mask_face"])}).image
    torch.testing.assert_close(nothing, network(**given | {"face": None}).image)
    assert not torch.allclose(nothing, network(**given).image)


def test_parts_can_be_left_out(network):
    given, noise = inputs(network), network.draw_noise(1)
    image, mask = network(**given | {"face": None, "back": None}, noise=noise)
    assert mask is None
    assert image.shape == (1, 3, 64, 64)
    assert network(**given | {"face": None}, noise=noise).mask is not None


def test_the_gate_passes_no_gradient_and_the_mask_none_to_the_background(network):
    given = inputs(network)
    back = Features(*(x.requires_grad_() for x in given["back"]))
    image, mask = network(**given)
    assert torch.autograd.grad(mask.sum(), back.feature, retain_graph=True, allow_unused=True) == (None,)
    assert torch.autograd.grad(image.sum(), network.mask.weight, retain_graph=True, allow_unused=True) == (
        None,
    )
    assert torch.autograd.grad(image.sum(), back.feature)[0].abs().sum() > 0


def test_a_mask_of_one_shows_the_background_alone(network):
    torch.nn.init.constant_(network.mask_bias, 50.0)
    given = inputs(network) | {"face": None}
    image, mask = network(**given)
    assert mask.min() == 1
    torch.testing.assert_close(
        image, network(**given | {"render": -given["render"]}).image, rtol=1e-4, atol=1e-5
    )


def test_extra_noise_channels_are_not_used(network):
    given, noise = inputs(network), network.draw_noise(1)
    wider = Noises(*(torch.cat([x, torch.randn_like(x).repeat(1, 4, 1, 1)], 1) for x in noise))
    torch.testing.assert_close(network(**given, noise=noise), network(**given, noise=wider))


def test_noise_stays_white_through_its_haar_levels():
    network = DoubleStyleUNet(64, 256, **SMALL)
    maps = [x for x in network.noise_maps(torch.randn(1, 21, 32, 32)) if x is not None]
    assert [x.shape[-1] for x in maps] == [32, 32, 64, 64, 128, 128]
    assert all(abs(x.std().item() - 1) < 0.1 for x in maps)
    neighbours = (maps[-1][..., 1:] * maps[-1][..., :-1]).mean()
    assert neighbours.abs() < 0.05


@pytest.mark.slow
def test_exports_with_equal_output(network):
    given = inputs(network, 2)
    for module in network.modules():
        if hasattr(module, "form"):
            module.form = "scaled"
    arguments = (*given.values(), network.draw_noise(2))
    program = torch.export.export(network, arguments)
    torch.testing.assert_close(
        program.module()(*arguments).image, network(*arguments).image, rtol=1e-4, atol=1e-5
    )
