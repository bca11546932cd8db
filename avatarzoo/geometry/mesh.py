"""Triangle meshes: normals, areas, connectivity, boundary loops, sampling, nearest points."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from scipy.sparse import coo_matrix, csgraph
from scipy.spatial import cKDTree
from torch import Tensor


def face_normals(
    vertices: Float[Tensor, "b v 3"], faces: Int[Tensor, "f 3"], unit: bool = True
) -> Float[Tensor, "b f 3"]:
    """Outward normals of counter-clockwise faces; with ``unit=False`` their length is twice the area."""
    normals = _area_normals(vertices.transpose(0, 1).contiguous(), faces).transpose(0, 1)
    return F.normalize(normals, dim=-1) if unit else normals


def vertex_normals(vertices: Float[Tensor, "b v 3"], faces: Int[Tensor, "f 3"]) -> Float[Tensor, "b v 3"]:
    """Unit normals, area-weighted over the faces round a vertex; zero at vertices without faces."""
    rows = vertices.transpose(0, 1).contiguous()
    weighted = _area_normals(rows, faces)
    total = torch.zeros_like(rows)
    for k in range(3):
        total = total.index_add(0, faces[:, k], weighted)
    # metres squared are tiny: the default eps of normalize would shorten normals of small faces
    return F.normalize(total.transpose(0, 1), dim=-1, eps=1e-30)


def _area_normals(rows: Float[Tensor, "v b 3"], faces: Int[Tensor, "f 3"]) -> Float[Tensor, "f b 3"]:
    """Cross products of the faces' sides; vertices come first since gathering whole rows is ten times faster."""
    a, b, c = (rows.index_select(0, faces[:, k]) for k in range(3))
    return torch.linalg.cross(b - a, c - a)


def triangle_areas(vertices: Float[Tensor, "b v 3"], faces: Int[Tensor, "f 3"]) -> Float[Tensor, "b f"]:
    """Areas in squared units of the vertices."""
    return face_normals(vertices, faces, unit=False).norm(dim=-1) / 2


class Edges(NamedTuple):
    """Undirected edges of a mesh.

    Attributes:
        vertices: ``(E, 2)``, smaller index first, sorted.
        of_faces: ``(F, 3)``: edge k of a face runs from its corner k to corner k + 1.
        counts: ``(E,)`` how many faces share the edge: 1 on the boundary, 2 inside.
    """

    vertices: Int[Tensor, "e 2"]
    of_faces: Int[Tensor, "f 3"]
    counts: Int[Tensor, " e"]


