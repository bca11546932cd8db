"""What a Next3D generator is built from."""

from __future__ import annotations

from dataclasses import dataclass

from avatarzoo.priors.eg3d_config import EG3DConfig
from avatarzoo.priors.triplanes import PlaneAxes


@dataclass(frozen=True)
class Next3DConfig(EG3DConfig):
    """EG3D's fields and Next3D's own; the defaults are those of the released generator.

    Attributes:
        view_scale: half sides of the orthographic views per metre of the head model.
        view_shift: metres by which the views are moved towards the neck and the face.
        mouth_margin: side of the mouth's square in extents of the outer lip.
    """

    plane_axes: PlaneAxes = "fixed"
    view_scale: float = 5.0
    view_shift: float = 0.01
    mouth_margin: float = 1.2


RELEASED_NEXT3D = Next3DConfig()
