"""InvertAvatar (Zhao et al. 2024): few pictures, incremental, animatable; see README.md."""

from avatarzoo.models.invertavatar.module import InvertAvatar

__all__ = ["InvertAvatar"]
