"""Which pixels belong to the head: label maps and the head mask, steady over a clip.

A label decided frame by frame flickers, and a flickering mask ruins an avatar. So the matte gives the outline, the
landmarks cut head from neck (along the lower face oval, and just below the ears outside it), and the skin / clothes /
hair network only *votes*: on some frames of the clip, in a frame aligned with the face. What it calls hair most of the
time moves with the head and stays, also below the ears; collars, shoulders and passing errors do not get a majority.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from scipy.signal import savgol_filter

from avatarzoo import assets
from avatarzoo.errors import MissingAssetError
from avatarzoo.perception.landmarks import (
    CHIN,
    FACE_OVAL,
    LEFT_BROW,
    LEFT_EYE,
    LIPS,
    NOSE,
    RIGHT_BROW,
    RIGHT_EYE,
    TOP,
    face_height,
)
from avatarzoo.perception.regions import FEATURES, HEAD, Region

VOTE_SIZE = 256
"""Side of the face-aligned frame; the face is a third of it high."""
MAX_VOTES = 32
RIGID = (10, 151, 9, 8, 168, 6, 197, 195, 5, 33, 133, 263, 362, 127, 356, 234, 454)
"""Points that expressions hardly move: forehead, bridge of the nose, corners of the eyes, temples."""
EAR_LEVEL, BROW_LEVEL = (132, 361), (105, 334)
"""Points at the height of the ear lobes and of the upper rims of the brows, the subject's right one first."""
CUT_WINDOW = 7
SUBPIXELS = 4
EAR_MARGIN = 0.08
"""How far below :data:`EAR_LEVEL` the lobes reach, in face heights."""
FEATURE_OUTLINES = (
    (NOSE, Region.NOSE),
    (LIPS, Region.LIPS),
    (LEFT_EYE, Region.EYES),
    (RIGHT_EYE, Region.EYES),
    (LEFT_BROW, Region.BROWS),
    (RIGHT_BROW, Region.BROWS),
)
MEAN = np.float32([0.485, 0.456, 0.406])
DEVIATION = np.float32([0.229, 0.224, 0.225])


class SkinHairNetwork:
    """The skin / clothes / hair network (assets: ``skin-clothes-hair``), 25 ms a picture on one core.

    Raises:
        MissingAssetError: the file is not here.
    """

    def __init__(self, file: Path | None = None) -> None:
        import onnxruntime

        file = assets.find("skin-clothes-hair") if file is None else file
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """uint8 RGB ``(H, W, 3)`` -> probabilities of skin, clothes and hair, float32 ``(3, H, W)``."""
        height, width = picture.shape[:2]
        small = cv2.resize(picture, (512, 512), interpolation=cv2.INTER_LINEAR)
        x = ((small / np.float32(255) - MEAN) / DEVIATION).transpose(2, 0, 1)[None]
        out = self.session.run(None, {self.input: np.ascontiguousarray(x, np.float32)})[0][0]
        return np.stack([cv2.resize(channel, (width, height)) for channel in out])


class Votes(NamedTuple):
    """What the network says about a clip, in the face-aligned frame.

    Attributes:
        shape: ``(478, 2)`` landmarks in that frame.
        hair, skin: ``(VOTE_SIZE, VOTE_SIZE)`` mean probabilities; ``None`` without the network.
    """

    shape: np.ndarray
    hair: np.ndarray | None
    skin: np.ndarray | None

    @property
    def rule(self) -> str:
        """How the label maps are made, for the record."""
        base = "selfie matte cut along the lower face oval"
        if self.hair is None:
            return f"{base}; no parsing network (asset skin-clothes-hair is not on this machine)"
        return f"{base}; hair by vote of skin-clothes-hair over the clip"


def reference_shape(landmarks: np.ndarray) -> np.ndarray:
    """Median face of ``(T, 478, 2)`` landmarks (NaN rows allowed), upright as seen, placed in the vote frame."""
    scale = face_height(landmarks)[:, None, None]
    shape = np.nanmedian((landmarks - landmarks[:, list(RIGID)].mean(1, keepdims=True)) / scale, 0)
    return (shape * (VOTE_SIZE / 3) + VOTE_SIZE / 2).astype(np.float32)


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Least-squares rotation, scale and shift ``(2, 3)`` that takes ``(n, 2)`` points to others (complex regression)."""
    a = (source - source.mean(0)) @ np.array([1, 1j])
    b = (target - target.mean(0)) @ np.array([1, 1j])
    z = (a.conj() @ b) / (a.conj() @ a)
    matrix = np.array([[z.real, -z.imag], [z.imag, z.real]])
    return np.column_stack([matrix, target.mean(0) - matrix @ source.mean(0)])


def align(landmarks: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Similarity ``(2, 3)`` that takes a face's pixels to those of another face."""
    return similarity(landmarks[list(RIGID)].astype(np.float64), shape[list(RIGID)].astype(np.float64))


def collect_votes(
    pictures: list[np.ndarray], faces: np.ndarray, shape: np.ndarray, network: SkinHairNetwork | None
) -> Votes:
    """Let the network vote.

    Args:
        pictures: n uint8 RGB crops, at most about :data:`MAX_VOTES`, spread over the clip.
        faces: ``(n, 478, 2)`` their landmarks; shape: :func:`reference_shape` of the clip.
    """
    if network is None:
        return Votes(shape, None, None)
    total = np.zeros((3, VOTE_SIZE, VOTE_SIZE), np.float32)
    for picture, face in zip(pictures, faces):
        to_votes = align(face, shape)
        for channel, probability in zip(total, network(picture)):
            channel += cv2.warpAffine(probability, to_votes, (VOTE_SIZE, VOTE_SIZE))
    total /= max(1, len(pictures))
    return Votes(shape, total[2], total[0])


