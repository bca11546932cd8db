"""Speed of the tracker on a clip: landmarks, solver (with the identity), and both together, in frames per second.

    python benchmarks/speed/tracker.py VIDEO [--head ict] [--size 512] [--repeats 5] [--require 200]

The best of the repeats counts; the first call, which compiles, is left out. Exits with 1 below ``--require``.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from avatarzoo.data.video import probe
from avatarzoo.heads import load_head
from avatarzoo.trackers.analytic import fit_sequence
from avatarzoo.trackers.detection import detect_clip
from avatarzoo.trackers.embedding import ensure_embedding
from avatarzoo.trackers.pipeline import head_crop


def best(run, repeats: int) -> float:
    """Shortest wall-clock time in seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("video", type=Path)
    p.add_argument("--head", default="ict")
    p.add_argument("--size", type=int, default=512)
    p.add_argument("--repeats", type=int, default=5)
    p.add_argument("--require", type=float, default=0.0, help="frames/s of landmarks and solver together")
    args = p.parse_args()
    head = load_head(args.head)
    ensure_embedding(head)

    def detect() -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            return detect_clip(args.video, Path(folder) / "landmarks", progress=False).landmarks

    found = detect()
    info = probe(args.video)
    crop = head_crop(found, (info.height, info.width), args.size)
    landmarks = crop.points(torch.from_numpy(found)).numpy()
    fit_sequence(head, landmarks, args.size)
    frames = len(landmarks)
    detection = best(detect, max(1, args.repeats // 2))
    solver = best(lambda: fit_sequence(head, landmarks, args.size), args.repeats)
    both = frames / (detection + solver)
    print(f"{args.video.name}: {frames} frames, {head.name} head, {os.cpu_count()} cores")
    print(f"  landmarks (decoding included) {frames / detection:8.0f} frames/s")
    print(f"  solver (identity included)    {frames / solver:8.0f} frames/s")
    print(f"  together                      {both:8.0f} frames/s")
    return int(both < args.require)


if __name__ == "__main__":
    sys.exit(main())
