"""Training of the speech network (stage 4 without anyone's weights): tracked people who speak, one clip with sound or more.

Paper section 3.4 takes the expressions of sound from SadTalker's network; ours is trained here on the user's own head model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from jaxtyping import Float
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor

from avatarzoo.data.sound import RATE
from avatarzoo.data.speech_clips import LOWER_LIP, UPPER_LIP, SpokenClip
from avatarzoo.errors import HeadModelMismatchError, UsageError
from avatarzoo.files import atomic_path
from avatarzoo.heads import load_head
from avatarzoo.heads.base import HeadModel, HeadParams
from avatarzoo.networks.audio_encoder import AFTER, BEFORE
from avatarzoo.networks.least_squares import LeastSquares
from avatarzoo.perception.landmarks import CHIN, LIPS, TOP
from avatarzoo.perception.speech import CONTENT, Speech, driving_width

MOUTH_SHARE = 0.03
"""A coefficient belongs to the mouth if it moves lips and chin at least by this share of what the strongest does."""
SHUT, QUIET = 0.2, 0.5
"""The rest expression is the mean over the most shut fifth of the quieter half of the training frames."""
MILLIMETRES = 1000.0
INNER_LIPS = (191, 80, 81, 82, 13, 312, 311, 310, 415, 95, 88, 178, 87, 14, 317, 402, 318, 324)


class SpeechTraining(L.LightningModule):
    """Sound to the expression of a head, by ridge regression in closed form.

    Every step adds disturbed pieces of the training seconds to the sums of :class:`LeastSquares`, which know
    neither order nor learning rate. Only the mouth's coefficients are learnt, others stay at rest.

    Args:
        head, head_file: head model whose expressions are predicted.
        features, bandwidth: see :class:`.audio_encoder.SpeechExpression`.
        ridge: see :class:`LeastSquares`; less for longer videos.
        seed: of the random features.
    """

    consent: dict[str, str] | None = None

    def __init__(
        self,
        head: str = "procedural",
        head_file: str | None = None,
        features: int = 1024,
        bandwidth: float = 1.8,
        ridge: float = 3e-4,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.head = load_head(head, head_file)
        basis = mouth_basis(self.head) * MILLIMETRES
        size = basis.flatten(0, 1).norm(dim=0)
        mouth = size >= MOUTH_SHARE * size.max()
        self.register_buffer("basis", (basis * mouth).flatten(0, 1), persistent=False)
        self.register_buffer("mouth", mouth.float(), persistent=False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.speech = Speech(basis.shape[-1], self.head.signature, features, bandwidth)

    def setup(self, stage: str) -> None:
        """Take the rest expression from the training frames.

        Raises:
            HeadModelMismatchError: the clips were tracked with another head model.
            UsageError: no frame of a piece has all the sound that it hears within the piece.
        """
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if data.head_signature != self.head.signature:
            raise HeadModelMismatchError(
                f"The clips were tracked with the head model {data.head_signature['name']}; use --model.head of that name."
            )
        if data.hparams["frames"] <= BEFORE + AFTER:
            raise UsageError(f"Pieces are too short; use --data.frames of at least {BEFORE + AFTER + 1}.")
        if stage == "fit":
            self.speech.rest.copy_(rest_numbers(data.clips, self.mouth.bool().cpu()))

    def configure_optimizers(self) -> LeastSquares:
        return LeastSquares(self.speech.network.weight, self.hparams["ridge"])

    @torch.no_grad()
    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Take in those frames of the pieces that are heard as in the whole sound."""
        optimiser = cast(LightningOptimizer, self.optimizers())
        features = self.speech.network.describe(batch["windows"])[:, BEFORE:-AFTER].flatten(0, 1)
        change = ((batch["target"] - self.speech.rest) * self.mouth)[:, BEFORE:-AFTER].flatten(0, 1)
        missed = (change - features @ self.speech.network.weight) @ self.basis.T
        self.log("lips_mm", missed.square().mean().sqrt(), prog_bar=True)
        cast(LeastSquares, optimiser.optimizer).add(features, change)
        optimiser.step()

    def validation_step(self, clip: SpokenClip, batch_idx: int) -> dict[str, float]:
        """How the driven mouth follows the tracked one in the held-out seconds."""
        scores = self.score(clip, self.hear(clip))
        self.log_dict(
            {f"held_{k}": v for k, v in scores.items()},
            prog_bar=True,
            on_epoch=True,
            batch_size=int(clip.held.sum()),
        )
        return scores

    def export(self, folder: str | Path) -> Path:
        """Scores of the held-out seconds to the screen, driven and tracked mouth to ``speech.png``."""
        heard = []
        self.eval()
        for clip in self.trainer.datamodule.clips:  # type: ignore[attr-defined]
            said = self.hear(clip)
            heard.append((clip, self.opening(said)))
            scores = {**self.score(clip, said), "sound_delay": clip.delay}
            print(f"{clip.name}, held-out seconds: " + ", ".join(f"{k} {v:.3f}" for k, v in scores.items()))
        path = draw(heard, Path(folder) / "speech.png")
        print(f"Picture: {path}")
        return path

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Whole clips stay where they are; the network fetches what it hears."""
        if isinstance(batch, SpokenClip):
            return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[CONTENT] = self.speech.config
        if self.consent is not None:
            checkpoint["avatarzoo_consent"] = self.consent

    def hear(self, clip: SpokenClip) -> Float[Tensor, "t e"]:
        """Driving numbers of all frames of a clip, from its sound alone (in sync)."""
        late = round(clip.delay * RATE)
        sound = clip.samples[late:] if late >= 0 else torch.cat([clip.samples.new_zeros(-late), clip.samples])
        return self.speech.speak(sound, RATE, clip.fps, len(clip.held)).cpu()

    @torch.no_grad()
    def opening(self, numbers: Float[Tensor, "t e"]) -> Float[Tensor, " t"]:
        """Distance of the inner lips over the height of the mean face."""
        parts = numbers.to(self.device).split(100)
        return torch.cat([face_opening(self.head, driven(self.head, part)) for part in parts]).cpu()

    def score(self, clip: SpokenClip, said: Float[Tensor, "t e"]) -> dict[str, float]:
        """Correlation of the driven opening with that of the landmarks and of the tracked expression, and their deviations' ratio."""
        held, driven_gap = clip.held, self.opening(said)[clip.held]
        fitted = self.opening(clip.numbers[held])
        return {
            "correlation": correlation(driven_gap, clip.opening[held]),
            "correlation_fitted": correlation(driven_gap, fitted),
            "amplitude": float(driven_gap.std() / fitted.std()),
            "lips_mm": float(((said - clip.numbers)[held] @ self.basis.T.cpu()).square().mean().sqrt()),
        }


