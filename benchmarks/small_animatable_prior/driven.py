"""Do people of the small animatable prior move as they are driven? Keypoint distances of tracked landmarks, driven against undriven.

    python benchmarks/small_animatable_prior/driven.py [PICTURE]

A made-up actor's expressions, and then its head poses too, drive people that the prior samples. A landmark's motion is its way from
the rest frame; AKD is the mean distance, in pixels of 128, between the driver's motion and the sampled person's. Undriven: the person
stays at rest, so that the distance is the driver's own motion. Another rendered actor with the same numbers shows what a perfect model
would get: faces differ in shape, and the landmark network errs.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from frames import crowd, expressive
from torch import Tensor
from torchvision.utils import save_image
from tqdm import trange

from avatarzoo.data.procedural import ProceduralActor
from avatarzoo.data.procedural_people import neutral, portrait_cameras, portrait_labels
from avatarzoo.geometry.camera import Camera
from avatarzoo.heads.base import HeadParams
from avatarzoo.models.invertavatar.maps import HeadMaps
from avatarzoo.perception.landmarks import FaceLandmarker
from avatarzoo.priors import small_animatable_prior
from avatarzoo.priors.animatable import PersonFeatures
from avatarzoo.priors.feature_levels import Levels

PEOPLE, MOMENTS, SIZE, SEEN_AT = 16, 8, 128, 384
DRIVERS, OTHERS = 20_100, 20_300
"""Seeds of people whom the prior has not been trained on."""
MOUTH = (
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95, 185, 40, 39, 37, 0, 267, 269, 270,
    409, 415, 310, 311, 312, 13, 82, 81, 42, 183, 78,
)  # fmt: skip
"""The lips of the 478 landmarks."""


class Motions(NamedTuple):
    """Landmarks' ways from the rest frame, ``(moments, 478, 2)`` in pixels."""

    driver: Tensor
    driven: Tensor
    other: Tensor


def landmarks(detector: FaceLandmarker, images: Tensor) -> Tensor:
    """``(n, 478, 2)`` in pixels; nan where no face is found."""
    large = F.interpolate(images.clamp(0, 1), SEEN_AT, mode="bicubic", antialias=True).clamp(0, 1)
    found = [detector.detect((image.permute(1, 2, 0) * 255).byte().numpy()) for image in large]
    lost = torch.full((478, 2), torch.nan)
    return (
        torch.stack([torch.from_numpy(f[0, :, :2].copy()) if len(f) else lost for f in found])
        * SIZE
        / SEEN_AT
    )


def driving(actor: ProceduralActor, number: int, posed: bool) -> tuple[HeadParams, Camera]:
    """The rest frame, then moments of an actor."""
    rng = np.random.default_rng([number, 7])
    doing, angles = expressive(actor, MOMENTS, rng), torch.zeros(2, MOMENTS + 1)
    if posed:
        angles[0, 1:], angles[1, 1:] = (torch.from_numpy(rng.uniform(-x, x, MOMENTS)) for x in (0.35, 0.2))
    params = HeadParams(*(torch.cat(parts) for parts in zip(neutral(actor, 1), doing)))
    return params, portrait_cameras(*angles, SIZE)


@torch.no_grad()
def sampled(prior, maps: HeadMaps, number: int, params: HeadParams, camera: Camera) -> Tensor:
    """Pictures of a person of the prior under these expressions and cameras."""
    latent = torch.randn(1, prior.config.latent_dim, generator=torch.Generator().manual_seed(500 + number))
    labels = portrait_labels(camera)
    codes = prior.codes(latent, labels[:1]).expand(len(labels), -1, -1)
    one = prior.person(codes[:1])
    features = PersonFeatures(*(Levels(*(x.expand(len(labels), *x.shape[1:]) for x in part)) for part in one))
    return prior(codes, labels, prior.animate(codes, features, maps.driving(params))).rgb


def measured(posed: bool) -> tuple[Motions, list[Tensor]]:
    """Everybody's motions, and pictures of the first four."""
    prior, detector = small_animatable_prior(), FaceLandmarker(static=True, max_faces=1)
    motions: list[Motions] = []
    pictures: list[Tensor] = []
    maps: HeadMaps | None = None
    for number in trange(PEOPLE, desc="drivers"):
        actor, other = (
            ProceduralActor(seed + number, SIZE, background=crowd.BACKGROUND) for seed in (DRIVERS, OTHERS)
        )
        params, camera = driving(actor, number, posed)
        maps = maps or HeadMaps(actor.head, prior.config)
        strange = params._replace(identity=neutral(other, 1).identity.expand(params.batch, -1))
        shown = (
            actor.render(params, camera)[0],
            sampled(prior, maps, number, params, camera),
            other.render(strange, camera)[0],
        )
        ways = [points[1:] - points[:1] for points in (landmarks(detector, images) for images in shown)]
        motions.append(Motions(*ways))
        if number < 4:
            pictures += [shown[0][:6], shown[1][:6].clamp(0, 1)]
    return Motions(*(torch.cat(parts) for parts in zip(*motions))), pictures


def main() -> None:
    for posed in (False, True):
        motions, pictures = measured(posed)
        good = torch.stack([~x.isnan().any(2).any(1) for x in motions]).all(0)
        driver, driven, other = (x[good] for x in motions)
        kind = "expression and pose" if posed else "expression alone"
        print(f"{kind}: {int(good.sum())} of {len(good)} moments, the rest without a detected face")
        for name, rows in (("face", range(468)), ("mouth", MOUTH)):
            still, moved, best = (
                x[:, list(rows)].norm(dim=-1).mean() for x in (driver, driver - driven, driver - other)
            )
            print(
                f"  {name:5s}  AKD driven {moved:.2f} px, undriven {still:.2f} px, ratio {moved / still:.2f}; "
                f"another actor {best:.2f} px, ratio {best / still:.2f}"
            )
    if len(sys.argv) > 1:
        save_image(torch.cat(pictures), Path(sys.argv[1]), nrow=6)


if __name__ == "__main__":
    main()
