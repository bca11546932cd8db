"""The landmark embedding of the procedural head: lids, lips and irises by construction, the rest seen on painted renders.

``python -m avatarzoo.trackers.procedural_embedding`` writes the packaged file; needed after every change of the topology.
"""

from __future__ import annotations

import numpy as np
import torch

from avatarzoo.data.procedural import ProceduralActor
from avatarzoo.geometry.camera import look_at_face
from avatarzoo.heads.base import LandmarkEmbedding
from avatarzoo.heads.embedding_files import PACKAGED, save_embedding
from avatarzoo.heads.procedural import ProceduralHead
from avatarzoo.heads.procedural_parts import IRIS_RING, N_EYEBALL, HeadMesh, head_mesh
from avatarzoo.heads.procedural_surface import Array
from avatarzoo.perception.landmarks import FaceLandmarker
from avatarzoo.render.mesh import rasterize_mesh
from avatarzoo.trackers import landmark_groups as groups
from avatarzoo.trackers.embedding import closest_on_mesh, mirror_pairs

SIZE, PEOPLE, YAWS = 640, 8, (-0.3, -0.15, 0.0, 0.15, 0.3)


def find() -> LandmarkEmbedding:
    """Run the landmarker on renders of several painted people with the mean shape and combine what it says."""
    head = ProceduralHead()
    points = observe(head)
    pairs = mirror_pairs(points)
    points = (points + points[pairs] * [-1.0, 1.0, 1.0]) / 2
    irises = list(groups.IRISES)
    rest = np.setdiff1d(np.arange(len(points)), irises)
    faces, weights = np.zeros(len(points), np.int64), np.zeros((len(points), 3))
    skin = head.face_regions["skin"].numpy()
    faces[rest], weights[rest] = closest_on_mesh(points[rest], head, skin)
    mesh = head_mesh()
    for index, face, weight in [*_margins(mesh, skin, points), *_irises(mesh, points)]:
        faces[index], weights[index] = face, weight
    return LandmarkEmbedding(torch.from_numpy(faces), torch.from_numpy(weights).float())


def observe(head: ProceduralHead) -> Array:
    """``(478, 3)`` median places on the mean head of the points seen."""
    seen = []
    with FaceLandmarker(max_faces=1, static=True) as landmarker:
        for seed in range(PEOPLE):
            actor = ProceduralActor(seed, SIZE, background=0.6)
            params = head.zeros(1)
            vertices = head(params)
            for yaw in YAWS:
                camera = look_at_face(0.8, 20.0, SIZE, torch.tensor([yaw]))
                picture = (actor.render(params, camera)[0][0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
                found = landmarker.detect(picture)
                if len(found):
                    seen.append(_back_project(head, vertices, camera, found[0, :, :2]))
    return np.nanmedian(np.stack(seen), 0)


def _back_project(head: ProceduralHead, vertices: torch.Tensor, camera, points: Array) -> Array:
    """Surface points under pixels, NaN where a point misses the skin or eyes."""
    drawn = rasterize_mesh(vertices, head.faces, camera)
    column, row = np.clip(points.astype(int), 0, SIZE - 1).T
    face = drawn.face_id[0, row, column]
    weights = drawn.barycentrics[0, row, column]
    places = (head.v_template[head.faces[face.clamp_min(0)]] * weights[..., None]).sum(1).double().numpy()
    places[face.numpy() < 0] = np.nan
    return places


def _margins(mesh: HeadMesh, skin: Array, points: Array):
    """Lids on the lid rims, inner lips on the lip rims, outer lips on the border of the red; facing points share one x."""
    info, on_skin = mesh.info, mesh.part == 0
    for side, upper, lower in (
        (1, groups.UPPER_LID_LEFT, groups.LOWER_LID_LEFT),
        (-1, groups.UPPER_LID_RIGHT, groups.LOWER_LID_RIGHT),
    ):
        rim = on_skin & (info["lid"] == 1.0) & (info["socket"] == 0) & (side * mesh.vertices[:, 0] > 0)
        height = np.sin(info["theta"])
        paths = [np.flatnonzero(rim & (s * height > -1e-9)) for s in (1, -1)]
        yield from _along(mesh, skin, paths, (upper, lower), points)
    for level, upper, lower in (
        (2.0, groups.UPPER_LIP_INNER, groups.LOWER_LIP_INNER),
        (1.0, groups.UPPER_LIP_OUTER, groups.LOWER_LIP_OUTER),
    ):
        rim = on_skin & (np.abs(info["lip"] - level) < 1e-9)
        paths = [np.flatnonzero(rim & (s * info["phi"] > -1e-9)) for s in (1, -1)]
        yield from _along(mesh, skin, paths, (upper, lower), points)


def _along(mesh: HeadMesh, skin: Array, paths: list[Array], indices: tuple, points: Array):
    """Spread two rows of landmarks along two margins with common ends, at the mean of their relative x."""
    x = np.stack([points[list(i), 0] for i in indices]).mean(0)
    share = (x - x[0]) / (x[-1] - x[0])
    for path, index in zip(paths, indices):
        path = path[np.argsort(mesh.vertices[path, 0], kind="stable")]
        ends = mesh.vertices[path[[0, -1]], 0]
        first, last = ends if x[0] < x[-1] else ends[::-1]
        for i, target in zip(index, first + share * (last - first)):
            k = int(np.clip(np.searchsorted(mesh.vertices[path, 0], target) - 1, 0, len(path) - 2))
            a, b = path[k], path[k + 1]
            t = float(
                np.clip((target - mesh.vertices[a, 0]) / (mesh.vertices[b, 0] - mesh.vertices[a, 0]), 0, 1)
            )
            yield i, *_on_edge(mesh, skin, a, b, t)


def _on_edge(mesh: HeadMesh, skin: Array, a: int, b: int, t: float) -> tuple[int, Array]:
    """A face with the edge a-b, and the barycentrics of the point at share ``t`` of the way."""
    corners = mesh.faces[skin]
    face = int(skin[np.flatnonzero((corners == a).any(1) & (corners == b).any(1))[0]])
    return face, np.where(mesh.faces[face] == a, 1 - t, np.where(mesh.faces[face] == b, t, 0.0))


def _irises(mesh: HeadMesh, points: Array):
    """Centre of the pupil, and the points of the iris' rim to the sides, above and below."""
    for side, indices in ((1, groups.IRIS_LEFT), (-1, groups.IRIS_RIGHT)):
        ball = np.flatnonzero((mesh.part == mesh.parts.index("eyeball")) & (side * mesh.vertices[:, 0] > 0))
        pole, ring = ball[0], ball[1 + IRIS_RING * N_EYEBALL : 1 + (IRIS_RING + 1) * N_EYEBALL]
        directions = points[list(indices[1:]), :2] - points[list(indices[1:]), :2].mean(0)
        axis = np.where(
            np.abs(directions[:, :1]) > np.abs(directions[:, 1:]),
            np.sign(directions[:, :1]) * [1, 0], np.sign(directions[:, 1:]) * [0, 1],
        )  # fmt: skip
        arms = mesh.vertices[ring, :2] - mesh.vertices[pole, :2]
        corners = [pole, *(ring[np.argmax(arms @ d)] for d in axis)]
        for index, vertex in zip(indices, corners):
            face = int(np.flatnonzero((mesh.faces == vertex).any(1))[0])
            yield index, face, (mesh.faces[face] == vertex).astype(float)


if __name__ == "__main__":
    print(save_embedding(ProceduralHead(), find(), PACKAGED))
