"""A fifth method: a head model that wears a learnt painting whose colours follow the expression."""

from painted_head.module import PaintedHead

__all__ = ["PaintedHead"]
