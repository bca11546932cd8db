"""APD against the pose that was asked for: where poses are set (audio-driven tables), no picture of the driver has them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from avatarzoo.geometry.camera import OPENGL_TO_OPENCV, Camera
from avatarzoo.geometry.rotations import axis_angle_to_matrix, matrix_to_euler
from avatarzoo.heads.base import HeadParams
from avatarzoo.metrics.base import AvatarMetric, Images, Masks
from avatarzoo.metrics.coefficients import CoefficientEstimator, apd


def asked_angles(params: HeadParams, camera: Camera) -> Float[Tensor, "b 3"]:
    """Pitch, yaw and roll in radians of the head as a camera in front of it would have to see it turned.

    Turning the camera round a head at rest or the head before a resting camera gives the same picture; the tracker tells the latter.
    """
    flip = torch.diag(params.rotation.new_tensor(OPENGL_TO_OPENCV))
    seen = camera.world_to_camera[:, :3, :3] @ axis_angle_to_matrix(params.rotation)
    yaw, pitch, roll = matrix_to_euler(flip @ seen)
    return torch.stack([pitch, yaw, roll], -1)


class AskedPoseDistance(AvatarMetric):
    """Mean absolute difference of the three Euler angles (radians) between the asked pose and what our tracker reads in the pictures.

    Call :meth:`ask` before each ``update``; the reference pictures play no part. Frames without a face are failures.

    Args:
        estimator: tells poses by the conventions of :func:`avatarzoo.trackers.coefficients.pose_rows`.
    """

    higher_is_better = False

    def __init__(self, estimator: CoefficientEstimator) -> None:
        super().__init__()
        self.estimator = estimator
        self.label = f"APD (asked pose, {estimator.name})"
        self.rows: list[Tensor] = []
        self.asked: list[Tensor] = []
        self.size = (0, 0)

    def ask(self, params: HeadParams, camera: Camera) -> None:
        """The pose of the next pictures."""
        self.asked.append(asked_angles(params, camera).cpu())

    def score(self, prediction: Images, reference: Images, mask: Masks | None) -> None:
        self.size = (prediction.shape[-2], prediction.shape[-1])
        self.rows.append(self.estimator.observed(prediction))

    def end_clip(self) -> None:
        if not self.rows:
            return
        rows, asked = torch.cat(self.rows), torch.cat(self.asked)
        self.rows, self.asked = [], []
        values = torch.full((len(rows),), torch.nan)
        if torch.isfinite(rows).flatten(1).all(1).any():
            values = apd(self.estimator.clip(rows, self.size).pose[:, :3].double(), asked.double())
        self.add(values.to(self.device))
