"""From a video to a :class:`TrackedSequence`: landmarks, one fixed crop, head parameters, crops, masks.

Everything grows in ``<out>.partial``; what is finished there survives a kill, and the same call continues. The result is
renamed to ``out`` as a whole.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import local
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from avatarzoo.data.sequence import FRAMES, INFO, MASKS, PARSING, TrackedSequence
from avatarzoo.data.sequence_writer import SequenceWriter
from avatarzoo.data.video import VideoPart, VideoSource, probe, read_frames, video_part
from avatarzoo.data.video_source import content_hash
from avatarzoo.errors import BadVideoError, OutputError
from avatarzoo.files import atomic_path
from avatarzoo.geometry.crop import Crop, square_crop
from avatarzoo.geometry.rotations import axis_angle_to_matrix
from avatarzoo.heads import HeadModel, load_head
from avatarzoo.perception import parsing
from avatarzoo.perception.landmarks import face_height, quiet_stderr
from avatarzoo.perception.matting import SelfieMatting
from avatarzoo.trackers.analytic import TrackFit, fit_sequence, hold_pose
from avatarzoo.trackers.detection import Detections, Person, check_faces, detect_clip
from avatarzoo.trackers.embedding import ensure_embedding
from avatarzoo.trackers.photometric import compared_mask, compared_picture, refine_pose

TRACKER_VERSION = "2"
"""Raise when results change: cached sequences of older versions are then made anew."""
FEWEST_FRAMES = 10
BATCH = 64
WORKERS = 2
CROP_REACH = {"side": 0.95, "up": 1.2, "down": 0.8}
"""How far the crop reaches from the middle of the face, in face heights."""
CROP_RULE = "fixed square round the head in all frames, inside the picture where possible"


class Job(NamedTuple):
    """What decides the result; a folder is continued or reused only for an equal job."""

    source: str
    head: dict[str, str]
    size: int
    person: str
    matting: bool
    fov: float
    align: bool
    tracker: str = TRACKER_VERSION

    @property
    def key(self) -> str:
        """Short name of this very result."""
        return hashlib.sha256(json.dumps(self._asdict(), sort_keys=True).encode()).hexdigest()[:16]


def track_video(
    video: VideoSource,
    out: str | Path,
    head: str | HeadModel = "ict",
    head_file: str | None = None,
    size: int = 512,
    person: Person = "only",
    matting: bool = True,
    fov: float = 20.0,
    align: bool = True,
    consent: str | None = None,
    licence: str | None = None,
    progress: bool = True,
    timings: dict[str, float] | None = None,
) -> TrackedSequence:
    """Track the one person in a video file, a folder of frames or a part of them.

    Args:
        out: folder to make. If it holds the result of the same video and settings, it is opened and returned.
        head: head model or its name; head_file: the user's file for models that need one.
        size: side of the square crops in pixels.
        person: ``"only"`` refuses a second person, ``"largest"`` follows the largest face.
        matting: make masks and label maps.
        fov: vertical field of view of the crop in degrees.
        align: align the head pose to the pictures after the landmarks (about 60 ms a frame; worth several dB in an avatar).
        consent, licence: free text stored with the result.
        timings: receives seconds per phase.

    Raises:
        BadVideoError: unreadable, or fewer than ten frames. NoFaceError: no face, or several.
        OutputError: ``out`` cannot be written (finished frames stay in ``<out>.partial``).
        MissingAssetError: the head's file is not here.
    """
    video, out = video_part(video), Path(out)
    info = probe(video)
    if info.frames < FEWEST_FRAMES and (count := sum(1 for _ in read_frames(video))) < FEWEST_FRAMES:
        raise BadVideoError(
            f"{video} has {count} frame(s), at least {FEWEST_FRAMES} are needed; use a longer video."
        )
    model = load_head(head, head_file) if isinstance(head, str) else head
    job = Job(content_hash(video), model.signature, size, person, matting, fov, align)
    if (out / INFO).is_file():
        return reuse(out, job)
    writer = SequenceWriter(out)
    work = begin(writer, job)
    clock = Clock({} if timings is None else timings)
    with clock("landmarks"):
        found = detect_clip(video, work / "landmarks", person, info.frames, progress)
        check_faces(found, video, FEWEST_FRAMES)
    with clock("head"):
        ensure_embedding(model, progress)
    crop = head_crop(found.landmarks, (info.height, info.width), size)
    landmarks = crop.points(torch.from_numpy(found.landmarks)).numpy()
    with clock("solve"):
        fit = fit_sequence(model, landmarks, size, fov, info.fps, progress)
    with clock("crops"):
        write_crops(writer, video, crop, len(landmarks), progress)
    rule = "none"
    if matting:
        with clock("masks"):
            inside = crop.picture(np.full((info.height, info.width), 255, np.uint8), border="black")
            rule = write_masks(writer, landmarks, inside, progress)
    if align:
        with clock("alignment"):
            fit = align_to_pictures(model, landmarks, fit, fov, writer, matting, progress)
    shutil.rmtree(work)
    return writer.finish(
        model, fit.params, fit.camera, landmarks, fps=info.fps,
        valid=np.asarray(fit.valid), error=np.asarray(fit.error),
        crop={"rule": CROP_RULE, "affine": crop.matrix[0].tolist()}, mask_rule=rule,
        source=describe_source(video, job, info, found), consent=consent, licence=licence,
        tracker={"name": "analytic", "version": TRACKER_VERSION, "fov": fov, "aligned": align}, job=job._asdict(),
    )  # fmt: skip


def cached_track(
    video: VideoSource,
    cache: str | Path,
    head: str | HeadModel = "ict",
    head_file: str | None = None,
    size: int = 512,
    person: Person = "only",
    matting: bool = True,
    fov: float = 20.0,
    align: bool = True,
    **notes: Any,
) -> TrackedSequence:
    """:func:`track_video` into a folder of ``cache`` named by the content of the video and the settings.

    The same video with the same settings, wherever it lies, is tracked once.
    """
    probe(video)
    model = load_head(head, head_file) if isinstance(head, str) else head
    settings = (size, person, matting, fov, align)
    job = Job(content_hash(video), model.signature, *settings)
    return track_video(video, Path(cache) / job.key, model, None, *settings, **notes)


def reuse(out: Path, job: Job) -> TrackedSequence:
    """Open a finished folder if it is this job's result.

    Raises:
        OutputError: it is another's.
    """
    sequence = TrackedSequence.open(out)
    if sequence.info.get("job") != job._asdict():
        raise OutputError(
            f"{out} holds the tracking of another video or other settings; choose another folder or delete it."
        )
    return sequence


def align_to_pictures(
    head: HeadModel,
    landmarks: np.ndarray,
    fit: TrackFit,
    fov: float,
    writer: SequenceWriter,
    masked: bool,
    progress: bool,
) -> TrackFit:
    """The fit with its head pose aligned to the crops, and to the masks where there are any (:mod:`.photometric`)."""
    rows = np.flatnonzero(np.asarray(fit.valid))

    def read(row: int) -> tuple[np.ndarray, np.ndarray | None]:
        mask = compared_mask(writer.read(MASKS, row)) if masked else None
        return compared_picture(writer.read(FRAMES, row)), mask

    bar = tqdm(rows.tolist(), desc="pictures for alignment", unit="frame", disable=not progress)
    with ThreadPoolExecutor(WORKERS) as pool:
        pictures, masks = zip(*pool.map(read, bar))
    index = torch.from_numpy(rows)
    rotation, translation = axis_angle_to_matrix(fit.params.rotation), fit.params.translation.clone()
    rotation[index], translation[index] = refine_pose(
        head,
        fit.params.rows(index),
        fit.camera,
        np.stack(pictures),
        np.stack(masks) if masked else None,
        progress,
    )
    return hold_pose(head, landmarks, fit, rotation, translation, fov)


def begin(writer: SequenceWriter, job: Job) -> Path:
    """The folder of intermediate results; what a different job left there is thrown away."""
    work = writer.partial / "work"
    note = work / "job.json"
    wanted = json.dumps(job._asdict(), indent=2)
    if not (note.is_file() and note.read_text() == wanted):
        writer.clear()
        with atomic_path(note) as temporary:
            temporary.write_text(wanted)
    return work


def describe_source(video: VideoPart, job: Job, info: Any, found: Detections) -> dict[str, Any]:
    return {
        "name": video.name,
        "sha256": job.source,
        "width": info.width,
        "height": info.height,
        "has_audio": info.has_audio,
        "unreadable_frames": found.unreadable,
    }


class Clock:
    """Adds up seconds by name."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def head_crop(landmarks: np.ndarray, picture: tuple[int, int], size: int) -> Crop:
    """One fixed square round the head in every frame, so that the camera stands still.

    The box that all frames ask for (:data:`CROP_REACH`) is cut to the picture before it becomes a square, and the
    square is moved inside the picture, so that no pixel is spent on what was not filmed.

    Args:
        landmarks: ``(T, 478, 2)`` source pixels, NaN rows allowed; picture: source height and width.
    """
    seen = landmarks[np.isfinite(landmarks[:, 0, 0])].astype(np.float64)
    height = face_height(seen)[:, None]
    middle = (seen.min(1) + seen.max(1)) / 2
    frame = np.array(picture[::-1], np.float64)
    low = middle - height * [CROP_REACH["side"], CROP_REACH["up"]]
    high = middle + height * [CROP_REACH["side"], CROP_REACH["down"]]
    low, high = low.min(0).clip(0, frame), high.max(0).clip(0, frame)
    side = (high - low).max()
    corner = (low + high - side) / 2
    corner = np.where(side <= frame, corner.clip(0, np.maximum(frame - side, 0)), corner)
    return square_crop(torch.from_numpy(corner + side / 2)[None].float(), torch.tensor([side]).float(), size)


def progress_bar(name: str, count: int, missing: int, progress: bool) -> tqdm:
    return tqdm(total=count, initial=count - missing, desc=name, unit="frame", disable=not progress)


def batches(items: list[int], work: Callable[[int], None], bar: tqdm) -> None:
    """``work`` on every item on a few threads; the first error stops the rest."""
    with ThreadPoolExecutor(WORKERS) as pool:
        for k in range(0, len(items), BATCH):
            for _ in pool.map(work, items[k : k + BATCH]):
                bar.update()


def write_crops(writer: SequenceWriter, video: VideoSource, crop: Crop, count: int, progress: bool) -> None:
    """Write the crops that are missing."""
    missing = writer.missing(FRAMES, count)
    if not missing:
        return
    wanted = set(missing)
    bar = progress_bar("crops", count, len(missing), progress)
    with bar, ThreadPoolExecutor(WORKERS) as pool, read_frames(video, missing[0]) as reader:
        pending: list[Future] = []
        for index, picture in enumerate(reader, missing[0]):
            if index not in wanted:
                continue
            pending.append(pool.submit(write_crop, writer, crop, index, picture))
            if len(pending) > 2 * WORKERS:
                pending.pop(0).result()
            bar.update()
        for future in pending:
            future.result()


def write_crop(writer: SequenceWriter, crop: Crop, index: int, picture: np.ndarray) -> None:
    writer.write(FRAMES, index, crop.picture(picture, border="edge"))


