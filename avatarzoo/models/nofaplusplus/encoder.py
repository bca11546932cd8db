"""NOFA++'s encoder E (section 3.1): a picture to one W+ code per layer of the generator, with a Swin transformer."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from avatarzoo.networks.inversion_encoders import silence
from avatarzoo.networks.latent_encoder import COARSE, MIDDLE, MapToCode, enlarge
from avatarzoo.priors.eg3d import TriPlaneGenerator

HeadName = Literal["query", "fpn", "goae"]
FINE = 7
"""First code of GOAE's fine group; its middle group starts at code 4, its coarse one at code 1."""


@torch.no_grad()
def average_codes(
    prior: TriPlaneGenerator, label: Float[Tensor, "1 25"], samples: int = 10_000, seed: int = 0
) -> Float[Tensor, "1 n w"]:
    """The mean of random people's codes seen under one camera, usually a frontal one.

    paper: "pre-computed average latent code"; a running mean of the mapping would mix cameras in pose-conditioned priors.
    """
    source = torch.Generator(label.device).manual_seed(seed)
    latents = torch.randn(samples, prior.config.latent_dim, generator=source, device=label.device)
    codes = [prior.codes(z, label.expand(len(z), -1)).sum(0, keepdim=True) for z in latents.split(1000)]
    return torch.stack(codes).sum(0) / samples


class SwinTrunk(nn.Module):
    """Swin (Liu et al. 2021) without its classifier: normalised maps of side S/4, S/8, S/16 and S/32.

    Args:
        side: of the pictures.
        width: channels of the first map; every next one has twice as many.
        depths, heads: blocks and attention heads of every stage.
        window: side of the attention windows; maps smaller than it are one window.
    """

    def __init__(
        self,
        side: int = 256,
        width: int = 96,
        depths: tuple[int, ...] = (2, 2, 6, 2),
        heads: tuple[int, ...] = (3, 6, 12, 24),
        window: int = 8,
    ) -> None:
        super().__init__()
        from timm.models.swin_transformer import SwinTransformer

        swin = SwinTransformer(
            side,
            embed_dim=width,
            depths=depths,
            num_heads=heads,
            window_size=window,
            num_classes=0,
            drop_path_rate=0.0,
        )
        self.patches, self.stages = swin.patch_embed, swin.layers
        self.widths = [width << i for i in range(len(depths))]
        self.sides = [side // 4 >> i for i in range(len(depths))]
        self.norms = nn.ModuleList(nn.LayerNorm(w) for w in self.widths)

    def forward(self, x: Float[Tensor, "b 3 s s"]) -> list[Float[Tensor, "b h w c"]]:
        x, maps = self.patches(x), []
        for stage, norm in zip(self.stages, self.norms):
            x = stage(x)
            maps.append(norm(x))
        return maps


class CrossLayer(nn.Module):
    """Tokens look at a map, then a perceptron; both beside a shortcut."""

    def __init__(self, width: int, memory: int, heads: int) -> None:
        super().__init__()
        self.before_attention, self.before_perceptron = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, kdim=memory, vdim=memory, batch_first=True)
        self.perceptron = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(
        self, tokens: Float[Tensor, "b n w"], memory: Float[Tensor, "b m k"]
    ) -> Float[Tensor, "b n w"]:
        seen, _ = self.attention(self.before_attention(tokens), memory, memory, need_weights=False)
        tokens = tokens + seen
        return tokens + self.perceptron(self.before_perceptron(tokens))


class QueryHead(nn.Module):
    """A learned token per code looks at the maps, coarse to fine."""

    def __init__(self, widths: list[int], sides: list[int], codes: int, width: int, heads: int) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.randn(1, codes, width) * 0.02)
        self.places = nn.ParameterList(torch.randn(s * s, w) * 0.02 for s, w in zip(sides, widths))
        self.layers = nn.ModuleList(CrossLayer(width, w, heads) for w in widths)
        self.norm, self.last = nn.LayerNorm(width), nn.Linear(width, width)
        silence(self.last)

    def forward(self, maps: list[Float[Tensor, "b h w c"]]) -> Float[Tensor, "b n w"]:
        tokens = self.tokens.expand(len(maps[0]), -1, -1)
        for layer, x, place in [*zip(self.layers, maps, self.places)][::-1]:
            tokens = layer(tokens, x.flatten(1, 2) + place)
        return self.last(self.norm(tokens))


