"""Mel windows of speech to expression coefficients: SadTalker's network, and our own for the coefficients of any head."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

PLAN: tuple[tuple[int, int | tuple[int, int], bool], ...] = (
    (32, 1, False), (32, 1, True), (32, 1, True),
    (64, (3, 1), False), (64, 1, True), (64, 1, True),
    (128, 3, False), (128, 1, True), (128, 1, True),
    (256, (3, 2), False), (256, 1, True),
)  # fmt: skip
"""Width, stride and whether the input is added, of the 3x3 convolutions: 80x16 becomes 3x3."""
FEATURES = 512
POOL = (8, 4)
"""Mel bands and columns that :class:`SpeechExpression` averages."""
TYPICAL, SPREAD = -1.8, 1.4
"""Median and deviation of the mel values of speech."""


class AudioConvolution(nn.Module):
    """Convolution, batch normalisation, the input added where shapes stay, ReLU. Keys ``conv_block.0`` and ``.1``."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int | tuple[int, int], padding: int, residual: bool
    ) -> None:  # fmt: skip
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.Conv2d(inputs, outputs, kernel, stride, padding), nn.BatchNorm2d(outputs)
        )
        self.residual = residual

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        y = self.conv_block(x)
        return torch.relu(y + x if self.residual else y)


def audio_encoder() -> nn.Sequential:
    """Wav2Lip's audio encoder, 13 convolutions: ``(b, 1, 80, 16)`` mel windows -> ``(b, 512, 1, 1)``.

    Source: Prajwal et al. 2020, "A Lip Sync Expert Is All You Need for Speech to Lip Generation In the Wild".
    """
    layers, inputs = [], 1
    for width, stride, residual in PLAN:
        layers.append(AudioConvolution(inputs, width, 3, stride, 1, residual))
        inputs = width
    layers.append(AudioConvolution(inputs, FEATURES, 3, 1, 0, False))
    layers.append(AudioConvolution(FEATURES, FEATURES, 1, 1, 0, False))
    return nn.Sequential(*layers)


class ExpNet(nn.Module):
    """SadTalker's audio to expression network (Zhang et al. 2023, section 3.2), one video frame at a time.

    Keys ``audio_encoder.*`` and ``mapping1.*``.

    Args:
        coefficients: expressions of the 3D model; 64 of Deep3DFaceRecon's.
    """

    def __init__(self, coefficients: int = 64) -> None:
        super().__init__()
        self.audio_encoder = audio_encoder()
        self.mapping1 = nn.Linear(FEATURES + coefficients + 1, coefficients)

    def forward(
        self, windows: Float[Tensor, "t 80 16"], reference: Float[Tensor, " e"], blink: Float[Tensor, " t"]
    ) -> Float[Tensor, "t e"]:
        """Expression of each frame.

        Args:
            windows: normalised mel; reference: expression of the first frame; blink: how far the eyes are closed, 0 to 1.
        """
        # published: in chunks of ten frames, which a frozen network does not notice
        features = torch.cat([self.audio_encoder(part[:, None]).flatten(1) for part in windows.split(10)])
        given = reference.expand(len(windows), -1)
        return self.mapping1(torch.cat([features, given, blink[:, None]], 1))


class SpeechExpression(nn.Module):
    """Our network: expression coefficients of any head from mel windows, with temporal convolutions over the frames.

    Small on purpose: half a minute of one speaker is what people have. Bands and columns are averaged before anything is learnt
    (a convolution over the whole window learnt no more from 24 s and took ten times as long).

    A gate on the loudness of each window blends between the speaker's rest expression and what the network says, so that
    silence gives the rest expression exactly, whatever the weights; the last layer starts at zero, at the same expression.

    Args:
        coefficients: how many the head has.
        width: channels.
        reach: frames on either side that a frame sees (two convolutions of ``reach + 1`` frames; even).
        quiet, speaking: loudness (mean of a window's normalised mel, -4 to 4) up to which the gate is shut, and from which
            it is open. Pauses of a speech recorded indoors are at -3.4 to -3.0, its median is -1.8: people keep their lips apart
            in a pause, so only a sound that is over shuts the gate.
        dropout: share of features left out in training.
    """

    rest: Float[Tensor, " e"]

    def __init__(
        self, coefficients: int, width: int = 64, reach: int = 4, quiet: float = -3.5, speaking: float = -3.1,
        dropout: float = 0.2,
    ) -> None:  # fmt: skip
        super().__init__()
        self.quiet, self.speaking = quiet, speaking
        self.register_buffer("rest", torch.zeros(coefficients))
        # no normalisation: within a window it would take away how loud each band is
        self.encoder = nn.Sequential(
            nn.AvgPool2d(POOL), nn.Flatten(), nn.Dropout(dropout),
            nn.Linear(80 // POOL[0] * 16 // POOL[1], width),
        )  # fmt: skip
        self.temporal = nn.Sequential(
            nn.SiLU(), nn.Dropout(dropout), nn.Conv1d(width, width, reach + 1, padding=reach // 2),
            nn.SiLU(), nn.Dropout(dropout), nn.Conv1d(width, width, reach + 1, padding=reach // 2), nn.SiLU(),
        )  # fmt: skip
        self.head = nn.Conv1d(width, coefficients, 1)
        for layer in (*self.encoder, *self.temporal):
            if isinstance(layer, (nn.Conv1d, nn.Linear)):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)

    def gate(self, windows: Float[Tensor, "b t 80 16"]) -> Float[Tensor, "b t 1"]:
        """0 in silence, 1 in speech, smooth between."""
        loudness = windows.mean((2, 3))
        x = ((loudness - self.quiet) / (self.speaking - self.quiet)).clamp(0, 1)
        return (x * x * (3 - 2 * x))[..., None]

    def forward(self, windows: Float[Tensor, "b t 80 16"]) -> Float[Tensor, "b t e"]:
        centred = (windows.flatten(0, 1)[:, None] - TYPICAL) / SPREAD
        features = self.encoder(centred).unflatten(0, windows.shape[:2])
        said = self.head(self.temporal(features.transpose(1, 2))).transpose(1, 2)
        return self.rest + self.gate(windows) * said


def speech_loss(
    predicted: Float[Tensor, "b t e"],
    target: Float[Tensor, "b t e"],
    weights: Float[Tensor, " e"] | None = None,
    velocity: float = 10.0,
) -> Float[Tensor, ""]:
    """Mean squared error of the coefficients, plus ``velocity`` times that of their change from frame to frame.

    The second term is what keeps the mouth from flickering (as in VOCA, Cudeiro et al. 2019).

    Args:
        weights: how much each coefficient matters, e.g. 1 for the mouth's and 0 for the eyes'; ``None``: all alike.
    """
    difference = predicted - target
    if weights is not None:
        difference = difference * weights.sqrt()
    loss = difference.square().mean()
    if difference.shape[1] > 1:
        loss = loss + velocity * F.mse_loss(difference[:, 1:], difference[:, :-1])
    return loss
