"""Quality of the analytic tracker, as one table: real clips against their landmarks, a made-up actor against the truth.

    python benchmarks/tracker_quality.py [VIDEO ...] [--head ict] [--size 512] [--actors 2] [--frames 150]

A clip is scaled to a square of ``--size`` pixels (it must be square already). On real clips the error is measured on the same
landmarks that were fitted: it says how well the head follows the detector. On the made-up actor, ``exact`` fits the
true landmarks with 0.3 px of noise (the solver alone), ``detected`` those that the detector finds on the pictures.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from avatarzoo.data.procedural import ProceduralActor
from avatarzoo.data.video import probe, read_frames
from avatarzoo.heads import HeadModel, load_head
from avatarzoo.perception.landmarks import FaceLandmarker
from avatarzoo.trackers import landmark_groups as groups
from avatarzoo.trackers import quality
from avatarzoo.trackers.analytic import fit_sequence
from avatarzoo.trackers.embedding import ensure_embedding

NOISE = 0.3


def detect(pictures) -> np.ndarray:
    """``(T, 478, 2)`` pixels, NaN where no face was found."""
    rows = []
    with FaceLandmarker(max_faces=1) as landmarker:
        for picture in pictures:
            faces = landmarker.detect(picture)
            rows.append(faces[0, :, :2] if len(faces) else np.full((groups.N_LANDMARKS, 2), np.nan))
    return np.stack(rows).astype(float)


def clip(video: Path, head: HeadModel, size: int) -> None:
    frames = (cv2.resize(frame, (size, size), interpolation=cv2.INTER_AREA) for frame in read_frames(video))
    landmarks = detect(frames)
    fit = fit_sequence(head, landmarks, size, fps=probe(video).fps)
    valid = fit.valid.numpy()
    seen, params = landmarks[valid], fit.params.rows(fit.valid)
    fitted = quality.projected_landmarks(head, params, fit.camera)
    error = ", ".join(f"{k} {v:.2f}" for k, v in quality.errors(fitted, seen).items())
    print(f"\n{video.name}: {valid.sum()} of {len(valid)} frames, {head.name} head, {size} px")
    print(f"  error, % of the face height        {error}; p95 {np.percentile(fit.error[fit.valid], 95):.2f}")
    for name in groups.GAPS:
        c = quality.closure(fitted, seen, name)
        print(
            f"  closed {name:<10} px, gap           {c.measured:.2f} measured, {c.fitted:.2f} fitted; correlation {c.correlation:.2f}"
        )
    for order in (2, 4):
        values = [quality.jitter(x, seen, order) for x in (seen, fitted)]
        print(f"  jitter of rigid points, px (order {order}) {values[0]:.2f} landmarks, {values[1]:.2f} fit")
    named = quality.correlations(head, params, seen)
    print("  coefficient ~ opening              " + ", ".join(f"{k} {v:.2f}" for k, v in named.items()))


def actor(seed: int, head: HeadModel, size: int, frames: int) -> None:
    person = ProceduralActor(seed=seed, size=size)
    data = person.sequence(frames)
    exact = person.landmarks(data.params).numpy().astype(float)
    noisy = exact + np.random.default_rng(seed).normal(0, NOISE, exact.shape)
    for name, landmarks in (("exact", noisy), ("detected", detect(data.images))):
        fit = fit_sequence(head, landmarks, size)
        turn = quality.rotation_errors(fit.params, fit.camera, data.params, data.camera)
        modes = quality.main_modes(head, fit.params, data.params)
        off = (
            100
            * np.nanmean(np.linalg.norm(landmarks - exact, axis=-1))
            / np.median(groups.face_height(exact))
        )
        print(f"\nactor {seed}, {name} landmarks (off the truth by {off:.2f} %), {frames} frames")
        print(
            f"  error {np.nanmean(fit.error):.2f} %; rotation {turn.mean():.2f} deg, p95 {np.percentile(turn, 95):.2f}"
        )
        print("  coefficients ~ truth               " + ", ".join(f"{k} {v:.2f}" for k, v in modes.items()))


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("videos", type=Path, nargs="*")
    p.add_argument("--head", default="ict")
    p.add_argument("--head-file")
    p.add_argument("--size", type=int, default=512)
    p.add_argument("--actors", type=int, default=2)
    p.add_argument("--frames", type=int, default=150)
    args = p.parse_args()
    if args.videos:
        head = load_head(args.head, args.head_file)
        ensure_embedding(head)
        for video in args.videos:
            clip(video, head, args.size)
    made_up = load_head("procedural")
    for seed in range(args.actors):
        actor(seed, made_up, args.size, args.frames)


if __name__ == "__main__":
    main()
