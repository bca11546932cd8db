"""Matrix products of numpy arrays on torch's threads.

numpy's own BLAS wakes a second set of threads for every product above some 60 x 60 x 60; on few cores the two sets then wait
for each other and the solver takes ten times as long.
"""

from __future__ import annotations

import numpy as np
import torch


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``a @ b``, batched or not."""
    return torch.matmul(torch.from_numpy(a), torch.from_numpy(b)).numpy()


def solve(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Solutions x of ``a x = b``, batched or not; b has columns."""
    return torch.linalg.solve(torch.from_numpy(a), torch.from_numpy(b)).numpy()
