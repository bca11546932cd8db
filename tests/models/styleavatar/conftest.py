"""Reference tensors of the published primitives; AVATARZOO_GOLDEN points the tests at others."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

FOLDER = Path(os.environ.get("AVATARZOO_GOLDEN", Path(__file__).parents[2] / "golden")) / "styleavatar"


@pytest.fixture(scope="session")
def primitives() -> dict[str, Tensor]:
    """The arrays of primitives.npz."""
    with np.load(FOLDER / "primitives.npz", allow_pickle=False) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.fixture(scope="session")
def golden_inputs() -> dict[str, Any]:
    """What inputs.json says of the set."""
    return json.loads((FOLDER / "inputs.json").read_text())
