"""Training throughput of Deja-vu's reconstruction network: pictures a second, and how long the device waits for data.

    python benchmarks/speed/reconstruction.py [--size 512] [--batch 16] [--map 320] [--width 64] [--steps 30] [--data FOLDER]
        [--precision 32-true] [--require-busy 0.9]

Trains with the classes of configs/gaussian_dejavu/reconstruct_paper.yaml: one person a batch, pictures decoded from disk while the
device works. Without --data (PERSON/VIEW as avatarzoo track writes them) made-up people are drawn and written first. On CUDA the
default sizes are the paper's and the busy share is that of the profiler (the union of its kernels); on a CPU they are reduced, to see
that everything runs, and the busy share is the time outside of waiting for the next batch.
Exits with 1 where the device is busy for less than --require-busy.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from avatarzoo.data.multiview_modules import TrackedPeopleDataModule
from avatarzoo.data.multiview_procedural import draw_person
from avatarzoo.data.sequence import TrackedSequence
from avatarzoo.evaluation.results import environment
from avatarzoo.heads import ProceduralHead
from avatarzoo.models import GaussianReconstruction
from avatarzoo.perception.regions import Region

PAPER = {"size": 512, "batch": 16, "map": 320, "width": 64, "steps": 30}
REDUCED = {"size": 64, "batch": 4, "map": 64, "width": 8, "steps": 6}
WARM_UP = 3
"""Steps that are not timed."""
GRID = 5, 5
"""Cameras of the made-up people."""


class Speed(NamedTuple):
    """What was measured.

    Attributes:
        pictures: a second, through the network and back. waiting: share of the time spent waiting for the next batch.
        busy: share of the time in which the device works.
    """

    pictures: float
    waiting: float
    busy: float


def main(argv: list[str] | None = None) -> int:
    cuda = torch.cuda.is_available()
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (PAPER if cuda else REDUCED).items():
        p.add_argument(f"--{name}", type=int, default=value)
    p.add_argument("--data", type=Path, help="folder of tracked people (default: made-up ones)")
    p.add_argument("--precision", default="32-true", help="of the trainer")
    p.add_argument("--require-busy", type=float, default=0.0)
    args = p.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        speed = measure(args, Path(folder))
    machine = environment()
    print(
        f"{machine['device']}, {machine['threads']} threads, torch {machine['versions']['torch']}, {args.precision}"
    )
    print(
        f"batch {args.batch}, pictures of {args.size}, maps of {args.map}, width {args.width}: {speed.pictures:.2f} pictures/s; "
        f"waiting for data {speed.waiting:.1%}, device busy {speed.busy:.1%}"
    )
    return 0 if speed.busy >= args.require_busy else 1


def measure(args: argparse.Namespace, folder: Path) -> Speed:
    """Train for ``args.steps`` after a warm-up; made-up people are written into ``folder``."""
    root = args.data or made_up(folder, args.size)
    head = TrackedSequence.open(next(root.rglob("sequence.json")).parent).info["head"]["name"]
    torch.set_float32_matmul_precision("high")
    module = GaussianReconstruction(
        head=head, uv_size=args.map, network_size=args.map, network_width=args.width, initialization="paper",
        resolutions=[args.size], random_background=False,
    )  # fmt: skip
    data = TrackedPeopleDataModule(str(root), head, held_out=1, people=1, views=args.batch, size=args.size)
    watch = Stopwatch()
    trainer = L.Trainer(
        max_steps=WARM_UP + args.steps, max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, limit_val_batches=0, num_sanity_val_steps=0, callbacks=[watch], precision=args.precision,
        devices=1, default_root_dir=folder,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    return watch.speed(args.steps * args.batch)


class Stopwatch(L.Callback):
    """Times steps after the warm-up, and on CUDA records kernels."""

    def __init__(self) -> None:
        self.waited, self.ended, self.began = 0.0, 0.0, 0.0
        self.kernels: profile | None = None

    def on_train_batch_start(
        self, trainer: L.Trainer, module: L.LightningModule, batch: Any, number: int
    ) -> None:
        if number == WARM_UP:
            if module.device.type == "cuda":
                torch.cuda.synchronize()
                self.kernels = profile(activities=[ProfilerActivity.CUDA])
                self.kernels.start()
            self.began = time.perf_counter()
        elif number > WARM_UP:
            self.waited += time.perf_counter() - self.ended

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        self.ended = time.perf_counter()

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if self.kernels is not None:
            torch.cuda.synchronize()
            self.ended = time.perf_counter()
            self.kernels.stop()

    def speed(self, pictures: int) -> Speed:
        spent = self.ended - self.began
        waiting = self.waited / spent
        if self.kernels is None:
            return Speed(pictures / spent, waiting, 1 - waiting)
        return Speed(pictures / spent, waiting, union(self.kernels) / spent)


def union(recorded: profile) -> float:
    """Seconds in which at least one kernel or copy ran."""
    ran = [e.time_range for e in recorded.events() if e.device_type == DeviceType.CUDA]
    spans = sorted((t.start, t.end) for t in ran)
    ends = np.maximum.accumulate([end for _, end in spans])
    idle = sum(max(0.0, later[0] - end) for end, (_, later) in zip(ends, pairwise(spans)))
    return (ends[-1] - spans[0][0] - idle) / 1e6


def made_up(folder: Path, size: int) -> Path:
    """Two made-up people by 25 cameras, one tracked sequence a view, as a generator's renderings are tracked."""
    head, root = ProceduralHead(), folder / "people"
    for seed in range(2):
        views = draw_person(seed, *GRID, size)
        labels = torch.where(views.faces > 127, int(Region.SKIN), int(Region.BACKGROUND)).byte().numpy()
        for view in range(len(views.images)):
            one = views.pick(torch.tensor([view]))
            TrackedSequence.create(
                root / f"{seed:04d}" / f"{view:02d}", head, one.params, one.camera, np.zeros((1, 478, 2), np.float32),
                one.images.permute(0, 2, 3, 1).numpy(), one.masks.numpy(), labels[view : view + 1], fps=1.0,
                crop={"rule": "none"}, mask_rule="exact",
            )  # fmt: skip
    return root


if __name__ == "__main__":
    sys.exit(main())
