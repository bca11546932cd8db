"""NOFA++ (Yu et al.): one picture to an animatable tri-plane head, by video or by sound."""

from avatarzoo.models.nofaplusplus.module import NOFAPlusPlus
from avatarzoo.models.nofaplusplus.speech import SpeechTraining

__all__ = ["NOFAPlusPlus", "SpeechTraining"]
