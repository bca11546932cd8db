"""Notices a discriminator that has won, and starts it again (the published advice is to restart training by hand)."""

from __future__ import annotations

import copy
from typing import Any, Literal

import torch
from torch import Tensor, nn

Action = Literal["restart", "stop", "none"]

SMOOTHING = 0.98
"""Share of the old running mean that one step keeps."""


class DiscriminatorWatchdog:
    """Watches the running means of both adversarial losses.

    Unhealthy is a mean discriminator loss below ``floor`` (it tells every fake from every real picture, so the generator learns
    nothing; a balanced one stays near 2 log 2 = 1.39) or a mean generator loss above ``ceiling``. After ``patience`` unhealthy
    steps in a row it acts; while all is well it keeps a copy of the discriminator every ``patience`` steps.

    Args:
        action: ``restart`` goes back to the last healthy copy with a fresh optimiser, ``stop`` ends training, ``none`` only counts.
        floor, ceiling: bounds of the losses. patience: steps.
    """

    def __init__(
        self, action: Action = "restart", floor: float = 0.05, ceiling: float = 15.0, patience: int = 200
    ) -> None:
        self.action, self.floor, self.ceiling, self.patience = action, floor, ceiling, patience
        self.discriminator_mean: float | None = None
        self.generator_mean: float | None = None
        self.steps = self.unhealthy = self.alarms = 0
        self.healthy: dict[str, Tensor] = {}

    def attend(
        self,
        generator_loss: float,
        discriminator_loss: float,
        discriminator: nn.Module,
        optimizer: torch.optim.Optimizer,
    ) -> str | None:
        """Take one step's losses; act when it is due, and say so in one sentence."""
        if not self._alarmed(generator_loss, discriminator_loss, discriminator):
            return None
        if self.action == "restart":
            discriminator.load_state_dict(self.healthy)
            optimizer.state.clear()
            return "the discriminator has won; it goes back to its last healthy state with a fresh optimiser."
        if self.action == "stop":
            return "the discriminator has won; training stops (--model.watchdog restart goes on)."
        return None

    def _alarmed(self, generator_loss: float, discriminator_loss: float, discriminator: nn.Module) -> bool:
        if not self.healthy:
            self._keep(discriminator)
        self.discriminator_mean = _smoothed(self.discriminator_mean, discriminator_loss)
        self.generator_mean = _smoothed(self.generator_mean, generator_loss)
        self.steps += 1
        # a loss that is no number compares false, so it counts as unhealthy
        well = self.discriminator_mean >= self.floor and self.generator_mean <= self.ceiling
        self.unhealthy = 0 if well else self.unhealthy + 1
        # the means lag: right after a collapse they still look well, so a copy asks for this step's losses too
        now = discriminator_loss >= self.floor and generator_loss <= self.ceiling
        if well and now and self.steps % self.patience == 0:
            self._keep(discriminator)
        if self.unhealthy < self.patience:
            return False
        self.unhealthy, self.discriminator_mean, self.generator_mean = 0, None, None
        self.alarms += 1
        return True

    def _keep(self, discriminator: nn.Module) -> None:
        self.healthy = {k: v.detach().cpu().clone() for k, v in discriminator.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs to go on as if it had not stopped."""
        names = ("discriminator_mean", "generator_mean", "steps", "unhealthy", "alarms", "healthy")
        return {name: copy.copy(getattr(self, name)) for name in names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)


def _smoothed(mean: float | None, value: float) -> float:
    return value if mean is None else SMOOTHING * mean + (1 - SMOOTHING) * value
