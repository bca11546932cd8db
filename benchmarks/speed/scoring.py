"""Minutes to score 1,000 frames of 512 x 512 pixels: L1, PSNR, SSIM, CSIM and AKD, and the milliseconds of each.

    python benchmarks/speed/scoring.py VIDEO [--frames 1000] [--size 512] [--batch 8] [--require 3]

The clip is played to and fro until there are enough frames. Every reference frame is shifted and every prediction is also dimmed and
noised by its number, so that no picture comes twice and no cache helps beyond what one real run has. Finding the faces
is a row of its own: CSIM and AKD share it. Making the frames is not timed. Exits with 1 above ``--require`` minutes.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from avatarzoo.data.video import read_frames
from avatarzoo.metrics import L1, PSNR, SSIM
from avatarzoo.metrics.identity import CSIM
from avatarzoo.metrics.landmarks import AKD
from avatarzoo.perception.faces import FaceReader


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("video", type=Path)
    p.add_argument("--frames", type=int, default=1000)
    p.add_argument("--size", type=int, default=512)
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--require", type=float, default=3.0, help="most minutes")
    args = p.parse_args()
    with FaceReader() as reader:
        metrics = [L1(), PSNR(), SSIM(), CSIM(reader=reader), AKD(reader=reader)]
        seconds = dict.fromkeys(["faces", *(metric.label for metric in metrics)], 0.0)
        for prediction, reference in batches(args.video, args.frames, args.size, args.batch):
            pair = (prediction, reference)
            seconds["faces"] += timed(lambda pair=pair: [reader(x) for x in pair])
            for metric in metrics:
                seconds[metric.label] += timed(lambda metric=metric, pair=pair: metric.update(*pair))
        looks = reader.looks
    print(
        f"{args.frames} frames of {args.size} x {args.size}, {os.cpu_count()} cores, {looks} pictures searched for faces"
    )
    for name, spent in seconds.items():
        print(f"  {name:<28} {1000 * spent / args.frames:8.1f} ms a frame")
    total = sum(seconds.values()) / 60
    print(f"  all                          {total:8.2f} minutes (bar: {args.require:g})")
    for metric in metrics:
        print(f"  {metric.label:<28} {metric.compute().item():8.3f}   {metric.failures} failures")
    return int(total > args.require)


def timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def batches(video: Path, frames: int, size: int, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Predictions and references, ``(batch, 3, size, size)`` in [0, 1]; no two pictures are the same."""
    clip = [
        cv2.resize(f, (size, size), interpolation=cv2.INTER_AREA)
        for f in itertools.islice(read_frames(video), 250)
    ]
    period = 2 * len(clip) - 2
    order = [min(i % period, period - i % period) for i in range(frames)]
    rng = np.random.default_rng(0)
    for start in range(0, frames, batch):
        numbers = range(start, min(frames, start + batch))
        moved = np.stack([np.roll(clip[order[i]], i // len(clip), axis=1) for i in numbers])
        reference = torch.from_numpy(moved).permute(0, 3, 1, 2).float() / 255
        dim = torch.tensor([1 - 0.1 * i / frames for i in numbers])[:, None, None, None]
        noise = torch.from_numpy(rng.normal(0, 0.02, reference.shape).astype(np.float32))
        yield (reference * dim + noise).clamp(0, 1), reference


if __name__ == "__main__":
    sys.exit(main())
