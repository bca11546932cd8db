"""A made-up moving person with exact parameters as training data: quickstart, tests, nothing to download or track."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from avatarzoo.data.frames import FrameDataModule, FrameStore
from avatarzoo.data.procedural import ProceduralActor, ProceduralClip
from avatarzoo.heads import load_head
from avatarzoo.perception.parsing import Votes, parse_head, reference_shape
from avatarzoo.perception.regions import FEATURES


def head_labels(clip: ProceduralClip) -> tuple[np.ndarray, np.ndarray]:
    """Label maps and head masks ``(T, H, W)`` uint8, cut from the exact masks by the rule that serves real videos."""
    votes = Votes(reference_shape(clip.landmarks), None, None)
    pairs = [
        parse_head(m.astype(np.float32) / 255, p, votes) for m, p in zip(clip.head_masks, clip.landmarks)
    ]
    labels, masks = (np.stack(x) for x in zip(*pairs))
    return labels, masks


def head_regions(clip: ProceduralClip) -> tuple[Tensor, Tensor]:
    """Head masks and facial features ``(T, H, W)`` uint8; see :func:`head_labels`."""
    labels, masks = head_labels(clip)
    features = np.isin(labels, [int(region) for region in FEATURES])
    return torch.from_numpy(masks), torch.from_numpy(features).byte() * 255


class ProceduralActorDataModule(FrameDataModule):
    """Frames of one procedural person, rendered when first asked for.

    Results on this data say nothing about real people and are labelled so.

    Args:
        head: must be ``procedural``; the command line sets it to the model's own.
        head_file: unused; the procedural head is made by code.
        actor: seed of the person.
        n_frames: length of the clip.
        size: side of the pictures in pixels.
        batch_size: views per step.
        train_fraction: the first part trains, the rest is held out.
        background: grey level behind the head.
        seed: order of the batches.
    """

    is_procedural = True

    def __init__(
        self,
        head: str = "procedural",
        head_file: str | None = None,
        actor: int = 0,
        n_frames: int = 200,
        size: int = 256,
        batch_size: int = 2,
        train_fraction: float = 0.9,
        background: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, train_fraction, background, seed)
        self.save_hyperparameters(logger=False)  # names may repeat those of the method

    def setup(self, stage: str) -> None:
        if hasattr(self, "frames"):
            return
        hp = self.hparams
        self.head_signature = load_head("procedural").signature
        clip = ProceduralActor(seed=hp["actor"], size=hp["size"]).sequence(hp["n_frames"])
        images = torch.from_numpy(clip.images).permute(0, 3, 1, 2).contiguous()
        masks, features = head_regions(clip)
        self.frames = FrameStore(
            images, masks, features, clip.params, clip.camera, torch.arange(hp["n_frames"])
        )

    def describe(self) -> dict[str, Any]:
        hp = self.hparams
        return {
            "kind": "procedural actor (not a real person)",
            "actor": hp["actor"],
            "frames": hp["n_frames"],
            "train_frames": self.n_train,
            "held_out": f"last {len(self.frames) - self.n_train} frames",
            "size": hp["size"],
            "background": self.background,
            "tracking": "exact ground truth",
        }
