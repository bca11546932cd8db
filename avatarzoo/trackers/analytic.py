"""The analytic tracker: landmarks of a clip in, head parameters out, for any head model with a landmark embedding.

1. A weak-perspective start on spread frames (:mod:`.weak_perspective`, StyleAvatar Eq. 1 and 2).
2. One identity for the clip, by Gauss-Newton on those frames jointly under full perspective (paper: first frame alone;
   we use many, because one frame cannot tell a raised brow from a high brow).
3. Pose and expression of every frame (:mod:`.solver`), the pose smoothed over time, the expression solved again with the
   pose held, the eyes turned to the irises.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from avatarzoo.errors import BadSequenceError, NoFaceError
from avatarzoo.geometry.camera import OPENGL_TO_OPENCV, Camera, fov_intrinsics, look_at_face
from avatarzoo.heads.base import HeadModel, HeadParams
from avatarzoo.trackers import landmark_groups as groups
from avatarzoo.trackers.gauss_newton import (
    Motion,
    Problem,
    frame_step,
    identity_step,
    normal_matrices,
    refine,
)
from avatarzoo.trackers.gaze import eye_rotations, hidden_eyes, turned_irises
from avatarzoo.trackers.landmark_model import LandmarkModel, landmark_model
from avatarzoo.trackers.priors import IDENTITY_RIDGE, expression_prior, lids_after_gaze
from avatarzoo.trackers.products import product, solve
from avatarzoo.trackers.smoothing import fill, runs, smooth_pose
from avatarzoo.trackers.solver import POSE
from avatarzoo.trackers.weak_perspective import weak_start

SIGMA = 0.01
"""A unit residual, of the face height."""
CLOSURE = 3.0
"""Weight of the differences of facing lid and lip points (compare :func:`.landmark_groups.landmark_weights`)."""
CONTACT = 0.012
"""Of the face height: facing points nearer than this are taken to touch."""
KEY_FRAMES = 24
IDENTITY_ROUNDS = 8
CHUNK = 256
FLIP = np.array(OPENGL_TO_OPENCV)


class TrackFit(NamedTuple):
    """What a clip's landmarks say.

    Attributes:
        params: ``T`` rows; lost frames are interpolated.
        camera: one fixed camera on +z of the head's neutral frame.
        error: ``(T,)`` mean distance of the 478 points, % of the face height; NaN where the face was lost.
        valid: ``(T,)`` bool, the face was found.
    """

    params: HeadParams
    camera: Camera
    error: torch.Tensor
    valid: torch.Tensor


def fit_sequence(
    head: HeadModel,
    landmarks: np.ndarray,
    size: int,
    fov: float = 20.0,
    fps: float = 25.0,
    progress: bool = False,
    smooth: bool = True,
) -> TrackFit:
    """Fit one person's head to the landmarks of one clip.

    Args:
        landmarks: ``(T, 478, 2)`` pixels of the square crop; rows with NaN are frames without a face.
        size: side of the crop in pixels.
        fov: vertical field of view of the crop in degrees; not identifiable from landmarks, 20 serves portraits well.
        smooth: smooth the pose over time (wrong for unordered pictures).

    Raises:
        NoFaceError: no frame has a face.
        BadSequenceError: landmarks of another shape.
        MissingAssetError: the head has no landmark embedding yet.
    """
    landmarks = np.asarray(landmarks, dtype=np.float64)
    if landmarks.ndim != 3 or landmarks.shape[1:] != (groups.N_LANDMARKS, 2):
        raise BadSequenceError(
            f"the tracker needs landmarks of shape (frames, 478, 2), not {landmarks.shape}; "
            "detect them with iris refinement."
        )
    valid = np.isfinite(landmarks).all((1, 2))
    if not valid.any():
        raise NoFaceError("no frame of the clip shows a face; use a clip with one face in view.")
    tracker = AnalyticTracker(head, size, fov)
    found = landmarks[valid]
    tracker.fit_identity(found)
    motion = tracker.fit_motion(found, progress=progress)
    if smooth:
        whole = _spread(motion, valid)
        turned, moved = smooth_pose(whole.rotation, whole.translation, runs(landmarks, valid), fps)
        motion = Motion(turned[valid], moved[valid], motion.modes)
    return tracker.finish(motion, landmarks, valid)


def hold_pose(
    head: HeadModel,
    landmarks: np.ndarray,
    fit: TrackFit,
    rotation: Float[torch.Tensor, "t 3 3"],
    translation: Float[torch.Tensor, "t 3"],
    fov: float = 20.0,
) -> TrackFit:
    """The fit with another head pose (world frame, T rows): expression and eyes solved again, identity kept."""
    landmarks = np.asarray(landmarks, dtype=np.float64)
    valid = fit.valid.numpy()
    tracker = AnalyticTracker(head, fit.camera.size[0], fov)
    tracker.identity = fit.params.identity[0].double().numpy()
    tracker.distance = float(fit.camera.world_to_camera[0, 2, 3])
    tracker.sigma = SIGMA * np.median(groups.face_height(landmarks[valid]))
    turned = FLIP[:, None] * rotation.double().numpy()
    moved = FLIP * translation.double().numpy() + [0.0, 0.0, tracker.distance]
    modes = tracker.fit_motion(landmarks[valid]).modes
    return tracker.finish(Motion(turned[valid], moved[valid], modes), landmarks, valid)


class AnalyticTracker:
    """The solver of one head model and one camera; keeps the person's identity between calls.

    Args:
        size, fov: of the square picture.
    """

    def __init__(self, head: HeadModel, size: int, fov: float = 20.0) -> None:
        self.head, self.size, self.fov = head, size, fov
        self.focal, self.centre = float(fov_intrinsics(fov, size)[0, 0, 0]), size / 2
        self.model: LandmarkModel = landmark_model(head)
        self.prior = expression_prior(self.model)
        self.identity = np.zeros(head.n_identity)
        self._eyeballs: tuple[bytes, np.ndarray] | None = None
        self.sigma = SIGMA * size / 2
        self.distance = 1.0
        weights = groups.landmark_weights()
        if not self.model.gaze_modes:
            # irises then move by the eye joints alone and would only pull at the pose
            weights[list(groups.IRISES)] = 0
        self.weights = weights
        self.modes = np.ascontiguousarray(self.model.modes, np.float32)
        self.identity_basis = np.ascontiguousarray(self.model.identity, np.float32)

    def fit_identity(self, landmarks: np.ndarray) -> np.ndarray:
        """One identity for the person in ``landmarks (T, 478, 2)``; also sets the camera's distance. ``(I,)``."""
        self.measure(landmarks)
        keys = np.unique(np.linspace(0, len(landmarks) - 1, KEY_FRAMES).round().astype(int))
        targets = landmarks[keys]
        motion = self.start(targets)
        ridge = IDENTITY_RIDGE * np.eye(len(self.identity))
        inner = POSE + len(self.model.names)
        free = (np.zeros(len(self.model.names)), np.zeros_like(motion.modes))
        for _ in range(IDENTITY_ROUNDS):
            square = normal_matrices(self.problem, motion, targets, self.identity_basis)
            # both from one linearisation: the identity's equations already have pose and modes eliminated
            hessian, gradient = identity_step(self.problem, motion, square)
            motion = frame_step(self.problem, motion, square, square[:, :inner, -1], False, free)
            self.identity += solve(hessian + ridge, (gradient - IDENTITY_RIDGE * self.identity)[:, None])[
                :, 0
            ]
        return self.identity

    def measure(self, landmarks: np.ndarray) -> None:
        """Set the residuals' unit and the camera's distance from the size of the faces in ``landmarks (T, 478, 2)``."""
        height = np.median(groups.face_height(landmarks))
        self.sigma = SIGMA * height
        model_height = np.linalg.norm(self.model.mean[groups.FOREHEAD] - self.model.mean[groups.CHIN])
        self.distance = float(self.focal * model_height / height)

    def fit_motion(self, landmarks: np.ndarray, steps: int = 3, progress: bool = False) -> Motion:
        """Pose and modes of every frame of ``landmarks (T, 478, 2)`` by itself, for the identity found before."""
        parts = []
        for k in tqdm(range(0, len(landmarks), CHUNK), desc="head pose", disable=not progress):
            targets = landmarks[k : k + CHUNK]
            parts.append(refine(self.problem, self.start(targets), targets, steps))
        return Motion(*(np.concatenate(x) for x in zip(*parts)))

    def start(self, targets: np.ndarray) -> Motion:
        """Weak-perspective pose and modes, carried over to this camera."""
        base = self.model.with_identity(self.identity)
        bounds = (self.model.low, self.model.high)
        pose, modes = weak_start(
            base, self.model.modes, targets, self.weights, self.sigma, self.prior, bounds
        )
        depth = self.focal / pose.scale
        middle = self.weights @ base / self.weights.sum()
        # the weak camera's scale holds at the landmarks' middle
        seen = pose.scale[:, None] * (pose.rotation[:, :2] @ middle) + pose.offset
        place = np.concatenate([(seen - self.centre) / self.focal * depth[:, None], depth[:, None]], 1)
        return Motion(pose.rotation, place - pose.rotation @ middle, modes)

    def points(self, motion: Motion) -> np.ndarray:
        """``(T, 478, 3)`` landmarks in the head frame, eyes straight."""
        base = self.model.with_identity(self.identity)
        return base + product(
            motion.modes, self.model.modes.reshape(-1, self.model.modes.shape[2]).T
        ).reshape(-1, *base.shape)

    @property
    def eyeballs(self) -> np.ndarray:
        """``(2, 3)`` centres of this person's left and right eyeball; found once for an identity."""
        person = self.identity.tobytes()
        if self._eyeballs is None or self._eyeballs[0] != person:
            row = self.head.zeros(1, "cpu")._replace(identity=torch.from_numpy(self.identity).float()[None])
            joints = self.head.joints(row)
            self._eyeballs = person, torch.cat([joints["eye_left"], joints["eye_right"]]).double().numpy()
        return self._eyeballs[1]

    def eyes(self, motion: Motion, targets: np.ndarray) -> np.ndarray:
        """Eye rotations ``(T, 6)``, left then right."""
        camera = (self.focal, self.centre)
        return eye_rotations(self.points(motion), self.eyeballs, targets, *motion[:2], *camera)

    def error(self, motion: Motion, eyes: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """``(T,)`` mean landmark distance in % of the face height."""
        points = turned_irises(self.points(motion), self.eyeballs, eyes)
        distance = np.linalg.norm(self.project(points, motion) - targets, axis=-1).mean(1)
        return 100 * distance / np.median(groups.face_height(targets))

    def project(self, points: np.ndarray, motion: Motion) -> np.ndarray:
        """``(T, L, 2)`` pixels of ``points (T, L, 3)`` in the head frame."""
        seen = points @ motion.rotation.transpose(0, 2, 1) + motion.translation[:, None]
        return self.focal * seen[..., :2] / seen[..., 2:] + self.centre

    @property
    def camera(self) -> Camera:
        return look_at_face(self.distance, self.fov, self.size)

    def params(self, motion: Motion, eyes: np.ndarray) -> HeadParams:
        """Head parameters in the world frame of :attr:`camera`."""
        frames = len(eyes)
        rotation = Rotation.from_matrix(FLIP[:, None] * motion.rotation).as_rotvec()
        translation = FLIP * (motion.translation - [0.0, 0.0, self.distance])
        zeros = self.head.zeros(frames, "cpu")
        return zeros._replace(
            identity=torch.from_numpy(self.identity).float().expand(frames, -1).clone(),
            eyes=torch.from_numpy(eyes).float(),
            rotation=torch.from_numpy(rotation).float(),
            translation=torch.from_numpy(translation).float(),
            **self.model.split(self.head, motion.modes),
        )

    def finish(self, motion: Motion, landmarks: np.ndarray, valid: np.ndarray) -> TrackFit:
        """Gaze, then expressions with the pose held, for the valid frames; the others interpolated."""
        found = landmarks[valid]
        eyes = _seen_gaze(self.eyes(motion, found), found, valid)
        pull = lids_after_gaze(self.model, eyes[valid])
        motion = refine(self.problem, motion, found, steps=1, hold=True, pull=pull)
        errors = torch.full((len(valid),), float("nan"))
        errors[torch.from_numpy(valid)] = torch.from_numpy(self.error(motion, eyes[valid], found)).float()
        return TrackFit(
            self.params(_spread(motion, valid), eyes), self.camera, errors, torch.from_numpy(valid)
        )

    @property
    def problem(self) -> Problem:
        """The solver's view of this person under this camera."""
        base = self.model.with_identity(self.identity).astype(np.float32)
        weight = np.sqrt(self.weights) / self.sigma
        closure, contact = float(np.sqrt(CLOSURE)) / self.sigma, CONTACT / SIGMA * self.sigma
        return Problem(
            base,
            self.modes,
            weight,
            closure,
            contact,
            self.focal,
            self.centre,
            self.prior,
            self.model.low,
            self.model.high,
        )


def _rows(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Values of the valid frames on the rows of the whole clip, zeros elsewhere."""
    whole = np.zeros((len(valid), *values.shape[1:]))
    whole[valid] = values
    return whole


def _seen_gaze(eyes: np.ndarray, found: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Eye rotations ``(T, 6)`` of the whole clip; behind closed lids and in lost frames interpolated."""
    whole, hidden = _rows(eyes, valid), hidden_eyes(found)
    for k in range(2):
        seen = valid.copy()
        seen[valid] = ~hidden[:, k]
        if seen.any():
            whole[:, 3 * k : 3 * k + 3] = fill(whole[:, 3 * k : 3 * k + 3], seen)
    return whole


def _spread(motion: Motion, valid: np.ndarray) -> Motion:
    """Motion of the valid frames on the whole clip; lost frames interpolated (rotations as vectors)."""
    if valid.all():
        return motion
    middle = Rotation.from_matrix(motion.rotation[len(motion.rotation) // 2])
    vectors = (Rotation.from_matrix(motion.rotation) * middle.inv()).as_rotvec()
    vectors = fill(_rows(vectors, valid), valid)
    return Motion(
        (Rotation.from_rotvec(vectors) * middle).as_matrix(),
        fill(_rows(motion.translation, valid), valid),
        fill(_rows(motion.modes, valid), valid),
    )
