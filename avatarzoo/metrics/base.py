"""What every metric of the suite is: a torchmetrics Metric with one value per picture or clip that counts what it could not score.

Convention: pictures are RGB ``(B, 3, H, W)`` in [0, 1]; masks ``(B, 1, H, W)`` in [0, 1]. A value that cannot be computed (a
picture that is not finite, a face that is not found) is NaN: it is counted as a failure and left out of the mean, so that it can
never read as a perfect score.
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
        failures: values that could not be computed.
    """

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
            ValueError: shapes differ, or a picture is not in [0, 1].
        """
        check_pictures(prediction, reference, mask)
        values = self.score(prediction, reference, mask)
        if values is not None:
            self.add(values, broken=~torch.isfinite(prediction.flatten(1)).all(1))

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


def check_pictures(prediction: Tensor, reference: Tensor, mask: Tensor | None = None) -> None:
    """Refuse what would give a silent wrong number.

    Raises:
        ValueError: shapes differ, or finite pixels lie outside [0, 1].
    """
    if prediction.shape != reference.shape:
        raise ValueError(
            f"Prediction {tuple(prediction.shape)} and reference {tuple(reference.shape)} differ in shape; "
            "resize one before scoring."
        )
    for name, picture in (("reference", reference), ("prediction", prediction)):
        finite = picture[torch.isfinite(picture)]
        if finite.numel() and (finite.min() < -RANGE_SLACK or finite.max() > 1 + RANGE_SLACK):
            raise ValueError(f"The {name} must be in [0, 1]; divide by 255 (or map from [-1, 1]) first.")
    if mask is not None and mask.shape != (len(reference), 1, *reference.shape[-2:]):
        raise ValueError(
            f"A mask of {len(reference)} pictures of {tuple(reference.shape[-2:])} must be (B, 1, H, W), not {tuple(mask.shape)}."
        )
