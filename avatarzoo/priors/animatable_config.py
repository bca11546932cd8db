"""What an animatable tri-plane generator is built from."""

from __future__ import annotations

from dataclasses import dataclass

from avatarzoo.priors.eg3d_config import EG3DConfig


@dataclass(frozen=True)
class AnimatableConfig(EG3DConfig):
    """EG3D's fields and InvertAvatar's own; the defaults are those of the released generator.

    Positions on planes are in shares of their side. ``depth_range`` is not used.

    Attributes:
        range_before, range_behind: rays start and end this much before and behind the distance of their camera from the origin.
        shared_range: distances are averaged over the batch, as in the released code; else every camera has its own, so that a
            picture does not depend on its neighbours.
        closed_samples: fine samples at both ends of their distribution, as in the released evaluation mode.
        ray_place: where a ray passes through its pixel; the released code uses its upper left corner.
        face_top, face_left: upper and left edge of the half-sized square that the driven view covers, per plane. The released
            model drives the first plane alone; the others are ours, for the paper's three-plane form.
        upper_mouth: see :func:`avatarzoo.priors.driving.read_driving`.
    """

    neural_resolution: int = 128
    range_before: float = 0.45
    range_behind: float = 0.6
    shared_range: bool = False
    closed_samples: bool = False
    ray_place: float = 0.0
    face_top: tuple[float, float, float] = (57 / 256, 0.25, 0.25)
    face_left: tuple[float, float, float] = (0.25, 0.25, 0.25)
    upper_mouth: float = 87 / 256


RELEASED_ANIMATABLE = AnimatableConfig()