class PyramidHead(nn.Module):
    """pSp's heads on a feature pyramid (Richardson et al. 2021): codes 0-2 from side S/16, 3-6 from S/8, the rest from S/4."""

    def __init__(self, widths: list[int], sides: list[int], codes: int, width: int, heads: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(w, width, 1) for w in widths)
        self.levels = [2 if i < COARSE else 1 if i < MIDDLE else 0 for i in range(codes)]
        self.heads = nn.ModuleList(MapToCode(width, sides[level], width) for level in self.levels)
        silence(*(head.linear for head in self.heads))

    def forward(self, maps: list[Float[Tensor, "b h w c"]]) -> Float[Tensor, "b n w"]:
        pyramid = [lateral(x.movedim(-1, 1)) for lateral, x in zip(self.laterals, maps)]
        for i in range(len(pyramid) - 2, -1, -1):
            pyramid[i] = pyramid[i] + enlarge(pyramid[i + 1], pyramid[i])
        return torch.stack([head(pyramid[level]) for head, level in zip(self.heads, self.levels)], 1)


class BaseAndDeltaHead(nn.Module):
    """Like GOAE's head (Yuan et al. 2023): one base code from the last map, and a delta for every code but the first.

    Tokens of the last map look at side S/16 for codes 1-3, at S/8 for 4-6, at S/4 for the rest, then are mixed to as many codes.
    GOAE unlocks the groups one after the other; here all start at zero instead.
    """

    def __init__(self, widths: list[int], sides: list[int], codes: int, width: int, heads: int) -> None:
        super().__init__()
        tokens = sides[-1] ** 2
        counts = (3, FINE - 4, codes - FINE)
        self.reduce = nn.Linear(widths[-1], width)
        self.pool = nn.Linear(tokens, 1)
        self.base = nn.Linear(width, width)
        self.layers = nn.ModuleList(CrossLayer(width, w, heads) for w in widths[-2::-1])
        self.mixers = nn.ModuleList(nn.Linear(tokens, count) for count in counts)
        self.deltas = nn.ModuleList(nn.Linear(width, width) for _ in counts)
        silence(self.base, *self.deltas)

    def forward(self, maps: list[Float[Tensor, "b h w c"]]) -> Float[Tensor, "b n w"]:
        tokens = self.reduce(maps[-1].flatten(1, 2))
        base = self.base(self.pool(tokens.mT).mT + tokens.amax(1, keepdim=True))
        groups = [
            delta(mix(layer(tokens, x.flatten(1, 2)).mT).mT)
            for layer, mix, delta, x in zip(self.layers, self.mixers, self.deltas, maps[-2::-1])
        ]
        return base + torch.cat([torch.zeros_like(base), *groups], 1)


HEADS: dict[str, type[nn.Module]] = {"query": QueryHead, "fpn": PyramidHead, "goae": BaseAndDeltaHead}


class CodeEncoder(nn.Module):
    """``encoder(image)`` is E(I_s) plus the fixed average latent: codes for :meth:`TriPlaneGenerator.planes`.

    It starts as exactly the average. The paper states the family of the trunk only; sizes here are Swin-T's.

    Args:
        codes, code_width: of the generator: ``code_count`` and ``config.code_dim``.
        head: how maps become codes: :class:`QueryHead`, :class:`PyramidHead` or :class:`BaseAndDeltaHead`.
        side: to which pictures are pooled, a power of two from 64.
        width, depths, heads, window: of the trunk's four stages, see :class:`SwinTrunk`.
        head_attention: attention heads of the ``query`` and ``goae`` heads.

    Attributes:
        average: the average latent; zero until it is filled (``encoder.average.copy_(average_codes(prior, label))``).

    Raises:
        ValueError: an unknown head, or too few codes for ``goae``'s three groups.
    """

    average: Tensor

    def __init__(
        self,
        codes: int = 14,
        code_width: int = 512,
        head: HeadName = "query",
        side: int = 256,
        width: int = 96,
        depths: tuple[int, ...] = (2, 2, 6, 2),
        heads: tuple[int, ...] = (3, 6, 12, 24),
        window: int = 8,
        head_attention: int = 8,
    ) -> None:
        super().__init__()
        if head not in HEADS:
            raise ValueError(f"there is no head {head!r}; the heads are {', '.join(HEADS)}")
        if head == "goae" and codes <= FINE:
            raise ValueError(f"the goae head needs more than {FINE} codes, not {codes}; use the query head")
        self.side = side
        self.trunk = SwinTrunk(side, width, depths, heads, window)
        self.head = HEADS[head](self.trunk.widths, self.trunk.sides, codes, code_width, head_attention)
        self.register_buffer("average", torch.zeros(1, codes, code_width))

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n w"]:
        """``image``: RGB in [0, 1], of any size."""
        maps = self.trunk(F.adaptive_avg_pool2d(image, self.side) * 2 - 1)
        return self.average + self.head(maps)
