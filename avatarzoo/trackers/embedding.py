"""Find the 478 MediaPipe points on any head model: draw it, detect, back-project, average.

The detector is run on plainly shaded renders of a few identities, expressions and small yaws. Each detected
point is carried back to the surface (face, barycentrics) and from there to the mean head at rest, where views
are combined by the median and made symmetric. Lid and inner-lip rings are then put on the true margins
(:mod:`avatarzoo.trackers.margins`): a detector looks for the dark line of a real eye or mouth and lands up to
3 mm outside it on a render, which would keep closed eyes and lips from closing.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor
from tqdm import tqdm

from avatarzoo.errors import MissingAssetError, NoFaceError
from avatarzoo.geometry.camera import look_at_face
from avatarzoo.heads.base import HeadModel, HeadParams, LandmarkEmbedding
from avatarzoo.perception.landmarks import FaceLandmarker
from avatarzoo.render.mesh import MeshFragments
from avatarzoo.trackers import landmark_groups as groups
from avatarzoo.trackers.margins import snap_margins
from avatarzoo.trackers.portrait import Portrait, open_mouth, rest_points, smooth_outline

SIZE = 768
YAWS = (-0.24, -0.12, 0.0, 0.12, 0.24)
PITCHES = (-0.12, 0.12)
IDENTITIES = 3
SIGMA = 0.7
FOV = 20.0
FACE_HEIGHT, FACE_SHARE = 0.19, 0.62
"""Metres from forehead to chin, and their share of the render's height."""


def find_embedding(head: HeadModel, progress: bool = False) -> LandmarkEmbedding:
    """The 478 points on ``head``, about 5 s on two cores for 50,000 triangles.

    Raises:
        NoFaceError: the detector does not take the renders for a face.
    """
    portrait = Portrait(head)
    views = _views(head)
    portrait.lip_outline = _lip_outline(head, portrait, views)
    points = _symmetrise(_observe(head, portrait, views, progress))
    return attach(head, snap_margins(head, portrait, points))


def ensure_embedding(head: HeadModel, progress: bool = True) -> LandmarkEmbedding:
    """The embedding stored for this head model file; found and stored first where there is none."""
    from avatarzoo.heads.embedding_files import save_embedding

    try:
        return head.landmarks()
    except MissingAssetError:
        embedding = find_embedding(head, progress)
        save_embedding(head, embedding)
        return embedding


def attach(head: HeadModel, points: np.ndarray) -> LandmarkEmbedding:
    """Nearest points of the surface of the mean head: irises on the eyeballs, the rest on the skin."""
    faces = np.empty(len(points), np.int64)
    weights = np.empty((len(points), 3))
    irises = {"eyeball_right": groups.IRIS_RIGHT, "eyeball_left": groups.IRIS_LEFT}
    rest = np.setdiff1d(np.arange(len(points)), groups.IRISES)
    for region, index in [("skin", rest), *irises.items()]:
        index = np.asarray(index)
        candidates = head.face_regions[region].cpu().numpy()
        faces[index], weights[index] = closest_on_mesh(points[index], head, candidates)
    return LandmarkEmbedding(torch.from_numpy(faces), torch.from_numpy(weights).float())


