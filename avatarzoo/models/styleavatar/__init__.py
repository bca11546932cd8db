"""StyleAvatar (Wang et al. 2023): a portrait video becomes an avatar that two StyleUNets draw from renders of a head model."""

from avatarzoo.models.styleavatar.module import StyleAvatar

__all__ = ["StyleAvatar"]
