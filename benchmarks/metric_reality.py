"""Identity and landmark metrics on real people, as one table: who is told apart, and what a known shift measures.

    python benchmarks/metric_reality.py [--media FOLDER] [--embedder auto] [--frames 8]

FOLDER (default: AVATARZOO_MEDIA) holds video/ and image/. CSIM: the same person in different clips and pictures above 0.6, different
people below 0.3 (lowest and highest over all pairs of pictures). AKD: 0 of a frame with itself, and the known amount for
a frame moved by it; the spread is the detector's noise. Exits with 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from avatarzoo.data.video import probe, read_frames
from avatarzoo.metrics.identity import CSIM
from avatarzoo.metrics.landmarks import AKD, Jitter
from avatarzoo.perception.faces import FaceReader

SOURCES = {
    "obama, oval office": ("obama", "video/obama_oval_450p25_20s.mp4"),
    "obama, weekly": ("obama", "video/obama_weekly_256p30_30s.mp4"),
    "obama, portrait": ("obama", "image/obama_portrait_910x1137.jpg"),
    "aoc": ("aoc", "video/hdtf_aoc_512p25_8s.mp4"),
    "biden": ("biden", "image/biden_standing_970x2204.jpg"),
    "astronaut": ("astronaut", "image/astronaut_512.png"),
}
SAME, DIFFERENT = 0.6, 0.3
SHIFTS, SHIFT_NOISE = (1, 2, 4, 8, 16), 0.5


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument(
        "--media", type=Path, default=os.environ.get("AVATARZOO_MEDIA"), help="folder of video/ and image/"
    )
    p.add_argument("--embedder", default="auto", help="auto, arcface, mobilefacenet or facenet")
    p.add_argument("--frames", type=int, default=8, help="of each clip, spread over its length")
    args = p.parse_args()
    if args.media is None:
        p.error("say where the clips are: --media FOLDER, or set AVATARZOO_MEDIA")
    pictures = {name: load(args.media / file, args.frames) for name, (_, file) in SOURCES.items()}
    with FaceReader() as reader:
        good = identities(pictures, CSIM(args.embedder, reader))
        good &= shifts(pictures, reader)
    return int(not good)


def load(path: Path, frames: int) -> Tensor:
    """``(n, 3, H, W)``: the picture, or frames spread over the clip."""
    if path.parent.name == "image":
        chosen = [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)]
    else:
        step = max(1, probe(path).frames // frames)
        chosen = list(itertools.islice(read_frames(path), 0, step * frames, step))
    return torch.from_numpy(np.stack(chosen)).permute(0, 3, 1, 2).float() / 255


def identities(pictures: dict[str, Tensor], metric: CSIM) -> bool:
    rows = {name: metric.embed(x) for name, x in pictures.items()}
    lost = sum(int((~torch.isfinite(x).all(1)).sum()) for x in rows.values())
    print(f"{metric.label}: lowest to highest over all pairs of pictures; {lost} pictures without a face")
    same, different = [], []
    for a, b in itertools.combinations(rows, 2):
        values = rows[a] @ rows[b].T
        together = SOURCES[a][0] == SOURCES[b][0]
        (same if together else different).append(values.flatten())
        kind = "same person" if together else "different"
        print(
            f"  {a:<20} {b:<20} {kind:<12} {values.min():6.2f} .. {values.max():5.2f}   mean {values.mean():5.2f}"
        )
    low, high = torch.cat(same).min().item(), torch.cat(different).max().item()
    print(
        f"  same person at least {low:.2f} (bar: {SAME}), different people at most {high:.2f} (bar: {DIFFERENT})"
    )
    return lost == 0 and low > SAME and high < DIFFERENT


def shifts(pictures: dict[str, Tensor], reader: FaceReader) -> bool:
    print("AKD (478, pixels, mean_l2) of a frame and itself moved right: mean, lowest to highest")
    worst = 0.0
    for name in [name for name, (_, file) in SOURCES.items() if file.startswith("video")]:
        frames = pictures[name]
        for by in (0, *SHIFTS):
            metric = AKD(norm="pixels", reader=reader)
            metric.update(shifted(frames, by), frames)
            values = metric.per_image()
            worst = max(worst, abs(metric.compute().item() - by) if by else 1e9 * metric.compute().item())
            print(
                f"  {name:<20} by {by:2d} px   {metric.compute():6.2f}   {values.min():6.2f} .. {values.max():5.2f}"
            )
            if metric.failures:
                return False
    print(f"  largest difference of a mean from its shift {worst:.2f} px (bar: {SHIFT_NOISE})")
    steadiness(pictures, reader)
    return worst < SHIFT_NOISE


def steadiness(pictures: dict[str, Tensor], reader: FaceReader) -> None:
    """Jitter of a picture that is moved to and fro by one pixel, beside that of the picture standing still."""
    still = pictures["obama, oval office"][:1].expand(40, -1, -1, -1)
    shaking = torch.cat([shifted(frame[None], i % 2) for i, frame in enumerate(still)])
    for name, clip in (("standing still", still), ("moved by 1 px every other frame", shaking)):
        metric = Jitter(reader)
        metric.update(clip, still)
        print(f"Jitter, {name}: {metric.compute():.3f} px of 256")


def shifted(pictures: Tensor, by: int) -> Tensor:
    """To the right, the edge repeated."""
    return torch.nn.functional.pad(pictures, (by, 0, 0, 0), mode="replicate")[..., : pictures.shape[-1]]


if __name__ == "__main__":
    sys.exit(main())