def closest_on_mesh(
    points: np.ndarray, head: HeadModel, candidates: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Nearest point of the given faces, by exact distance to the 48 triangles whose centres are nearest.

    Returns:
        ``(N,)`` face ids and ``(N, 3)`` barycentrics.
    """
    corners = head.v_template.cpu().double().numpy()[head.faces.cpu().numpy()[candidates]]
    near = cKDTree(corners.mean(1)).query(points, k=min(48, len(corners)))[1]
    weights = _closest_barycentrics(points[:, None], corners[near])
    distance = np.linalg.norm((corners[near] * weights[..., None]).sum(2) - points[:, None], axis=-1)
    best = distance.argmin(1)
    row = np.arange(len(points))
    return candidates[near[row, best]], weights[row, best]


def _closest_barycentrics(p: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Barycentrics of each triangle's point nearest to p: inside it, else on the best of its edges."""
    a, b, c = (corners[..., k, :] for k in range(3))
    ab, ac, ap = b - a, c - a, p - a

    def dot(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x * y).sum(-1)

    d00, d01, d11, d20, d21 = dot(ab, ab), dot(ab, ac), dot(ac, ac), dot(ap, ab), dot(ap, ac)
    area = np.maximum(d00 * d11 - d01 * d01, 1e-30)
    v, w = (d11 * d20 - d01 * d21) / area, (d00 * d21 - d01 * d20) / area
    inside = np.stack([1 - v - w, v, w], -1)
    best, nearest = inside, np.where((inside >= 0).all(-1), 0.0, np.inf)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        edge = corners[..., j, :] - corners[..., i, :]
        t = np.clip(dot(p - corners[..., i, :], edge) / np.maximum(dot(edge, edge), 1e-30), 0, 1)
        distance = np.linalg.norm(corners[..., i, :] + t[..., None] * edge - p, axis=-1)
        candidate = np.zeros_like(inside)
        candidate[..., i], candidate[..., j] = 1 - t, t
        better = distance < nearest
        best = np.where(better[..., None], candidate, best)
        nearest = np.where(better, distance, nearest)
    return best


def _lip_outline(head: HeadModel, portrait: Portrait, views: list) -> np.ndarray:
    """Closed outline of the lips on the mean head, to be painted: a detector sees bare lips 2 mm too thin.

    From the 68-point set of models that carry one, else from a first detection, widened by what it misses.
    """
    if hasattr(head, "landmarks68"):
        return smooth_outline(head.v_template[head.landmarks68[48:60]].cpu().double().numpy())
    points = _symmetrise(_observe(head, portrait, [v for v in views if v[1:] == (0.0, 0.0)], False))
    upper, lower = groups.UPPER_LIP_OUTER, groups.LOWER_LIP_OUTER
    outline = points[list(upper + lower[-2:0:-1])]
    seam = points[list(groups.UPPER_LIP_INNER + groups.LOWER_LIP_INNER), 1].mean()
    outline[:, 1] = seam + (outline[:, 1] - seam) * np.where(outline[:, 1] > seam, 1.3, 1.05)
    return smooth_outline(outline)


def _observe(head: HeadModel, portrait: Portrait, views: list, progress: bool) -> np.ndarray:
    """``(478, 3)`` median over the views of where the detected points lie on the mean head at rest, metres.

    Raises:
        NoFaceError: fewer than half the renders are taken for a face.
    """
    centre = _face_centre(head)
    distance = FACE_HEIGHT / FACE_SHARE / (2 * math.tan(math.radians(FOV) / 2))
    found: list[np.ndarray] = []
    with FaceLandmarker(max_faces=1, static=True) as landmarker:
        for params, yaw, pitch in tqdm(views, desc="landmark embedding", disable=not progress):
            with torch.no_grad():
                vertices = head(params).cpu() - centre
            camera = look_at_face(distance, FOV, SIZE, torch.tensor([yaw]), torch.tensor([pitch]))
            image, fragments = portrait.draw(vertices, camera)
            faces = landmarker.detect(image[0])
            if len(faces):
                found.append(_back_project(head, portrait, faces[0, :, :2], fragments))
    if len(found) < len(views) / 2:
        raise NoFaceError(
            f"the detector took only {len(found)} of {len(views)} renders of {head.name} for a face; "
            "give the head model a landmark embedding of its own."
        )
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", RuntimeWarning
        )  # a point that missed its part in every view: refused below
        points = np.nanmedian(np.stack(found), 0)
    if np.isnan(points).any():
        raise NoFaceError(
            f"some landmarks never fall on the skin or eyes of {head.name}; check its face regions."
        )
    return points


def _views(head: HeadModel) -> list[tuple[HeadParams, float, float]]:
    generator = torch.Generator().manual_seed(0)
    views = []
    for k in range(IDENTITIES):
        identity = torch.randn(1, head.n_identity, generator=generator) * (SIGMA if k else 0.0)
        base = head.zeros(1, "cpu")._replace(identity=identity)
        opened = open_mouth(head, base, 0.3)
        views += [(params, yaw, 0.0) for params in (base, opened) for yaw in YAWS]
        views += [(base, 0.0, pitch) for pitch in PITCHES]
    return views


def _face_centre(head: HeadModel) -> Tensor:
    """A point between eyes and mouth to look at: 4 cm below the eyeballs, level with them in depth."""
    joints = head.joints(head.zeros(1, "cpu"))
    eyes = (joints["eye_left"][0] + joints["eye_right"][0]).cpu() / 2
    return eyes + torch.tensor([0.0, -0.035, 0.0])


def _back_project(
    head: HeadModel, portrait: Portrait, landmarks: np.ndarray, fragments: MeshFragments
) -> np.ndarray:
    """``(478, 3)`` rest positions; a point on a wrong part goes to the nearest pixel of its own part."""
    face_id = fragments.face_id[0].clamp_min(0)
    covered = fragments.covered[0]
    rest = np.full((len(landmarks), 3), np.nan)
    is_iris = np.zeros(len(landmarks), bool)
    is_iris[list(groups.IRISES)] = True
    for own, part in ((is_iris, portrait.is_eye), (~is_iris, portrait.is_skin)):
        row, column = (covered & part[face_id]).nonzero(as_tuple=True)
        if len(row) == 0:
            continue
        centres = np.stack([column.numpy() + 0.5, row.numpy() + 0.5], 1)
        distance, nearest = cKDTree(centres).query(landmarks[own])
        r, c = row[nearest], column[nearest]
        points = rest_points(head, face_id[r, c], fragments.barycentrics[0, r, c]).double().numpy()
        points[distance > 0.02 * SIZE] = np.nan
        rest[own] = points
    return rest


def mirror_pairs(points: np.ndarray) -> np.ndarray:
    """``(478,)`` index of each point's partner on the other side of ``points (478, 3)``.

    Fixed for the 478 points: matching mirror images by distance mixes up the crowded points round the nostrils.
    """
    return np.array(groups.MIRROR[: len(points)])


def _symmetrise(points: np.ndarray) -> np.ndarray:
    pairs = mirror_pairs(points)
    return (points + points[pairs] * [-1.0, 1.0, 1.0]) / 2
