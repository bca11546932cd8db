"""One evaluation for all methods."""

from avatarzoo.evaluation.evaluator import Evaluator

__all__ = ["Evaluator"]
