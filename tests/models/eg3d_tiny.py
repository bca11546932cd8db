"""A GAN that trains in milliseconds a step: 32 pixels, coloured squares for people. Also run as a script, by two processes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import lightning as L
import torch

from avatarzoo.data.portraits import MemoryStore, PortraitDataModule
from avatarzoo.data.procedural_people import Portraits, portrait_cameras, portrait_labels
from avatarzoo.models.eg3d import EG3DTraining
from avatarzoo.networks.superresolution import LAYOUTS, Layout

LAYOUT = Layout(32, 16, (8, 8), (1, 2), True, True)
CHANGES = {
    "latent_dim": 8,
    "code_dim": 16,
    "plane_resolution": 16,
    "plane_channels": 4,
    "channel_base": 128,
    "channel_max": 16,
    "superresolution": "2X",
    "half": False,
    "neural_resolution": 16,
    "coarse_samples": 4,
    "fine_samples": 4,
}
OPTIONS = {
    "blur": 2.0,
    "blur_over": 0.02,
    "swap_start": 0.7,
    "swap_over": 0.02,
    "neural_start": 8,
    "neural_over": 0.03,
}


class Squares(PortraitDataModule):
    """Sixteen pictures with cameras."""

    def __init__(self, batch_size: int = 4) -> None:
        super().__init__(batch_size, seed=3)

    def setup(self, stage: str) -> None:
        draws = torch.Generator().manual_seed(0)
        images = torch.full((16, 3, 32, 32), 255, dtype=torch.uint8)
        images[:, :, 8:24, 8:24] = torch.randint(256, (16, 3, 1, 1), generator=draws).byte()
        camera = portrait_cameras(torch.linspace(-0.5, 0.5, 16), torch.zeros(16), 32)
        self.store = MemoryStore(Portraits(images, portrait_labels(camera), torch.arange(16)))


class Curve(L.Callback):
    """The logged losses of every step."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.rows.append({k: float(v) for k, v in trainer.callback_metrics.items()})


def tiny(**options) -> EG3DTraining:
    return EG3DTraining(changes=CHANGES, **{**OPTIONS, **options})


def trainer(steps: int, folder: Path, *callbacks: L.Callback, **options) -> L.Trainer:
    return L.Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=str(folder),
        callbacks=list(callbacks),
        **{"devices": 1, **options},
    )


def main() -> None:
    """Train ``sys.argv[1]`` processes for four steps, eight pictures each in all; write the curve and the weights."""
    processes, folder = int(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    LAYOUTS["2X"] = LAYOUT
    curve, module = Curve(), tiny(stochastic=False)
    strategy = "ddp_find_unused_parameters_true" if processes > 1 else "auto"
    run = trainer(4, folder, curve, devices=processes, strategy=strategy)
    run.fit(module, Squares(8 // processes))
    if run.is_global_zero:
        torch.save(module.state_dict(), folder / f"{processes}.pt")
        (folder / f"{processes}.json").write_text(json.dumps(curve.rows))


if __name__ == "__main__":
    main()
