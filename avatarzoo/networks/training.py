"""What every adversarial training loop does to a network between its steps."""

from __future__ import annotations

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn


@torch.no_grad()
def update_average(average: torch.nn.Module, network: torch.nn.Module, decay: float) -> None:
    """Move the averaged parameters towards the network's; buffers are copied."""
    kept = list(average.parameters())
    new = [p.to(k.dtype) for k, p in zip(kept, network.parameters())]
    get_ema_multi_avg_fn(decay)(kept, new, None)  # type: ignore[no-untyped-call]
    for old, current in zip(average.buffers(), network.buffers()):
        old.copy_(current)


def finite_gradients(network: torch.nn.Module) -> None:
    """Replace nan by 0 and infinities by 1e5 in all gradients, as StyleGAN2 does before each step."""
    for parameter in network.parameters():
        if parameter.grad is not None:
            torch.nan_to_num(parameter.grad, nan=0.0, posinf=1e5, neginf=-1e5, out=parameter.grad)
