"""A head model cut down to its 478 landmarks, with everything that moves them as linear modes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from avatarzoo.heads.base import HeadModel, HeadParams
from avatarzoo.trackers import landmark_groups as groups
from avatarzoo.trackers.products import product

JAW_STEP = 0.25
"""Radians over which the jaw joint is linearised: the secant is exact there and 1 mm off at most between."""
JAW_BOUNDS = ((0.0, 0.6), (-0.15, 0.15), (-0.15, 0.15))
STILL = 1e-6
"""Metres; landmarks that move less under a mode do not feel it."""


class LandmarkModel(NamedTuple):
    """``landmarks = mean + identity @ a + modes @ b``, metres, head frame.

    Modes are the expression coefficients, then, where no expression does their work, the jaw's axis-angle and the lids.

    Attributes:
        mean: ``(478, 3)``. identity: ``(478, 3, I)``. modes: ``(478, 3, M)``.
        low, high: ``(M,)`` bounds, infinite where there are none.
        names: of the modes.
        n_expression: how many modes are expression coefficients.
        gaze_modes: whether some mode moves the irises; if none does, irises say nothing to the solver.
    """

    mean: np.ndarray
    identity: np.ndarray
    modes: np.ndarray
    low: np.ndarray
    high: np.ndarray
    names: tuple[str, ...]
    n_expression: int
    gaze_modes: bool

    def with_identity(self, identity: np.ndarray) -> np.ndarray:
        """``(478, 3)`` landmarks of a person at rest."""
        return self.mean + product(self.identity, identity)

    def split(self, head: HeadModel, modes: np.ndarray) -> dict[str, torch.Tensor]:
        """Mode coefficients ``(T, M)`` as the fields of :class:`HeadParams` they belong to."""
        fields = {"expression": modes[:, : self.n_expression]}
        extra = {name: modes[:, k] for k, name in enumerate(self.names) if k >= self.n_expression}
        zero = np.zeros(len(modes))
        for field, width in (("jaw", 3), ("eyelids", 2)):
            fields[field] = np.stack([extra.get(f"{field}_{k}", zero) for k in range(width)], 1)
        return {name: torch.from_numpy(np.ascontiguousarray(value)).float() for name, value in fields.items()}


def landmark_model(head: HeadModel) -> LandmarkModel:
    """Restrict ``head`` to its landmarks.

    Raises:
        MissingAssetError: the head has no landmark embedding yet.
    """
    faces, weights = head.landmarks()
    corners = head.faces[faces].cpu()
    weights = weights.double().cpu()
    template, identity, expression = (x.detach().cpu() for x in head.linear_basis())

    def at_landmarks(basis: torch.Tensor) -> np.ndarray:
        picked = basis[corners].double()
        return torch.einsum("lk,lk...->l...", weights, picked).numpy()

    low, high = head.expression_bounds or (-np.inf, np.inf)
    modes = [at_landmarks(expression)]
    names = list(head.expression_names)
    lows, highs = [low] * len(names), [high] * len(names)
    for name, column, bounds in _joint_modes(head):
        modes.append(column[..., None])
        names.append(name)
        lows.append(bounds[0])
        highs.append(bounds[1])
    modes = np.concatenate(modes, -1)
    gaze = np.abs(modes[list(groups.IRISES)]).max() > STILL
    return LandmarkModel(
        at_landmarks(template),
        at_landmarks(identity),
        modes,
        np.array(lows, float),
        np.array(highs, float),
        tuple(names),
        head.n_expression,
        bool(gaze),
    )


def _joint_modes(head: HeadModel) -> list[tuple[str, np.ndarray, tuple[float, float]]]:
    """Jaw and lids as secant modes, where the head has them and no expression of that name."""
    names = [name.lower() for name in head.expression_names]
    rest = head.zeros(1, "cpu")
    probes: list[tuple[str, HeadParams, float, tuple[float, float]]] = []
    if not any("jaw" in name for name in names):
        for k, bounds in enumerate(JAW_BOUNDS):
            step = torch.eye(3)[k : k + 1] * (JAW_STEP if k == 0 else JAW_STEP / 3)
            probes.append((f"jaw_{k}", rest._replace(jaw=step), float(step[0, k]), bounds))
    if not any("blink" in name for name in names):
        for k in range(2):
            probes.append((f"eyelids_{k}", rest._replace(eyelids=torch.eye(2)[k : k + 1]), 1.0, (0.0, 1.0)))
    with torch.no_grad():
        neutral = head.landmark_points(head(rest))
        moved = [
            (name, (head.landmark_points(head(p)) - neutral)[0].double().cpu().numpy() / step, bounds)
            for name, p, step, bounds in probes
        ]
    return [mode for mode in moved if np.abs(mode[1]).max() > STILL]
