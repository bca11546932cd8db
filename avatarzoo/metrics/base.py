"""What every metric of the suite is: a torchmetrics Metric with one value per picture or clip that counts what it could not score.

Convention: pictures are RGB ``(B, 3, H, W)`` in [0, 1]; masks ``(B, 1, H, W)`` in [0, 1]. A value that cannot be computed (a
picture that is not finite, an empty mask, a face that is not found) is NaN: it is counted as a failure and left out of the mean,
so that it can never read as a perfect score.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric

Images = Float[Tensor, "b 3 h w"]
Masks = Float[Tensor, "b 1 h w"]
PerImage = Float[Tensor, "b"]
RANGE_SLACK = 1e-3


class AvatarMetric(Metric):
    """Mean of one value per picture, with failures counted.

    Subclasses write :meth:`score`. Those that need a whole clip (jitter, coefficients fitted to a sequence) gather in
    :meth:`score`, return nothing, and add their values in :meth:`end_clip`.

    Attributes:
        label: name of the metric in tables, with its variant.
        failures: values that could not be computed.
    """

    label: str = ""
    full_state_update = False
    values: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("values", default=[], dist_reduce_fx="cat")

    @abstractmethod
    def score(self, prediction: Images, reference: Images, mask: Masks | None) -> PerImage | None:
        """Values of B pictures, NaN where there is none; ``None`` where values come at the end of the clip."""

    def update(self, prediction: Images, reference: Images, mask: Masks | None = None) -> None:
        """Add B pictures, in the order of the clip.

        Args:
            prediction: what a method made. reference: what it is compared with. mask: where to look (a region); everywhere by default.

        Raises:
            ValueError: see :func:`check_pictures`.
        """
        usable = check_pictures(prediction, reference, mask)
        mask = None if mask is None else mask.float()
        values = self.score(prediction.float(), reference.float(), mask)
        if values is not None:
            self.add(values, broken=~usable)

    def add(self, values: Tensor, broken: Tensor | None = None) -> None:
        """Add values ``(N,)``; those marked ``broken`` become failures."""
        values = values.detach().float()
        if broken is not None:
            values = torch.where(broken, torch.full_like(values, torch.nan), values)
        self.values.append(values)

    def end_clip(self) -> None:
        """The clip is complete; the next picture begins another."""

    def per_image(self) -> PerImage:
        """All values so far, NaN where one failed."""
        return torch.cat(list(self.values)) if len(self.values) else torch.zeros(0)

    @property
    def failures(self) -> int:
        return int((~torch.isfinite(self.per_image())).sum())

    def compute(self) -> Tensor:
        values = self.per_image()
        good = values[torch.isfinite(values)]
        return good.mean() if len(good) else torch.tensor(torch.nan)


def check_pictures(prediction: Tensor, reference: Tensor, mask: Tensor | None = None) -> Tensor:
    """Refuse what would give a silent wrong number.

    Returns:
        ``(B,)`` booleans: where there is something to score. False where a picture is not finite or a mask is empty.

    Raises:
        ValueError: shapes differ, pictures are not floating point RGB, or a finite picture or a mask lies outside [0, 1].
    """
    if prediction.shape != reference.shape:
        raise ValueError(
            f"Prediction {tuple(prediction.shape)} and reference {tuple(reference.shape)} differ in shape; "
            "resize one before scoring."
        )
    usable = check_picture("prediction", prediction) & check_picture("reference", reference)
    return usable if mask is None else usable & check_mask(mask, reference)


def check_picture(name: str, picture: Tensor) -> Tensor:
    """Refuse what is no batch of RGB pictures in [0, 1]; ``(B,)`` booleans, which of them are finite.

    Raises:
        ValueError: not ``(B, 3, H, W)``, not floating point, or a finite picture lies outside [0, 1].
    """
    if picture.ndim != 4 or picture.shape[1] != 3 or not picture.numel():
        raise ValueError(f"The {name} must be (B, 3, H, W) with B of at least 1, not {tuple(picture.shape)}.")
    if not picture.is_floating_point():
        raise ValueError(f"The {name} must be floating point, not {picture.dtype}; divide it by 255 first.")
    low, high = _extremes(picture)
    finite = torch.isfinite(low) & torch.isfinite(high)
    if (finite & ((low < -RANGE_SLACK) | (high > 1 + RANGE_SLACK))).any():
        raise ValueError(f"The {name} must be in [0, 1]; divide by 255 (or map from [-1, 1]) first.")
    return finite


def check_mask(mask: Tensor, reference: Tensor) -> Tensor:
    """Refuse what is no mask of these pictures; ``(B,)`` booleans, which masks are not empty.

    Raises:
        ValueError: not ``(B, 1, H, W)`` of the same size, or outside [0, 1].
    """
    if mask.shape != (len(reference), 1, *reference.shape[-2:]):
        raise ValueError(
            f"A mask of {len(reference)} pictures of {tuple(reference.shape[-2:])} must be (B, 1, H, W), not {tuple(mask.shape)}."
        )
    low, high = _extremes(mask)
    if not ((low >= -RANGE_SLACK) & (high <= 1 + RANGE_SLACK)).all():
        raise ValueError("The mask must be in [0, 1]; divide it by 255 first.")
    return high > 0


def _extremes(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Lowest and highest value of each picture; NaN where one pixel is (one pass, no copy)."""
    low, high = zip(*(torch.aminmax(picture) for picture in pictures))
    return torch.stack(low), torch.stack(high)
