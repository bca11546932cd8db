"""NOFA++'s training stages (sections 3.4 and 4.1) as a table: what trains on what, with which losses and rate."""

from __future__ import annotations

from typing import Literal, NamedTuple

from avatarzoo.errors import UsageError
from avatarzoo.models.nofaplusplus.generator import PARTS, Part

StageName = Literal["1a", "1b", "2", "3", "4"]
Kind = Literal["synthetic", "video"]


class Iteration(NamedTuple):
    """One kind of iteration of a stage.

    Attributes:
        trained: the parts that an optimiser step changes.
        weights: of the losses. Synthetic: ``lpips``, ``l2``, ``depth``; video: ``rec``, ``bbox``, ``id``.
        fine: losses are on the fine volume, not on the coarse one.
        deformed: the deformation field is in use.
        mouth_only: the boxes of the local reconstruction loss are the mouth's alone.
    """

    trained: tuple[Part, ...]
    weights: dict[str, float]
    fine: bool = True
    deformed: bool = True
    mouth_only: bool = False


class Stage(NamedTuple):
    """Iterations by kind, Adam's rate and how many iterations the paper ran."""

    synthetic: Iteration | None
    video: Iteration | None
    rate: float
    iterations: int

    def kind(self, step: int) -> Kind:
        """Of iteration ``step``: two on videos, then one on synthetic people, where a stage has both."""
        if self.synthetic is None or self.video is None:
            return "video" if self.synthetic is None else "synthetic"
        return "synthetic" if step % 3 == 2 else "video"

    def iteration(self, step: int, kind: Kind) -> Iteration:
        """The iteration that a batch of this kind makes.

        Raises:
            UsageError: it is the other kind's turn.
        """
        if kind != self.kind(step):
            raise UsageError(
                f"Step {step} of this stage trains on {NEEDS[self.kind(step)]}, but the data brought {NEEDS[kind]}; "
                "--data.class_path of configs/nofaplusplus has each stage's data."
            )
        found = self.synthetic if kind == "synthetic" else self.video
        assert found is not None
        return found


NEEDS: dict[Kind, str] = {"synthetic": "samples of the prior", "video": "pairs of frames"}
RECONSTRUCTION = {"lpips": 1.0, "l2": 1.0, "depth": 2.0}
"""Equation 5."""

STAGES: dict[str, Stage] = {
    # equation 5 on V_c
    "1a": Stage(Iteration(("encoder",), RECONSTRUCTION, fine=False, deformed=False), None, 1e-4, 1_000_000),
    # equation 9: the same on V_e
    "1b": Stage(Iteration(("detail",), RECONSTRUCTION, deformed=False), None, 1e-4, 200_000),
    # equation 13; paper: "the entire model"
    "2": Stage(None, Iteration(PARTS, {"rec": 1.0, "bbox": 1.0, "id": 0.1}), 2e-5, 1_000_000),
    # "Refinement training with hybrid data"
    "3": Stage(
        Iteration(PARTS, RECONSTRUCTION), Iteration(("field",), {"bbox": 2.0, "id": 1.0}), 1e-4, 200_000
    ),
    # "Audio-video joint training"
    "4": Stage(
        None, Iteration(("field",), {"bbox": 1.0, "id": 0.2}, mouth_only=True), 2e-5, 200_000
    ),
}  # fmt: skip
"""Stage 5, fast adaptation, optimises one picture's feature and no network: :mod:`avatarzoo.models.nofaplusplus.adaptation`."""
