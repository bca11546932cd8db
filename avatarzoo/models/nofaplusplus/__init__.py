"""NOFA++ (Yu et al.): one picture to an animatable tri-plane head, by video or by sound."""

from avatarzoo.models.nofaplusplus.module import NOFAPlusPlus

__all__ = ["NOFAPlusPlus"]
