"""InvertAvatar's encoders at small sides; their numbers are compared with the official ones in tests/priors."""

import pytest
import torch
from torch import nn

from avatarzoo.networks.convgru import ConvGRU
from avatarzoo.networks.inversion_encoders import Modulation, TextureEncoder, TriPlaneEncoder, texture_input
from avatarzoo.networks.irse import IRSE50, ResidualUnit, batch_statistics
from avatarzoo.networks.latent_encoder import LatentEncoder
from avatarzoo.networks.unet import WIDTHS

SIDE = 32


@pytest.fixture(scope="module")
def texture_encoder():
    torch.manual_seed(0)
    return TextureEncoder(outputs=(2, 3, 3, 4), zero_start=False).eval()


@pytest.fixture(scope="module")
def frames():
    return torch.randn(2, 2, 7, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def test_memory_stays_bounded_and_a_closed_gate_keeps_it():
    torch.manual_seed(0)
    cell = ConvGRU(4)
    x = 10 * torch.randn(2, 5, 4, 6, 6)
    memory = cell(x)
    assert memory.abs().max() < 1
    assert torch.equal(cell(x[:, 2:], cell(x[:, :2])), memory)
    cell.gates.bias.data[4:] = -1e4  # the second half is the update gate
    assert torch.equal(cell(x, memory), memory)
    cell.gates.bias.data[4:] = 1e4
    torch.testing.assert_close(cell.step(x[:, 0], memory).abs().amax(), torch.tensor(1.0), atol=1e-2, rtol=0)


def test_body_halves_the_side_at_each_stage():
    features = IRSE50(5).eval()(torch.randn(1, 5, SIDE, SIDE), (2, 6, 20, 23))
    assert [tuple(x.shape[1:]) for x in features] == [(64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2)]


@torch.no_grad()
def test_offsets_and_memories_have_the_sizes_of_their_levels(texture_encoder, frames):
    offsets, memory = texture_encoder(frames)
    assert [tuple(x.shape) for x in offsets] == [(2, 2, 4, 4), (2, 3, 4, 4), (2, 3, 8, 8), (2, 4, 16, 16)]
    assert [tuple(x.shape) for x in memory] == [(2, c, s, s) for c, s in zip(WIDTHS, (2, 4, 8, 16))]


@torch.no_grad()
def test_people_in_one_batch_do_not_see_each_other(texture_encoder, frames):
    together, _ = texture_encoder(frames)
    alone, _ = texture_encoder(frames[1:])
    for a, b in zip(together, alone):
        torch.testing.assert_close(a[1:], b, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_frames_can_come_one_after_the_other(texture_encoder, frames):
    """Close to all at once, as every block sees the final memory of the block below, and far from the last frame alone."""
    memory = None
    for t in range(2):
        offsets, memory = texture_encoder(frames[:, t : t + 1], memory)
    at_once, _ = texture_encoder(frames)
    last, _ = texture_encoder(frames[:, 1:])
    distance = [(a - b).norm() for a, b in ((offsets[3], at_once[3]), (last[3], at_once[3]))]
    assert distance[0] < 0.2 * distance[1]


@torch.no_grad()
def test_batch_statistics_act_inside_only(texture_encoder, frames):
    before, state = texture_encoder(frames)[0], texture_encoder.state_dict()
    state = {key: x.clone() for key, x in state.items()}
    with batch_statistics(texture_encoder.unet.blocks):
        inside = texture_encoder(frames)[0]
        assert not texture_encoder.unet.body.stem[1].training
    assert (inside[3] - before[3]).abs().max() > 1e-2
    assert torch.equal(texture_encoder(frames)[0][3], before[3])
    assert all(torch.equal(x, state[key]) for key, x in texture_encoder.state_dict().items())
    with pytest.raises(RuntimeError, match="inside"), batch_statistics(texture_encoder):
        raise RuntimeError("inside")
    assert not any(m.training for m in texture_encoder.modules() if isinstance(m, nn.BatchNorm2d))


@torch.no_grad()
def test_training_starts_without_a_correction(frames):
    offsets, _ = TextureEncoder(outputs=(2, 3, 3, 4), recurrent=False).eval()(frames[:, :1])
    assert all(not x.any() for x in offsets)
    pictures = torch.randn(1, 2, 6, 2 * SIDE, 2 * SIDE)
    outputs = (2, 2, 2, 2, 2)
    modulations, memory = TriPlaneEncoder(outputs, SIDE).eval()(pictures)
    assert [m.scale.shape[-1] for m in modulations] == [2, 4, 8, 16, 32]
    assert len(memory) == 4
    x = torch.randn(1, 4, 8, 8)
    assert torch.equal(modulations[2].apply(x), x)
    released, _ = TriPlaneEncoder(outputs, SIDE, identity=False).eval()(pictures)
    assert released[2].scale.abs().mean() < 0.5
    assert released[2].shift.any()


def test_modulation_leaves_the_first_half():
    x = torch.randn(1, 4, 3, 3)
    y = Modulation(torch.full((1, 2, 3, 3), 2.0), torch.ones(1, 2, 3, 3)).apply(x)
    assert torch.equal(y[:, :2], x[:, :2])
    assert torch.equal(y[:, 2:], 2 * x[:, 2:] + 1)


@torch.no_grad()
def test_codes_are_offsets_from_the_first():
    encoder = LatentEncoder(codes=8, side=SIDE).eval()
    image = torch.randn(2, 3, 2 * SIDE, 2 * SIDE)
    codes = encoder(image)
    assert codes.shape == (2, 8, 512)
    for head in encoder.heads[1:]:
        head.linear.weight.zero_()
    same = encoder(image)
    assert torch.equal(same[:, 0], codes[:, 0])
    assert torch.equal(same, same[:, :1].expand_as(same))
    assert not torch.equal(codes, same)


def test_texture_input_marks_what_is_not_seen():
    image, residual = torch.rand(1, 3, 4, 4), torch.rand(1, 3, 8, 8)
    visibility = torch.zeros(1, 1, 4, 4)
    visibility[..., :2] = 1
    line = (2 * torch.arange(4) + 1) / 4 - 1
    places = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)[None]
    x = texture_input(image, residual, places, visibility)
    assert torch.equal(x[:, :3], image)
    assert torch.equal(x[:, 3:6, :, 2:], torch.full((1, 3, 4, 2), -1.0))
    expected = nn.functional.avg_pool2d(residual, 2)[..., :2]
    torch.testing.assert_close(x[:, 3:6, :, :2], expected)
    assert torch.equal(x[:, 6:], visibility)


def test_shortcut_fits_where_channels_change():
    assert ResidualUnit(16, 32, 2)(torch.randn(2, 16, 8, 8)).shape == (2, 32, 4, 4)
