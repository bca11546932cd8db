"""AED and APD through our own tracker: what they recover of differences that are known exactly (procedural video).

    python benchmarks/coefficient_reality.py [procedural|ict] [actors]

Clips of made-up people differ from a driver's clip in expression alone or in pose alone; pictures are drawn, landmarks detected, both
clips tracked. Printed: true and measured distances of every pair, and their rank correlations.

Measured with the procedural head and three actors: APD 0.94 over clips that differ in pose; AED 0.92 over clips that differ in
expression (0.89 with the first two actors alone: fading to neutral reads larger than an equal distance to another expression),
within one kind of difference 0.97 to 0.99; single frames 0.93 and 0.73. Where clips differ in pose as well, AED says little (0.19 over
all clips): compare AED between methods only where their APD is alike.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from avatarzoo.data.procedural import ProceduralActor
from avatarzoo.heads import load_head
from avatarzoo.heads.base import HeadParams
from avatarzoo.metrics.coefficients import AED, APD, aed, apd
from avatarzoo.perception.faces import FaceReader
from avatarzoo.trackers.coefficients import TrackerEstimator, pose_rows

SIZE, FRAMES, EVERY = 320, 20, 6
SHARES = (0.25, 0.5, 0.75, 1.0)


def variants(actor: ProceduralActor) -> tuple[HeadParams, dict[str, HeadParams]]:
    """A driver's clip, and clips that differ from it in expression alone or in pose alone.

    The differences are those of the actor's own motion (towards another moment of it, by shares), expressions fading to neutral,
    and fixed turns.
    """
    long = actor.motion(20 + 2 * FRAMES * EVERY)
    driver = long.rows(slice(20, 20 + FRAMES * EVERY, EVERY))
    other = long.rows(slice(20 + FRAMES * EVERY, None, EVERY))
    made = {}
    for share in SHARES:
        mixed = torch.lerp(driver.expression, other.expression, share)
        made[f"expression to neutral {share}"] = driver._replace(expression=(1 - share) * driver.expression)
        made[f"expression to another {share}"] = driver._replace(expression=mixed)
        turned = torch.lerp(driver.rotation, other.rotation, share)
        made[f"pose to another {share}"] = driver._replace(rotation=turned)
    for axis, name in ((1, "yaw"), (0, "pitch")):
        for degrees in (3, 8):
            turn = torch.zeros(3)
            turn[axis] = np.radians(degrees)
            made[f"pose {name} {degrees}"] = driver._replace(rotation=driver.rotation + turn)
    return driver, made


def measure(estimator: TrackerEstimator, pictures: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """AED and APD per frame, through the metrics."""
    metrics = (AED(estimator), APD(estimator))
    for metric in metrics:
        metric.update(pictures, reference)
        metric.end_clip()
    return metrics[0].per_image(), metrics[1].per_image()


def figures(head: str = "procedural", actors: int = 3) -> dict[str, float]:
    """Rank correlations of measured with true distances, on pictures and detected landmarks; prints every pair."""
    estimator = TrackerEstimator(load_head(head), FaceReader(remember=0))
    rows = []
    for seed in range(actors):
        actor = ProceduralActor(seed=seed, size=SIZE)
        driver, made = variants(actor)
        reference = pictures_of(actor, driver)
        for name, params in made.items():
            true = aed(params.expression, driver.expression), apd(pose_rows(params), pose_rows(driver))
            seen = measure(estimator, pictures_of(actor, params), reference)
            assert all(torch.isfinite(x).all() for x in seen)
            rows.append((name, *true, *seen))
            print(f"actor {seed} {name:27s}", *(f"{float(x.mean()):.4f}" for x in (*true, *seen)), flush=True)

    def correlation(kind: str, k: int, whole: bool) -> float:
        picked = [(r[k], r[k + 2]) for r in rows if r[0].startswith(kind)]
        pairs = [(a.mean()[None], b.mean()[None]) for a, b in picked] if whole else picked
        return float(spearmanr(*(torch.cat(x).numpy() for x in zip(*pairs)))[0])

    result = {
        f"{metric}, {kind or 'any'} differs, {'clips' if whole else 'frames'}": correlation(kind, k, whole)
        for metric, k, kinds in (
            ("AED", 1, ("expression to neutral", "expression to another", "expression", "")),
            ("APD", 2, ("pose", "")),
        )
        for kind in kinds
        for whole in (True, False)
    }
    for name, value in result.items():
        print(f"{head}: {name}: {value:.3f}")
    return result


def pictures_of(actor: ProceduralActor, params: HeadParams) -> Tensor:
    with torch.inference_mode():
        rows = torch.arange(params.batch).split(8)
        return torch.cat([actor.render(params.rows(k))[0] for k in rows]).clamp(0, 1).clone()


if __name__ == "__main__":
    figures(sys.argv[1] if len(sys.argv) > 1 else "procedural", int(sys.argv[2]) if len(sys.argv) > 2 else 3)
