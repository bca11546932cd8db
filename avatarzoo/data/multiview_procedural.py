"""Made-up people seen by 25 cameras, with exact parameters and masks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from avatarzoo.data.multiview import Views
from avatarzoo.data.procedural import ProceduralActor
from avatarzoo.files import atomic_path
from avatarzoo.geometry.camera import Camera, look_at_face
from avatarzoo.geometry.mesh import vertex_normals
from avatarzoo.heads.base import HeadParams
from avatarzoo.heads.procedural import ProceduralHead
from avatarzoo.render.mesh import rasterize_mesh

VERSION = 1
"""Raise it when pictures change, so that kept ones are drawn anew."""
YAW, PITCH = math.radians(70), math.radians(20)
"""Outermost cameras."""
FRAMES_APART = 9
"""Frames (of 25 a second) between two views' expressions."""
TURN_SPREAD, SHIFT_SPREAD = 0.06, (0.008, 0.012, 0.04)
"""Standard deviations of the heads' own rotation (radians) and place (metres): a tracker's crop is never exact."""


def camera_grid(yaws: int, pitches: int, size: int) -> Camera:
    """``yaws * pitches`` cameras one metre from the head, rows of equal pitch.

    The paper's 25 cameras are shown, not listed (supplement Figure 1); these span 140 degrees across and 40 up and down.
    """
    yaw, pitch = (torch.linspace(-1, 1, n) if n > 1 else torch.zeros(1) for n in (yaws, pitches))
    return look_at_face(1.0, 20.0, size, YAW * yaw.repeat(pitches), PITCH * pitch.repeat_interleave(yaws))


class ProceduralPeople:
    """People made by code, drawn when first asked for (about a second each) and kept as bytes.

    Args:
        first: seed of the first person; the others follow. count: how many.
        yaws, pitches: cameras across and up; their product is the number of views (paper: 25).
        size: side of the pictures in pixels.
        cache: folder in which drawn people are kept for other runs; ``None``: in memory.
    """

    def __init__(
        self,
        first: int,
        count: int,
        yaws: int = 5,
        pitches: int = 5,
        size: int = 128,
        cache: str | None = None,
    ) -> None:
        self.first, self.people, self.grid, self.size = first, count, (yaws, pitches), size
        self.cache = Path(cache) if cache else None
        self.kept: dict[int, Views] = {}
        self.head_signature = ProceduralHead().signature
        self.described: dict[str, Any] = {
            "kind": "procedural people (not real)",
            "people": count,
            "first": first,
            "views": yaws * pitches,
            "tracking": "exact ground truth",
        }

    def __len__(self) -> int:
        return self.people

    def count(self, person: int) -> int:
        return self.grid[0] * self.grid[1]

    def views(self, person: int, rows: Tensor | None = None) -> Views:
        views = self._kept(person) if self.cache is None else self._cached(self.first + person)
        return views if rows is None else views.pick(rows)

    def _kept(self, person: int) -> Views:
        if person not in self.kept:
            self.kept[person] = draw_person(self.first + person, *self.grid, self.size)
        return self.kept[person]

    def _cached(self, seed: int) -> Views:
        assert self.cache is not None
        path = self.cache / f"{seed:06d}-{self.grid[0]}x{self.grid[1]}-{self.size}-{VERSION}.safetensors"
        if path.is_file():
            try:
                return _load(path, self.size)
            except (SafetensorError, KeyError):  # not ours, or damaged: it is drawn again
                path.unlink()
        views = draw_person(seed, *self.grid, self.size)
        _save(views, path)
        return views


def draw_person(seed: int, yaws: int, pitches: int, size: int) -> Views:
    """One person by all cameras; the same seed gives the same pictures.

    paper: a generated identity has one expression; ours has another in each view, so that offsets learn not to contain it.
    """
    actor = ProceduralActor(seed, size, shoulders=False, background=1.0)
    camera = camera_grid(yaws, pitches, size)
    params = _expressions(actor, camera.batch, np.random.default_rng([seed, 4]))
    with torch.inference_mode():
        rgb = actor.render(params, camera)[0]
        masks, faces = _regions(actor, params, camera)
    images, masks, faces = ((x * 255 + 0.5).clamp(0, 255).byte().clone() for x in (rgb, masks, faces))
    return Views(images, masks, faces, params, camera)


def _expressions(actor: ProceduralActor, count: int, rng: np.random.Generator) -> HeadParams:
    """What the person does at ``count`` moments, in random order, nearly upright."""
    moments = torch.from_numpy(rng.permutation(count)) * FRAMES_APART
    moving = actor.motion(int(moments.max()) + 1).rows(moments)
    turn, shift = rng.normal(size=(2, count, 3)).clip(-2.5, 2.5)
    return moving._replace(
        rotation=torch.from_numpy(turn).float() * TURN_SPREAD,
        translation=torch.from_numpy(shift).float() * torch.tensor(SHIFT_SPREAD),
    )


def _regions(
    actor: ProceduralActor, params: HeadParams, camera: Camera
) -> tuple[Float[Tensor, "b h w"], Float[Tensor, "b h w"]]:
    """Coverage of the head without its neck, and of the bare face."""
    faces, vertices = actor.head.faces, actor.head(params)
    vertices = vertices + actor.hair[:, None] * vertex_normals(vertices, faces)
    fine = rasterize_mesh(vertices, faces, camera.resized(2 * camera.size[0], 2 * camera.size[1])).face_id
    inside = torch.ones(len(faces), dtype=torch.bool)
    inside[actor.head.face_regions["neck"]] = False
    bare = inside & _bare_face(actor)
    drawn = [torch.where(fine >= 0, region[fine.clamp_min(0)], False).float() for region in (inside, bare)]
    head, face = (F.avg_pool2d(x[:, None], 2)[:, 0] for x in drawn)
    return head, face


def _bare_face(actor: ProceduralActor) -> Tensor:
    """``(F,)`` faces of the front of the head, from hairline to chin and from ear to ear, that no hair covers."""
    head = actor.head
    joints = head.joints(head.zeros(1))
    left, right = joints["eye_left"][0], joints["eye_right"][0]
    middle, unit = (left + right) / 2, (left - right).norm()
    place = (head.v_template[head.faces].mean(1) - middle) / unit
    bald = (actor.hair[head.faces] < 1e-3).all(1)
    return bald & (place[:, 2] > -0.9) & (place[:, 1] > -2.0)


def _save(views: Views, path: Path) -> None:
    tensors = {"images": views.images, "masks": views.masks, "faces": views.faces}
    tensors |= {f"params.{k}": v for k, v in views.params._asdict().items()}
    tensors |= {"camera.pose": views.camera.world_to_camera, "camera.lens": views.camera.intrinsics}
    with atomic_path(path) as partial:
        save_file({k: v.contiguous() for k, v in tensors.items()}, partial)


def _load(path: Path, size: int) -> Views:
    t = load_file(path)
    params = HeadParams(*(t[f"params.{name}"] for name in HeadParams._fields))
    camera = Camera(t["camera.pose"], t["camera.lens"], (size, size))
    return Views(t["images"], t["masks"], t["faces"], params, camera)