def mesh_edges(faces: Int[Tensor, "f 3"]) -> Edges:
    """All edges, each once."""
    directed = torch.stack([faces, faces.roll(-1, 1)], -1).flatten(0, 1)
    low, high = directed.sort(1).values.unbind(1)
    base = int(faces.max()) + 1 if len(faces) else 1
    code, inverse, counts = (low * base + high).unique(return_inverse=True, return_counts=True)
    return Edges(torch.stack([code // base, code % base], 1), inverse.view(-1, 3), counts)


def face_adjacency(faces: Int[Tensor, "f 3"]) -> Int[Tensor, "n 2"]:
    """Pairs of faces that share an edge (edges of three or more faces give consecutive pairs)."""
    of_faces = mesh_edges(faces).of_faces.flatten()
    edge, order = of_faces.sort(stable=True)
    face = order // 3
    same = edge[1:] == edge[:-1]
    return torch.stack([face[:-1][same], face[1:][same]], 1)


def boundary_loops(faces: Int[Tensor, "f 3"]) -> list[Int[Tensor, " n"]]:
    """Closed boundary curves as ordered vertex indices (not repeated at the end), the longest first.

    They run as the edges of their faces do: the surface lies on the left, seen from outside.

    Raises:
        ValueError: a boundary vertex where more than two boundary edges meet (two holes that touch).
    """
    directed = torch.stack([faces, faces.roll(-1, 1)], -1).flatten(0, 1)
    edges = mesh_edges(faces)
    rim = directed[edges.counts[edges.of_faces.flatten()] == 1]
    successor = dict(rim.tolist())
    if len(successor) < len(rim):
        raise ValueError("two boundary loops touch at a vertex; split that vertex first.")
    loops = []
    while successor:
        start, vertex = successor.popitem()
        loop = [start]
        while vertex != start:
            loop.append(vertex)
            vertex = successor.pop(vertex)
        loops.append(torch.tensor(loop, device=faces.device))
    return sorted(loops, key=len, reverse=True)


def connected_components(faces: Int[Tensor, "f 3"], vertex_count: int) -> Int[Tensor, " v"]:
    """A label 0, 1, ... per vertex, shared within a connected piece; a vertex without faces has its own."""
    rows = faces.roll(-1, 1).flatten().cpu().numpy()
    columns = faces.flatten().cpu().numpy()
    graph = coo_matrix((np.ones(len(rows), np.int8), (rows, columns)), shape=(vertex_count, vertex_count))
    labels = csgraph.connected_components(graph, directed=False)[1]
    return torch.from_numpy(labels).long().to(faces.device)


class SurfacePoints(NamedTuple):
    """Points on a mesh.

    Attributes:
        faces: ``(N,)``.
        barycentrics: ``(N, 3)``.
    """

    faces: Int[Tensor, " n"]
    barycentrics: Float[Tensor, "n 3"]

    def on(self, vertices: Float[Tensor, "b v 3"], faces: Int[Tensor, "f 3"]) -> Float[Tensor, "b n 3"]:
        """Positions of these points on given vertices."""
        weights = self.barycentrics.to(vertices)
        return (vertices[:, faces[self.faces]] * weights[None, :, :, None]).sum(2)


def sample_surface(
    vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"], count: int, generator: torch.Generator
) -> SurfacePoints:
    """Points spread evenly over the surface (a face is drawn with the probability of its area)."""
    areas = triangle_areas(vertices[None], faces)[0]
    drawn = torch.multinomial(areas, count, replacement=True, generator=generator)
    uv = torch.rand(count, 2, generator=generator, device=vertices.device, dtype=vertices.dtype)
    root = uv[:, :1].sqrt()
    return SurfacePoints(drawn, torch.cat([1 - root, root * (1 - uv[:, 1:]), root * uv[:, 1:]], 1))


def nearest_on_mesh(
    points: Float[Tensor, "n 3"], vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"]
) -> tuple[SurfacePoints, Float[Tensor, " n"]]:
    """The exactly nearest surface point of each point, and its distance (on the CPU; not differentiated)."""
    p, v, f = (x.detach().cpu().numpy() for x in (points, vertices, faces))
    p, v = p.astype(np.float64), v.astype(np.float64)
    corners = v[f]
    middles = corners.mean(1)
    reach = np.linalg.norm(corners - middles[:, None], axis=-1).max(1)
    # a face can only win if its middle is within the distance to the nearest corner plus a face's reach
    bound = cKDTree(corners.reshape(-1, 3)).query(p)[0] * (1 + 1e-9) + reach.max()
    near = cKDTree(middles).query_ball_point(p, bound)
    owner = np.repeat(np.arange(len(p)), [len(x) for x in near])
    face = np.concatenate([np.asarray(x, np.int64) for x in near])
    weights = _nearest_in_triangle(p[owner], corners[face])
    distance = np.linalg.norm((weights[..., None] * corners[face]).sum(1) - p[owner], axis=-1)
    order = np.lexsort((face, distance, owner))
    best = order[np.searchsorted(owner[order], np.arange(len(p)))]
    found = SurfacePoints(
        torch.from_numpy(face[best]).to(faces.device), torch.from_numpy(weights[best]).to(vertices)
    )
    return found, torch.from_numpy(distance[best]).to(vertices)


def _nearest_in_triangle(p: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Barycentrics ``(n, 3)`` of the point of triangle i ``(n, 3, 3)`` that is nearest to p_i ``(n, 3)``."""
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    normal = np.cross(b - a, c - a)
    square = np.maximum((normal**2).sum(-1), 1e-300)
    inner = np.stack(
        [(np.cross(e - s, p - s) * normal).sum(-1) / square for s, e in ((b, c), (c, a), (a, b))], 1
    )
    weights, best = inner, np.full(len(p), np.inf)
    inside = (inner >= 0).all(1) & (square > 1e-300)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        start, along = corners[:, i], corners[:, j] - corners[:, i]
        t = ((p - start) * along).sum(-1) / np.maximum((along**2).sum(-1), 1e-300)
        t = np.clip(t, 0, 1)
        gap = ((start + t[:, None] * along - p) ** 2).sum(-1)
        closer = ~inside & (gap < best)
        edge = np.zeros_like(inner)
        edge[:, i], edge[:, j] = 1 - t, t
        weights = np.where(closer[:, None], edge, weights)
        best = np.where(closer, gap, best)
    return weights


class TexturedMesh(NamedTuple):
    """Attributes: vertices ``(V, 3)``, faces ``(F, 3)``, uv ``(T, 2)``, uv_faces ``(F, 3)``."""

    vertices: Float[Tensor, "v 3"]
    faces: Int[Tensor, "f 3"]
    uv: Float[Tensor, "t 2"]
    uv_faces: Int[Tensor, "f 3"]


def unit_sphere(rings: int, sectors: int) -> TexturedMesh:
    """Closed sphere of ``2 sectors (rings - 1)`` triangles; u = 0.5 faces +z, v = 1 is +y."""
    v, u = torch.meshgrid(
        torch.linspace(1, 0, rings + 1, dtype=torch.float64),
        torch.linspace(0, 1, sectors + 1, dtype=torch.float64),
        indexing="ij",
    )
    latitude, longitude = (v - 0.5) * torch.pi, (u - 0.5) * 2 * torch.pi
    grid = torch.stack(
        [latitude.cos() * longitude.sin(), latitude.sin(), latitude.cos() * longitude.cos()], -1
    )
    # one vertex per pole, and no second copy of the seam
    vertices = torch.cat([grid[:1, 0], grid[1:-1, :-1].reshape(-1, 3), grid[-1:, 0]])
    index = 1 + torch.arange((rings - 1) * sectors).view(rings - 1, sectors)
    index = torch.cat([index, index[:, :1]], 1)
    index = torch.cat(
        [torch.zeros(1, sectors + 1).long(), index, torch.full((1, sectors + 1), len(vertices) - 1)]
    )
    corner = torch.arange((rings + 1) * (sectors + 1)).view(rings + 1, sectors + 1)
    upper = torch.stack([corner[:-1, :-1], corner[1:, :-1], corner[1:, 1:]], -1)[:-1].reshape(-1, 3)
    lower = torch.stack([corner[:-1, :-1], corner[1:, 1:], corner[:-1, 1:]], -1)[1:].reshape(-1, 3)
    uv_faces = torch.cat([upper, lower])
    uv = torch.stack([u, v], -1).reshape(-1, 2)
    return TexturedMesh(vertices.float(), index.flatten()[uv_faces], uv.float(), uv_faces)
