"""Gaussian splatting on the CPU: numba kernels, torch's number of threads, gradients to everything a Gaussian has.

The threads are Python's: the kernels free the GIL and divide by chunks of Gaussians or tiles. numba's own parallel loops
would kill a forked data-loader worker (OpenMP layer) or a second calling thread (workqueue layer).
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from avatarzoo.geometry.camera import Camera
from avatarzoo.render.gaussians import Gaussians

_CHUNKS_PER_THREAD = 8
_pool: ThreadPoolExecutor | None = None
_pool_lock = threading.Lock()


def _forget_pool() -> None:
    """A forked child has the parent's pool object but none of its threads."""
    global _pool, _pool_lock
    _pool, _pool_lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def _parallel(work: Callable[..., Any], items: Iterable[tuple]) -> None:
    """Call ``work(*item)`` for all items on up to ``torch.get_num_threads()`` threads, the caller's among them."""
    global _pool
    items = list(items)
    helpers = min(torch.get_num_threads(), len(items)) - 1
    queue = iter(items)  # next() on a list iterator is atomic

    def drain() -> None:
        for item in queue:
            work(*item)

    if helpers < 1:
        return drain()
    with _pool_lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="splat")
        pool = _pool
    futures = [pool.submit(drain) for _ in range(helpers)]
    drain()
    for future in futures:
        future.result()


