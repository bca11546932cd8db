"""Made-up people of a generative prior, two views each: NOFA++'s synthetic data, drawn on the fly (paper section 3.3, stages 1 and 3).

Batches hold numbers only; the method renders them with its frozen generator.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import lightning as L
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatarzoo.data.frames import shuffled
from avatarzoo.data.procedural_people import PITCH_SPREAD, YAW_SPREAD
from avatarzoo.data.step_batches import StepBatches, training_batches
from avatarzoo.errors import BadDatasetError, UsageError
from avatarzoo.priors.cameras import sphere_label
from avatarzoo.priors.eg3d_config import EG3DConfig

VIEWS = 2
CUT = 2.5
"""Angles beyond so many standard deviations are moved to it."""
Part = Literal["train", "held_out"]
SETS: dict[Part, int] = {"train": 0, "held_out": 1}


class PriorSamplesDataModule(L.LightningDataModule):
    """Batches ``{"latent": (b, z) of N(0, 1), "labels": (b, 2, 25)}``: people and the EG3D cameras of their two pictures.

    A sample is a function of (seed, step, row) alone; with a ``pool`` samples come again, each once a pass in an order drawn anew,
    and ``"number"`` (b,) says which, so that a method can keep what it drew. Of W processes that train together, number r gets rows
    r, r + W, ... of a batch of W times ``batch_size``. Held-out people do not depend on the seed.

    Args:
        latent_dim: latent numbers of the prior (small prior: 48; EG3D: 512).
        batch_size: people per step and process (paper: 4 on 4 GPUs).
        held_out: people to measure on.
        pool: so many different samples; 0: never the same twice (paper).
        yaw, pitch: standard deviations of the cameras' angles in radians, cut at 2.5 deviations.
        pivot: depth of the point that cameras look at, in world units (EG3D's FFHQ: 0.2; small prior: 0).
        cameras: folder of a picture set whose labels are drawn instead, as EG3D draws them; yaw, pitch and pivot are unused then.
        layout: of that folder (``ffhq``, ``lpff``).
        seed: of the people and cameras trained on.

    Raises:
        UsageError: an empty batch, nobody held out, or a latent without numbers.
    """

    is_procedural = True

    def __init__(
        self,
        latent_dim: int = 48,
        batch_size: int = 4,
        held_out: int = 16,
        pool: int = 0,
        yaw: float = YAW_SPREAD,
        pitch: float = PITCH_SPREAD,
        pivot: float = 0.0,
        cameras: str | None = None,
        layout: str = "ffhq",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if min(latent_dim, batch_size, held_out) < 1:
            raise UsageError(
                f"--data.latent_dim, --data.batch_size and --data.held_out must be at least 1, not {latent_dim}, {batch_size} and "
                f"{held_out}; without held-out people nothing can be measured."
            )
        self.save_hyperparameters(logger=False)  # names may repeat those of the method
        self.batch_size, self.seed = batch_size, seed
        self.listed: Float[Tensor, "n 25"] | None = None

    def setup(self, stage: str) -> None:
        """Read the cameras of a picture set. Raises BadDatasetError: it is not there, or no picture has a camera."""
        hp = self.hparams
        if hp["cameras"] is None or self.listed is not None:
            return
        from avatarzoo.data.layouts import layout

        labels = [item.camera for item in layout(hp["layout"]).items(hp["cameras"]) if item.camera]
        if not labels:
            raise BadDatasetError(
                f"No picture in {hp['cameras']} has a camera label; EG3D's preparation scripts write dataset.json."
            )
        self.listed = torch.tensor(labels)

    def describe(self) -> dict[str, Any]:
        """What a result file says of the data."""
        names = ("held_out", "pool", "yaw", "pitch", "pivot", "cameras")
        return {"kind": "samples of the prior (not real people)", **{k: self.hparams[k] for k in names}}

    def sample(self, part: Part, step: int, rows: Iterable[int]) -> dict[str, Tensor]:
        """These rows of a batch; of held-out people a row is one person, and ``step`` is 0."""
        width, seed = self.hparams["latent_dim"], self.seed if part == "train" else 0
        drawn = np.stack(
            [
                np.random.default_rng([SETS[part], seed, step, row]).normal(size=width + 2 * VIEWS)
                for row in rows
            ]
        )
        numbers = torch.from_numpy(drawn).float()
        return {"latent": numbers[:, :width].clone(), "labels": self._labels(numbers[:, width:])}

    def _labels(self, numbers: Float[Tensor, "b v2"]) -> Float[Tensor, "b v 25"]:
        if self.listed is not None:
            share = torch.special.ndtr(numbers[:, :VIEWS].double())
            return self.listed[(share * len(self.listed)).long().clamp_max(len(self.listed) - 1)]
        hp = self.hparams
        yaw, pitch = (
            (numbers.clamp(-CUT, CUT) * numbers.new_tensor([hp["yaw"], hp["pitch"]] * VIEWS)).view(-1, 2).T
        )
        looking = EG3DConfig(camera_pivot=(0.0, 0.0, hp["pivot"]))
        labels = sphere_label(yaw, -pitch.sin() * math.pi / 2, looking)  # EG3D's pitch is no angle
        return labels.view(-1, VIEWS, 25)

    def batch(self, step: int, rank: int = 0, world: int = 1) -> dict[str, Tensor]:
        """The part of training batch ``step`` of process ``rank`` of ``world``."""
        whole, pool = self.batch_size * world, self.hparams["pool"]
        if not pool:
            return self.sample("train", step, range(rank, whole, world))
        numbers = shuffled(pool, step * whole, whole, self.seed)[rank::world]
        return {**self.sample("train", 0, numbers.tolist()), "number": numbers}

    def train_dataloader(self) -> StepBatches:
        trainer = self.trainer
        assert trainer is not None
        return training_batches(
            trainer, lambda step: self.batch(step, trainer.global_rank, trainer.world_size)
        )

    def val_dataloader(self) -> HeldOutSamples:
        return HeldOutSamples(self)


class HeldOutSamples:
    """The same people and cameras for all runs, in batches."""

    def __init__(self, data: PriorSamplesDataModule) -> None:
        self.data = data
        people = range(data.hparams["held_out"])
        self.parts = [people[k : k + data.batch_size] for k in people[:: data.batch_size]]

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for rows in self.parts:
            yield self.data.sample("held_out", 0, rows)
