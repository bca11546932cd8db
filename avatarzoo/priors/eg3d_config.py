"""What an EG3D generator is built from, and the configurations of the published checkpoints."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from avatarzoo.networks.superresolution import LAYOUTS, Variant
from avatarzoo.priors.triplanes import PlaneAxes

FFHQ_FOCAL = 4.2647
"""Focal length of EG3D's FFHQ crops, in picture sides."""


@dataclass(frozen=True)
class EG3DConfig:
    """Plain values only; the defaults are those of the FFHQ checkpoints.

    Attributes:
        latent_dim, code_dim, label_dim: widths of z, w and the camera label.
        mapping_layers: layers of the mapping network.
        plane_resolution, plane_channels: side and channels of each of the three planes.
        channel_base, channel_max: the backbone's channel table.
        superresolution: variant, which fixes the output's side.
        antialias: of the resize in front of the super-resolution.
        half: the super-resolution runs in half precision on CUDA.
        neural_resolution: side of the volume-rendered picture.
        coarse_samples, fine_samples: samples on a ray in the first and in the second pass.
        depth_range: where rays start and end, in world units, or "auto" for their way through the box.
        box: side of the cube that the planes span.
        white_background: empty space is white instead of black.
        plane_axes: see :data:`avatarzoo.priors.triplanes.PLANE_AXES`.
        label_scale: factor on the label that the mapping sees.
        pose_conditioning: False hides the label from the mapping.
        decoder_rate: learning-rate multiplier of the decoder.
        camera_radius, camera_pivot, focal: where sampled cameras stand, what they look at, focal length in picture sides.
    """

    latent_dim: int = 512
    code_dim: int = 512
    label_dim: int = 25
    mapping_layers: int = 2
    plane_resolution: int = 256
    plane_channels: int = 32
    channel_base: int = 32768
    channel_max: int = 512
    superresolution: Variant = "8XDC"
    antialias: bool = True
    half: bool = True
    neural_resolution: int = 64
    coarse_samples: int = 48
    fine_samples: int = 48
    depth_range: tuple[float, float] | Literal["auto"] = (2.25, 3.3)
    box: float = 1.0
    white_background: bool = False
    plane_axes: PlaneAxes = "eg3d"
    label_scale: float = 1.0
    pose_conditioning: bool = True
    decoder_rate: float = 1.0
    camera_radius: float = 2.7
    camera_pivot: tuple[float, float, float] = (0.0, 0.0, 0.2)
    focal: float = FFHQ_FOCAL

    @property
    def resolution(self) -> int:
        """Side of the final picture."""
        return LAYOUTS[self.superresolution].output

    def to_dict(self) -> dict[str, Any]:
        """For JSON files and hyper-parameters."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> EG3DConfig:
        """Inverse of :meth:`to_dict`; lists become tuples again. Raises TypeError for a name that is not a field."""
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**plain)


FFHQ = EG3DConfig()
AFHQ = replace(FFHQ, camera_pivot=(0.0, 0.0, -0.06))
SHAPENET = replace(
    FFHQ,
    superresolution="2X",
    coarse_samples=64,
    fine_samples=64,
    depth_range=(0.1, 2.6),
    box=1.6,
    white_background=True,
    camera_radius=1.7,
    camera_pivot=(0.0, 0.0, 0.0),
)

RELEASED: dict[str, EG3DConfig] = {
    "ffhq512-64": FFHQ,
    "ffhq512-128": replace(FFHQ, neural_resolution=128),
    "ffhqrebalanced512-64": FFHQ,
    "ffhqrebalanced512-128": replace(FFHQ, neural_resolution=128),
    "afhqcats512-128": replace(AFHQ, neural_resolution=128),
    "shapenetcars128-64": SHAPENET,
    # the LPFF authors' networks, trained with three different planes
    "ffhq-fixed-triplane512-64": replace(FFHQ, plane_axes="fixed"),
    "ffhq-fixed-triplane512-128": replace(FFHQ, plane_axes="fixed", neural_resolution=128),
}
"""Configurations by the file names under which checkpoints were published."""
