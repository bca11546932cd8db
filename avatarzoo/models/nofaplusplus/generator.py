"""NOFA++'s networks put together (figure 2): picture to coarse volume, to fine volume, to views under any expression."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avatarzoo.models.nofaplusplus.deformation import DeformationField, Prepared
from avatarzoo.models.nofaplusplus.detail import DetailNetwork, begin, feature, finish
from avatarzoo.models.nofaplusplus.encoder import CodeEncoder
from avatarzoo.networks.ops import resize
from avatarzoo.networks.stylegan2 import Stage
from avatarzoo.priors.eg3d import TriPlaneGenerator, TriPlaneImage, Warp

Residual = Literal["canonical", "source_expression"]
"""What the source is compared with: the coarse canonical volume (paper), or that volume deformed to the source's expression."""
Part = Literal["encoder", "detail", "field", "prior"]
PARTS: tuple[Part, ...] = ("encoder", "detail", "field", "prior")


class Volume(NamedTuple):
    """A person in the canonical space: planes, and the codes whose last one the super-resolution sees."""

    planes: Float[Tensor, "b 3 c h w"]
    codes: Float[Tensor, "b n w"]

    def repeated(self, count: int) -> Volume:
        """``count`` rows in place of each."""
        return Volume(*(x.repeat_interleave(count, 0) for x in self))


class Halfway(NamedTuple):
    """The generator stopped at the fusion site: codes of the picture, and what the backbone has there."""

    codes: Float[Tensor, "b n w"]
    stage: Stage


class HeadGenerator(nn.Module):
    """E, G, C with gamma and eta, D and W::

        halfway = networks.encode(images)                               # w_s = E(I_s) + w_mean, lower half of G
        coarse = networks.volume(halfway)                               # V_c, equation 1
        fused = networks.fuse(halfway, images, labels)                  # F_e, equations 2 and 3
        fine = networks.volume(halfway, fused)                          # V_e
        view = networks.render(fine, labels, networks.field.prepare(identity, expression))

    Fresh networks draw the average person: details and deformation are exactly nothing.

    Args:
        prior: G with decoder and super-resolution.
        encoder, detail, field: see their classes; without ``detail`` the fine volume is the coarse one.
        site: where details are fused, see :mod:`avatarzoo.models.nofaplusplus.detail`.
        residual: what the source is compared with.
        residual_side: side of the volume-rendered picture behind that comparison; None: the prior's own.
    """

    def __init__(
        self,
        prior: TriPlaneGenerator,
        encoder: CodeEncoder,
        detail: DetailNetwork | None,
        field: DeformationField,
        site: str,
        residual: Residual = "canonical",
        residual_side: int | None = None,
    ) -> None:
        super().__init__()
        self.prior, self.encoder, self.detail, self.field = prior, encoder, detail, field
        self.site, self.residual, self.residual_side = site, residual, residual_side

    @property
    def size(self) -> int:
        """Side of the pictures."""
        return self.prior.config.resolution

    def modules_of(self, part: Part) -> list[nn.Module]:
        """The modules that training calls by one name; the prior without its mapping, which no picture passes."""
        if part == "prior":
            return [self.prior.backbone, self.prior.decoder, self.prior.superresolution]
        module = getattr(self, part)
        return [] if module is None else [module]

    def train_only(self, parts: tuple[Part, ...]) -> None:
        """Let gradients reach these parts and no others."""
        self.requires_grad_(False)
        for part in parts:
            for module in self.modules_of(part):
                module.requires_grad_(True)

    def encode(self, images: Float[Tensor, "b 3 h w"]) -> Halfway:
        """Codes of pictures in [0, 1], and the generator up to the fusion site."""
        codes = self.encoder(images)
        return Halfway(codes, begin(self.prior.backbone, codes, self.site))

    def volume(self, halfway: Halfway, fused: Float[Tensor, "b c h w"] | None = None) -> Volume:
        """The upper half of the generator on its own feature (V_c), or on a fused one (V_e)."""
        codes, stage = halfway
        fused = feature(stage, self.site) if fused is None else fused
        planes = finish(self.prior.backbone, codes, self.site, stage, fused)
        return Volume(self.prior.split(planes), codes)

    def fuse(
        self,
        halfway: Halfway,
        images: Float[Tensor, "b 3 h w"],
        labels: Float[Tensor, "b 25"],
        prepared: Prepared | None = None,
    ) -> Float[Tensor, "b c h w"]:
        """F_e of the source pictures, seen by ``labels``.

        Args:
            prepared: the source's own identity and expression; used with ``residual="source_expression"`` only.

        No gradient flows through the residual (as in HFGI; the paper does not say).
        """
        coarse = feature(halfway.stage, self.site)
        if self.detail is None:
            return coarse
        worn = prepared if self.residual == "source_expression" else None
        with torch.no_grad():
            drawn = self.render(self.volume(halfway), labels, worn, self.residual_side).rgb
            missed = resize(images, self.size) - drawn
        return self.detail(missed).apply(coarse)

    def fine(
        self,
        images: Float[Tensor, "b 3 h w"],
        labels: Float[Tensor, "b 25"],
        prepared: Prepared | None = None,
    ) -> Volume:
        """V_e of pictures in one call."""
        halfway = self.encode(images)
        return self.volume(halfway, self.fuse(halfway, images, labels, prepared))

    def render(
        self,
        volume: Volume,
        labels: Float[Tensor, "b 25"],
        prepared: Prepared | None = None,
        resolution: int | None = None,
        samples: tuple[int, int] | None = None,
        jitter: torch.Generator | None = None,
    ) -> TriPlaneImage:
        """Views as RGB in [0, 1], not clamped.

        Args:
            prepared: the condition of the deformation field; None: the canonical volume.
            resolution, samples, jitter: of the volume renderer, see :meth:`TriPlaneGenerator.render`.
        """
        warp: Warp | None = None
        if prepared is not None:
            warp = lambda points, rows: self.field(points, prepared.rows(rows))  # noqa: E731
        return render_volume(self.prior, volume, labels, warp, resolution, samples, jitter)


def render_volume(
    prior: TriPlaneGenerator,
    volume: Volume,
    labels: Float[Tensor, "b 25"],
    warp: Warp | None = None,
    resolution: int | None = None,
    samples: tuple[int, int] | None = None,
    jitter: torch.Generator | None = None,
) -> TriPlaneImage:
    """Volume renderer and super-resolution; pictures in [0, 1], not clamped. Arguments of :meth:`TriPlaneGenerator.render`."""
    view = prior.render(volume.planes, labels, resolution, jitter, warp=warp, samples=samples)
    raw = view.features[:, :3]
    rgb = prior.superresolution(raw, view.features, volume.codes[:, -1])
    return TriPlaneImage((rgb + 1) / 2, (raw + 1) / 2, view.depth, view.opacity)
