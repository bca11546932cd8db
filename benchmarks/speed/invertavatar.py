"""Milliseconds of InvertAvatar: an animated frame with cached features, one-shot and four-frame reconstruction, a further frame.

    python benchmarks/speed/invertavatar.py                        (published sizes on a GPU, the small prior on a CPU)
    python benchmarks/speed/invertavatar.py --size small --repeats 5

Weights are random where no prior is at hand, which does not change the work. Times include driving maps and unwrapping by our
rasteriser, cropping and placing. On CUDA with published sizes it exits with 1 if an animated frame takes longer than 8 ms, one-shot
reconstruction 50 ms, or four frames 120 ms; anywhere if the thirtieth further frame takes half as long again as the second. The
release (fact sheet, one H200): 38.1 ms a synthesised frame, 11.6 ms for the latent encoder, 25.8 ms for the encoders on four frames.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch

from avatarzoo.data.batch import AvatarBatch
from avatarzoo.data.clip_pairs_procedural import draw_clip
from avatarzoo.models import AvatarState, InvertAvatar

LIMITS = {"animated frame": 8.0, "one-shot reconstruction": 50.0, "four-frame reconstruction": 120.0}
"""Milliseconds on an H200 at published sizes."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument(
        "--size", choices=["small", "published"], default="published" if device == "cuda" else "small"
    )
    parser.add_argument("--repeats", type=int, default=10)
    args = parser.parse_args()
    model = InvertAvatar(prior=args.size, encoder=args.size).eval().to(device)
    name = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}, torch {torch.__version__}, {args.size} sizes, pictures of {model.networks.size}")
    clip = draw_clip(0, 5, model.networks.size, 1.0)
    frames = AvatarBatch(
        image=(clip.images.float() / 255).to(device), params=clip.params.to(device), camera=clip.camera.to(device)
    )  # fmt: skip
    found = times(model, frames, args.repeats)
    for task, milliseconds in found.items():
        print(f"{task:30s} {milliseconds:9.1f} ms")
    failed = found["thirtieth further frame"] > 1.5 * found["second further frame"]
    if device == "cuda" and args.size == "published":
        failed |= any(found[task] > limit for task, limit in LIMITS.items())
    return int(failed)


def times(model: InvertAvatar, frames: AvatarBatch, repeats: int) -> dict[str, float]:
    """Medians by task."""
    one, four, next_one = (some(frames, *rows) for rows in ((0,), (0, 1, 2, 3), (4,)))
    state = model.start(four)
    draw = model.animation(state)
    found = {
        "animated frame": milliseconds(lambda: draw(next_one["params"], next_one["camera"]), repeats),
        "one-shot reconstruction": milliseconds(lambda: model.start(one), repeats),
        "four-frame reconstruction": milliseconds(lambda: model.start(four), repeats),
    }
    states: list[AvatarState] = [model.start(one)]
    for _ in range(29):
        states.append(model.update(states[-1], next_one))
    for task, before in (("second further frame", states[1]), ("thirtieth further frame", states[29])):
        found[task] = milliseconds(lambda before=before: model.update(before, next_one), repeats)
    return found


def some(frames: AvatarBatch, *rows: int) -> AvatarBatch:
    index = torch.tensor(rows, device=frames["image"].device)
    return AvatarBatch(
        image=frames["image"][index], params=frames["params"].rows(index), camera=frames["camera"].rows(index)
    )


def milliseconds(task: Callable[[], object], repeats: int) -> float:
    """Median after two runs that warm up."""
    spent = []
    for _ in range(repeats + 2):
        finish()
        began = time.perf_counter()
        task()
        finish()
        spent.append(1000 * (time.perf_counter() - began))
    return statistics.median(spent[2:])


def finish() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


if __name__ == "__main__":
    sys.exit(main())
