"""Who is driven: the person of a checkpoint, of pictures, or made up; at rest, and what stood behind."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch

from avatarzoo.data.sequence import TrackedSequence
from avatarzoo.data.video_source import load_picture
from avatarzoo.errors import NoFaceError, UsageError
from avatarzoo.files import file_hash
from avatarzoo.geometry.camera import Camera
from avatarzoo.geometry.crop import Crop
from avatarzoo.geometry.rotations import axis_angle_to_matrix, matrix_to_euler
from avatarzoo.heads.base import HeadModel, HeadParams
from avatarzoo.models.base import AvatarModule, AvatarState
from avatarzoo.models.drawing import identity_of
from avatarzoo.perception.landmarks import CHIN, TOP, FaceDetector, face_height, quiet_stderr
from avatarzoo.perception.matting import SelfieMatting
from avatarzoo.perception.plate import background_plate
from avatarzoo.trackers.detection import other_people
from avatarzoo.trackers.live_driving import Rest, framed, rest_of
from avatarzoo.trackers.portraits import cached_portrait

SMALL_FACE = 64
"""Pixels from forehead to chin: less shows hardly any detail."""
PROFILE = 35.0
"""Degrees to the side, as the tracker measures them (a head at 60 reads 42), beyond which half of the face is not seen."""
LYING = 60.0
"""Degrees by which the line from forehead to chin may be off the vertical."""


class Person(NamedTuple):
    """Who is driven.

    Attributes:
        state: the avatar. rest: its parameters at rest and the camera that frames it.
        pictures: the tracked pictures it was made of. facts, warnings: for the result.
    """

    state: AvatarState
    rest: Rest
    pictures: tuple[TrackedSequence, ...]
    facts: dict[str, Any]
    warnings: tuple[str, ...]


def person_of(
    module: AvatarModule,
    head: HeadModel,
    images: list[Path],
    seed: int | None,
    rest: Path | None,
    size: int,
    cache: Path,
) -> Person:
    """The person that was asked for.

    Args:
        head: the avatar's head model, on the CPU. rest: folder of a tracked sequence that says how the person looks at rest.
        size: side of the pictures. cache: folder of tracked pictures.

    Raises:
        UsageError: pictures for a method that takes none, none for one that needs them, ``seed`` for one that makes nobody up.
        NoFaceError, BadVideoError: a picture without a face, or none. HeadModelMismatchError, BadSequenceError: see ``rest``.
    """
    name = type(module).__name__
    if images and not module.takes_pictures:
        raise UsageError(f"{name} keeps its person in the checkpoint; leave --image out.")
    if module.takes_pictures and not images and seed is None:
        raise UsageError(
            f"{name} makes a person from pictures; add --image photo.jpg, or --seed 1 for a made-up one."
        )
    tracked = tuple(cached_portrait(path, cache, head) for path in images)
    warnings = tuple(w for path, seen in zip(images, tracked) for w in picture_warnings(path, seen))
    with torch.no_grad():
        if images:
            state = module.reconstruct(*sources(module, tracked))
        else:
            state = module.reconstruct() if seed is None else module.generate(seed)
    facts: dict[str, Any] = {"seed": seed}
    if images:
        facts["images"] = [{"file": str(p), "sha256": file_hash(p)} for p in images]
    resting, facts["rest"] = resting_of(module, state, head, tracked, rest, size)
    return Person(state, resting, tracked, facts, warnings)


def sources(
    module: AvatarModule, tracked: tuple[TrackedSequence, ...]
) -> tuple[torch.Tensor, HeadParams, Camera]:
    """Pictures in [0, 1], the head on the ground that the method was trained on (where it was), with parameters and cameras."""
    images = torch.cat([s.images([0]) for s in tracked]).float() / 255
    ground = module.hparams.get("background")
    if ground is not None:
        masks = torch.cat([s.masks([0]) for s in tracked])[:, None].float() / 255
        images = images * masks + float(ground) * (1 - masks)
    params = HeadParams(*(torch.cat(x) for x in zip(*(s.params for s in tracked))))
    cameras = Camera(
        torch.cat([s.camera.world_to_camera for s in tracked]),
        torch.cat([s.camera.intrinsics for s in tracked]),
        tracked[0].camera.size,
    )
    return images.to(module.device), params.to(module.device), cameras.to(module.device)


def resting_of(
    module: AvatarModule,
    state: AvatarState,
    head: HeadModel,
    tracked: tuple[TrackedSequence, ...],
    folder: Path | None,
    size: int,
) -> tuple[Rest, str]:
    """The avatar at rest, and where that is known from."""
    identity = None if module.takes_pictures else identity_of(state)
    if folder is not None:
        return rest_of(folder, head, size, identity), f"median of {folder}"
    if tracked:
        first = tracked[0]
        return Rest(first.params.rows(0), first.camera.rows([0]).resized(size, size)), "the first picture"
    if module.seen is not None:
        own = module.seen.rest if identity is None else module.seen.rest._replace(identity=identity)
        return Rest(own, module.seen.camera.resized(size, size)), "median of the training frames"
    return framed(head, size, identity=identity), "neutral face, framed"


def picture_warnings(path: Path, tracked: TrackedSequence) -> list[str]:
    """What a picture lacks for a good avatar, in words.

    Raises:
        NoFaceError: what was tracked is no face, or lies on its side: landmarks are found in much.
    """
    crop = Crop(torch.tensor(tracked.info["crop"]["affine"])[None], tracked.size)
    back = Crop(crop.inverse(), tracked.size)
    face = back.points(torch.from_numpy(tracked.landmarks[:1]))[0].numpy()
    boxes = detected_faces(load_picture(path))
    down = face[CHIN] - face[TOP]
    centres = boxes[:, :2] + boxes[:, 2:] / 2
    confirmed = ((face.min(0) < centres) & (centres < face.max(0))).all(1).any()
    if not confirmed or abs(math.degrees(math.atan2(down[0], down[1]))) > LYING:
        raise NoFaceError(
            f"No upright face was found in {path}; turn the picture if it lies on its side, or use one with a well visible face."
        )
    found = []
    if other_people(boxes, face):
        found.append(
            f"{path.name} shows more than one face; the largest is taken, so crop the picture for another."
        )
    height = float(face_height(face))
    if height < SMALL_FACE:
        found.append(
            f"The face in {path.name} is only {height:.0f} pixels high; a larger one gives a sharper avatar."
        )
    yaw = abs(math.degrees(float(matrix_to_euler(axis_angle_to_matrix(tracked.params.rotation))[0])))
    if yaw > PROFILE:
        found.append(
            f"The face in {path.name} is turned far to the side; what it hides is made up, so use a picture from the front if you can."
        )
    return found


def detected_faces(picture: np.ndarray) -> np.ndarray:
    """Boxes ``(n, 4)`` (left, top, width, height) of faces; with a margin round the picture where none is found without."""
    margin = max(picture.shape[:2]) // 2
    with quiet_stderr():
        detector = FaceDetector()
        boxes = detector.detect(picture)
        if not len(boxes):
            wide = cv2.copyMakeBorder(picture, *(margin,) * 4, cv2.BORDER_CONSTANT, value=(128, 128, 128))
            boxes = detector.detect(wide) - np.array([margin, margin, 0, 0], np.float32)
        detector.close()
    return boxes


def plate_of(person: Person) -> np.ndarray:
    """uint8 ``(H, W, 3)``: what stood behind the person in its first picture.

    Raises:
        UsageError: the person was not made from a picture.
    """
    if not person.pictures:
        raise UsageError(
            "--background source needs --image; give a colour, a picture file or transparent instead."
        )
    picture = person.pictures[0].images([0])[0].permute(1, 2, 0).contiguous().numpy()
    with quiet_stderr(), SelfieMatting() as matting:
        return background_plate(picture, matting(picture))
