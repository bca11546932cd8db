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
BAND, MIDDLE = 8, slice(5, 9)
"""Mel bands and columns (those at the video frame) that :class:`SpeechExpression` averages."""
BEFORE, AFTER = 2, 7
"""Frames before and after its own that a frame hears."""
LATER, DURATION = 2.5, 1.6
"""Centre and deviation of the frames by their importance: sound follows the lips by 0.1 s."""
SILENCE, TYPICAL, SPREAD = -4.0, -1.8, 1.4
"""Least, and median and deviation in speech, of the mel values."""


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
    """Our network: expression coefficients of any head from mel windows, by kernel ridge regression with random features.

    Half a minute of one speaker is what people have, too little for weights that gradients find. A frame is described by the
    loudness of ten bands in the frames around it, most of all a tenth of a second later (lips move before they are heard).
    Cosines in random directions of this description (Rahimi and Recht 2007, "Random Features for Large-Scale Kernel Machines")
    stand for a Gaussian kernel on it; :attr:`weight`, on top, is linear least squares, see :class:`.least_squares.LeastSquares`.

    A gate on the loudness of each window makes the answer exactly 0 in silence, whatever the weights.

    Args:
        coefficients: how many are predicted.
        features: random directions.
        bandwidth: of the kernel, in deviations of the mel values of speech.
        quiet, speaking: loudness (mean of a window's normalised mel, -4 to 4) up to which the gate is shut, and from which
            it is open. Pauses of a speech recorded indoors are at -3.4 to -3.0, its median is -1.8: people keep their lips apart
            in a pause, so only a sound that is over shuts the gate.
    """

    importance: Float[Tensor, " k"]
    directions: Float[Tensor, "d f"]
    phases: Float[Tensor, " f"]

    def __init__(
        self, coefficients: int, features: int = 1024, bandwidth: float = 1.8, quiet: float = -3.5,
        speaking: float = -3.1,
    ) -> None:  # fmt: skip
        super().__init__()
        self.quiet, self.speaking = quiet, speaking
        frames = torch.arange(-BEFORE, AFTER + 1)
        importance = torch.exp(-0.5 * ((frames - LATER) / DURATION).square())[:, None].expand(-1, 80 // BAND)
        self.register_buffer("importance", importance.flatten() / importance.norm(), persistent=False)
        self.register_buffer("directions", torch.randn(importance.numel(), features) / bandwidth)
        self.register_buffer("phases", 2 * torch.pi * torch.rand(features))
        self.weight = nn.Parameter(torch.zeros(features, coefficients))

    def gate(self, windows: Float[Tensor, "b t 80 16"]) -> Float[Tensor, "b t 1"]:
        """0 in silence, 1 in speech, smooth between."""
        loudness = windows.mean((2, 3))
        x = ((loudness - self.quiet) / (self.speaking - self.quiet)).clamp(0, 1)
        return (x * x * (3 - 2 * x))[..., None]

    def describe(self, windows: Float[Tensor, "b t 80 16"]) -> Float[Tensor, "b t f"]:
        """What :attr:`weight` is applied to; zero in silence. Beyond its ends the sound is silent."""
        bands = windows[..., MIDDLE].mean(-1).unflatten(-1, (-1, BAND)).mean(-1)
        bands = F.pad((bands - TYPICAL) / SPREAD, (0, 0, BEFORE, AFTER), value=(SILENCE - TYPICAL) / SPREAD)
        around = bands.unfold(1, BEFORE + 1 + AFTER, 1).transpose(2, 3).flatten(2)
        waves = torch.cos(around * self.importance @ self.directions + self.phases)
        return self.gate(windows) * waves * (2 / len(self.phases)) ** 0.5

    def forward(self, windows: Float[Tensor, "b t 80 16"]) -> Float[Tensor, "b t e"]:
        return self.describe(windows) @ self.weight
