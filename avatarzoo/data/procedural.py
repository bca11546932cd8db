"""`ProceduralActor`: a textured, lit, moving person made by code, with exact ground truth for every frame."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from scipy.ndimage import gaussian_filter
from torch import Tensor

from avatarzoo.data.procedural_motion import random_motion
from avatarzoo.data.procedural_shading import shade_pixels
from avatarzoo.data.procedural_texture import hair_cover, paint, random_look
from avatarzoo.geometry.camera import Camera, look_at_face, project
from avatarzoo.geometry.mesh import vertex_normals
from avatarzoo.geometry.rotations import axis_angle_to_matrix
from avatarzoo.geometry.spherical_harmonics import irradiance, sh_basis
from avatarzoo.heads.base import HeadParams
from avatarzoo.heads.procedural import ProceduralHead
from avatarzoo.heads.procedural_parts import head_mesh
from avatarzoo.heads.procedural_surface import Array
from avatarzoo.render.mesh import rasterize_mesh

CHUNK = 8
"""Frames drawn at a time."""
SUPERSAMPLING = 2
GAMMA = 1 / 1.15
"""Exponent of the tone curve."""
_COAT = np.array([  # widths to the side and to front and back, height and depth of its middle, share of the body's stillness
    [0.062, 0.056, -0.141, -0.022, 0.10], [0.076, 0.064, -0.146, -0.023, 0.35], [0.105, 0.072, -0.154, -0.025, 0.65],
    [0.150, 0.080, -0.166, -0.027, 0.90], [0.190, 0.086, -0.186, -0.028, 1.0], [0.205, 0.090, -0.300, -0.028, 1.0],
])  # fmt: skip


class ProceduralClip(NamedTuple):
    """A rendered clip and its truth.

    Attributes:
        images: ``(T, H, W, 3)`` uint8 RGB.
        masks: ``(T, H, W)`` uint8 coverage of the person, clothes included.
        params: T rows for :class:`ProceduralHead`.
        camera: batch 1, the same for all frames.
        landmarks: ``(T, 478, 2)`` float32 pixels, pixel centres at +0.5.
        head_masks: ``(T, H, W)`` uint8 coverage of head, neck and hair only.
    """

    images: UInt8[np.ndarray, "t h w 3"]
    masks: UInt8[np.ndarray, "t h w"]
    params: HeadParams
    camera: Camera
    landmarks: Float[np.ndarray, "t 478 2"]
    head_masks: UInt8[np.ndarray, "t h w"]


class ProceduralActor:
    """A made-up person: shape, colours, hair, clothes, light and background come from ``seed``.

    Args:
        seed: the person; the same seed gives the same pictures.
        size: side of the square pictures in pixels.
        fps: frames a second of its motion.
        shoulders: draw a clothed stub below the neck.
        background: ``"noise"`` (a blurred picture) or a grey level in [0, 1].
    """

    def __init__(
        self,
        seed: int = 0,
        size: int = 256,
        fps: float = 25,
        shoulders: bool = True,
        background: str | float = "noise",
    ) -> None:
        self.seed, self.size, self.fps = seed, size, fps
        rng = np.random.default_rng([seed, 1])
        self.head = ProceduralHead()
        self.look = random_look(rng)
        self.identity = (
            torch.from_numpy(rng.normal(size=(1, self.head.n_identity)).clip(-2.2, 2.2)).float() * 0.8
        )
        self.camera = look_at_face(1.0, 20.0, size)
        self.light = _random_light(rng)
        albedo = paint(self.head, self.look, rng, size=512 if size <= 320 else 1024)
        texture = _with_cloth(albedo, self.look.cloth, rng)
        self.texture = texture[0].permute(1, 2, 0).contiguous().numpy()
        self.coat = _coat(self._neck_rim()) if shoulders else None
        self.background = _background(rng, background)
        mesh = head_mesh()
        cover = hair_cover(mesh.vertices, mesh.info["angle"], self.look.hair_shift, 0.022)
        cover = np.where((mesh.part == 0) & (mesh.info["ear"] == 0), cover, 0.0)
        wave = 1 + 0.12 * np.sin(mesh.vertices @ rng.normal(size=3) * 60 + rng.uniform(0, 6))
        self.hair = torch.from_numpy(cover * wave * self.look.hair_thickness).float()
        head_faces, head_uv = self.head.faces, self.head.uv_faces
        scale = self.head.uv.new_tensor([albedo.shape[-1] / texture.shape[-1], 1.0])
        self._faces, self._uv, self._uv_faces = head_faces, self.head.uv * scale, head_uv
        if self.coat is not None:
            self._faces = torch.cat([head_faces, self.coat.faces + len(self.head.v_template)])
            self._uv = torch.cat([self._uv, self.coat.uv])
            self._uv_faces = torch.cat([head_uv, self.coat.faces + len(self.head.uv)])

    def _neck_rim(self) -> Array:
        """``(N, 3)`` of this person's neck."""
        rim = torch.from_numpy(head_mesh().info["level"] == 0) & (torch.from_numpy(head_mesh().part) == 0)
        person = self.head.zeros(1)._replace(identity=self.identity)
        return self.head(person)[0, rim].double().numpy()

    def motion(self, n_frames: int) -> HeadParams:
        """The parameters of the first ``n_frames`` frames."""
        rng = np.random.default_rng([self.seed, 2])
        return random_motion(self.head, self.identity, rng, n_frames, self.fps)

    def render(self, params: HeadParams, camera: Camera | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """``(rgb (B, 3, H, W), mask (B, 1, H, W), head mask (B, 1, H, W))`` in [0, 1] for any parameters and cameras."""
        camera = self.camera if camera is None else camera
        vertices = self._geometry(params)
        fine = camera.resized(camera.size[0] * SUPERSAMPLING, camera.size[1] * SUPERSAMPLING)
        fragments = rasterize_mesh(vertices, self._faces, fine)
        light = irradiance(vertex_normals(vertices, self._faces), self.light).clamp_min(0.05)
        drawn = shade_pixels(
            fragments.face_id.numpy(), fragments.barycentrics.numpy(), self._faces.numpy(), self._uv_faces.numpy(),
            self._uv.numpy(), light.numpy(), self.texture, self._background(camera.size), len(self.head.faces), GAMMA,
        )  # fmt: skip
        drawn = torch.from_numpy(drawn).permute(0, 3, 1, 2)
        return drawn[:, :3], drawn[:, 3:4], drawn[:, 4:]

    def depth(self, params: HeadParams, camera: Camera | None = None) -> Float[Tensor, "b h w"]:
        """Camera depth in metres of what :meth:`render` draws, one sample per pixel; 0 on the background."""
        return rasterize_mesh(self._geometry(params), self._faces, camera or self.camera).depth

    def _background(self, size: tuple[int, int]) -> np.ndarray:
        """``(H, W, 3)``."""
        picture = F.interpolate(self.background, size, mode="bicubic", align_corners=False).clamp(0, 1)
        return picture[0].permute(1, 2, 0).contiguous().numpy()

    def landmarks(self, params: HeadParams, camera: Camera | None = None) -> Float[Tensor, "b 478 2"]:
        """Where the 478 MediaPipe points of the head are seen, in pixels."""
        points = self.head.landmark_points(self.head(params))
        return project(points, self.camera if camera is None else camera)[..., :2]

    def frames(self, n_frames: int) -> Iterator[np.ndarray]:
        """uint8 RGB pictures one by one."""
        for rgb, _, _ in self._chunks(self.motion(n_frames)):
            yield from _bytes(rgb)

    def sequence(self, n_frames: int) -> ProceduralClip:
        """Render ``n_frames`` frames with their truth.

        Raises:
            ValueError: fewer than one frame.
        """
        if n_frames < 1:
            raise ValueError(f"a clip needs at least one frame, not {n_frames}.")
        params = self.motion(n_frames)
        rgb, masks, head_masks = (
            np.concatenate(x) for x in zip(*([_bytes(y) for y in c] for c in self._chunks(params)))
        )
        landmarks = self.landmarks(params).numpy()
        return ProceduralClip(rgb, masks[..., 0], params, self.camera, landmarks, head_masks[..., 0])

    def write_video(self, path: str | Path, n_frames: int) -> None:
        """Write the first ``n_frames`` frames as a video."""
        from avatarzoo.data.video import write_video

        write_video(path, self.frames(n_frames), self.fps)

    def _chunks(self, params: HeadParams) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        with torch.inference_mode():
            for start in range(0, params.batch, CHUNK):
                yield self.render(params.rows(slice(start, start + CHUNK)))

    def _geometry(self, params: HeadParams) -> Float[Tensor, "b v 3"]:
        """Head with hair, and the coat, which follows the head's motion less and less towards the shoulders."""
        vertices = self.head(params)
        vertices = vertices + self.hair[:, None] * vertex_normals(vertices, self.head.faces)
        if self.coat is None:
            return vertices
        rest, still = self.coat.points, self.coat.still[:, None]
        turned = rest @ axis_angle_to_matrix(params.rotation).transpose(1, 2)
        body = (1 - still) * turned + still * rest + params.translation[:, None] * (1 - 0.5 * still)
        return torch.cat([vertices, body], 1)


class _Coat(NamedTuple):
    points: Tensor
    faces: Tensor
    uv: Tensor
    still: Tensor


def _coat(neck: Array, columns: int = 40) -> _Coat:
    """A collar that fits round the rim of a neck ``(N, 3)``, and two shoulders."""
    low, high = neck.min(0), neck.max(0)
    half, middle = (high - low) / 2, (high + low) / 2
    fit = np.array([half[0] + 0.0040, half[2] + 0.0040, middle[1] + 0.0030, middle[2]]) - _COAT[0, :4]
    coat = _COAT[:, :4] + fit * np.linspace(1, 0, len(_COAT))[:, None]
    turn = 2 * np.pi * np.arange(columns) / columns
    rows = []
    for k, (width, depth, y, z) in enumerate(coat):
        rise = 0.010 * np.cos(turn - np.pi) * (k < 3)  # the collar is lower in front
        rows.append(np.stack([width * np.sin(turn), y + rise, z + depth * np.cos(turn)], -1))
    i = np.arange(len(_COAT) * columns).reshape(len(_COAT), columns)
    j = np.roll(i, -1, 1)
    a, b, c, d = i[:-1], i[1:], j[1:], j[:-1]
    faces = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])
    v = np.repeat(np.linspace(0.98, 0.02, len(_COAT)), columns)
    u = 0.81 + 0.18 * np.tile(np.abs(turn / np.pi - 1), len(_COAT))
    uv, still = np.stack([u, v], -1), np.repeat(_COAT[:, 4], columns)
    tensors = [torch.from_numpy(x).float() for x in (np.concatenate(rows), uv, still)]
    return _Coat(tensors[0], torch.from_numpy(faces), tensors[1], tensors[2])


