"""Clips of made-up people for reenactment: clearly different expressions seen by EG3D's cameras, with exact parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from avatarzoo.data.clip_pairs import Frames
from avatarzoo.data.procedural import ProceduralActor
from avatarzoo.data.procedural_people import neutral, portrait_cameras, random_angles
from avatarzoo.files import atomic_path
from avatarzoo.geometry.camera import Camera
from avatarzoo.heads.base import HeadParams
from avatarzoo.heads.procedural import ProceduralHead

VERSION = 1
"""Raise it when pictures change, so that kept ones are drawn anew."""
MOTION_FRAMES = 1500
"""Length of the motion that expressions are chosen from: a minute."""
CHOICE = 4
"""So many moments are looked at for each that is shown."""
FULL_GAZE = 0.26
"""Radians of an eye's turn that weigh as much as a whole expression coefficient: 15 degrees, the most that these people do."""


class ProceduralClips:
    """People with a clip each, drawn when first asked for (about a second each) and kept as bytes.

    The first frame of a clip is at rest, the others have expressions that differ much from each other. The head does not move, the
    camera does, as the pictures that the small prior knows were made; identities are those of :class:`ProceduralActor` of equal seed.

    Args:
        first: seed of the first person; the others follow. count: how many.
        length: frames of a clip.
        size: side of the pictures in pixels.
        background: grey level in [0, 1].
        cache: folder in which drawn clips are kept for other runs; ``None``: in memory.
    """

    def __init__(
        self, first: int, count: int, length: int, size: int, background: float, cache: str | None = None
    ) -> None:
        self.first, self.count, self.length = first, count, length
        self.size, self.background = size, background
        self.cache = Path(cache) if cache else None
        self.kept: dict[int, Frames] = {}
        self.head_signature = ProceduralHead().signature
        self.described: dict[str, Any] = {
            "kind": "clips of procedural people (not real)",
            "clips": count,
            "first": first,
            "frames": length,
            "tracking": "exact ground truth",
        }

    def __len__(self) -> int:
        return self.count

    def numbers(self, clip: int) -> Int[np.ndarray, " n"]:
        return np.arange(self.length)

    def frames(self, clip: int, rows: Int[Tensor, " n"]) -> Frames:
        seed = self.first + clip
        whole = self._cached(seed) if self.cache is not None else self._kept(seed)
        return whole.pick(rows)

    def draw_all(self, progress: bool = True) -> None:
        """Draw who is not there yet."""
        bar = tqdm(range(self.count), desc="people", unit="person", disable=not progress)
        for clip in bar:
            self.frames(clip, torch.tensor([0]))

    def _kept(self, seed: int) -> Frames:
        if seed not in self.kept:
            self.kept[seed] = draw_clip(seed, self.length, self.size, self.background)
        return self.kept[seed]

    def _cached(self, seed: int) -> Frames:
        assert self.cache is not None
        name = f"{seed:06d}-{self.length}-{self.size}-{self.background:g}-{VERSION}.safetensors"
        path = self.cache / name
        if path.is_file():
            try:
                return _load(path, self.size)
            except (SafetensorError, KeyError):  # not ours, or damaged: it is drawn again
                path.unlink()
        frames = draw_clip(seed, self.length, self.size, self.background)
        _save(frames, path)
        return frames


def draw_clip(seed: int, length: int, size: int, background: float) -> Frames:
    """One person; the same seed gives the same pictures."""
    actor = ProceduralActor(seed, size, background=background)
    rng = np.random.default_rng([seed, 5])
    params = expressive(actor, length, rng)
    camera = portrait_cameras(*random_angles(rng, length), size)
    with torch.inference_mode():
        drawn = actor.render(params, camera)[:2]
    images, masks = ((x * 255 + 0.5).clamp(0, 255).byte().clone() for x in drawn)
    return Frames(images, masks[:, 0], params, camera)


def expressive(actor: ProceduralActor, length: int, rng: np.random.Generator) -> HeadParams:
    """A person at rest, then moments of its motion (speech, moods, gaze, blinks) that differ much, in random order.

    Of :data:`CHOICE` times as many random moments, those are taken one by one that are farthest from all taken before.
    """
    motion = actor.motion(MOTION_FRAMES)
    moments = torch.from_numpy(rng.permutation(MOTION_FRAMES)[: CHOICE * (length - 1)])
    face = torch.cat([motion.expression, motion.eyes / FULL_GAZE], 1)[moments]
    taken: list[int] = []
    nearest = face.norm(dim=1)  # to the face at rest
    for _ in range(length - 1):
        taken.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, (face - face[taken[-1]]).norm(dim=1))
    moving = motion.rows(moments[taken][rng.permutation(length - 1)])
    rest = neutral(actor, length)
    shown = {name: getattr(moving, name) for name in ("expression", "jaw", "eyes", "eyelids")}
    return rest._replace(**{k: torch.cat([getattr(rest, k)[:1], v]) for k, v in shown.items()})


def _save(frames: Frames, path: Path) -> None:
    tensors = {"images": frames.images, "masks": frames.masks}
    tensors |= {f"params.{k}": v for k, v in frames.params._asdict().items()}
    tensors |= {"camera.pose": frames.camera.world_to_camera, "camera.lens": frames.camera.intrinsics}
    with atomic_path(path) as partial:
        save_file({k: v.contiguous() for k, v in tensors.items()}, partial)


def _load(path: Path, size: int) -> Frames:
    t = load_file(path)
    params = HeadParams(*(t[f"params.{name}"] for name in HeadParams._fields))
    camera = Camera(t["camera.pose"], t["camera.lens"], (size, size))
    return Frames(t["images"], t["masks"], params, camera)
