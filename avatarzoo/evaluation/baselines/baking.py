"""Mean colours of a head model's texels over pictures that see them, and guesses where none does."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

from avatarzoo.geometry.camera import Camera
from avatarzoo.geometry.uv import UVAtlas, extend_texture, unwrap
from avatarzoo.heads.base import HeadModel, HeadParams

CHUNK = 4
"""Pictures baked at a time."""
FRONTAL = 0.25
"""Texels seen under a smaller cosine are not trusted: a pixel there spans four times its width of surface."""
TOLERANCE = 1e-3
"""Metres behind the nearest surface that still count as seen; lips lie closer to the teeth than :func:`unwrap`'s own."""
RIM = 5
"""Side (odd) of the window in pixels that must show the head for a colour to be taken, so that no background bleeds in."""
BLUR = 9
"""Side (odd) in texels of the window over which opacity is averaged."""
NEIGHBOURS = 8
SCARCE = 0.02
"""Parts inside mouth and lids of which a smaller share is seen take a stock colour."""
STOCK = {
    "eyes": (("eyeball_left", "eyeball_right"), (0.80, 0.78, 0.76)),
    "teeth": (("teeth",), (0.72, 0.67, 0.60)),
    "mouth": (("mouth", "gums"), (0.25, 0.11, 0.10)),
}
"""Part -> face regions, stock colour."""


class Baked(NamedTuple):
    """What pictures show of N texels.

    Attributes:
        color: ``(N, 3)`` mean over the pictures that see the texel on the head; colored: whether any does.
        alpha: ``(N, 1)`` share of the pictures that see the texel on the head and not on the background; seen: whether any sees it.
    """

    color: Float[Tensor, "n 3"]
    colored: Bool[Tensor, " n"]
    alpha: Float[Tensor, "n 1"]
    seen: Bool[Tensor, " n"]


def spread(count: int, most: int) -> Int[Tensor, " n"]:
    """At most so many rows of ``count``, spread evenly, first and last among them."""
    return torch.linspace(0, count - 1, min(count, most)).round().long()


def bake(
    head: HeadModel,
    atlas: UVAtlas,
    images: Float[Tensor, "b 3 h w"],
    params: HeadParams,
    cameras: Camera,
    background: float | None,
) -> Baked:
    """Average pictures over the texels; frontal views weigh more (squared cosine).

    Args:
        background: grey level that marks what is not head; ``None`` takes all of the pictures as head.
    """
    total = images.new_zeros(6, len(atlas.pixels))
    for rows in torch.arange(len(images)).split(CHUNK):
        shown = head_pixels(images[rows], background)
        inner = 1 - F.max_pool2d(1 - shown, RIM, 1, RIM // 2)
        layers = torch.cat([images[rows], inner, shown], 1)
        texture, cosine = unwrap(
            layers, head(params.rows(rows)), head.faces, cameras.rows(rows), atlas, TOLERANCE
        )
        values, cosine = atlas.gather(texture), atlas.gather(cosine)
        weight = cosine.square() * (cosine > FRONTAL)
        trusted = weight * (values[..., 3:4] > 0.99)
        sums = torch.cat([values[..., :3] * trusted, trusted, values[..., 4:] * weight, weight], -1)
        total += sums.sum(0).T
    trusted, weight = total[3] > 0, total[5] > 0
    color = (total[:3] / total[3].clamp_min(1e-9)).T
    alpha = (total[4:5] / total[5].clamp_min(1e-9)).T
    return Baked(color, trusted, alpha, weight)


def head_pixels(images: Float[Tensor, "b 3 h w"], background: float | None) -> Float[Tensor, "b 1 h w"]:
    """1 where a picture differs from the background by more than its rounding."""
    if background is None:
        return torch.ones_like(images[:, :1])
    return ((images - background).abs().amax(1, keepdim=True) > 1.5 / 255).to(images.dtype)


def texture_of(head: HeadModel, atlas: UVAtlas, baked: Baked) -> Float[Tensor, "1 4 s s"]:
    """Colour and opacity of all texels; what has an opacity above one half belongs to the head.

    What no picture shows is guessed from the nearest texels of the same part that are known, on this or the other half of the head.
    """
    places = atlas.points(head.v_template[None])[0]
    color, alpha = baked.color.clone(), baked.alpha.clone()
    for members, stock in _parts(head, atlas):
        if stock is not None and baked.colored[members].float().mean() < SCARCE:
            color[members], alpha[members] = color.new_tensor(stock), 1.0
            continue
        alpha[members] = _filled(alpha[members], baked.seen[members], places[members])
        shown = members[(alpha[members, 0] > 0.5) | baked.colored[members]]
        color[shown] = _filled(color[shown], baked.colored[shown], places[shown])
    valid = atlas.mask[None, None].to(color.dtype)
    texture = extend_texture(atlas.image(torch.cat([color, alpha], 1)[None]), valid)
    # the edge of what the pictures show is frayed by their different edges: a mean over neighbours smooths it
    soft = F.avg_pool2d(F.pad(texture[:, 3:], [BLUR // 2] * 4, mode="replicate"), BLUR, 1)
    return torch.cat([texture[:, :3], torch.where(valid > 0, soft, texture[:, 3:])], 1)


def _parts(head: HeadModel, atlas: UVAtlas) -> list[tuple[Tensor, tuple[float, float, float] | None]]:
    """Texels of each part with the part's stock colour; the skin has none."""
    label = torch.zeros(len(head.faces), dtype=torch.long, device=atlas.pixels.device)
    stocks: list[tuple[float, float, float] | None] = [None]
    for regions, stock in STOCK.values():
        stocks.append(stock)
        for name in regions:
            if name in head.face_regions:
                label[head.face_regions[name].to(label.device)] = len(stocks) - 1
    part = label[atlas.face_id.flatten()[atlas.pixels]]
    found = [((part == k).nonzero()[:, 0], stock) for k, stock in enumerate(stocks)]
    return [(members, stock) for members, stock in found if len(members)]


def _filled(
    values: Float[Tensor, "n c"], known: Bool[Tensor, " n"], places: Float[Tensor, "n 3"]
) -> Float[Tensor, "n c"]:
    """Unknown values from known neighbours, weighted by inverse squared distance; as they are where nothing is known."""
    if known.all() or not known.any():
        return values
    mirror = places.new_tensor([-1.0, 1.0, 1.0])
    tree = cKDTree(torch.cat([places[known], places[known] * mirror]).cpu().numpy())
    distance, nearest = tree.query(places[~known].cpu().numpy(), k=NEIGHBOURS, eps=0.2)
    found = torch.from_numpy(nearest).to(values.device) % int(known.sum())
    weight = 1 / torch.from_numpy(distance).to(values).square().clamp_min(1e-9)
    values = values.clone()
    values[~known] = (values[known][found] * weight[..., None]).sum(1) / weight.sum(1, keepdim=True)
    return values
