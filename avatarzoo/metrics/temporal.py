"""Temporal consistency: the warped error, with the optical flow of the reference video.

The usual definition (Lai et al. 2018, "Learning blind video temporal consistency", section 4.2), with absolute instead of squared
differences: frame t, moved as the reference moves, against frame t + 1, where the motion can be seen both ways.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avatarzoo.metrics.base import AvatarMetric, Images, Masks

Picture = Float[Tensor, "3 h w"]


def optical_flow(first: Picture, second: Picture) -> Float[np.ndarray, "h w 2"]:
    """Where each pixel of ``first`` lies in ``second``, as pixel offsets (x, y); dense inverse search, medium preset."""
    grey = [cv2.cvtColor(_bytes(x), cv2.COLOR_RGB2GRAY) for x in (first, second)]
    return cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(*grey, None)


def warp(picture: Picture, flow: Float[np.ndarray, "h w 2"]) -> Float[np.ndarray, "h w 3"]:
    """``out(x) = picture(x + flow(x))``, bilinear, float32."""
    return _sample(picture.permute(1, 2, 0).float().contiguous().cpu().numpy(), flow)


def seen_both_ways(
    forward: Float[np.ndarray, "h w 2"], backward: Float[np.ndarray, "h w 2"]
) -> Bool[np.ndarray, "h w"]:
    """Pixels of the second frame that the first shows too: there and back again they return to where they were.

    ``|b + f(x + b)|^2 <= 0.01 (|b|^2 + |f|^2) + 0.5`` (Sundaram et al. 2010), and the place lies inside the first frame.
    """
    returned = _sample(forward, backward)
    miss = np.square(backward + returned).sum(2)
    limit = 0.01 * (np.square(backward).sum(2) + np.square(returned).sum(2)) + 0.5
    height, width = miss.shape
    x, y = np.moveaxis(_grid(backward) + backward, 2, 0)
    return (miss <= limit) & (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)


def warped_error(
    before: Picture, after: Picture, backward: Float[np.ndarray, "h w 2"], seen: Bool[np.ndarray, "h w"]
) -> float:
    """Mean absolute difference over the ``seen`` pixels between ``after`` and ``before`` moved by the flow; NaN without any.

    Args:
        before, after: successive frames in [0, 1]. backward: from ``after`` to ``before``.
    """
    if not seen.any():
        return float("nan")
    target = after.permute(1, 2, 0).float().cpu().numpy()
    return float(np.abs(warp(before, backward) - target)[seen].mean(dtype=np.float64))


class WarpedError(AvatarMetric):
    """Warped error of each pair of successive frames (a clip of T frames gives T - 1 values), lower is steadier.

    The motion and the visible pixels come from the reference, so a still picture of a moving head is charged for not moving. But
    sharpness costs too: flow is never exact, so blur, or a face of one colour, scores below real footage. Hence the reference's own
    error is kept for the same pairs: a :attr:`ratio` near 1 is as steady as the camera's video, well above 1 flickers or does not
    follow, well below 1 is blurred or flat and no success. Report the ratio beside the value.
    """

    higher_is_better = False
    reference_values: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("reference_values", default=[], dist_reduce_fx="cat")
        self.last: tuple[Tensor, Tensor] | None = None

    @torch.no_grad()
    def score(self, prediction: Images, reference: Images, mask: Masks | None) -> None:
        """Adds a value for every picture that has a predecessor; ``mask`` is where to look in the later frame."""
        for k, frame in enumerate(zip(prediction, reference)):
            if self.last is not None and self.last[0].shape != frame[0].shape:
                raise ValueError(
                    "The size of the pictures changed within a clip; call end_clip() between clips."
                )
            if self.last is not None:
                self._add_pair(self.last, frame, None if mask is None else mask[k])
            self.last = (frame[0].detach().clone(), frame[1].detach().clone())

    def _add_pair(
        self, before: tuple[Tensor, Tensor], after: tuple[Tensor, Tensor], mask: Tensor | None
    ) -> None:
        values = (float("nan"), float("nan"))
        if all(bool(torch.isfinite(x).all()) for x in (*before, *after)):
            backward = optical_flow(after[1], before[1])
            seen = seen_both_ways(optical_flow(before[1], after[1]), backward)
            if mask is not None:
                seen &= mask[0].cpu().numpy() > 0.5
            values = tuple(warped_error(a, b, backward, seen) for a, b in zip(before, after))  # type: ignore[assignment]
        self.add(torch.tensor([values[0]], device=self.device))
        self.reference_values.append(torch.tensor([values[1]], device=self.device))

    def end_clip(self) -> None:
        self.last = None

    def reset(self) -> None:
        super().reset()
        self.last = None

    @property
    def reference_value(self) -> Tensor:
        """The reference's own warped error over the pairs that could be scored; NaN without any."""
        values = torch.cat(list(self.reference_values)) if len(self.reference_values) else torch.zeros(0)
        return values[torch.isfinite(values)].mean()

    @property
    def ratio(self) -> Tensor:
        """Prediction over reference; NaN where the reference's error is 0 (a still video says nothing)."""
        reference = self.reference_value
        return torch.where(reference > 0, self.compute() / reference, torch.nan)


def _sample(values: np.ndarray, flow: np.ndarray) -> np.ndarray:
    places = _grid(flow) + flow
    return cv2.remap(
        values, places[..., 0], places[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def _grid(flow: np.ndarray) -> np.ndarray:
    height, width = flow.shape[:2]
    return np.stack(np.meshgrid(np.arange(width), np.arange(height)), 2).astype(np.float32)


def _bytes(picture: Picture) -> np.ndarray:
    return (picture * 255 + 0.5).clamp(0, 255).byte().permute(1, 2, 0).contiguous().cpu().numpy()
