"""From single pictures to one-frame :class:`TrackedSequence` folders, by the steps that serve videos (:mod:`.pipeline`).

Differences to a video: landmarks are found without tracking, there is no smoothing over time, and identity and expression come from
one picture, which cannot tell a raised brow from a high brow (the priors decide). The pose is not aligned to the picture: a clip's
frames are aligned to their own mean, which one picture always equals.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from tqdm import tqdm

from avatarzoo.data.sequence import INFO, TrackedSequence
from avatarzoo.data.sequence_writer import SequenceWriter
from avatarzoo.data.video_source import content_hash, load_picture
from avatarzoo.errors import BadVideoError, NoFaceError
from avatarzoo.heads import HeadModel, load_head
from avatarzoo.perception.landmarks import FaceDetector, FaceLandmarker, quiet_stderr
from avatarzoo.trackers import pipeline
from avatarzoo.trackers.detection import LONGEST_SIDE, MOST_FACES, Person, choose, far_window, other_people

PORTRAIT_VERSION = f"portrait-{pipeline.TRACKER_VERSION}.1"
"""Raise the last number when results change for pictures alone."""


class FaceFinder:
    """Landmarks of the one or the largest face in pictures that have nothing to do with each other."""

    def __init__(self, person: Person = "largest") -> None:
        self.person = person
        self.landmarker = FaceLandmarker(max_faces=MOST_FACES, static=True)
        self.detector = FaceDetector()

    def __call__(self, picture: np.ndarray, name: str) -> np.ndarray:
        """uint8 RGB ``(H, W, 3)`` -> landmarks ``(478, 2)`` float32 pixels.

        Raises:
            NoFaceError: no face; with ``person="only"`` also a second one. ``name`` is for the message.
        """
        scale = max(1.0, max(picture.shape[:2]) / LONGEST_SIDE)
        small = picture
        if scale > 1:
            small = cv2.resize(picture, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA)
        with quiet_stderr():
            face = choose(self.landmarker.detect(small)[..., :2], None)
            if face is None and (window := far_window(self.detector, [small])) is not None:
                x, y, side = (round(v * scale) for v in window)
                corner = np.array([x, y], np.float32) / np.float32(scale)
                found = self.landmarker.detect(picture[y : y + side, x : x + side])[..., :2]
                face = choose(found / np.float32(scale) + corner, None)
            boxes = self.detector.detect(small) if face is not None and self.person == "only" else None
        if face is None:
            raise NoFaceError(
                f"No face was found in {name}; use a picture in which one face is well visible."
            )
        if boxes is not None and other_people(boxes, face):
            raise NoFaceError(
                f"{name} shows more than one face; crop it to one person, or take the largest (--person largest)."
            )
        return face * np.float32(scale)

    def close(self) -> None:
        self.landmarker.close()
        self.detector.close()

    def __enter__(self) -> FaceFinder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def track_portrait(
    picture: str | Path,
    out: str | Path,
    head: str | HeadModel = "ict",
    head_file: str | None = None,
    size: int = 512,
    person: Person = "largest",
    matting: bool = True,
    fov: float = 20.0,
    consent: str | None = None,
    licence: str | None = None,
    finder: FaceFinder | None = None,
) -> TrackedSequence:
    """Track the person in a picture: a sequence of one frame.

    Args:
        out: folder to make. If it holds the result of the same picture and settings, it is opened and returned.
        person: ``"largest"`` takes the largest face, ``"only"`` refuses a second one.
        finder: networks to use again for many pictures; made for ``person``.
        The rest as in :func:`avatarzoo.trackers.pipeline.track_video`.

    Raises:
        BadVideoError: no picture. NoFaceError: no face, or several.
        OutputError: ``out`` cannot be written. MissingAssetError: the head's file is not here.
    """
    picture, out = Path(picture), Path(out)
    image = load_picture(picture)
    model = load_head(head, head_file) if isinstance(head, str) else head
    job = portrait_job(picture, model, size, person, matting, fov)
    if (out / INFO).is_file():
        return pipeline.reuse(out, job)
    if finder is None:
        with FaceFinder(person) as finder:
            seen = finder(image, str(picture))[None]
    else:
        seen = finder(image, str(picture))[None]
    writer = SequenceWriter(out)
    work = pipeline.begin(writer, job)
    pipeline.ensure_embedding(model, False)
    crop = pipeline.head_crop(seen, image.shape[:2], size)
    landmarks = crop.points(torch.from_numpy(seen)).numpy()
    fit = pipeline.fit_sequence(model, landmarks, size, fov, smooth=False)
    pipeline.write_crop(writer, crop, 0, image)
    rule = "none"
    if matting:
        inside = crop.picture(np.full(image.shape[:2], 255, np.uint8), border="black")
        rule = pipeline.write_masks(writer, landmarks, inside, False)
    shutil.rmtree(work)
    height, width = image.shape[:2]
    return writer.finish(
        model, fit.params, fit.camera, landmarks, fps=1.0, valid=np.asarray(fit.valid), error=np.asarray(fit.error),
        crop={"rule": pipeline.CROP_RULE, "affine": crop.matrix[0].tolist()}, mask_rule=rule,
        source={"name": picture.name, "sha256": job.source, "width": width, "height": height},
        consent=consent, licence=licence,
        tracker={"name": "analytic", "version": PORTRAIT_VERSION, "fov": fov, "aligned": False}, job=job._asdict(),
    )  # fmt: skip


def portrait_job(
    picture: Path, model: HeadModel, size: int, person: str, matting: bool, fov: float
) -> pipeline.Job:
    """What decides the result."""
    source = content_hash(picture)
    return pipeline.Job(source, model.signature, size, person, matting, fov, False, PORTRAIT_VERSION)


def cached_portrait(
    picture: str | Path,
    cache: str | Path,
    head: str | HeadModel = "ict",
    head_file: str | None = None,
    size: int = 512,
    person: Person = "largest",
    matting: bool = True,
    fov: float = 20.0,
    **more: Any,
) -> TrackedSequence:
    """:func:`track_portrait` into a folder of ``cache`` named by the content of the picture and the settings."""
    picture = Path(picture)
    load_picture(picture)
    model = load_head(head, head_file) if isinstance(head, str) else head
    settings = (size, person, matting, fov)
    job = portrait_job(picture, model, *settings)
    return track_portrait(picture, Path(cache) / job.key, model, None, *settings, **more)


class Portraits(NamedTuple):
    """What became of many pictures.

    Attributes:
        tracked: by picture. failures: the other pictures, each with the reason in words.
    """

    tracked: dict[Path, TrackedSequence]
    failures: list[tuple[Path, str]]


def cached_portraits(
    pictures: list[Path],
    cache: str | Path,
    head: str | HeadModel = "ict",
    head_file: str | None = None,
    person: Person = "largest",
    progress: bool = True,
    **settings: Any,
) -> Portraits:
    """:func:`cached_portrait` of many pictures; one without a face, or that cannot be read, does not stop the rest."""
    model = load_head(head, head_file) if isinstance(head, str) else head
    tracked: dict[Path, TrackedSequence] = {}
    failures: list[tuple[Path, str]] = []
    with FaceFinder(person) as finder:
        for picture in tqdm(pictures, desc="portraits", unit="picture", disable=not progress):
            try:
                tracked[picture] = cached_portrait(
                    picture, cache, model, person=person, finder=finder, **settings
                )
            except (NoFaceError, BadVideoError) as error:
                failures.append((picture, str(error)))
    return Portraits(tracked, failures)
