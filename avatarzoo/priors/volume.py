"""EG3D's volume renderer: two passes over the rays, then nerfacc's quadrature between neighbouring samples.

Differences to the released code that change nothing beyond rounding: transmittance is exp of a sum instead of a running product;
colours are not sorted with their depths, their quadrature coefficients are put back into drawing order instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from avatarzoo.priors.rays import Rays, depth_limits, importance_depths, stratified_depths

Field = Callable[[Float[Tensor, "b n 3"]], tuple[Float[Tensor, "b n"], Float[Tensor, "b n c"]]]
"""World points to raw density and colour features."""


CPU_RAYS = 1024
"""Rays computed at a time on a CPU: their samples stay in its caches, which takes a third off the time of all at once."""


class VolumeRender(NamedTuple):
    """Per ray: features in [-1, 1] (their first three are RGB), depth in world units, opacity in [0, 1]."""

    features: Float[Tensor, "b n c"]
    depth: Float[Tensor, "b n 1"]
    opacity: Float[Tensor, "b n 1"]


class Sampling(NamedTuple):
    """How rays are sampled; the fields are those of :class:`avatarzoo.priors.eg3d_config.EG3DConfig`.

    ``closed`` spreads deterministic fine samples over [0, 1] with both ends instead of the middles of equal intervals.
    """

    coarse: int = 48
    fine: int = 48
    depth_range: tuple[float, float] | Literal["auto"] = (2.25, 3.3)
    box: float = 1.0
    white_background: bool = False
    closed: bool = False


class Draws(NamedTuple):
    """Random numbers of a whole batch, drawn before it is split so that splitting does not change the pictures."""

    coarse: Tensor | float
    fine: Float[Tensor, "*#b f"]

    def camera(self, row: slice) -> Draws:
        """Those of one camera."""
        coarse = self.coarse if isinstance(self.coarse, float) else self.coarse[row]
        return Draws(coarse, self.fine if len(self.fine) == 1 else self.fine[row])


def draw(shape: tuple[int, int], sampling: Sampling, jitter: torch.Generator | None, like: Tensor) -> Draws:
    """Numbers for ``shape`` = (batch, rays): the middles of all intervals without ``jitter``, else uniform draws.

    A generator is asked for the coarse numbers first, then for the fine ones, in ray order, as the released code does.
    """
    if jitter is None:
        if sampling.closed:
            places = torch.linspace(0, 1, sampling.fine, device=like.device, dtype=like.dtype)
        else:
            places = (torch.arange(sampling.fine, device=like.device, dtype=like.dtype) + 0.5) / sampling.fine
        return Draws(0.5, places.expand(1, 1, -1))
    coarse, fine = (
        torch.rand(*shape, n, generator=jitter, device=jitter.device).to(like)
        for n in (sampling.coarse, sampling.fine)
    )
    return Draws(coarse, fine)


def render_cameras(
    field_of: Callable[[slice], Field],
    rays: Rays,
    sampling: Sampling,
    jitter: torch.Generator | None = None,
    chunk: int | None = None,
    limits: tuple[Float[Tensor, "b n 1"], Float[Tensor, "b n 1"]] | None = None,
) -> VolumeRender:
    """:func:`render_rays` of fields that differ between cameras; the result is the same.

    On a CPU one camera follows the other, so that what its field looks up stays in the caches: 16 cameras at once took six times as
    long as one after the other.

    Args:
        field_of: the fields of some of the cameras.
        rays, sampling, jitter, chunk, limits: see :func:`render_rays`.
    """
    batch, count = rays.directions.shape[:2]
    if rays.directions.device.type != "cpu" or batch == 1:
        return render_rays(field_of(slice(None)), rays, sampling, jitter, chunk, limits)
    near, far = limits or depth_limits(rays, sampling.depth_range, sampling.box)
    draws = draw((batch, count), sampling, jitter, near)
    views = [
        render_rays(
            field_of(row), Rays(rays.origins[row], rays.directions[row]), sampling, draws.camera(row), chunk,
            (near[row], far[row]),
        )
        for row in (slice(i, i + 1) for i in range(batch))
    ]  # fmt: skip
    return VolumeRender(*(torch.cat(maps) for maps in zip(*views)))


def render_rays(
    field: Field,
    rays: Rays,
    sampling: Sampling,
    jitter: torch.Generator | Draws | None = None,
    chunk: int | None = None,
    limits: tuple[Float[Tensor, "b n 1"], Float[Tensor, "b n 1"]] | None = None,
) -> VolumeRender:
    """Render every ray.

    Args:
        field: what is rendered.
        rays: B cameras with N rays each.
        sampling: where samples lie.
        jitter: None puts every sample into the middle of its interval; a generator draws, as EG3D always does; or what was drawn.
        chunk: rays of each camera computed at a time, to save memory; None: all, on a CPU about :data:`CPU_RAYS` of the batch.
            The result does not depend on it.
        limits: start and end of every ray; None: by ``sampling.depth_range``.

    Depth is clamped to the smallest and largest sample of its camera; a ray with opacity 0 gets the largest. (Released code: of
    the whole batch, so that such rays depend on their neighbours.) Gradients do not flow through the positions of samples.
    """
    batch, count = rays.directions.shape[:2]
    near, far = limits or depth_limits(rays, sampling.depth_range, sampling.box)
    draws = jitter if isinstance(jitter, Draws) else draw((batch, count), sampling, jitter, near)
    chunk = chunk or (max(1, CPU_RAYS // batch) if near.device.type == "cpu" else count)
    parts, extremes = [], []
    for start in range(0, count, chunk):
        part = slice(start, start + chunk)
        some = Rays(rays.origins, rays.directions[:, part])
        jolt = draws.coarse if isinstance(draws.coarse, float) else draws.coarse[:, part]
        positions = draws.fine if draws.fine.shape[1] == 1 else draws.fine[:, part]
        coarse = stratified_depths(near[:, part], far[:, part], sampling.coarse, jolt)
        render, extreme = two_passes(field, some, coarse, positions, sampling.white_background)
        parts.append(render)
        extremes.append(extreme)
    features, depth, opacity = (torch.cat(pieces, 1) for pieces in zip(*parts))
    smallest, largest = torch.stack(extremes)[..., None, None].unbind(1)
    return VolumeRender(features, depth.clamp(smallest.amin(0), largest.amax(0)), opacity)


def two_passes(
    field: Field,
    rays: Rays,
    coarse: Float[Tensor, "b n s"],
    positions: Float[Tensor, "*#b f"],
    white_background: bool,
) -> tuple[VolumeRender, Float[Tensor, "2 b"]]:
    """Coarse pass for the weights, fine pass, quadrature over both; also each camera's smallest and largest depth."""
    density, colours = evaluate(field, rays, coarse)
    with torch.no_grad():
        weights, _ = interval_weights(coarse, density)
    fine = importance_depths(coarse, weights, positions)
    fine_density, fine_colours = evaluate(field, rays, fine)
    depths, order = torch.cat([coarse, fine], -1).sort(-1)
    density = torch.cat([density, fine_density], -1).gather(-1, order)
    render = integrate(depths, order, density, [colours, fine_colours], white_background)
    return render, torch.stack([depths[..., 0].amin(1), depths[..., -1].amax(1)])


