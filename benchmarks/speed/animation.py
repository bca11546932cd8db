"""Frames per second of an avatar loaded from a checkpoint: head model, blendmaps, Gaussians and rasteriser, one frame at a time.

Compared in the same run with the same avatar when the UV map is rasterised anew for every frame, as the released code does.

    python benchmarks/speed/animation.py [--head ict] [--gaussians 74083] [--size 512] [--frames 60]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import lightning as L
import torch

from avatarzoo.evaluation.results import environment
from avatarzoo.geometry.camera import look_at_face
from avatarzoo.geometry.uv import uv_atlas
from avatarzoo.models import GaussianDejaVu
from avatarzoo.models.base import AvatarModule


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--head", default="procedural", help="procedural (default) or ict")
    parser.add_argument("--gaussians", type=int, default=74083, help="at least so many")
    parser.add_argument("--size", type=int, default=512, help="picture side in pixels")
    parser.add_argument("--frames", type=int, default=60)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    module = checkpointed(args.head, args.gaussians).to(device)
    frames = moving(module, args.frames, device)
    camera = look_at_face(size=args.size).to(device)
    state = module.reconstruct()

    def animate(params) -> None:
        module.animate(state, params, camera)

    def with_new_map(params) -> None:
        uv_atlas(module.head.uv, module.head.uv_faces, module.head.faces, module.uv_map.size)
        animate(params)

    ours, anew = frames_per_second(animate, frames), frames_per_second(with_new_map, frames)
    machine = environment()
    print(f"{machine['device']}, {machine['threads']} threads, torch {machine['versions']['torch']}")
    print(
        f"{len(module.uv_map)} Gaussians, head {args.head}, {args.size} x {args.size}, 10 blendmaps, one frame at a time"
    )
    print(f"constant UV map   {ours:8.1f} frames/s")
    print(f"UV map made anew  {anew:8.1f} frames/s ({ours / anew:.1f} times slower)")


def checkpointed(head: str, least: int) -> AvatarModule:
    """An untrained stage-2 avatar with at least so many Gaussians, written to a checkpoint and loaded again."""
    size = 320
    while len(GaussianDejaVu(head=head, uv_size=size).uv_map) < least:
        size += 10
    module = GaussianDejaVu(head=head, uv_size=size)
    module.stage.fill_(2)
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            logger=False, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False
        )
        trainer.strategy.connect(module)
        path = Path(folder) / "avatar.ckpt"
        trainer.save_checkpoint(path, weights_only=True)
        return GaussianDejaVu.load_from_checkpoint(path, weights_only=True, map_location="cpu").eval()


def moving(module: AvatarModule, count: int, device: str) -> list:
    """Parameters of a head that nods, turns, talks and blinks."""
    params = module.head.zeros(count)
    phase = torch.linspace(0, 6.28, count)
    params.rotation[:, 0], params.rotation[:, 1] = 0.1 * phase.sin(), 0.3 * phase.cos()
    for shift, name in enumerate(("jawOpen", "eyeBlink_L", "eyeBlink_R", "mouthSmile_L")):
        params.expression[:, module.head.expression_names.index(name)] = 0.5 + 0.5 * (3 * phase + shift).sin()
    params.eyes[:, 1] = params.eyes[:, 4] = 0.2 * phase.sin()
    return [params.rows(i).to(device) for i in range(count)]


@torch.no_grad()
def frames_per_second(run: Callable, frames: list, rounds: int = 3) -> float:
    """The best of some rounds, after a warm-up."""
    run(frames[0])
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        for params in frames:
            run(params)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return len(frames) / best


if __name__ == "__main__":
    main()
