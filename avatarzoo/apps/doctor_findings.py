"""What ``avatarzoo doctor`` finds, line by line."""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """One line of the report: state is ``ok``, ``note`` or ``missing``."""

    state: str
    subject: str
    detail: str