def evaluate(field: Field, rays: Rays, depths: Float[Tensor, "b n s"]) -> tuple[Tensor, Tensor]:
    """Density ``(B, N, S)`` and colours ``(B, N, S, C)`` at ``depths``."""
    points = rays.origins[:, None, None] + depths[..., None] * rays.directions[:, :, None]
    density, colours = field(points.flatten(1, 2))
    return density.view(depths.shape), colours.unflatten(1, depths.shape[1:])


def interval_weights(depths: Tensor, density: Tensor) -> tuple[Float[Tensor, "b n s-1"], Tensor]:
    """Weights of the intervals between sorted depths, and the middles; density is softplus(mean of both ends - 1)."""
    from nerfacc import render_weight_from_density

    sigma = torch.nn.functional.softplus((density[..., :-1] + density[..., 1:]) / 2 - 1)
    weights, _, _ = render_weight_from_density(depths[..., :-1], depths[..., 1:], sigma)
    return weights, (depths[..., :-1] + depths[..., 1:]) / 2


def integrate(
    depths: Float[Tensor, "b n s"],
    order: Tensor,
    density: Float[Tensor, "b n s"],
    colours: list[Float[Tensor, "b n p c"]],
    white_background: bool,
) -> VolumeRender:
    """Quadrature; ``depths`` and ``density`` are sorted, ``order`` says where each came from, ``colours`` are as drawn, pass by pass.

    The colour of an interval is the mean of its ends, so a sample's coefficient is half the weight of both intervals it bounds.
    """
    from nerfacc import accumulate_along_rays

    weights, middles = interval_weights(depths, density)
    halves = torch.nn.functional.pad(weights, (1, 1)) / 2
    shares = halves[..., :-1] + halves[..., 1:]
    shares = torch.zeros_like(shares).scatter(-1, order, shares)
    passes = shares.split([c.shape[2] for c in colours], -1)
    features = torch.stack(
        [(w[..., None, :].to(c) @ c)[..., 0, :].float() for w, c in zip(passes, colours)]
    ).sum(0)
    opacity = accumulate_along_rays(weights)
    if white_background:
        features = features + (1 - opacity)
    seen = opacity > 0
    depth = accumulate_along_rays(weights, middles[..., None]) / torch.where(seen, opacity, 1.0)
    return VolumeRender(features * 2 - 1, torch.where(seen, depth, torch.inf), opacity)