def write_masks(writer: SequenceWriter, landmarks: np.ndarray, inside: np.ndarray, progress: bool) -> str:
    """Write the masks and label maps that are missing; returns how they were made.

    Args:
        landmarks: ``(T, 478, 2)`` crop pixels; inside: ``(size, size)`` uint8, 255 where the crop lies in the picture.
    """
    count = len(landmarks)
    seen = np.flatnonzero(np.isfinite(landmarks[:, 0, 0]))
    voters = np.unique(seen[np.linspace(0, len(seen) - 1, parsing.MAX_VOTES).astype(int)])
    shape = parsing.reference_shape(landmarks[seen])
    network = parsing.load_network()
    votes = parsing.collect_votes([writer.read(FRAMES, i) for i in voters], landmarks[voters], shape, network)
    cuts = parsing.steady(landmarks)
    keep, empty = inside.astype(np.float32) / 255, np.zeros(inside.shape, np.uint8)
    thread, mattings = local(), []

    def work(index: int) -> None:
        if not hasattr(thread, "matting"):
            thread.matting = SelfieMatting()
            mattings.append(thread.matting)
        labels, mask = empty, empty
        if np.isfinite(landmarks[index, 0, 0]):
            matte = thread.matting(writer.read(FRAMES, index)) * keep
            labels, mask = parsing.parse_head(matte, landmarks[index], votes, cuts[index])
        writer.write(PARSING, index, labels)
        writer.write(MASKS, index, mask)

    missing = sorted({*writer.missing(MASKS, count), *writer.missing(PARSING, count)})
    with quiet_stderr(), progress_bar("masks", count, len(missing), progress) as bar:
        try:
            batches(missing, work, bar)
        finally:
            for matting in mattings:
                matting.close()
    return votes.rule
