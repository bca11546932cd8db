"""A loader over 20,000 small samples in shards: memory, waiting of the device, and resuming in the middle of a pass.

    python benchmarks/speed/shard_loader.py OUT [--workers 2] [--step 0.02]

Makes 100 clips of 200 frames of 32 pixels (once), reads a whole pass in batches of 16, and pretends that a device takes ``--step``
seconds a batch without using the processor. Prints the memory of loader and workers after 1,000 samples and later (their resident
sets; and their proportional sets, which grow while the workers' share of the loader's memory becomes their own), the share of the
time in which the device waited, and the processor time of the workers for a batch (which says what the waiting would be on a machine
that does nothing else). Then a loader that is given the state of another in the middle of the pass must go on with the same samples.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from avatarzoo.data.sequence import TrackedSequence
from avatarzoo.data.shards import ShardWriter, tracked_clips
from avatarzoo.data.tracked_frames import FrameBatches, FrameLoader
from avatarzoo.geometry.camera import look_at_face
from avatarzoo.heads import ProceduralHead

CLIPS, FRAMES, SIZE, BATCH, SHARD = 100, 200, 32, 16, 10_000_000


def make(folder: Path) -> None:
    """Blurred noise, of which no two pictures are alike."""
    head, camera, draws = ProceduralHead(), look_at_face(size=SIZE), np.random.default_rng(0)
    writer = ShardWriter(folder, SHARD)
    mask = np.full((SIZE, SIZE), 255, np.uint8)
    for clip in range(CLIPS):
        noise = draws.integers(0, 256, (FRAMES, SIZE, SIZE, 3), np.uint8)
        pictures = [cv2.GaussianBlur(x, (5, 5), 0) for x in noise]
        name = f"clip{clip:03d}"
        sequence = TrackedSequence.create(
            folder / "tracked" / name, head, head.zeros(FRAMES), camera, np.zeros((FRAMES, 478, 2), np.float32), pictures,
            [mask] * FRAMES, [mask] * FRAMES, fps=25,
        )  # fmt: skip
        writer.add(name, sequence)
    writer.close()


def memory(kind: str) -> float:
    """Megabytes of this process and its children: ``Rss``, or ``Pss``, in which what they share counts once."""
    own = os.getpid()
    children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
    total = 0
    for pid in (str(own), *children):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:"))
    return total / 1024


def fingerprints(loader: FrameLoader) -> Iterator[str]:
    for batch in loader:
        yield hashlib.sha256(batch["image"].numpy().tobytes() + batch["index"].numpy().tobytes()).hexdigest()


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("out", type=Path)
    p.add_argument("--workers", type=int, default=2)
    p.add_argument("--step", type=float, default=0.02)
    args = p.parse_args()
    if not list(args.out.glob("shard-*.json")):
        make(args.out)
    clips = tracked_clips(args.out)
    count = CLIPS * FRAMES // BATCH

    def loader(done: int = 0, workers: int = args.workers) -> FrameLoader:
        return FrameLoader(FrameBatches(clips, BATCH, SIZE, 2000, 0), count, lambda: done, workers)

    waited, trained, sizes, seen = 0.0, 0.0, [], []
    last = time.perf_counter()
    for number, batch in enumerate(loader()):
        arrived = time.perf_counter()
        if number > 20:  # workers have started
            waited += arrived - last
        seen.append(
            hashlib.sha256(batch["image"].numpy().tobytes() + batch["index"].numpy().tobytes()).hexdigest()
        )
        if (number + 1) * BATCH % 1000 < BATCH:
            sizes.append((memory("Rss"), memory("Pss")))
        start = time.perf_counter()
        time.sleep(args.step)
        last = time.perf_counter()
        trained += last - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    middle = count // 2 + 3
    again = loader(middle, 0)
    again.load_state_dict(loader(middle).state_dict())
    result = {
        "samples": len(seen) * BATCH,
        "different": len(set(seen)),
        "shards": len(list(args.out.glob("shard-*.tar"))),
        "workers": args.workers,
        "step_ms": 1000 * args.step,
        "rss_mb_after_1000": round(sizes[0][0], 1),
        "rss_growth": round(max(rss for rss, _ in sizes) / sizes[0][0] - 1, 4),
        "pss_mb": [round(pss) for _, pss in sizes],
        "waiting": round(waited / (waited + trained), 4),
        "worker_cpu_ms_per_batch": round(1000 * (used.ru_utime + used.ru_stime) / count, 1),
        "resumes_exactly": list(fingerprints(again)) == seen[middle:],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
