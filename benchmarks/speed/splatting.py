"""Speed of the Gaussian splatting backends on a head-like scene, with the torch oracle in the same run.

Prints one table: milliseconds for a forward pass and for forward + backward (minimum over the repeats), and how many times
faster than the oracle that is. On CUDA, gsplat takes the place of the CPU tiles.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable

import torch
from torch import Tensor

from avatarzoo.geometry.camera import Camera, look_at_face
from avatarzoo.render import Gaussians, rasterize_gaussians


def head_scene(count: int, device: str = "cpu", sets: int = 1, seed: int = 0) -> Gaussians:
    """Gaussians on an ellipsoid of a head's size, in rings from top to bottom as a UV map lists them.

    Like a trained avatar: sigma about 0.58 mm (thinner across the surface), opacities mostly above 0.5.
    """
    random = torch.Generator().manual_seed(seed)
    rows = round((count / 2) ** 0.5)
    index = torch.arange(count)
    polar = (index * rows // count + 0.5) / rows * torch.pi
    turn = 2 * torch.pi * (index * rows % count) / count
    radii = torch.tensor([0.08, 0.12, 0.10])
    normal = torch.stack([polar.sin() * turn.sin(), polar.cos(), polar.sin() * turn.cos()], -1)
    means = normal * radii + 0.0005 * torch.randn(count, 3, generator=random)
    quaternions = torch.nn.functional.normalize(torch.randn(count, 4, generator=random), dim=-1)
    scales = 0.00058 * torch.exp(0.3 * torch.randn(count, 3, generator=random))
    opacities = torch.sigmoid(1.5 + 1.5 * torch.randn(count, generator=random))
    colors = torch.rand(count, 3, generator=random)
    return Gaussians(
        *(x.expand(sets, *x.shape).to(device) for x in (means, quaternions, scales, opacities, colors))
    )


def measure(call: Callable[[], None], repeats: int, device: str) -> float:
    """Minimum milliseconds of a call after one to warm up."""
    times = []
    for _ in range(repeats + 1):
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(1000 * (time.perf_counter() - start))
    return min(times[1:])


def forward(scene: Gaussians, camera: Camera, backend: str) -> Callable[[], None]:
    def call() -> None:
        with torch.no_grad():
            rasterize_gaussians(scene, camera, backend=backend)

    return call


def both(scene: Gaussians, camera: Camera, backend: str, weight: Tensor) -> Callable[[], None]:
    def call() -> None:
        leaves = Gaussians(*(x.clone().requires_grad_() for x in scene))
        (rasterize_gaussians(leaves, camera, backend=backend).rgb * weight).sum().backward()

    return call


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gaussians", type=int, default=74083)
    parser.add_argument("--size", type=int, default=512, help="picture side in pixels")
    parser.add_argument("--batch", type=int, default=4, help="cameras in the batched rows")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--no-oracle", action="store_true", help="leave the slow reference out")
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"]
    )
    args = parser.parse_args()

    fast = "gsplat" if args.device == "cuda" else "cpu"
    scene = head_scene(args.gaussians, args.device)
    turns = torch.linspace(-0.3, 0.3, args.batch)
    one, many = (look_at_face(size=args.size, yaw=yaw).to(args.device) for yaw in (torch.zeros(1), turns))
    weight = torch.randn(1, 3, args.size, args.size, generator=torch.Generator().manual_seed(1)).to(
        args.device
    )
    runs = [
        (fast, "1 view", one, args.repeats),
        (fast, f"{args.batch} views", many, max(3, args.repeats // 4)),
    ]
    if not args.no_oracle:
        runs.insert(0, ("torch", "1 view", one, 2))

    processor = (
        torch.cuda.get_device_name() if args.device == "cuda" else f"{torch.get_num_threads()} threads"
    )
    print(
        f"{args.gaussians} Gaussians, {args.size}x{args.size}; {platform.machine()}, {processor}, torch {torch.__version__}"
    )
    print(f"{'backend':10}{'':10}{'forward ms':>12}{'fwd+bwd ms':>12}{'x oracle':>18}")
    oracle: tuple[float, float] | None = None
    for backend, views, camera, repeats in runs:
        ms = (
            measure(forward(scene, camera, backend), repeats, args.device),
            measure(both(scene, camera, backend, weight), repeats, args.device),
        )
        if backend == "torch":
            oracle = ms
        ratio = f"{oracle[0] / ms[0]:.0f} / {oracle[1] / ms[1]:.0f}" if oracle and views == "1 view" else ""
        print(f"{backend:10}{views:10}{ms[0]:12.1f}{ms[1]:12.1f}{ratio:>18}")


if __name__ == "__main__":
    main()
