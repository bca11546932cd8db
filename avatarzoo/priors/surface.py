"""What a tri-plane person looks like as a film and as a mesh."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from avatarzoo.optional import require
from avatarzoo.priors.cameras import orbit_labels
from avatarzoo.priors.eg3d import TriPlaneGenerator


@torch.no_grad()
def orbit_frames(
    generator: TriPlaneGenerator,
    codes: Float[Tensor, "1 n w"],
    count: int = 120,
    yaw: float = 0.35,
    pitch: float = 0.25,
    resolution: int | None = None,
) -> Iterator[np.ndarray]:
    """8-bit RGB frames ``(S, S, 3)`` of a camera that goes once round an ellipse; the last frame joins the first.

    ``avatarzoo.data.video.write_video(path, orbit_frames(generator, codes), fps=30)`` makes a film.

    Args:
        generator: the prior.
        codes: one person.
        count: number of frames.
        yaw, pitch: half axes, see :func:`avatarzoo.priors.cameras.orbit_labels`.
        resolution: side of the volume-rendered picture; None: the generator's.
    """
    planes = generator.planes(codes)
    for label in orbit_labels(count, yaw, pitch, generator.config).to(codes.device):
        rgb = generator(codes, label[None], planes, resolution).rgb[0]
        yield (255 * rgb.clamp(0, 1)).round().byte().permute(1, 2, 0).cpu().numpy()


class Surface(NamedTuple):
    """A triangle mesh in world units, faces counter-clockwise seen from outside, with RGB in [0, 1]."""

    vertices: Float[Tensor, "v 3"]
    faces: Int[Tensor, "f 3"]
    colours: Float[Tensor, "v 3"]


@torch.no_grad()
def density_grid(
    generator: TriPlaneGenerator,
    planes: Float[Tensor, "1 3 c h w"],
    resolution: int = 128,
    chunk: int = 2**18,
) -> Float[Tensor, "r r r"]:
    """Raw density on a grid over the whole box, indexed by x, y, z; ``chunk`` points are computed at a time."""
    axis = torch.linspace(-0.5, 0.5, resolution, device=planes.device) * generator.config.box
    points = torch.cartesian_prod(axis, axis, axis)
    parts = [generator.query(planes, some[None])[0][0] for some in points.split(chunk)]
    return torch.cat(parts).reshape(resolution, resolution, resolution)


@torch.no_grad()
def extract_surface(
    generator: TriPlaneGenerator,
    planes: Float[Tensor, "1 3 c h w"],
    level: float = 10.0,
    resolution: int = 128,
) -> Surface:
    """Marching cubes through the raw density of one person.

    Args:
        generator: the prior.
        planes: of ``generator.planes``.
        level: raw density of the surface.
        resolution: grid points along each side of the box.

    Raises:
        MissingExtraError: scikit-image is not installed (extra ``mesh``).
        ValueError: the density crosses ``level`` nowhere.
    """
    marching_cubes = require("skimage.measure", extra="mesh").marching_cubes
    density = density_grid(generator, planes, resolution)
    lowest, highest = density.min().item(), density.max().item()
    if not lowest < level < highest:
        raise ValueError(
            f"no surface at level {level}: the density lies between {lowest:.3g} and {highest:.3g}"
        )
    # a shell of low density closes the surface at the sides of the box
    volume = F.pad(density, (1, 1, 1, 1, 1, 1), value=lowest).cpu().numpy()
    vertices, faces, _, _ = marching_cubes(volume, level, gradient_direction="ascent")
    box = generator.config.box
    places = torch.from_numpy(vertices.copy()).to(planes)
    places = ((places - 1) / (resolution - 1) - 0.5).clamp(-0.5, 0.5) * box
    colours = generator.query(planes, places[None])[1][0, :, :3].clamp(0, 1)
    return Surface(places, torch.from_numpy(faces.copy()).long(), colours)
