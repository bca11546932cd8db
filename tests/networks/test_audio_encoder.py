"""Networks from mel windows to expressions."""

from __future__ import annotations

import torch

from avatarzoo.networks.audio_encoder import ExpNet, SpeechExpression, audio_encoder, speech_loss


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
    """With a last layer that is not zero and a rest expression."""
    torch.manual_seed(0)
    network = SpeechExpression(coefficients, width=16)
    torch.nn.init.normal_(network.head.weight)
    torch.nn.init.normal_(network.head.bias)
    network.rest += torch.linspace(0, 1, coefficients)
    return network.eval()


def test_silence_is_exactly_the_rest_expression():
    network = trained_looking()
    silent = network(torch.full((2, 9, 80, 16), -4.0))
    assert (silent == network.rest).all()
    assert (network(torch.full((1, 3, 80, 16), -3.51)) == network.rest).all()  # a quiet room
    heard = windows(1, 9)
    heard[:, 4:] = -4
    out = network(heard)
    assert (out[:, 4:] == network.rest).all()
    assert (out[:, :4] != network.rest).all()


def test_it_starts_at_rest_and_sees_its_neighbours_only():
    assert (SpeechExpression(3, width=16)(windows(1, 4)) == 0).all()
    network, sound = trained_looking(), windows(1, 21)
    changed = sound.clone()
    changed[:, 10] += 0.5
    moved = (network(changed) - network(sound)).abs().amax((0, 2)) > 1e-6
    assert moved.tolist() == [6 <= frame < 15 for frame in range(21)]


def test_loss_counts_position_and_motion():
    target = torch.zeros(1, 4, 2)
    assert speech_loss(target, target) == 0
    torch.testing.assert_close(speech_loss(target + 1, target), torch.tensor(1.0))
    jumping = target.clone()
    jumping[:, 2, 0] = 1  # an error of 1 in one of 8 values, two changes of 1 in 6
    torch.testing.assert_close(speech_loss(jumping, target, velocity=3), torch.tensor(1 / 8 + 3 * 2 / 6))
    weights = torch.tensor([0.0, 1.0])
    assert speech_loss(jumping, target, weights) == 0
    assert speech_loss(target[:, :1] + 1, target[:, :1]) == 1


def test_it_learns_which_sound_opens_the_mouth():
    """Two coefficients that follow two bands of the sound, on frames that were not seen."""
    torch.manual_seed(0)
    time = torch.arange(160.0)[None, :, None]
    bands = 0.5 + 0.5 * torch.sin(torch.tensor([[[0.9, 0.53]], [[0.37, 0.71]]]) * time)
    mel = torch.full((2, 160, 80, 16), -1.0)
    mel[:, :, 10:20] += 3 * bands[..., :1, None]
    mel[:, :, 50:60] += 3 * bands[..., 1:, None]
    network = SpeechExpression(2, width=32, dropout=0.0)
    optimiser = torch.optim.Adam(network.parameters(), 5e-3)
    for step in range(60):
        start = 20 * (step % 6)
        loss = speech_loss(network(mel[:, start : start + 20]), bands[:, start : start + 20], velocity=1)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    network.eval()
    with torch.no_grad():
        said = network(mel[:, 120:])
    for k in range(2):
        pair = torch.stack([said[..., k].flatten(), bands[:, 120:, k].flatten()])
        assert torch.corrcoef(pair)[0, 1] > 0.8