def load_network() -> SkinHairNetwork | None:
    """The parsing network, or ``None`` where the asset is not on this machine (the rule then says so)."""
    try:
        return SkinHairNetwork()
    except MissingAssetError:
        return None


def parse_head(
    matte: np.ndarray, face: np.ndarray, votes: Votes, cut: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Label map and head mask of one frame.

    Args:
        matte: ``(H, W)`` float32 in [0, 1]; face: ``(478, 2)`` landmarks in pixels.
        cut: :func:`steady` landmarks, along which head and neck are parted (default: ``face``).

    Returns:
        labels ``(H, W)`` uint8, see :class:`Region`; head mask ``(H, W)`` uint8, soft.
    """
    size = matte.shape
    cut = face if cut is None else cut
    oval = polygon(cut[list(FACE_OVAL)], size, SUBPIXELS)
    down = EAR_MARGIN * (cut[CHIN] - cut[TOP])
    above = np.maximum(oval, above_line(*(cut[list(EAR_LEVEL)] + down), size))
    hair, skin = warped_votes(cut, votes, size)
    head_side = np.maximum(above, cv2.GaussianBlur(trailing_hair(hair, above), (0, 0), 1.5))
    mask = matte * head_side
    person = matte > 0.5
    labels = np.full(size, Region.BACKGROUND, np.uint8)
    labels[person] = Region.BODY
    labels[person & (head_side > 0.5)] = Region.HAIR
    labels[person & (above > 0.5) & (skin > 0.5) & (hair < 0.5)] = Region.EARS
    labels[(oval > 0.5) & (hair < 0.5)] = Region.SKIN
    labels[(labels == Region.EARS) & (above_line(*face[list(BROW_LEVEL)], size) > 0.5)] = Region.SKIN
    for outline, region in FEATURE_OUTLINES:
        points = face[list(outline)]
        points = cv2.convexHull(points)[:, 0] if region in (Region.BROWS, Region.NOSE) else points
        labels[polygon(points, size) > 0.5] = region
    return labels, np.round(mask * 255).astype(np.uint8)


def above_line(right: np.ndarray, left: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The half of the picture above the line through two points, the subject's right one first; float32 ``(H, W)``."""
    along = (left - right) / np.linalg.norm(left - right) * 2 * max(size)
    up = np.array([along[1], -along[0]])
    return polygon(
        np.stack([right - along, right - along + up, left + along + up, left + along]), size, SUBPIXELS
    )


def polygon(points: np.ndarray, size: tuple[int, int], fine: int = 1) -> np.ndarray:
    """Filled polygon, float32 ``(H, W)``; pixel centres at +0.5. ``fine``: subpixels per side, for the coverage of edges.

    OpenCV's own anti-aliasing places nearly level edges on whole pixels: the cut would jump, not glide.
    """
    canvas = np.zeros((size[0] * fine, size[1] * fine), np.uint8)
    limit = 4.0 * max(size)
    fixed = np.round((np.clip(points, -limit, limit) * fine - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(canvas, [fixed], 255, cv2.LINE_8, 4)
    if fine > 1:
        canvas = cv2.resize(canvas, size[::-1], interpolation=cv2.INTER_AREA)
    return canvas.astype(np.float32) / 255


def warped_votes(face: np.ndarray, votes: Votes, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Hair and skin probabilities of this frame; without a network everything beside the face above the brows is hair."""
    if votes.hair is None or votes.skin is None:
        hair = above_line(*face[list(BROW_LEVEL)], size) * (1 - polygon(face[list(FACE_OVAL)], size))
        return hair, 1 - hair
    to_frame = cv2.invertAffineTransform(align(face, votes.shape))
    flags = cv2.INTER_LINEAR
    hair, skin = (cv2.warpAffine(v, to_frame, size[::-1], flags=flags) for v in (votes.hair, votes.skin))
    return hair, skin


def trailing_hair(hair: np.ndarray, above: np.ndarray) -> np.ndarray:
    """Hair below the cut that hangs together with hair above it, float32 0 or 1."""
    count, labels = cv2.connectedComponents((hair > 0.5).astype(np.uint8))
    crossing = np.zeros(count, bool)
    crossing[np.unique(labels[(above > 0.5) & (hair > 0.5)])] = True
    crossing[0] = False
    return (crossing[labels] & (above <= 0.5)).astype(np.float32)


def steady(landmarks: np.ndarray) -> np.ndarray:
    """Landmarks ``(T, 478, 2)`` smoothed over time (Savitzky-Golay, 7 frames), for cutting; NaN rows stay.

    The raw matte's outline is steadier (0.2-0.4 px of noise at 512) than the landmarks': averaging mattes carried along
    by landmarks was tried and doubled the noise.
    """
    out = landmarks.copy()
    seen = np.isfinite(landmarks[:, 0, 0])
    edges = np.flatnonzero(np.diff(np.concatenate([[False], seen, [False]])))
    for start, stop in edges.reshape(-1, 2):
        if stop - start >= CUT_WINDOW:
            out[start:stop] = savgol_filter(landmarks[start:stop], CUT_WINDOW, 2, axis=0)
    return out


__all__ = [
    "FEATURES", "HEAD", "MAX_VOTES", "Region", "SkinHairNetwork", "Votes", "collect_votes",
    "load_network", "parse_head", "reference_shape", "similarity", "steady",
]  # fmt: skip
