"""Facial landmarks of a prediction and of its reference: average keypoint distance (AKD) and temporal jitter.

Papers that report AKD rarely say which points, norm and scale they mean. Here each is named (:attr:`AKD.label`):

* points: ``478`` all of MediaPipe's; ``468`` without the irises; ``lips_eyes`` the 72 of lips and lids.
* norm: ``pixels`` of the pictures given; ``px256`` pixels after scaling the longest side to 256; ``image`` x over width and y over
  height (MediaPipe's own coordinates); ``iod`` in distances between the outer eye corners of the reference.
* reduce: ``mean_l2`` the mean over points of the distance; ``sum_sq`` the sum over points of the squared distance.

Our default is the mean distance of all 478 points in ``px256``: independent of the resolution, the unit in which AKD has been
reported since keypoint animation at 256 pixels, and it sees the gaze. :meth:`AKD.invertavatar` is what InvertAvatar's numbers most
likely are (inferred from their size: 0.018 would be 3.1 px of 512; the paper states no convention).
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from avatarzoo.metrics.base import AvatarMetric, Images, Masks, PerImage
from avatarzoo.perception.faces import FaceReader, found_faces, shared_reader
from avatarzoo.perception.landmarks import LEFT_EYE, LIPS, N_LANDMARKS, RIGHT_EYE

Points = Literal["478", "468", "lips_eyes"]
Norm = Literal["px256", "pixels", "image", "iod"]
Reduce = Literal["mean_l2", "sum_sq"]

INNER_LIPS = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 95, 88, 178, 87, 14, 317, 402, 318, 324)
POINTS: dict[str, tuple[int, ...]] = {
    "478": tuple(range(N_LANDMARKS)),
    "468": tuple(range(468)),
    "lips_eyes": LIPS + INNER_LIPS + RIGHT_EYE + LEFT_EYE,
}
OUTER_CORNERS = (33, 263)
RIGID = (6, 168, 197, 195, 5, 4, 10, 151, 9, 8)
"""Forehead and bridge of the nose: what moves with the skull alone."""
UNIT = 256
STILLEST, STILL_FRAMES = 0.3, 9


def akd(
    prediction: Float[Tensor, "b 478 c"],
    reference: Float[Tensor, "b 478 c"],
    size: tuple[int, int],
    points: Points = "478",
    norm: Norm = "px256",
    reduce: Reduce = "mean_l2",
) -> PerImage:
    """Average keypoint distance of each picture in the picture plane (depth is ignored); NaN where a point is NaN.

    Args:
        prediction, reference: landmarks in pixels. size: height and width of the pictures.
        points, norm, reduce: see the module's text.

    Raises:
        ValueError: a convention that has no such name.
    """
    check_convention(points, norm, reduce)
    height, width = size
    chosen = list(POINTS[points])
    offset = prediction[:, chosen, :2] - reference[:, chosen, :2]
    if norm == "image":
        offset = offset / offset.new_tensor([width, height])
    elif norm == "px256":
        offset = offset * (UNIT / max(size))
    elif norm == "iod":
        right, left = (reference[:, i, :2] for i in OUTER_CORNERS)
        offset = offset / (right - left).norm(dim=1)[:, None, None]
    return offset.norm(dim=2).mean(1) if reduce == "mean_l2" else offset.square().sum((1, 2))


def check_convention(points: str, norm: str, reduce: str) -> None:
    for given, names in ((points, get_args(Points)), (norm, get_args(Norm)), (reduce, get_args(Reduce))):
        if given not in names:
            raise ValueError(f"AKD knows no convention {given!r}; choose one of {', '.join(names)}.")


def jitter(points: Float[Tensor, "t n 2"]) -> Float[Tensor, " t-2"]:
    """Shaking of each inner frame: the mean length of the points' second difference, over sqrt(3 pi).

    For white noise its mean is the noise's standard deviation per coordinate (a second difference has sqrt(6) times that, and the
    length of a normal vector sqrt(pi / 2) times its own). Motion at constant speed counts as nothing.
    """
    return points.diff(n=2, dim=0).norm(dim=2).mean(1) / math.sqrt(3 * math.pi)


def still_frames(points: Float[Tensor, "t n 2"]) -> Tensor:
    """``(t - 2,)`` bool: the 30 % of a clip's inner frames whose points, on average, move least over nine frames."""
    speed = points.mean(1).diff(dim=0).norm(dim=1)
    half = STILL_FRAMES // 2
    padded = torch.cat([speed[:1].expand(half), speed, speed[-1:].expand(half)])
    smooth = padded.unfold(0, STILL_FRAMES, 1).mean(1)
    inner = (smooth[:-1] + smooth[1:]) / 2
    return inner <= inner.nanquantile(STILLEST)


