"""Speed of the mesh rasteriser: milliseconds per 512 x 512 view of a head-sized mesh, and against brute force.

    python benchmarks/speed/mesh.py [--threads 2] [--repeats 20] [--batch 8] [--require-ms 25]

Uses the ICT head (52,220 triangles) where AVATARZOO_ASSETS holds it, else a sphere of the same size. Exits with 1 if the
best single view on the CPU takes longer than ``--require-ms``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from avatarzoo.geometry.camera import Camera, look_at_face
from avatarzoo.geometry.mesh import unit_sphere, vertex_normals
from avatarzoo.geometry.uv import uv_atlas
from avatarzoo.render.mesh import interpolate, rasterize_mesh
from avatarzoo.render.shading import shade_mesh


def head() -> tuple[str, torch.Tensor, torch.Tensor]:
    """Name, vertices (V, 3) in metres, faces."""
    path = Path(os.environ.get("AVATARZOO_ASSETS", "")) / "ict_facekit_light.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as data:
            vertices = torch.from_numpy(data["v_template"]) * 0.01
            faces = torch.from_numpy(data["faces"]).long()
        return "ICT head", vertices - (vertices.amin(0) + vertices.amax(0)) / 2, faces
    sphere = unit_sphere(139, 189)
    return "sphere", sphere.vertices * torch.tensor([0.09, 0.14, 0.1]), sphere.faces


def milliseconds(call: Callable[[], object], repeats: int) -> tuple[float, float]:
    """(best, median) of ``repeats`` runs after two to warm up."""
    on_gpu = torch.cuda.is_available()
    times = []
    for k in range(repeats + 2):
        start = time.perf_counter()
        call()
        if on_gpu:
            torch.cuda.synchronize()
        if k > 1:
            times.append(1e3 * (time.perf_counter() - start))
    return min(times), statistics.median(times)


def report(name: str, call: Callable[[], object], repeats: int, views: int = 1) -> float:
    best, middle = (x / views for x in milliseconds(call, repeats))
    print(f"{name:58s} {best:9.2f} {middle:9.2f}", flush=True)
    return best


def against_brute_force(repeats: int) -> None:
    """Same small picture, three backends: 2,184 triangles, 96 x 96."""
    sphere = unit_sphere(29, 39)
    camera, vertices = look_at_face(1.0, 20.0, 96), 0.12 * sphere.vertices[None]
    best = {
        name: report(
            f"{len(sphere.faces)} triangles, 96 x 96, {name}",
            lambda name=name: rasterize_mesh(vertices, sphere.faces, camera, backend=name),
            3 if name == "reference" else repeats,
        )
        for name in ("numba", "torch", "reference")
    }
    for name in ("numba", "torch"):
        print(f"  {name} is {best['reference'] / best[name]:.0f} times as fast as brute force")


def on_the_head(repeats: int, batch: int) -> float:
    name, vertices, faces = head()
    print(f"{name}: {len(vertices)} vertices, {len(faces)} triangles, 512 x 512")
    one = look_at_face(1.2, 20.0, 512)
    many = look_at_face(1.2, 20.0, 512, yaw=torch.linspace(-0.6, 0.6, batch))
    verts = vertices[None]
    best = report("numba, one view", lambda: rasterize_mesh(verts, faces, one), repeats)
    report(f"numba, {batch} views, per view", lambda: rasterize_mesh(verts, faces, many), repeats // 2, batch)
    slow = report("torch on the CPU, one view", lambda: rasterize_mesh(verts, faces, one, backend="torch"), 5)
    print(f"  numba is {slow / best:.1f} times as fast as torch on the CPU")
    report("vertex normals", lambda: vertex_normals(verts, faces), repeats)
    drawn, normals = rasterize_mesh(verts, faces, one), vertex_normals(verts, faces)
    report("interpolate 3 channels", lambda: interpolate(drawn, faces, normals), repeats)
    report("shade_mesh, one view", lambda: shade_mesh(verts, faces, one), repeats)
    on_texture_space(repeats)
    if torch.cuda.is_available():
        on_cuda(verts, faces, one, many, repeats)
    return best


def on_texture_space(repeats: int) -> None:
    sphere = unit_sphere(51, 52)
    atlas = uv_atlas(sphere.uv, sphere.uv_faces, sphere.faces, 272)
    label = f"{len(atlas.pixels)} texels of {len(sphere.vertices)} vertices"
    eight = sphere.vertices[None].repeat(8, 1, 1)
    report(f"uv points, {label}", lambda: atlas.points(eight[:1]), repeats)
    report(f"uv points, {label}, 8 meshes, per mesh", lambda: atlas.points(eight), repeats, 8)


def on_cuda(vertices: torch.Tensor, faces: torch.Tensor, one: Camera, many: Camera, repeats: int) -> None:
    vertices, faces, one, many = (x.to("cuda") for x in (vertices, faces, one, many))
    report("torch on CUDA, one view", lambda: rasterize_mesh(vertices, faces, one), repeats)
    report(
        f"torch on CUDA, {many.batch} views, per view",
        lambda: rasterize_mesh(vertices, faces, many),
        repeats,
        many.batch,
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--require-ms", type=float, default=25.0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{options.threads} threads; milliseconds {'best':>44s} {'median':>9s}")
    best = on_the_head(options.repeats, options.batch)
    against_brute_force(options.repeats)
    if best > options.require_ms:
        print(f"too slow: {best:.1f} ms a view, {options.require_ms:.0f} allowed")
    return int(best > options.require_ms)


if __name__ == "__main__":
    sys.exit(main())
