"""Networks from mel windows to expressions."""

from __future__ import annotations

import math

import torch

from avatarzoo.networks.audio_encoder import AFTER, BEFORE, SPREAD, ExpNet, SpeechExpression, audio_encoder
from avatarzoo.networks.least_squares import LeastSquares


def windows(batch: int, frames: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, frames, 80, 16, generator=torch.Generator().manual_seed(seed)).clamp(-4, 4)


def test_encoder_has_the_published_shape():
    layers = audio_encoder().eval()
    assert len(layers) == 13
    assert layers(torch.zeros(2, 1, 80, 16)).shape == (2, 512, 1, 1)


def test_expnet_keys_and_inputs():
    torch.manual_seed(0)
    network = ExpNet().eval()
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    assert shapes["mapping1.weight"] == (64, 512 + 64 + 1)
    assert shapes["audio_encoder.0.conv_block.0.weight"] == (32, 1, 3, 3)
    assert shapes["audio_encoder.12.conv_block.1.running_mean"] == (512,)
    assert {key.split(".")[0] for key in shapes} == {"audio_encoder", "mapping1"}
    mel, reference, blink = windows(1, 23)[0], torch.randn(64), torch.rand(23)
    out = network(mel, reference, blink)
    assert out.shape == (23, 64)
    torch.testing.assert_close(network(mel[11:12], reference, blink[11:12]), out[11:12])
    assert not torch.allclose(network(mel, reference + 1, blink), out)
    assert not torch.allclose(network(mel, reference, blink + 1), out)


def trained_looking(coefficients: int = 5) -> SpeechExpression:
    """With a weight that is not zero."""
    torch.manual_seed(0)
    network = SpeechExpression(coefficients, features=64)
    torch.nn.init.normal_(network.weight)
    return network


def test_silence_says_exactly_nothing():
    network = trained_looking()
    assert (network(torch.full((2, 9, 80, 16), -4.0)) == 0).all()
    assert (network(torch.full((1, 3, 80, 16), -3.51)) == 0).all()  # a quiet room
    heard = windows(1, 9)
    heard[:, 4:] = -4
    out = network(heard)
    assert (out[:, 4:] == 0).all()
    assert (out[:, :4] != 0).all()


def test_it_starts_at_rest_and_hears_the_frames_around_its_own():
    assert (SpeechExpression(3, features=16)(windows(1, 4)) == 0).all()
    network, sound = trained_looking(), windows(1, 31)
    changed = sound.clone()
    changed[:, 15] += 0.5
    moved = (network(changed) - network(sound)).abs().amax((0, 2)) > 1e-6
    assert moved.tolist() == [15 - AFTER <= frame <= 15 + BEFORE for frame in range(31)]


def test_beyond_its_ends_the_sound_is_silent():
    network, sound = trained_looking(), windows(1, 20)
    silence = torch.full((1, 10, 80, 16), -4.0)
    surrounded = network(torch.cat([silence, sound, silence], 1))[:, 10:30]
    torch.testing.assert_close(network(sound), surrounded)


def test_features_stand_for_a_gaussian_kernel():
    """Inner products of descriptions fall with the distance of sounds as the kernel does."""
    torch.manual_seed(0)
    network = SpeechExpression(1, features=20000, bandwidth=1.5)
    for apart in (0.0, 1.0, 3.0):
        # the same in all bands and frames, so that their importance, of norm 1, does not count
        pair = torch.stack([torch.full((20, 80, 16), -1.0), torch.full((20, 80, 16), -1.0 + apart)])
        first, second = network.describe(pair)[:, 10]
        kernel = math.exp(-0.5 * (apart / SPREAD / 1.5) ** 2)
        assert abs(float(first @ second) - kernel) < 0.02


def test_it_learns_which_sound_opens_the_mouth():
    """Two coefficients that follow two bands of the sound, on frames that were not seen."""
    torch.manual_seed(0)
    time = torch.arange(160.0)[None, :, None]
    bands = 0.5 + 0.5 * torch.sin(torch.tensor([[[0.9, 0.53]], [[0.37, 0.71]]]) * time)
    mel = torch.full((2, 160, 80, 16), -1.0)
    mel[:, :, 10:20] += 3 * bands[..., :1, None]
    mel[:, :, 50:60] += 3 * bands[..., 1:, None]
    network = SpeechExpression(2, features=256)
    optimiser = LeastSquares(network.weight, 1e-4)
    optimiser.add(network.describe(mel[:, :110]).flatten(0, 1), bands[:, :110].flatten(0, 1))
    optimiser.step()
    with torch.no_grad():
        said = network(mel)[:, 120:150]
    for k in range(2):
        pair = torch.stack([said[..., k].flatten(), bands[:, 120:150, k].flatten()])
        assert torch.corrcoef(pair)[0, 1] > 0.8
