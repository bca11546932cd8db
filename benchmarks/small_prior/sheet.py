"""Contact sheet of the small prior, and numbers: do views agree, do people differ, how far is it from people not trained on.

python benchmarks/small_prior/sheet.py GENERATOR.safetensors --held-out HELD_OUT.pt --picture docs/small_prior.png
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
import people as crowd
from train import score

from avatarzoo.data.procedural_people import portrait_cameras, portrait_labels
from avatarzoo.perception.landmarks import FaceLandmarker
from avatarzoo.priors.eg3d import TriPlaneGenerator
from avatarzoo.priors.generator_file import load_generator
from avatarzoo.priors.rays import camera_rays

YAWS = (-0.5, -0.25, 0.0, 0.25, 0.5)
POINTS = (33, 133, 362, 263, 168, 1, 2, 61, 291, 0, 17, 199)
"""Corners of eyes and mouth, bridge, tip and base of the nose, lips, chin."""
ENLARGED = 512


@torch.no_grad()
def views(generator: TriPlaneGenerator, people: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """``(pictures (P, V, 3, S, S), depths (P, V, 1, R, R), labels (V, 25))``."""
    yaw = torch.tensor(YAWS)
    labels = portrait_labels(portrait_cameras(yaw, torch.zeros_like(yaw), generator.config.resolution))
    latent = torch.randn(people, generator.config.latent_dim, generator=torch.Generator().manual_seed(seed))
    pictures, depths = [], []
    for one in latent:
        codes = generator.codes(one.expand(len(labels), -1), labels)
        view = generator(codes, labels)
        pictures.append(view.rgb.clamp(0, 1))
        depths.append(view.depth)
    return torch.stack(pictures), torch.stack(depths), labels


def landmarks(picture: Float[Tensor, "3 s s"], finder: FaceLandmarker) -> np.ndarray | None:
    """The chosen points in picture sides, or None where no face is found."""
    large = F.interpolate(picture[None], (ENLARGED, ENLARGED), mode="bicubic").clamp(0, 1)[0]
    found = finder.detect((large * 255).byte().permute(1, 2, 0).contiguous().numpy())
    return found[0, POINTS, :2] / ENLARGED if len(found) else None


def moved(points: np.ndarray, depth: Tensor, here: Tensor, there: Tensor) -> np.ndarray:
    """Where points of the view ``here`` must be seen from ``there``, given the depth that was rendered with them."""
    side = depth.shape[-1]
    rays = camera_rays(here[None], side)
    grid = torch.from_numpy(points).float()[None, None] * 2 - 1
    distance = F.grid_sample(depth[None], grid, align_corners=False)[0, 0, 0]
    across = rays.directions.view(1, side, side, 3).permute(0, 3, 1, 2)
    direction = F.normalize(F.grid_sample(across, grid, align_corners=False)[0, :, 0].T, dim=1)
    world = rays.origins + distance[:, None] * direction
    pose, focal = there[:16].view(4, 4), there[16]
    seen = (world - pose[:3, 3]) @ pose[:3, :3]
    return (seen[:, :2] / seen[:, 2:] * focal + 0.5).numpy()


def agreement(pictures: Tensor, depths: Tensor, labels: Tensor) -> dict[str, float]:
    """Found landmarks of side views against the frontal ones moved by camera and rendered depth, in pixels of the picture."""
    side, middle = pictures.shape[-1], len(YAWS) // 2
    errors, moves, faces = [], [], 0
    with FaceLandmarker(static=True) as finder:
        for person, depth in zip(pictures, depths):
            found = [landmarks(p, finder) for p in person]
            faces += sum(f is not None for f in found)
            if found[middle] is None:
                continue
            for v, f in enumerate(found):
                if f is None or v == middle:
                    continue
                predicted = moved(found[middle], depth[middle], labels[middle], labels[v])
                errors.append(np.linalg.norm(f - predicted, axis=1) * side)
                moves.append(np.linalg.norm(f - found[middle], axis=1) * side)
    return {
        "faces_found": faces / (pictures.shape[0] * pictures.shape[1]),
        "landmark_movement_px": float(np.median(moves)) if moves else float("nan"),
        "landmark_error_px": float(np.median(errors)) if errors else float("nan"),
    }


def differences(pictures: Tensor) -> float:
    """Smallest mean absolute difference, in grey levels of 255, between frontal pictures of two people."""
    frontal = pictures[:, len(YAWS) // 2].flatten(1) * 255
    apart = torch.cdist(frontal, frontal, p=1) / frontal.shape[1]
    return float(apart[~torch.eye(len(frontal), dtype=torch.bool)].min())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("generator", type=Path)
    parser.add_argument(
        "--held-out", type=Path, help="file of people.py with people that were not trained on"
    )
    parser.add_argument("--picture", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    start = time.time()
    generator = load_generator(args.generator)
    numbers: dict[str, float] = {"loading_seconds": round(time.time() - start, 3)}
    pictures = views(generator, 4, args.seed)[0]
    from torchvision.utils import save_image

    save_image(
        F.interpolate(pictures.flatten(0, 1), scale_factor=1.5, mode="bicubic").clamp(0, 1),
        args.picture,
        nrow=5,
    )
    many = views(generator, 12, args.seed)
    numbers |= agreement(*many) | {"closest_people_levels": differences(many[0])}
    if args.held_out:
        numbers["distance_to_held_out"] = score(generator, crowd.load(args.held_out))
    print(json.dumps(numbers, indent=1))


if __name__ == "__main__":
    main()
