"""Who drives: a video, a tracked sequence, a file of parameters, or a voice, as head parameters picture by picture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal, NamedTuple
from zipfile import BadZipFile

import av
import numpy as np
import torch

from avatarzoo.data.sequence import INFO, PARAMS, TrackedSequence
from avatarzoo.data.sound import RATE, decode_samples
from avatarzoo.data.video_reader import real_streams
from avatarzoo.data.video_source import VideoPart, content_hash, probe
from avatarzoo.errors import BadSequenceError, BadVideoError, HeadModelMismatchError, UsageError
from avatarzoo.files import file_hash
from avatarzoo.geometry.camera import Camera
from avatarzoo.heads.base import HeadModel, HeadParams
from avatarzoo.heads.transfer import median
from avatarzoo.models.base import AvatarModule, AvatarState

Kind = Literal["video", "sequence", "parameters", "sound"]
FPS = 25.0
"""Of pictures that go with a voice, or with parameters that do not say."""


class Driver(NamedTuple):
    """What drives.

    Attributes:
        params: T rows. neutral: its rest, 1 row; ``None`` for a voice, whose expressions are the avatar's own.
        camera: that saw it; ``None`` where nothing was filmed.
        sound: file to take the sound from. lost: frames without a face (in between, parameters are interpolated).
        facts: for the result.
    """

    params: HeadParams
    neutral: HeadParams | None
    camera: Camera | None
    fps: float
    sound: Path | None
    lost: tuple[int, ...]
    facts: dict[str, Any]

    @property
    def frames(self) -> int:
        return self.params.batch

    def first(self, seconds: float) -> Driver:
        """Its beginning."""
        count = max(1, math.ceil(min(seconds, self.frames / self.fps) * self.fps - 1e-6))
        lost = tuple(n for n in self.lost if n < count)
        return self._replace(params=self.params.rows(slice(0, count)), lost=lost)


def kind_of(path: Path) -> Kind:
    """What a file or folder is.

    Raises:
        BadVideoError: nothing that drives.
    """
    if (path / INFO).is_file() or (path.name == PARAMS and path.with_name(INFO).is_file()):
        return "sequence"
    if path.suffix.lower() == ".npz" and path.is_file():
        return "parameters"
    if path.is_file() and only_sound(path):
        return "sound"
    probe(path)
    return "video"


def only_sound(path: Path) -> bool:
    try:
        with av.open(str(path), metadata_errors="ignore") as container:
            return bool(container.streams.audio) and not real_streams(container)
    except (av.FFmpegError, OSError, ValueError):
        return False


def open_driver(
    path: Path,
    kind: Kind,
    avatar: tuple[AvatarModule, AvatarState],
    head: HeadModel,
    cache: Path,
    person: Literal["only", "largest"] = "only",
    seconds: float = math.inf,
    fps: float | None = None,
    progress: bool = True,
) -> Driver:
    """The driver of ``path``.

    Args:
        avatar: it has the voice. head: its head model, on the CPU. cache: folder of tracked videos.
        person: ``largest`` follows the largest of several faces in a video. seconds: of the beginning.
        fps: of pictures to a voice, or to parameters that do not say.

    Raises:
        NoFaceError, BadVideoError: a video without one person to track. BadSequenceError: no such parameters.
        HeadModelMismatchError: they are another head model's. UsageError: ``fps`` for what has its own; the avatar has no voice.
    """
    if kind == "sound":
        return of_sound(path, avatar, head, seconds, fps or FPS)
    if kind == "parameters":
        return of_parameters(path, head, fps or FPS).first(seconds)
    if fps is not None:
        raise UsageError(
            "--fps is for a voice or for parameters; a video keeps its own rate, so leave it out."
        )
    if kind == "sequence":
        sequence = TrackedSequence.open(path if path.is_dir() else path.parent)
        sequence.check_head(head)
        return of_sequence(sequence, {"kind": kind, "file": str(path)}, None).first(seconds)
    facts = {"kind": kind, "file": str(path), "sha256": content_hash(path)}
    sequence = tracked(path, head, cache, person, seconds, progress)
    return of_sequence(sequence, facts, path if path.is_file() else None).first(seconds)


def tracked(
    path: Path,
    head: HeadModel,
    cache: Path,
    person: Literal["only", "largest"],
    seconds: float,
    progress: bool,
) -> TrackedSequence:
    """The video as a sequence: as training has tracked it, where it has; else without mattes, which nobody needs here."""
    from avatarzoo.trackers.pipeline import Job, cached_track

    whole = VideoPart(path)
    done = cache / Job(content_hash(whole), head.signature, 512, person, True, 20.0, True).key
    if (done / INFO).is_file():
        return TrackedSequence.open(done)
    part = whole
    if math.isfinite(seconds):
        rate = probe(path).fps
        part = VideoPart(path, 0, max(10, math.ceil(seconds * rate - 1e-6)))
    return cached_track(part, cache, head, person=person, matting=False, progress=progress)


def of_sequence(sequence: TrackedSequence, facts: dict[str, Any], sound: Path | None) -> Driver:
    source = sequence.info.get("source") or {}
    seen = torch.from_numpy(sequence.valid).nonzero()[:, 0]
    if not len(seen):
        raise BadSequenceError(f"{sequence.path} shows no face in any frame; track another video.")
    lost = tuple(np.flatnonzero(~sequence.valid).tolist())
    known = {
        "sha256": source.get("sha256"),
        "name": source.get("name"),
        "tracker": sequence.info.get("tracker"),
    }
    return Driver(
        sequence.params, median(sequence.params.rows(seen)), sequence.camera.rows([0]), sequence.fps, sound, lost,
        {**known, **facts},
    )  # fmt: skip


def of_parameters(path: Path, head: HeadModel, fps: float) -> Driver:
    """Arrays named like the fields of :class:`HeadParams`, ``(T, n)`` each, any of them; what is missing stays at rest.

    With the arrays ``world_to_camera`` and ``intrinsics`` (a tracker's file) the driver's rest is the median, else zero.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {k: np.asarray(v, np.float32) for k, v in file.items() if v.dtype.kind in "fiub"}
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise BadSequenceError(
            f"{path} cannot be read as arrays ({error}); write it with numpy.savez."
        ) from error
    given = {name: torch.from_numpy(arrays[name]) for name in HeadParams._fields if name in arrays}
    if not given:
        fields = ", ".join(HeadParams._fields)
        raise BadSequenceError(f"{path} holds none of the arrays {fields}; name at least one of them so.")
    zeros = head.zeros(1, "cpu")
    count = len(next(iter(given.values())))
    for name, values in given.items():
        width = getattr(zeros, name).shape[1]
        if values.ndim != 2 or len(values) != count or not len(values) or not values.isfinite().all():
            raise BadSequenceError(
                f"{path}: {name} must be finite and {count} x {width}, not {tuple(values.shape)}."
            )
        if values.shape[1] != width:
            raise HeadModelMismatchError(
                f"{path} has {values.shape[1]} numbers of {name} a frame, the avatar's head model {head.name} takes {width}; "
                f"use parameters of that model."
            )
    params = HeadParams(*(given.get(k, getattr(zeros, k).expand(count, -1)) for k in HeadParams._fields))
    camera, neutral = camera_of(arrays), zeros
    lost: tuple[int, ...] = ()
    if camera is not None:
        valid = arrays.get("valid", np.ones(count)) > 0
        neutral = median(params.rows(torch.from_numpy(valid).nonzero()[:, 0]))
        lost = tuple(np.flatnonzero(~valid).tolist())
    facts = {"kind": "parameters", "file": str(path), "sha256": file_hash(path), "arrays": sorted(given)}
    return Driver(params, neutral, camera, float(arrays.get("fps", fps)), None, lost, facts)


def camera_of(arrays: dict[str, np.ndarray]) -> Camera | None:
    """A tracker's fixed camera, whose axis goes through the picture's middle."""
    if not {"world_to_camera", "intrinsics"} <= set(arrays):
        return None
    pose, lens = (torch.from_numpy(arrays[k])[:1] for k in ("world_to_camera", "intrinsics"))
    return Camera(pose, lens, (round(2 * float(lens[0, 1, 2])), round(2 * float(lens[0, 0, 2]))))


def of_sound(
    path: Path, avatar: tuple[AvatarModule, AvatarState], head: HeadModel, seconds: float, fps: float
) -> Driver:
    """A voice: the avatar says which expressions go with it."""
    module, state = avatar
    samples = decode_samples(path, 0.0, seconds if math.isfinite(seconds) else None)
    count = math.ceil(len(samples) / RATE * fps - 1e-6)
    if count < 1:
        raise BadVideoError(f"{path} is shorter than one picture; use a longer sound.")
    with torch.no_grad():
        spoken = module.speak(state, torch.from_numpy(samples), RATE, fps, count).float().cpu()
    params = head.zeros(count, "cpu").spoken(spoken)
    facts = {"kind": "sound", "file": str(path), "sha256": file_hash(path)}
    return Driver(params, None, None, fps, path, (), facts)