def driven(head: HeadModel, numbers: Float[Tensor, "t e"]) -> HeadParams:
    """The mean face with these driving numbers."""
    return head.zeros(len(numbers), numbers.device).spoken(numbers)


def face_opening(head: HeadModel, params: HeadParams) -> Float[Tensor, " t"]:
    points = head.landmark_points(head(params))
    gap = (points[:, UPPER_LIP] - points[:, LOWER_LIP]).norm(dim=-1)
    return gap / (points[:, TOP] - points[:, CHIN]).norm(dim=-1)


@torch.no_grad()
def mouth_basis(head: HeadModel) -> Float[Tensor, "l 3 e"]:
    """Metres by which lips and chin move for a unit of each driving number (for the jaw: the secant over a tenth of a radian)."""
    width = driving_width(head)
    step = torch.ones(width)
    step[head.n_expression :] = 0.1
    points = head.landmark_points(head(driven(head, torch.cat([torch.zeros(1, width), torch.diag(step)]))))
    moved = (points[1:] - points[:1])[:, [*LIPS, *INNER_LIPS, CHIN]]
    return moved.movedim(0, -1) / step


def rest_numbers(clips: Sequence[SpokenClip], mouth: Tensor) -> Float[Tensor, " e"]:
    """The speakers' expression in silence: a shut mouth, all else as it mostly is.

    The mean over quiet frames alone would leave the mouth open: people who pause between words keep their lips apart.
    """
    shut, usual = [], []
    for clip in clips:
        rows = clip.train.nonzero()[:, 0]
        columns = (rows / clip.fps * 80).round().long().clamp_max(clip.mel.shape[1] - 1)
        loudness = clip.mel.mean(0)[columns]
        rows = rows[loudness <= loudness.quantile(QUIET)]
        gap = clip.opening[rows]
        shut.append(clip.numbers[rows[gap <= gap.quantile(SHUT)]].mean(0))
        usual.append(clip.numbers[clip.train].median(0).values)
    return torch.where(mouth, torch.stack(shut).mean(0), torch.stack(usual).mean(0))


def correlation(a: Float[Tensor, " t"], b: Float[Tensor, " t"]) -> float:
    """Pearson's; 0 where one of them stands still."""
    a, b = a.double() - a.double().mean(), b.double() - b.double().mean()
    scale = a.norm() * b.norm()
    return float(a @ b / scale) if scale > 1e-9 else 0.0


def draw(tested: Sequence[tuple[SpokenClip, Tensor]], path: Path) -> Path:
    """Driven and tracked opening of the held-out seconds, one row a clip."""
    import matplotlib.figure

    figure = matplotlib.figure.Figure(figsize=(12, 3 * len(tested)), layout="constrained")
    for axes, (clip, said) in zip(figure.subplots(len(tested), squeeze=False)[:, 0], tested):
        rows = clip.held.nonzero()[:, 0]
        match = correlation(said[rows], clip.opening[rows])
        axes.plot(rows / clip.fps, 100 * clip.opening[rows], label="tracked", color="black", linewidth=1)
        axes.plot(rows / clip.fps, 100 * said[rows], label="driven by sound", color="tab:red", linewidth=1.5)
        axes.set(
            title=f"{clip.name}: correlation {match:.2f}", xlabel="s", ylabel="mouth opening, % of the face"
        )
        axes.legend(loc="upper right")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100)
    return path