def _with_cloth(albedo: Tensor, color: Array, rng: np.random.Generator) -> Tensor:
    """The head's albedo on the left 80 % of the texture, woven cloth with stripes on the rest."""
    size = albedo.shape[-1]
    width = size // 4
    v = np.linspace(0, 1, size)[:, None]
    weave = gaussian_filter(rng.normal(size=(size, width)), (1.0, 1.0))
    stripes = rng.uniform(0, 0.5) * (np.sin(2 * np.pi * v * rng.integers(6, 20)) > 0.3)
    cloth = color[:, None, None] * (1 + 0.25 * weave) * (1 - stripes) + 0.25 * stripes
    return torch.cat([albedo, torch.from_numpy(np.clip(cloth, 0, 1)).float()[None]], -1)


def _random_light(rng: np.random.Generator) -> Float[Tensor, "1 9 3"]:
    """Second-order spherical harmonics of a lamp in front and above, a weaker one elsewhere, and light from all sides."""

    def lamp(yaw: float, pitch: float, color: Array) -> Array:
        d = torch.tensor(
            [[np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)]], dtype=torch.float64
        )
        return sh_basis(d, 2).numpy().T * color * np.pi

    warm = 1 + 0.06 * rng.normal(size=3)
    total = lamp(rng.uniform(-0.9, 0.9), rng.uniform(0.2, 0.8), warm * rng.uniform(0.55, 0.80))
    total = total + lamp(rng.uniform(-2.5, 2.5), rng.uniform(-0.3, 0.6), rng.uniform(0.05, 0.2, 3))
    total[0] += rng.uniform(0.42, 0.55) * np.sqrt(4 * np.pi)
    return torch.from_numpy(total).float()[None]


def _background(rng: np.random.Generator, kind: str | float) -> Float[Tensor, "1 3 64 64"]:
    """A blurred random picture, or one grey."""
    if kind != "noise":
        return torch.full((1, 3, 64, 64), float(kind))
    grey, color = (gaussian_filter(rng.normal(size=(c, 64, 64)), (0, 6, 6), mode="wrap") for c in (1, 3))
    picture = (
        rng.uniform(0.35, 0.65)
        + 0.13 * grey / grey.std()
        + 0.04 * color / color.std()
        + 0.05 * rng.normal(size=(3, 1, 1))
    )
    return torch.from_numpy(picture).float()[None].clamp(0, 1)


def _bytes(x: Tensor) -> np.ndarray:
    """``(B, C, H, W)`` in [0, 1] to ``(B, H, W, C)`` uint8."""
    return (x * 255 + 0.5).clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()
