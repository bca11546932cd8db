"""Side by side (``pytest -n 2``), every worker computes on one core, and so do the programs that its tests start."""

from __future__ import annotations

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported
