"""Adapter for Inria's diff-gaussian-rasterization (CUDA, non-commercial licence), which the user installs."""

from __future__ import annotations

import torch
from torch import Tensor

from avatarzoo.errors import MissingExtraError
from avatarzoo.geometry.camera import Camera
from avatarzoo.render.gaussians import Gaussians

NEAR, FAR = 0.01, 100.0  # only enter the depth of clip space, which does not reach the picture


def render(gaussians: Gaussians, camera: Camera) -> tuple[Tensor, Tensor]:
    """Premultiplied colour ``(B, 3, H, W)`` and alpha ``(B, 1, H, W)``; the library takes one picture at a time.

    It returns no alpha, so that every picture is rendered twice: once in colour and once all white, both on black.

    Raises:
        MissingExtraError: diff_gaussian_rasterization is not installed.
    """
    try:
        import diff_gaussian_rasterization as library
    except ImportError as error:
        raise MissingExtraError(
            f"diff_gaussian_rasterization is not usable here ({error}); build it from Inria's graphdeco-inria/"
            'diff-gaussian-rasterization (non-commercial licence) or take backend "gsplat".'
        ) from error
    pictures = []
    for b in range(camera.batch):
        means, quaternions, scales, opacities, colors = (x[b if len(x) > 1 else 0].float() for x in gaussians)
        rasterizer = library.GaussianRasterizer(raster_settings=_settings(library, camera, b))
        inputs = {
            "means3D": means,
            "opacities": opacities[:, None],
            "scales": scales,
            "rotations": torch.nn.functional.normalize(quaternions, dim=-1),  # the library does not
        }
        # the first output is the picture; radii and, in later versions, inverse depth follow
        rgb = rasterizer(means2D=torch.zeros_like(means), colors_precomp=colors, **inputs)[0]
        alpha = rasterizer(means2D=torch.zeros_like(means), colors_precomp=torch.ones_like(colors), **inputs)[
            0
        ][:1]
        pictures.append((rgb, alpha))
    colour, opacity = zip(*pictures)
    return torch.stack(colour), torch.stack(opacity)


def _settings(library, camera: Camera, b: int):
    """Camera ``b`` in the library's terms: transposed 4x4 matrices, tangents of the half fields of view."""
    height, width = camera.size
    pose = camera.world_to_camera[b].float()
    k = camera.intrinsics.expand(camera.batch, 3, 3)[b].float()
    clip = pose.new_zeros(4, 4)
    clip[0, 0], clip[0, 2] = 2 * k[0, 0] / width, 2 * k[0, 2] / width - 1
    clip[1, 1], clip[1, 2] = 2 * k[1, 1] / height, 2 * k[1, 2] / height - 1
    clip[2, 2], clip[2, 3], clip[3, 2] = FAR / (FAR - NEAR), -FAR * NEAR / (FAR - NEAR), 1.0
    fields = {
        "image_height": height,
        "image_width": width,
        "tanfovx": width / (2 * float(k[0, 0])),
        "tanfovy": height / (2 * float(k[1, 1])),
        "bg": pose.new_zeros(3),
        "scale_modifier": 1.0,
        "viewmatrix": pose.T.contiguous(),
        "projmatrix": (clip @ pose).T.contiguous(),
        "sh_degree": 0,
        "campos": torch.linalg.inv(pose)[:3, 3],
        "prefiltered": False,
        "debug": False,  # True copies every input to the CPU
        "antialiasing": False,  # a field of later versions only
    }
    known = library.GaussianRasterizationSettings._fields
    return library.GaussianRasterizationSettings(**{name: x for name, x in fields.items() if name in known})