class AKD(AvatarMetric):
    """Average keypoint distance between the faces of prediction and reference (the driving frame).

    A face missing in either is a failure. Masks are ignored. Detector noise is in the number: see ``benchmarks/metric_reality.py``.

    Args:
        points, norm, reduce: the convention, see the module's text.
        reader: finds the faces; shared by all metrics by default.

    Attributes:
        label: what a table calls the numbers, such as ``AKD (478, px256, mean_l2)``.

    Raises:
        ValueError: a convention that has no such name.
    """

    higher_is_better = False

    def __init__(
        self,
        points: Points = "478",
        norm: Norm = "px256",
        reduce: Reduce = "mean_l2",
        reader: FaceReader | None = None,
    ) -> None:
        super().__init__()
        check_convention(points, norm, reduce)
        self.convention: tuple[Points, Norm, Reduce] = (points, norm, reduce)
        self.reader = reader or shared_reader()
        self.label = f"AKD ({points}, {norm}, {reduce})"

    @classmethod
    def invertavatar(cls, reader: FaceReader | None = None) -> AKD:
        """The convention that fits InvertAvatar's printed numbers: sum of squares, all points, picture coordinates."""
        return cls("478", "image", "sum_sq", reader)

    def score(self, prediction: Images, reference: Images, mask: Masks | None) -> PerImage:
        height, width = prediction.shape[-2:]
        return akd(self.reader(prediction), self.reader(reference), (height, width), *self.convention)


class Jitter(AvatarMetric):
    """How much more the prediction's head shakes than the reference's, in pixels after scaling the longest side to 256.

    One value per still frame of a clip (the reference says which are still): :func:`jitter` of the rigid points of the
    prediction minus that of the reference. 0 is as steady as the video itself, detector noise included; below 0 is smoother.
    A frame whose face, or whose neighbour's face, is missing in either is a failure, and so is a clip of fewer than three frames.

    Call :meth:`end_clip` after every clip; reading a result ends the clip too.

    Args:
        reader: finds the faces; shared by all metrics by default.
    """

    higher_is_better = False
    label = "jitter"
    ours: list[Tensor]
    theirs: list[Tensor]
    levels: list[Tensor]

    def __init__(self, reader: FaceReader | None = None) -> None:
        super().__init__()
        self.reader = reader or shared_reader()
        for name in ("ours", "theirs", "levels"):
            self.add_state(name, default=[], dist_reduce_fx=None)

    def score(self, prediction: Images, reference: Images, mask: Masks | None) -> None:
        scale = UNIT / max(prediction.shape[-2:])
        for kept, pictures in ((self.ours, prediction), (self.theirs, reference)):
            landmarks = self.reader(pictures)
            rigid = landmarks[:, list(RIGID), :2] * scale
            rigid[~found_faces(landmarks)] = torch.nan
            kept.append(rigid)

    def end_clip(self) -> None:
        if not self.ours:
            return
        ours, theirs = torch.cat(self.ours), torch.cat(self.theirs)
        self.ours.clear()
        self.theirs.clear()
        if len(ours) < 3:
            self.add(ours.new_full((1,), torch.nan))
            return
        pair = torch.stack([jitter(ours), jitter(theirs)], 1)
        judged = still_frames(theirs) | ~torch.isfinite(pair).all(1)
        self.levels.append(pair[judged])
        self.add(pair[judged, 0] - pair[judged, 1])

    def per_image(self) -> PerImage:
        self.end_clip()
        return super().per_image()

    def both(self) -> tuple[float, float]:
        """Mean jitter of prediction and of reference, beside each other."""
        self.end_clip()
        pairs = torch.cat(list(self.levels)) if self.levels else torch.full((1, 2), torch.nan)
        ours, theirs = pairs[torch.isfinite(pairs).all(1)].mean(0).tolist()
        return ours, theirs