def _even(count: int) -> list[tuple[int, int]]:
    """Cut ``range(count)`` into chunks of equal length."""
    chunks = max(1, min(count // 512, _CHUNKS_PER_THREAD * torch.get_num_threads()))
    cuts = np.linspace(0, count, chunks + 1).astype(int).tolist()
    return list(itertools.pairwise(cuts))


def _by_load(offsets: np.ndarray) -> list[tuple[int, int]]:
    """Cut the tiles into chunks with about as many Gaussians each; an empty tile counts as a few."""
    load = offsets + 4 * np.arange(len(offsets))
    chunks = max(1, min(len(offsets) // 8, _CHUNKS_PER_THREAD * torch.get_num_threads()))
    inner = np.searchsorted(load, np.linspace(0, load[-1], chunks + 1)[1:-1])
    cuts = [0, *inner.tolist(), len(offsets) - 1]
    return [(a, b) for a, b in itertools.pairwise(cuts) if b > a]


class _View(NamedTuple):
    """One picture's projected Gaussians and tile lists; see the kernels for the shapes."""

    camera: np.ndarray
    records: np.ndarray
    depths: np.ndarray
    boxes: np.ndarray
    bins: list[np.ndarray]  # offsets, entries, slots; empty until binned


def render(gaussians: Gaussians, camera: Camera) -> tuple[Tensor, Tensor]:
    """Premultiplied colour ``(B, 3, H, W)`` and alpha ``(B, 1, H, W)``, float32; not differentiable in the camera.

    Args:
        gaussians: opacities at most 1; anything else than float32 is converted.
    """
    arrays = [x.float().contiguous() for x in gaussians]
    numbers = _camera_numbers(camera)
    if torch.is_grad_enabled() and any(x.requires_grad for x in arrays):
        return _Splat.apply(numbers, camera.size, *arrays)
    rgb, alpha, _ = _forward(numbers, camera.size, [x.detach().numpy() for x in arrays])
    return torch.from_numpy(rgb), torch.from_numpy(alpha)[:, None]


def _camera_numbers(camera: Camera) -> np.ndarray:
    """``(B, 18)`` float64, the order that :mod:`.splat_cpu_projection` reads."""
    pose, k = camera.world_to_camera.detach().double(), camera.intrinsics.detach().double()
    height, width = camera.size
    k = k.expand(len(pose), 3, 3)
    lens = torch.stack([k[:, 0, 0], k[:, 1, 1], k[:, 0, 2], k[:, 1, 2]], -1)
    size = lens.new_tensor([width, height]).expand(len(pose), 2)
    return torch.cat([pose[:, :3, :3].flatten(1), pose[:, :3, 3], lens, size], -1).numpy()


def _tiles(size: tuple[int, int]) -> tuple[int, int]:
    """Tiles across and down."""
    from avatarzoo.render.splat_cpu_kernels import TILE

    return -(-size[1] // TILE), -(-size[0] // TILE)


def _lane() -> np.ndarray:
    return np.arange(8, dtype=np.float32)


def _forward(
    cameras: np.ndarray, size: tuple[int, int], arrays: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, list[_View]]:
    """Three passes over the whole batch, each in parallel: project (chunks), sort (pictures), blend (tiles)."""
    from avatarzoo.render import splat_cpu_kernels as kernels
    from avatarzoo.render import splat_cpu_projection as projection

    count, shared = arrays[0].shape[1], len(arrays[0]) == 1
    tiles_x, tiles_y = _tiles(size)
    views = [
        _View(
            numbers,
            np.empty((count, kernels.FIELDS), np.float32),
            np.empty(count, np.float32),
            np.empty((count, 4), np.int32),
            [],
        )
        for numbers in cameras
    ]
    rgb = np.empty((len(cameras), 3, *size), np.float32)
    alpha = np.empty((len(cameras), *size), np.float32)

    def project(b: int, first: int, last: int) -> None:
        view, own = views[b], [x[0 if shared else b] for x in arrays]
        projection.project(first, last, view.camera, *own, view.records, view.depths, view.boxes)

    def sort(b: int) -> None:
        view = views[b]
        view.bins.extend(projection.bin_tiles(view.depths.view(np.uint32), view.boxes, tiles_x, tiles_y))

    def blend(b: int, first: int, last: int) -> None:
        offsets, entries, _ = views[b].bins
        view = views[b]
        kernels.blend(
            first, last, offsets, entries, view.boxes, view.records, tiles_x, _lane(), rgb[b], alpha[b]
        )

    batch = range(len(views))
    _parallel(project, [(b, *chunk) for b in batch for chunk in _even(count)])
    _parallel(sort, [(b,) for b in batch])
    _parallel(blend, [(b, *chunk) for b in batch for chunk in _by_load(views[b].bins[0])])
    return rgb, alpha, views


def _backward(
    views: list[_View],
    arrays: list[np.ndarray],
    images: tuple[np.ndarray, np.ndarray],
    grads: tuple[np.ndarray, np.ndarray],
) -> list[np.ndarray]:
    """Gradients of the five arrays: blend backward (tiles), then gather and project backward (chunks of Gaussians)."""
    from avatarzoo.render import splat_cpu_kernels as kernels
    from avatarzoo.render import splat_cpu_projection as projection

    count, shared = arrays[0].shape[1], len(arrays[0]) == 1
    tiles_x, _ = _tiles(images[1].shape[1:])
    sums = np.empty(
        (max(len(view.bins[1]) for view in views), kernels.GRADS), np.float32
    )  # every view's in turn
    outputs = [np.zeros_like(x) for x in arrays]

    for b, view in enumerate(views):
        offsets, entries, slots = view.bins
        pictures, own = [x[b] for x in (*images, *grads)], 0 if shared else b
        inputs, results = [x[own] for x in arrays[:4]], [x[own] for x in outputs]

        def blend(
            first: int, last: int, view=view, tiles=(offsets, entries), rest=(*pictures, slots)
        ) -> None:
            kernels.blend_backward(
                first, last, *tiles, view.boxes, view.records, tiles_x, _lane(), *rest, sums
            )

        def project(first: int, last: int, view=view, inputs=inputs, rest=(slots, sums, *results)) -> None:
            projection.project_backward(first, last, view.camera, *inputs, view.records, view.boxes, *rest)

        _parallel(blend, _by_load(offsets))
        _parallel(project, _even(count))
    return outputs


class _Splat(torch.autograd.Function):
    """(camera numbers, size, means, quaternions, scales, opacities, colors) -> (premultiplied rgb, alpha)."""

    @staticmethod
    def forward(
        ctx: Any, cameras: np.ndarray, size: tuple[int, int], *tensors: Tensor
    ) -> tuple[Tensor, Tensor]:
        rgb, alpha, ctx.views = _forward(cameras, size, [x.detach().numpy() for x in tensors])
        outputs = torch.from_numpy(rgb), torch.from_numpy(alpha)[:, None]
        ctx.save_for_backward(*tensors, *outputs)
        return outputs

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_rgb: Tensor, grad_alpha: Tensor) -> tuple:
        *tensors, rgb, alpha = ctx.saved_tensors
        images = rgb.numpy(), alpha[:, 0].numpy()
        grads = grad_rgb.contiguous().numpy(), grad_alpha[:, 0].contiguous().numpy()
        outputs = _backward(ctx.views, [x.detach().numpy() for x in tensors], images, grads)
        return None, None, *(torch.from_numpy(x) for x in outputs)
