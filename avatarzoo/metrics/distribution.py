"""Distances between sets of pictures: Frechet distance of Gaussians fitted to features, and FID on Inception's features."""

from __future__ import annotations

import warnings

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avatarzoo.metrics.base import AvatarMetric, Images, Masks, check_mask, check_picture
from avatarzoo.metrics.regions import composite
from avatarzoo.perception.inception import FEATURES, InceptionFeatures, load_inception


def frechet_distance(
    mean_a: Float[Tensor, "d"],
    covariance_a: Float[Tensor, "d d"],
    mean_b: Float[Tensor, "d"],
    covariance_b: Float[Tensor, "d d"],
) -> Float[Tensor, ""]:
    """Squared 2-Wasserstein distance of two Gaussians, ``|m_a - m_b|^2 + tr(A + B - 2 (A B)^(1/2))``, in float64.

    The trace of the root is the sum of the roots of the eigenvalues of ``A^(1/2) B A^(1/2)``, which is symmetric, so that
    covariances without full rank need no regularisation (Heusel et al. 2017, equation 6).
    """
    mean_a, covariance_a, mean_b, covariance_b = (
        x.double() for x in (mean_a, covariance_a, mean_b, covariance_b)
    )
    values, vectors = torch.linalg.eigh(covariance_a)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    product = torch.linalg.eigvalsh(root @ covariance_b @ root).clamp_min(0)
    spread = covariance_a.trace() + covariance_b.trace() - 2 * product.sqrt().sum()
    return ((mean_a - mean_b).square().sum() + spread).clamp_min(0)


class FrechetDistance(AvatarMetric):
    """Frechet distance between the features of all predictions and of all references.

    One value for the whole set: :meth:`per_image` stays empty. Pictures that are not finite (or whose mask is empty) are left out
    and counted in :attr:`failures`. Sums and second moments are gathered in float64, so that sets of any size fit in memory.

    Args:
        extractor: pictures ``(B, 3, H, W)`` in [0, 1] to features ``(B, D)``.
        features: D.
        label: the honest name of the distance, e.g. ``Frechet distance of face embeddings``.
        background: grey level outside a mask.
    """

    higher_is_better = False
    prediction_count: Tensor
    reference_count: Tensor
    unusable: Tensor

    def __init__(self, extractor: nn.Module, features: int, label: str, background: float = 1.0) -> None:
        super().__init__()
        self.extractor, self.features, self.label, self.background = extractor, features, label, background
        for side in ("prediction", "reference"):
            self.add_state(f"{side}_count", torch.tensor(0), dist_reduce_fx="sum")
            self.add_state(f"{side}_sum", torch.zeros(features, dtype=torch.float64), dist_reduce_fx="sum")
            square = torch.zeros(features, features, dtype=torch.float64)
            self.add_state(f"{side}_products", square, dist_reduce_fx="sum")
        self.add_state("unusable", torch.tensor(0), dist_reduce_fx="sum")

    def update(  # type: ignore[override]
        self, prediction: Images | None, reference: Images | None, mask: Masks | None = None
    ) -> None:
        """Add B pictures to each set, or to one set where the other is ``None`` (sets may differ in size).

        Raises:
            ValueError: see :func:`~avatarzoo.metrics.base.check_pictures`; the extractor's features have another shape.
        """
        if prediction is not None and reference is not None:
            super().update(prediction, reference, mask)
        elif prediction is not None:
            self._gather("prediction", prediction, mask)
        elif reference is not None:
            self._gather("reference", reference, mask)

    def add_prediction(self, pictures: Images, mask: Masks | None = None) -> None:
        """Add B pictures to the predictions only."""
        self.update(pictures, None, mask)

    def add_reference(self, pictures: Images, mask: Masks | None = None) -> None:
        """Add B pictures to the references only."""
        self.update(None, pictures, mask)

    def score(self, prediction: Images, reference: Images, mask: Masks | None) -> None:
        self._gather("prediction", prediction, mask)
        self._gather("reference", reference, mask)

    @torch.no_grad()
    def _gather(self, side: str, pictures: Images, mask: Masks | None) -> None:
        """Add the features of these pictures to the sums of one side."""
        usable = check_picture(side, pictures)
        pictures = pictures.float()
        if mask is not None:
            usable = usable & check_mask(mask, pictures)
            pictures = composite(pictures, mask.float(), self.background)
        self.unusable += (~usable).sum()
        if not usable.any():
            return
        features = self.extractor(pictures[usable])
        if features.shape != (int(usable.sum()), self.features):
            raise ValueError(
                f"The extractor gives {tuple(features.shape)} for {int(usable.sum())} pictures; state its width as features."
            )
        finite = torch.isfinite(features).all(1)
        self.unusable += (~finite).sum()
        features = features[finite].double()
        for name, value in (
            ("count", len(features)),
            ("sum", features.sum(0)),
            ("products", features.T @ features),
        ):
            setattr(self, f"{side}_{name}", getattr(self, f"{side}_{name}") + value)

    def _gaussian(self, side: str) -> tuple[Tensor, Tensor]:
        """Mean and covariance of one side."""
        count = getattr(self, f"{side}_count")
        mean = getattr(self, f"{side}_sum") / count
        return mean, (getattr(self, f"{side}_products") - count * torch.outer(mean, mean)) / (count - 1)

    @property
    def failures(self) -> int:
        return int(self.unusable)

    @property
    def note(self) -> str | None:
        """What a reader of the value has to know: fewer pictures than features; ``None`` where nothing."""
        smaller = min(int(self.prediction_count), int(self.reference_count))
        if smaller > self.features:
            return None
        return (
            f"{self.label} from {smaller} pictures and {self.features} features: the covariance has no full rank and the "
            "value is biased upwards; compare only with the same number of pictures."
        )

    def compute(self) -> Tensor:
        """The distance, a float64 scalar; warns where :attr:`note` says something.

        Raises:
            ValueError: fewer than two usable pictures on one side.
        """
        counts = int(self.prediction_count), int(self.reference_count)
        if min(counts) < 2:
            raise ValueError(
                f"{self.label} needs at least 2 usable pictures on each side; there are {counts[0]} predictions and "
                f"{counts[1]} references ({self.failures} could not be used)."
            )
        if self.note:
            warnings.warn(self.note, stacklevel=2)
        return frechet_distance(*self._gaussian("prediction"), *self._gaussian("reference"))


class FID(FrechetDistance):
    """Frechet Inception distance (Heusel et al. 2017): :class:`FrechetDistance` on the published network's features only.

    Another network's distance is no FID: use :class:`FrechetDistance` with a name of its own.

    Args:
        extractor: a loaded network to share, which then says how pictures are prepared; ``None`` loads the published weights.
        antialias: antialiased resize (:class:`~avatarzoo.perception.inception.InceptionFeatures`). The published one has none.
        quantise: round pictures to 8 bits, as the published program reads them.

    Raises:
        MissingAssetError: the weights are not on this machine.
        ValueError: ``extractor`` is another network.
    """

    def __init__(
        self,
        extractor: InceptionFeatures | None = None,
        antialias: bool = False,
        quantise: bool = True,
        background: float = 1.0,
    ) -> None:
        network = load_inception(antialias, quantise) if extractor is None else extractor
        if not isinstance(network, InceptionFeatures):
            raise ValueError(
                "FID is defined on Inception's features; use FrechetDistance, with its own label, for another network."
            )
        variants = [
            name
            for name, on in (("antialiased", network.antialias), ("not quantised", not network.quantise))
            if on
        ]
        label = f"FID ({', '.join(variants)})" if variants else "FID"
        super().__init__(network, FEATURES, label, background)
