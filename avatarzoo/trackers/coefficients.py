"""Expression and pose distance through our own tracker and any head model: open weights, works without registration.

The numbers are coefficients of that head model, so they compare with each other and with no published AED or APD.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatarzoo.geometry.rotations import axis_angle_to_matrix, matrix_to_euler
from avatarzoo.heads.base import HeadModel, HeadParams
from avatarzoo.metrics.coefficients import CoefficientEstimator, Coefficients
from avatarzoo.perception.faces import shared_reader
from avatarzoo.trackers.analytic import fit_sequence
from avatarzoo.trackers.landmark_groups import N_LANDMARKS
from avatarzoo.trackers.landmark_model import landmark_model

Reader = Callable[[Float[Tensor, "b 3 h w"]], Float[Tensor, "b 478 3"]]


class TrackerEstimator(CoefficientEstimator):
    """Landmarks of every picture, then :func:`.analytic.fit_sequence` over the clip.

    One identity is solved for each clip, once, from up to 24 of its frames; prediction and reference each get their own (sharing one
    changed no rank correlation by more than 0.02). A clip must show one person. One frame is enough, but it cannot tell
    a raised brow from a high one: identity then takes over part of the expression, and distances shrink.
    Nothing is smoothed over time: a prediction's jitter counts, and clips may be every n-th frame of a video.

    On procedural video with known differences, from detected landmarks, clips rank by pose (rank correlation 0.94) and, at equal
    pose, by expression (0.97 to 0.99 within one kind of difference, 0.92 over all; single frames 0.73). A difference of pose
    alone, though, reads as expression: 15 degrees of yaw or 10 of pitch about as much as a face gone neutral, because the
    landmark network's points shift with the pose (from exact landmarks they do not). Compare AED of methods only where
    their APD is alike.

    Args:
        head: a model with a landmark embedding.
        reader: pictures in [0, 1] to landmarks in pixels, NaN rows without a face, each picture on its own;
            the one shared by all metrics by default.
        fov: of the pictures in degrees.
    """

    row = (N_LANDMARKS, 3)

    def __init__(self, head: HeadModel, reader: Reader | None = None, fov: float = 20.0) -> None:
        super().__init__()
        self.head, self.reader, self.fov = head, reader or shared_reader(), fov
        self.name = f"avatarzoo tracker, {head.name}"

    def observe(self, pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 478 3"]:
        return torch.as_tensor(self.reader(pictures)).detach().float().cpu()

    def solve(self, rows: Float[Tensor, "t 478 3"], size: tuple[int, int]) -> Coefficients:
        """Coefficients of a clip.

        Raises:
            ValueError: the pictures are not square.
        """
        if size[0] != size[1]:
            raise ValueError(f"The tracker needs square pictures, not {size[0]}x{size[1]}; crop them first.")
        points = rows[..., :2].double().numpy()
        points[~np.isfinite(points).all((1, 2))] = np.nan
        fit = fit_sequence(self.head, points, size[0], self.fov, smooth=False)
        expression, pose = expression_rows(self.head, fit.params), pose_rows(fit.params)
        expression[~fit.valid], pose[~fit.valid] = torch.nan, torch.nan
        return Coefficients(expression, pose)


def expression_rows(head: HeadModel, params: HeadParams) -> Float[Tensor, "t n"]:
    """Expression coefficients; behind them jaw angles and lid closing where joints, not coefficients, move those (FLAME)."""
    extra = landmark_model(head).names[head.n_expression :]
    fields = [getattr(params, name) for name in ("jaw", "eyelids") if any(x.startswith(name) for x in extra)]
    return torch.cat([params.expression, *fields], 1)


def pose_rows(params: HeadParams) -> Float[Tensor, "t 6"]:
    """Euler angles (pitch, yaw, roll) in radians and translation in metres of the head before the clip's camera."""
    yaw, pitch, roll = matrix_to_euler(axis_angle_to_matrix(params.rotation))
    return torch.cat([torch.stack([pitch, yaw, roll], 1), params.translation], 1)
