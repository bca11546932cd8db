"""The UV Gaussian map (paper section 3.2): one Gaussian per valid UV pixel, 13 channels, on any head model.

Channels: 0:3 position offset, 3:6 log-scale, 6:9 rotation (x, y, z of a quaternion), 9 opacity logit, 10:13 SH degree-0 RGB.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from avatarzoo.geometry.spherical_harmonics import SH0, sh0_to_rgb
from avatarzoo.geometry.uv import UVAtlas, uv_atlas
from avatarzoo.heads.base import HeadModel
from avatarzoo.models.gaussian_dejavu.mouth import MouthPatch, mouth_patch, neck_row
from avatarzoo.render.gaussians import Gaussians

CHANNELS = 13
POSITION, SCALE, ROTATION, OPACITY, COLOR = slice(0, 3), slice(3, 6), slice(6, 9), slice(9, 10), slice(10, 13)
POSITION_UNIT = 0.01
"""paper: offsets are added directly; released code: multiplied by 0.01, so that 1 unit = 1 cm; we follow the code because
one learning rate then suits all channels."""
PAPER_LOG_SCALE = -8.3533
REFERENCE_SIZE = 320
"""UV resolution at which offsets are learnt; other sizes add log(320 / S) to the scales so that no holes open."""

Initialization = Literal["paper", "official_release", "surface"]


class UVGaussianMap(nn.Module):
    """Constants of one head model at one UV resolution, and the way from offsets to Gaussians.

    All tensors are non-persistent buffers (they follow from the head model), so they never enter a checkpoint.

    Args:
        head: any head model.
        size: S, side of the UV map (320 gives 74,083 Gaussians with the paper's FLAME layout).
        initialization: ``paper`` (opacity logit 0.1, grey), ``official_release`` (opacity map, black on the mesh) or ``surface``
            (scales from the local spacing of the points, nearly opaque; for a start without a reconstruction network).

    Attributes:
        pixels: ``(N,)`` flat indices of the valid pixels, row-major.
        neighbours: ``(P, 2)`` pairs of Gaussians that are adjacent on the rest head.
        position_weight: ``(N,)`` the map M_mu of Eq. 5: 10 on the face, 0.1 on scalp and back.
    """

    pixels: Int[Tensor, "n"]
    corners: Int[Tensor, "n 3"]
    barycentrics: Float[Tensor, "n 3"]
    neighbours: Int[Tensor, "p 2"]
    position_weight: Float[Tensor, "n"]
    free_position: Float[Tensor, "n 1"]
    initial: Float[Tensor, "n 13"]

    def __init__(
        self, head: HeadModel, size: int = REFERENCE_SIZE, initialization: Initialization = "surface"
    ) -> None:
        super().__init__()
        self.size = size
        atlas = uv_atlas(head.uv, head.uv_faces, head.faces, size)
        self.patch: MouthPatch | None = mouth_patch(head, size)
        corners, weights, pixels, part = _layout(head, atlas, self.patch)
        self._constant("pixels", pixels)
        self._constant("corners", corners)
        self._constant("barycentrics", weights)
        rest = self.positions(head.v_template[None])[0]
        self._constant("neighbours", _neighbours(rest))
        self._constant("position_weight", _position_weights(head, rest, part))
        self._constant("free_position", (part != MOUTH_PATCH).to(rest)[:, None])
        self._constant("initial", _initial_channels(head, rest, part, size, initialization))

    def _constant(self, name: str, value: Tensor) -> None:
        self.register_buffer(name, value, persistent=False)

    def __len__(self) -> int:
        return len(self.pixels)

    def positions(self, vertices: Float[Tensor, "b v 3"]) -> Float[Tensor, "b n 3"]:
        """Points of the surface under each valid pixel: a fixed sparse matrix applied to the vertices."""
        if self.patch is not None:
            vertices = torch.cat([vertices, self.patch.points(vertices)], 1)
        batch = len(vertices)
        wide = vertices.transpose(0, 1).flatten(1)  # all pictures side by side: one fused gather-and-mix
        mixed = nn.functional.embedding_bag(
            self.corners, wide, per_sample_weights=self.barycentrics, mode="sum"
        )
        return mixed.view(-1, batch, 3).transpose(0, 1).contiguous()

    def gaussians(self, surface: Float[Tensor, "b n 3"], offsets: Float[Tensor, "b n 13"]) -> Gaussians:
        """Activate ``U_init + offsets`` on given surface points (section 3.2 and the fact sheet's activations).

        Args:
            surface: result of :meth:`positions`, head frame, metres.
            offsets: raw 13 channels, batch 1 or B.
        """
        u = self.initial + offsets
        batch = max(len(surface), len(u))
        position = offsets[..., POSITION] * (POSITION_UNIT * self.free_position)
        rotation = u[..., ROTATION]
        quaternion = torch.cat([torch.ones_like(rotation[..., :1]), rotation], -1)
        shared = (
            nn.functional.normalize(quaternion, dim=-1),
            u[..., SCALE].exp(),
            u[..., 9].sigmoid(),
            sh0_to_rgb(u[..., COLOR]).clamp_min(0),
        )
        return Gaussians(surface + position, *(x.expand(batch, *x.shape[1:]) for x in shared))

    def to_map(self, values: Float[Tensor, "n c"]) -> Float[Tensor, "s s c"]:
        """Scatter values of the valid pixels into a picture-shaped map, zeros elsewhere (for saving and looking)."""
        flat = values.new_zeros(self.size * self.size, values.shape[-1])
        return flat.index_copy(0, self.pixels, values).view(self.size, self.size, -1)

    def from_map(self, uv_map: Float[Tensor, "s s c"]) -> Float[Tensor, "n c"]:
        """Inverse of :meth:`to_map`; a map of another size is resampled (with the log(320 / S) scale rule left to the caller)."""
        if uv_map.shape[0] != self.size:
            picture = uv_map.movedim(-1, 0)[None]
            resized = nn.functional.interpolate(
                picture, (self.size, self.size), mode="bilinear", align_corners=False
            )
            uv_map = resized[0].movedim(0, -1)
        return uv_map.reshape(-1, uv_map.shape[-1])[self.pixels]


SKIN, NECK, EYEBALL, MOUTH, MOUTH_PATCH = range(5)


def _layout(
    head: HeadModel, atlas: UVAtlas, patch: MouthPatch | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Valid pixels in row-major order: their three vertices, barycentrics, flat index and part."""
    face_part = torch.full((len(head.faces),), SKIN)
    for name, part in (
        ("neck", NECK),
        ("mouth", MOUTH),
        ("teeth", MOUTH),
        ("eyeball_left", EYEBALL),
        ("eyeball_right", EYEBALL),
    ):
        if name in head.face_regions:
            face_part[head.face_regions[name]] = part
    size, pixels, corners, weights = atlas.size, atlas.pixels, atlas.corners, atlas.weights
    part = face_part[atlas.face_id.flatten()[pixels]]
    if head.name == "flame":  # the paper's layout removes the neck by a row of the map, not by faces
        keep = pixels < neck_row(size) * size
    else:
        keep = part != NECK
    corners, weights, pixels, part = corners[keep], weights[keep], pixels[keep], part[keep]
    if patch is None:
        return corners, weights, pixels, part
    outside = ~torch.isin(pixels, patch.pixels)
    count = len(patch.pixels)
    virtual = len(head.v_template) + torch.arange(count)
    pixels = torch.cat([pixels[outside], patch.pixels])
    corners = torch.cat([corners[outside], virtual[:, None].expand(count, 3)])
    weights = torch.cat([weights[outside], torch.tensor([[1.0, 0.0, 0.0]]).expand(count, 3)])
    part = torch.cat([part[outside], torch.full((count,), MOUTH_PATCH)])
    order = pixels.argsort()
    return corners[order], weights[order].contiguous(), pixels[order], part[order]


def _neighbours(rest: Float[Tensor, "n 3"], count: int = 4) -> Int[Tensor, "p 2"]:
    """Pairs of nearest points on the rest head, less than four typical distances apart; they reach across the charts' seams."""
    from scipy.spatial import cKDTree

    distance, index = cKDTree(rest.numpy()).query(rest.numpy(), k=count + 1, workers=-1)
    first = torch.arange(len(rest)).repeat_interleave(count)
    pairs = torch.stack([first, torch.from_numpy(index[:, 1:]).flatten()], 1).sort(1).values.unique(dim=0)
    length = (rest[pairs[:, 0]] - rest[pairs[:, 1]]).norm(dim=1)
    return pairs[length < 4 * float(np.median(distance[:, 1:]))]


def _face_region(head: HeadModel, rest: Tensor) -> Tensor:
    """Face and ears on the rest head, told from scalp and back by distances in units of the eye distance."""
    joints = head.joints(head.zeros(1, rest.device))
    left, right = joints["eye_left"][0], joints["eye_right"][0]
    middle, unit = (left + right) / 2, (left - right).norm()
    up, front = (rest[:, 1] - middle[1]) / unit, (rest[:, 2] - middle[2]) / unit
    # hairline about 1.05 eye distances above the eyes; ears about 1.4 behind them and not above the brow
    return (up < 1.05) & ((front > -0.9) | ((front > -1.75) & (up < 0.45)))


def _position_weights(head: HeadModel, rest: Tensor, part: Tensor) -> Tensor:
    """M_mu: 10 on face, eyes and mouth, 0.1 on scalp and back (the published map's values; its outline is ours, from geometry)."""
    face = _face_region(head, rest) | (part == EYEBALL) | (part == MOUTH) | (part == MOUTH_PATCH)
    return torch.where(face, 10.0, 0.1)


def _initial_channels(
    head: HeadModel, rest: Tensor, part: Tensor, size: int, initialization: Initialization
) -> Float[Tensor, "n 13"]:
    """U_init without the positions, which come from the mesh of each frame."""
    u = rest.new_zeros(len(rest), CHANNELS)
    if initialization == "surface":
        # Ours, for a start without offsets of a reconstruction network: no holes, nearly opaque.
        u[:, SCALE] = _spacing(rest).log()[:, None]
        u[:, OPACITY] = math.log(0.9 / 0.1)
        return u
    u[:, SCALE] = PAPER_LOG_SCALE + math.log(REFERENCE_SIZE / size)
    if initialization == "paper":
        u[:, OPACITY] = 0.1
        return u
    # released code: a map of logits replaces the paper's 0.1 (face and eyeballs 1, scalp and mouth 0), and colours start black
    bright = _face_region(head, rest) | (part == EYEBALL)
    u[:, OPACITY] = (bright & (part != MOUTH_PATCH) & (part != MOUTH)).to(rest)[:, None]
    u[:, COLOR] = torch.where(part == MOUTH_PATCH, 0.0, -0.5 / SH0)[:, None]
    return u


def _spacing(points: Float[Tensor, "n 3"], neighbours: int = 4) -> Float[Tensor, "n"]:
    """Standard deviation that makes neighbouring Gaussians overlap: 0.6 of the mean distance to the nearest points."""
    from scipy.spatial import cKDTree

    distance, _ = cKDTree(points.numpy()).query(points.numpy(), k=neighbours + 1, workers=-1)
    spacing = torch.from_numpy(distance[:, 1:].mean(1)).to(points)
    return (0.6 * spacing).clamp(1e-4, 3e-3)
